"""Kill it under QoS 2 and persistent sessions: SIGKILL at random moments, no Kafka needed.

Devices hand events over with QoS 2; one subscriber takes them with QoS 2, another with
QoS 1, both with persistent sessions and both losing their connections now and then.  At
the end: in the journal and at the first subscriber each event exactly once, per device in
order; at the second each at least once, first appearances in order.

One test starts it with another number of shards each time, and kills it in the middle of that
start too.

    MR_CRASH_SEED    repeat a run (printed at the start)
    MR_CRASH_KILLS   how often the gateway is killed (default 6)
"""

import asyncio
import collections
import os
import random
import sys
import time
import unittest

import harness
import wire
from harness import BUILD, RELEASE, Gateway, millrace

KILLS = int(os.environ.get("MR_CRASH_KILLS", "6"))
SEED = int(os.environ.get("MR_CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
DEVICES, WINDOW = 6, 20
AHEAD_MAX = 5000  # events; a fast gateway would fill the queues of subscribers in Python
CONFIG = "mqtt: { max_queued_messages: 100000 }\njournal: { max_size: 2GiB, segment_size: 4MiB }\n"


def ack(kind, packet_id):
    return wire.packet(kind, 2 if kind == wire.PUBREL else 0, packet_id.to_bytes(2, "big"))


class Peer:
    """A client with a persistent session that comes back after every loss."""

    def __init__(self, name, port):
        self.name, self.port = name, port
        self.known = False  # the gateway has said so: it must find the session from now on
        self.quitting = False

    async def run(self):
        while not self.is_done():
            try:
                await self.one_connection()
            except (ConnectionError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.03)  # sleep: nobody tells when the gateway is back

    async def one_connection(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(wire.connect(self.name, keep_alive=0, flags=0))
            kind, body = await wire.read_packet(reader)
            assert (kind, body[1]) == (0x20, 0), f"CONNACK {kind:#x} {body!r}"
            assert body[0] == 1 or not self.known, f"{self.name}: its session is gone"
            self.known = True
            await self.talk(reader, writer)
            await writer.drain()
        finally:
            writer.close()


class Device(Peer):
    """Sends 1, 2, 3, ... with QoS 2 and believes nothing but a PUBCOMP."""

    def __init__(self, name, port, subscribers):
        super().__init__(name, port)
        self.subscribers = subscribers
        self.sent = self.done = 0
        self.under_way = collections.OrderedDict()  # packet id -> number, or None: PUBREC came

    def is_done(self):
        return self.quitting and not self.under_way

    def is_ahead(self):
        return any(self.sent - one.last(self.name) > AHEAD_MAX // DEVICES
                   for one in self.subscribers)

    def publish(self, packet_id, number, dup=False):
        return wire.publish(f"s/{self.name}", str(number).encode(), 2, packet_id, dup=dup)

    async def talk(self, reader, writer):
        for packet_id, number in self.under_way.items():
            writer.write(ack(wire.PUBREL, packet_id) if number is None
                         else self.publish(packet_id, number, dup=True))
        while not self.is_done():
            while not self.quitting and len(self.under_way) < WINDOW and not self.is_ahead():
                self.sent += 1
                packet_id = self.sent % 1000 + 1
                self.under_way[packet_id] = self.sent
                writer.write(self.publish(packet_id, self.sent))
            await writer.drain()
            if self.under_way:
                self.take(*await wire.read_packet(reader), writer)
            elif not self.quitting:
                await asyncio.sleep(0.01)  # sleep: until the subscribers have caught up

    def take(self, kind, body, writer):
        packet_id = int.from_bytes(body[:2], "big")
        assert packet_id in self.under_way, f"{self.name}: {kind:#x} for {packet_id}"
        if kind >> 4 == wire.PUBREC:
            self.under_way[packet_id] = None
            writer.write(ack(wire.PUBREL, packet_id))
        else:
            assert kind == 0x70, f"{self.name}: {kind:#x}"
            del self.under_way[packet_id]
            self.done += 1


class Subscriber(Peer):
    """Takes everything below s/; holds packet ids as the specification says."""

    def __init__(self, name, port, qos, rng):
        super().__init__(name, port)
        self.qos, self.rng = qos, rng
        self.held = set()
        self.got = collections.defaultdict(list)
        self.expected = None
        self.subscribed = asyncio.Event()
        self.losses = 0

    def last(self, device):
        """The newest event of a device that came; first appearances are in order."""
        return self.got[device][-1] if self.got[device] else 0

    def is_done(self):
        return self.expected is not None and all(
            self.got[name] and max(self.got[name]) == count
            for name, count in self.expected.items()
        )

    async def talk(self, reader, writer):
        if not self.subscribed.is_set():
            writer.write(wire.subscribe(["s/#"], qos=self.qos))
        while not self.is_done():
            try:
                kind, body = await asyncio.wait_for(wire.read_packet(reader), 0.2)
            except TimeoutError:
                continue
            if kind == 0x90:
                self.subscribed.set()
                continue
            if self.rng.random() < 0.0005:  # its network fails, with or without the answer
                self.losses += 1
                if self.rng.random() < 0.5:
                    return
            self.take(kind, body, writer)
            await writer.drain()

    def take(self, kind, body, writer):
        if kind >> 4 == wire.PUBREL:
            packet_id = int.from_bytes(body[:2], "big")
            self.held.discard(packet_id)
            writer.write(ack(7, packet_id))
            return
        assert kind >> 4 == wire.PUBLISH, f"{self.name}: {kind:#x}"
        end = 2 + int.from_bytes(body[:2], "big")
        packet_id = int.from_bytes(body[end : end + 2], "big")
        if self.qos == 1 or packet_id not in self.held:
            self.got[body[4:end].decode()].append(int(body[end + 2 :]))
        if self.qos == 2:
            self.held.add(packet_id)
        writer.write(ack(wire.PUBREC if self.qos == 2 else wire.PUBACK, packet_id))


def start_again(gateway, rng, counts):
    """With one of so many shards; perhaps only after a start that is killed on its way."""
    if len(counts) > 1 and rng.random() < 0.5:
        gateway.sets = [f"gateway.shards={rng.choice(counts)}"]
        gateway.spawn()
        gateway.log.wait("component=journal")
        time.sleep(rng.uniform(0, 0.1))  # sleep: the moment is to be random
        gateway.kill()
    gateway.sets = [f"gateway.shards={rng.choice(counts)}"]
    gateway.start()


async def torment(gateway, rng, kills, counts):
    exactly = Subscriber("exactly-once", gateway.mqtt_port, 2, rng)
    least = Subscriber("at-least-once", gateway.mqtt_port, 1, rng)
    devices = [Device(f"d{n}", gateway.mqtt_port, (exactly, least)) for n in range(DEVICES)]
    tasks = [asyncio.create_task(one.run()) for one in (exactly, least)]
    await asyncio.wait_for(asyncio.gather(exactly.subscribed.wait(), least.subscribed.wait()), 30)
    tasks += [asyncio.create_task(one.run()) for one in devices]
    for _ in range(kills):
        before = sum(one.done for one in devices)
        await asyncio.sleep(rng.uniform(0.1, 0.8))  # sleep: the moment is to be random
        deadline = time.monotonic() + harness.PATIENCE
        while sum(one.done for one in devices) == before:
            assert time.monotonic() < deadline, "nothing was handed over"
            await asyncio.sleep(0.02)  # sleep: devices run in this very loop
        await asyncio.to_thread(gateway.kill)
        await asyncio.to_thread(start_again, gateway, rng, counts)
        for task in tasks:
            if task.done():
                task.result()
    for one in devices:
        one.quitting = True
    await asyncio.wait_for(asyncio.gather(*tasks[2:]), harness.PATIENCE * 2)
    for one in (exactly, least):
        one.expected = {device.name: device.sent for device in devices}
    await asyncio.wait_for(asyncio.gather(*tasks), harness.PATIENCE * 2)
    return devices, exactly, least


class Kill(unittest.TestCase):
    def torment(self, binary, kills, counts=(1,)):
        rng = random.Random(f"{SEED}-{binary.parent.name}")
        print(f"\n  seed: MR_CRASH_SEED={SEED}", file=sys.stderr)
        sets = [f"gateway.shards={counts[0]}"]
        with Gateway(CONFIG, binary=binary, sets=sets) as gateway:
            devices, exactly, least = asyncio.run(torment(gateway, rng, kills, counts))
            gateway.stop()
            journaled = self.journaled(gateway)
            millrace("journal", "verify", "--data", gateway.data)
            gateway.start()
        sent = sum(one.sent for one in devices)
        print(f"  {kills} kills, {sent} events, {exactly.losses + least.losses} connections lost "
              f"by subscribers, {sum(map(len, least.got.values())) - sent} repeated with QoS 1",
              file=sys.stderr)
        for device in devices:
            wanted = list(range(1, device.sent + 1))
            found = journaled[device.name]  # lane by lane, and a changed count changes its lane
            found = sorted(found) if len(counts) > 1 else found
            self.assertEqual(found, wanted, f"journal, seed {SEED}")
            self.assertEqual(exactly.got[device.name], wanted, f"QoS 2, seed {SEED}")
            first = list(dict.fromkeys(least.got[device.name]))
            self.assertEqual(first, wanted, f"QoS 1, seed {SEED}")

    @staticmethod
    def journaled(gateway):
        found = collections.defaultdict(list)
        for line in millrace("journal", "cat", "--data", gateway.data).stdout.splitlines():
            fields = line.split("\t")
            if len(fields) >= 7 and fields[4].startswith("s/"):
                found[fields[3]].append(int(fields[6]))
        return found

    def test_the_release_program_hands_each_event_over_exactly_once(self):
        self.torment(RELEASE / "millrace", KILLS)

    def test_three_shards_hand_each_event_over_exactly_once(self):
        self.torment(RELEASE / "millrace", max(1, KILLS // 2), counts=(3,))

    def test_a_changing_number_of_shards_hands_each_event_over_exactly_once(self):
        self.torment(RELEASE / "millrace", KILLS, counts=(2, 1, 3))

    def test_the_sanitized_program_hands_each_event_over_exactly_once(self):
        if BUILD == RELEASE:
            self.skipTest("this run has no sanitizer build")
        self.torment(BUILD / "millrace", max(1, KILLS // 2))


if __name__ == "__main__":
    unittest.main()
