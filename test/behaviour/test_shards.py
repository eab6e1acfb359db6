"""Several shards: the same promises, whichever shard a device was accepted by.

Order and completeness per device through reconnects, takeovers, kill -9 and a changed
number of shards are judged from what a real Kafka has.
Subscribers are clients we did not write.
"""

import asyncio
import threading
import unittest

import paho.mqtt.client as mqtt

import harness
import wire
from devices import Ledger, Publisher, arrival_of, judge
from harness import PATIENCE, Gateway, kafka, millrace, until

DEVICES, WINDOW = 12, 20

setUpModule = harness.kafka_up
tearDownModule = harness.kafka_down


def shards(count):
    return [f"gateway.shards={count}"]


class ChangedCount(unittest.TestCase):
    """1, 3, 2, 3 shards; Kafka away in the middle, so that epochs pile up."""

    CONFIG = """\
bridges:
  kafka:
    servers: "{servers}"
    topic: shards
    value_encoder: raw
journal:
  max_size: 1GiB
  segment_size: 1MiB
"""

    def test_order_of_each_device_survives_changes(self):
        kafka().create_topic("shards", partitions=4)
        gateway = Gateway(self.CONFIG.format(servers=kafka().bootstrap), sets=shards(1))
        with gateway:
            ledger = asyncio.run(self.devices_go_on(gateway))
            gateway.wait_drained("kafka", PATIENCE * 2)
            self.assertEqual(self.lanes_with_events(gateway), {"0", "1", "2"})
            arrivals = kafka().each_record("shards", arrival_of, patience=PATIENCE * 2)
            self.assertEqual(judge(ledger, arrivals), [])
            self.assertGreaterEqual(len(arrivals), ledger.acknowledged_count())
            gateway.stop()
            self.check_journal(gateway)
            gateway.sets = shards(1)  # what was dropped is delivered: one bridge is enough
            gateway.start()
            self.assertEqual(gateway.bridge("kafka")["lag_records"], 0)

    async def devices_go_on(self, gateway):
        ledger = Ledger()
        devices = [Publisher(f"device-{n}", gateway.mqtt_port, ledger, WINDOW)
                   for n in range(DEVICES)]
        tasks = [asyncio.create_task(one.run()) for one in devices]
        await self.progress(ledger, tasks)
        await self.restart(gateway, 3, hard=False)
        await self.progress(ledger, tasks)
        await self.take_over(gateway, devices)
        await self.progress(ledger, tasks)
        await asyncio.to_thread(kafka().pause)
        await self.progress(ledger, tasks)
        await self.restart(gateway, 2, hard=True)
        await self.progress(ledger, tasks)
        await self.restart(gateway, 3, hard=True)
        await self.progress(ledger, tasks)
        await asyncio.to_thread(kafka().resume)
        await self.take_over(gateway, devices)
        await self.restart(gateway, 3, hard=True)  # in the middle of catching up
        await self.progress(ledger, tasks)
        for one in devices:
            one.quit()
        await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE * 2)
        return ledger

    async def progress(self, ledger, tasks, events=1500):
        """Until so many more events have been acknowledged."""
        goal = ledger.acknowledged_count() + events

        async def reached():
            while ledger.acknowledged_count() < goal:
                for task in tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.02)  # sleep: publishers run in this very loop

        await asyncio.wait_for(reached(), PATIENCE)

    async def restart(self, gateway, count, hard):
        await asyncio.to_thread(gateway.kill if hard else gateway.stop)
        gateway.sets = shards(count)
        await asyncio.to_thread(gateway.start)

    async def take_over(self, gateway, devices):
        """Somebody else connects with the id of each device, and goes."""
        for device in devices:
            before = device.reconnects
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.mqtt_port)
            writer.write(wire.connect(device.name, keep_alive=0))
            kind, body = await wire.read_packet(reader)
            self.assertEqual((kind, body[1]), (0x20, 0))
            await self.reconnected(device, before)
            writer.close()

    async def reconnected(self, device, before):
        async def reached():
            while device.reconnects == before:
                await asyncio.sleep(0.01)  # sleep: the device runs in this very loop

        await asyncio.wait_for(reached(), PATIENCE)

    def lanes_with_events(self, gateway):
        name = 'millrace_journal_durable_seq{journal="journal",lane="'
        return {key[len(name):-2] for key, value in gateway.metrics().items()
                if key.startswith(name) and value > 0}

    def check_journal(self, gateway):
        self.assertEqual(millrace("journal", "verify", "--data", gateway.data).stdout.count("fine"),
                         3)
        listed = millrace("journal", "ls", "--data", gateway.data).stdout
        self.assertIn("lane 2:", listed)
        cursors = millrace("journal", "cursors", "--data", gateway.data).stdout
        self.assertEqual(cursors.count("kafka"), 3, cursors)


class Client:
    """A paho client that remembers what it got."""

    def __init__(self, gateway, name, filter_=None):
        self.messages = []
        self.ready = threading.Event()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name)
        self.client.on_message = lambda _, __, message: self.messages.append(
            (message.topic, message.payload.decode(), message.qos))
        self.client.on_subscribe = lambda *_: self.ready.set()
        self.client.on_connect = lambda *_: (
            self.client.subscribe(filter_, 1) if filter_ else self.ready.set())
        self.client.connect("127.0.0.1", gateway.mqtt_port)
        self.client.loop_start()
        if not self.ready.wait(PATIENCE):
            raise AssertionError(f"{name} is not connected")

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


class Subscribers(unittest.TestCase):
    def test_subscribers_of_every_shard_get_everything(self):
        with Gateway("mqtt: { max_queued_messages: 100000 }", sets=shards(3)) as gateway:
            subscribers = [Client(gateway, f"subscriber-{n}", "plant/+/t") for n in range(8)]
            publishers = [Client(gateway, f"publisher-{n}") for n in range(8)]
            sent = [[(f"plant/{n}/t", f"{number}", 1) for number in range(200)]
                    for n in range(len(publishers))]
            for number in range(200):
                for publisher, events in zip(publishers, sent):
                    publisher.client.publish(*events[number][:2], qos=1)
            total = sum(map(len, sent))
            for subscriber in subscribers:
                until(lambda s=subscriber: len(s.messages) >= total, "all messages")
                for events in sent:
                    got = [m for m in subscriber.messages if m[0] == events[0][0]]
                    self.assertEqual(got, events)
            for one in [*subscribers, *publishers]:
                one.close()
            metrics = gateway.metrics()
            dropped = sum(value for key, value in metrics.items()
                          if key.startswith("millrace_mqtt_messages_dropped_total"))
            self.assertEqual(dropped, 0)
            connected = [metrics[f'millrace_mqtt_connections_total{{shard="{n}"}}']
                         for n in range(3)]
            self.assertEqual(sum(connected), 16)

    def test_an_address_in_use_is_refused_with_several_shards_too(self):
        with Gateway("", sets=shards(2)) as first:
            second = Gateway("", sets=shards(2))
            second.mqtt_port = first.mqtt_port
            second.spawn()
            second.log.wait("in use")
            second.wait_exit(78)
            second.temp.remove()


if __name__ == "__main__":
    unittest.main()
