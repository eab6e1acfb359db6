"""What arrives in a real Kafka: value, key, partition, headers, time, order, dead letters.

Devices are mosquitto and paho, the reader is confluent-kafka; kcat is asked once as well.
"""

import base64
import json
import random
import subprocess
import time
import unittest

import paho.mqtt.client as paho

import harness
from harness import PATIENCE, Gateway, kafka, millrace, mosquitto_pub, program
from wire import Wire, publish

setUpModule = harness.kafka_up
tearDownModule = harness.kafka_down


def bridge(topic, keys="", name="kafka"):
    """A configuration with one bridge; `keys` are further lines of it."""
    lines = [f'servers: "{kafka().bootstrap}"', f'topic: "{topic}"', *keys.splitlines()]
    return "\n".join(["bridges:", f"  {name}:", *(f"    {line.strip()}" for line in lines), ""])


def lines_published(gateway, client, topic, lines, qos=1):
    """mosquitto_pub sends each line as one message and waits for every PUBACK."""
    text = "".join(f"{line}\n" for line in lines).encode()
    mosquitto_pub(gateway.mqtt_port, "-i", client, "-q", qos, "-t", topic, "-l", payload=text)


class Shape(unittest.TestCase):
    def test_raw_is_the_payload_byte_for_byte(self):
        payloads = [b'{"v":21.5}', bytes(range(256)), "größer ☃".encode(), b"x"]
        with Gateway(bridge("raw", "value_encoder: raw")) as gateway:
            with Wire(gateway.mqtt_port, "press-4") as device:
                for number, payload in enumerate(payloads, 1):
                    device.send(publish("hall/1", payload, 1, number))
                    device.read()
            records = kafka().records("raw", len(payloads))
        self.assertEqual([record.value() for record in records], payloads)
        self.assertEqual({record.key() for record in records}, {b"press-4"})
        self.assertEqual({record.headers() for record in records}, {None})

    def test_json_wraps_payload_and_origin(self):
        began = time.time() * 1000
        with Gateway(bridge("json", "value_encoder: json")) as gateway:
            for qos, payload in ((1, b'{"t": [1, 2.50]}'), (0, b"21.5 C"), (1, b"\xff\x00\x01")):
                mosquitto_pub(gateway.mqtt_port, "-i", "press-4", "-q", qos, "-t", "hall/temp",
                              "-s", payload=payload)
            records = kafka().records("json", 3)
        first, second, third = (json.loads(record.value()) for record in records)
        self.assertEqual(
            (first["client"], first["topic"], first["qos"], first["retain"]),
            ("press-4", "hall/temp", 1, False),
        )
        self.assertEqual((first["payload"], first["encoding"]), ({"t": [1, 2.5]}, "json"))
        self.assertEqual((second["payload"], second["encoding"]), ("21.5 C", "text"))
        self.assertEqual(second["qos"], 0)
        self.assertEqual(third["encoding"], "base64")
        self.assertEqual(base64.b64decode(third["payload"]), b"\xff\x00\x01")
        for record, event in zip(records, (first, second, third)):
            self.assertEqual(event["props"], {})
            self.assertEqual(record.timestamp()[1], event["ts"])
            self.assertGreaterEqual(event["ts"], began - 1)
            self.assertLessEqual(event["received"], time.time() * 1000 + 1)

    def test_version_5_properties_are_in_the_json(self):
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        properties = Properties(PacketTypes.PUBLISH)
        properties.ContentType = "text/plain"
        properties.UserProperty = [("unit", "C"), ("tag", "a"), ("tag", "b")]
        with Gateway(bridge("props", "value_encoder: json")) as gateway:
            device = paho.Client(paho.CallbackAPIVersion.VERSION2, "p5", protocol=paho.MQTTv5)
            device.connect("127.0.0.1", gateway.mqtt_port)
            device.loop_start()
            device.publish("a/b", "x", 1, properties=properties).wait_for_publish(PATIENCE)
            device.disconnect()
            device.loop_stop()
            (record,) = kafka().records("props", 1)
        self.assertEqual(json.loads(record.value())["props"], {
            "content_type": "text/plain", "user_properties": {"unit": "C", "tag": ["a", "b"]},
        })

    def test_an_empty_payload_is_an_empty_value_and_no_tombstone(self):
        with Gateway(bridge("empty", "value_encoder: raw")) as gateway:
            mosquitto_pub(gateway.mqtt_port, "-q", "1", "-t", "e/1", "-n")
            (record,) = kafka().records("empty", 1)
        self.assertEqual(record.value(), b"")

    def test_headers_id_names_the_record_in_the_journal(self):
        with Gateway(bridge("headers", "headers: id")) as gateway:
            lines_published(gateway, "h", "h/1", range(3))
            records = kafka().records("headers", 3)
        ids = [dict(record.headers())["millrace_id"].decode() for record in records]
        uuid = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
        for number, one in enumerate(ids, 1):
            self.assertRegex(one, uuid + rf"-0+-{number}$")
        self.assertEqual(len({one[:36] for one in ids}), 1)

    def test_topic_and_key_come_from_templates(self):
        keys = 'message_key: "${topic[2]}"\nvalue_encoder: raw'
        with Gateway(bridge("sensor_${topic[1]}", keys)) as gateway:
            for topic in ("plant/temp/t1", "plant/flow/f1", "plant/temp/t2"):
                lines_published(gateway, "c", topic, [topic])
            temp, flow = kafka().records("sensor_temp", 2), kafka().records("sensor_flow", 1)
        got = sorted((record.key(), record.value()) for record in temp + flow)
        self.assertEqual(got, [
            (b"f1", b"plant/flow/f1"), (b"t1", b"plant/temp/t1"), (b"t2", b"plant/temp/t2"),
        ])

    def test_from_says_which_events_go(self):
        with Gateway(bridge("from", 'from: ["a/+", "b/#"]\nvalue_encoder: raw')) as gateway:
            for topic in ("a/1", "c/1", "a/1/2", "b", "b/1/2", "$sys/1"):
                lines_published(gateway, "c", topic, [topic])
            gateway.wait_drained("kafka")
            records = kafka().records("from", 3)
        self.assertEqual(sorted(r.value() for r in records), [b"a/1", b"b", b"b/1/2"])

    def test_kcat_reads_the_same(self):
        with Gateway(bridge("kcat", "value_encoder: raw")) as gateway:
            lines_published(gateway, "press-9", "k/1", ["one", "two"])
            gateway.wait_drained("kafka")
        out = subprocess.run(
            [program("kcat"), "-C", "-e", "-q", "-b", kafka().bootstrap, "-t", "kcat", "-f",
             "%k=%s\n"], capture_output=True, text=True, check=True, timeout=PATIENCE,
        ).stdout
        self.assertEqual(out, "press-9=one\npress-9=two\n")


class Partition(unittest.TestCase):
    def test_it_is_the_one_a_java_client_would_choose(self):
        from confluent_kafka import Producer

        clients = [f"device-{number}" for number in range(40)] + ["a", "ab", "abc", "ä-ß", "21"]
        for topic in ("ours", "theirs"):
            kafka().create_topic(topic, partitions=7)
        # librdkafka's murmur2_random is documented to be the Java client's default.
        other = Producer({"bootstrap.servers": kafka().bootstrap, "partitioner": "murmur2_random"})
        for client in clients:
            other.produce("theirs", b"", client.encode())
        other.flush(PATIENCE)
        with Gateway(bridge("ours")) as gateway:
            for client in clients:
                with Wire(gateway.mqtt_port, client) as device:
                    device.send(publish("p/1", b"x", 1, 1))
                    device.read()
            ours = {r.key(): r.partition() for r in kafka().records("ours", len(clients))}
        theirs = {r.key(): r.partition() for r in kafka().records("theirs", len(clients))}
        self.assertEqual(ours, theirs)
        self.assertGreater(len(set(ours.values())), 3)


class Order(unittest.TestCase):
    def test_every_device_keeps_its_order_and_nothing_is_missing(self):
        devices, events = 20, 200
        kafka().create_topic("order", partitions=6)
        with Gateway(bridge("order", "value_encoder: raw")) as gateway:
            open_now = [Wire(gateway.mqtt_port, f"d{number}") for number in range(devices)]
            for start in range(0, events, 20):
                for device in open_now:
                    batch = range(start, start + 20)
                    device.send(b"".join(publish("o/1", b"%d" % n, 1, n + 1) for n in batch))
                for device in open_now:
                    for number in range(start, start + 20):
                        self.assertEqual(device.read(), (0x40, (number + 1).to_bytes(2, "big")))
            for device in open_now:
                device.sock.close()
            records = kafka().records("order", devices * events)
        by_device = {}
        for record in records:
            by_device.setdefault(record.key(), []).append(int(record.value()))
        self.assertEqual(len(by_device), devices)
        for key, numbers in by_device.items():
            self.assertEqual(numbers, list(range(events)), key)

    def test_qos_0_and_1_of_one_device_stay_in_order(self):
        with Gateway(bridge("mixed", "value_encoder: raw")) as gateway:
            with Wire(gateway.mqtt_port, "m") as device:
                for number in range(100):
                    device.send(publish("m/1", b"%d" % number, number % 2, number + 1))
                for _ in range(50):
                    device.read()
            records = kafka().records("mixed", 100)
        self.assertEqual([int(record.value()) for record in records], list(range(100)))


# A record batch is compressed before its size is judged; this does not compress below 4,000.
BIG = random.Random(1).randbytes(4000).hex()


class DeadLetters(unittest.TestCase):
    def dead(self, gateway, name="kafka"):
        folder = gateway.data / "dead-letters" / name
        self.assertTrue(folder.exists(), "something went to the dead letters")
        return millrace("journal", "cat", "--data", folder).stdout

    def test_what_the_topic_refuses_as_too_large_is_kept_with_its_reason(self):
        kafka().create_topic("small", partitions=1, max_message_bytes=2000)
        with Gateway(bridge("small", "value_encoder: raw")) as gateway:
            lines_published(gateway, "d", "s/1", ["first"])
            lines_published(gateway, "d", "s/big", [BIG])
            lines_published(gateway, "d", "s/1", ["last"])
            gateway.wait_drained("kafka")
            records = kafka().records("small", 2)
            gateway.stop()
            said = self.dead(gateway)
            gateway.start()
        self.assertEqual([record.value() for record in records], [b"first", b"last"])
        self.assertIn("s/big", said)
        self.assertIn(BIG, said)
        self.assertRegex(said.lower(), "too large|msg_size|max.message.bytes")

    def test_a_level_the_topic_does_not_have_is_a_dead_letter_and_blocks_nobody(self):
        with Gateway(bridge("lvl_${topic[1]}", "value_encoder: raw")) as gateway:
            lines_published(gateway, "d", "flat", ["no second level"])
            lines_published(gateway, "d", "a/ok", ["fine"])
            gateway.wait_drained("kafka")
            (record,) = kafka().records("lvl_ok", 1)
            gateway.stop()
            said = self.dead(gateway)
            gateway.start()
        self.assertEqual(record.value(), b"fine")
        self.assertIn("no second level", said)

    def test_a_restart_repeats_neither_events_nor_dead_letters_once_all_is_settled(self):
        kafka().create_topic("once", partitions=1, max_message_bytes=2000)
        with Gateway(bridge("once", "value_encoder: raw")) as gateway:
            lines_published(gateway, "d", "s/1", ["a", BIG, "c"])
            gateway.wait_drained("kafka")
            gateway.restart()
            lines_published(gateway, "d", "s/1", ["d"])
            gateway.wait_drained("kafka")
            records = kafka().records("once", 3)
            gateway.stop()
            said = self.dead(gateway)
            gateway.start()
        self.assertEqual([record.value() for record in records], [b"a", b"c", b"d"])
        self.assertEqual(said.count(BIG), 1)


class Several(unittest.TestCase):
    def test_two_bridges_are_independent_of_each_other(self):
        config = bridge("two_a", "type: kafka\nvalue_encoder: raw", "good")
        config += '  away:\n    type: kafka\n    servers: "127.0.0.1:1"\n    topic: two_b\n'
        with Gateway(config, sets=["gateway.drain=200ms"]) as gateway:
            lines_published(gateway, "d", "t/1", range(50))
            gateway.wait_drained("good")
            self.assertEqual(len(kafka().records("two_a", 50)), 50)
            self.assertEqual(gateway.bridge("away")["lag_records"], 50)
            self.assertFalse(gateway.bridge("away")["up"])


class Stop(unittest.TestCase):
    def test_sigterm_delivers_what_is_acknowledged_and_ends_with_0(self):
        kafka().create_topic("drain", partitions=2)
        with Gateway(bridge("drain", "value_encoder: raw")) as gateway:
            lines_published(gateway, "d", "t/1", range(2000))
            gateway.stop(expect=0)
            records = kafka().records("drain", 2000)
            gateway.start()
        self.assertEqual([int(record.value()) for record in records], list(range(2000)))


if __name__ == "__main__":
    unittest.main()
