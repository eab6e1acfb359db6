"""The journal is full, and `journal.when_full` says what then: clients that we did not write, and a
Kafka that is away and comes back.
"""

import json
import os
import signal
import subprocess
import unittest

import harness
from cursors import recount
from harness import (PATIENCE, Gateway, kafka, kafka_bridge, millrace, mosquitto_pub, published,
                     until)

setUpModule = harness.kafka_up
tearDownModule = harness.kafka_down

SMALL = """
gateway: {{ shards: 1 }}
mqtt: {{ max_packet_size: 64KiB }}
journal: {{ max_size: 1MiB, segment_size: 256KiB, keep: 0s, when_full: {when_full} }}
"""
PAD = 1000


def config(when_full, topic, *keys):
    return SMALL.format(when_full=when_full) + kafka_bridge(topic, "headers: id", *keys)


def numbers_in(topic):
    """In the order of their offsets; one partition."""
    return [int(record.value()) for record in kafka().records(topic)]


class Paho5:
    """A client of MQTT 5 that says what its publishes were answered."""

    def __init__(self, port):
        import paho.mqtt.client as paho

        self.answers = {}
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, "five", protocol=paho.MQTTv5)
        self.client.on_publish = self.on_publish
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def on_publish(self, client, userdata, mid, reason, properties):
        self.answers[mid] = reason.value

    def publish_all(self, payloads, qos=1):
        """The reasons of the answers."""
        mids = [self.client.publish("t/5", payload, qos).mid for payload in payloads]
        until(lambda: all(mid in self.answers for mid in mids), "the answers", PATIENCE)
        return [self.answers.pop(mid) for mid in mids]

    def publish(self, payload, qos=1):
        return self.publish_all([payload], qos)[0]

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


class Reject(unittest.TestCase):
    def test_5_is_told_and_3_waits_until_there_is_room(self):
        kafka().create_topic("full_reject", partitions=1)
        text = config("reject", "full_reject")
        kafka().stop()
        self.addCleanup(kafka().start)
        with Gateway(text) as gateway:
            five = Paho5(gateway.mqtt_port)
            self.addCleanup(five.close)
            taken = []
            while len(taken) % 50 == 0:
                first = len(taken)
                answers = five.publish_all(f"{first + n:0{PAD}d}" for n in range(50))
                taken += [first + n for n, reason in enumerate(answers) if reason == 0]
                self.assertLessEqual(set(answers), {0, 0x97})
            self.assertGreater(len(taken), 300)
            self.assertEqual(five.publish("1"), 0x97)
            # paho sends a PUBREL although PUBREC has refused, and hears that there is no such id.
            self.assertIn(five.publish("1", 2), (0x97, 0x92))
            done = subprocess.run(
                ["mosquitto_pub", "-p", str(gateway.mqtt_port), "-V", "5", "-q", "1", "-t", "t/m",
                 "-m", "no"], capture_output=True, text=True, timeout=PATIENCE, check=False)
            self.assertIn("Quota exceeded", done.stdout + done.stderr)
            mosquitto_pub(gateway.mqtt_port, "-V", "311", "-q", "0", "-t", "t/0", "-m", "dropped")
            old = subprocess.Popen(
                ["mosquitto_pub", "-p", str(gateway.mqtt_port), "-V", "311", "-q", "1", "-t", "t/3",
                 "-m", "70000"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self.addCleanup(old.stdout.close)
            self.addCleanup(old.kill)
            until(lambda: gateway.metric("millrace_mqtt_connections_paused") == 1, "3.1.1 to wait")
            self.assertIsNone(old.poll())
            counted = "millrace_mqtt_publish_refused_full_total"
            until(lambda: gateway.metric(counted, 'qos="0"') == 1, "QoS 0 to be counted")
            self.assertGreaterEqual(gateway.metric(counted, 'qos="1"'), 3)
            self.assertEqual(gateway.metric(counted, 'qos="2"'), 1)
            self.assertEqual(gateway.metric("millrace_mqtt_publish_refusing"), 1)
            gateway.wait_log(r"publishes are refused until there is room .*'kafka' needs")

            kafka().start()
            self.assertEqual(old.wait(PATIENCE), 0)
            gateway.wait_log("the journal has room again; publishes are taken")
            self.assertEqual(five.publish("80000"), 0)
            self.assertEqual(gateway.metric("millrace_mqtt_publish_refusing"), 0)
            gateway.wait_drained("kafka")
            self.assertEqual(sorted(set(numbers_in("full_reject"))), [*taken, 70000, 80000])


class DropOldest(unittest.TestCase):
    """One client, whose events are all there is: event n is record n + 1."""

    def ranges(self, gateway):
        page = json.loads(gateway.http("/api/v1/ledger")[1])
        self.assertTrue(page["balanced"])
        return [(drop["first"], drop["last"]) for drop in page["dropped_ranges"]]

    def fill(self, gateway):
        """While Kafka is away, with a crash in between."""
        published(gateway, "t/1", (f"{number:0{PAD}d}" for number in range(1500)))
        self.assertTrue(self.ranges(gateway))
        gateway.kill()
        gateway.start()
        published(gateway, "t/1", (f"{number:0{PAD}d}" for number in range(1500, 3000)))
        gateway.wait_log(r"records \d+ to \d+ of lane 0 are dropped for 'kafka' \(priority 100\)")
        self.assertGreater(gateway.metric("millrace_journal_dropped_ranges_total"), 0)

    def check(self, gateway, topic):
        """Kafka is back."""
        gateway.wait_drained("kafka")
        arrived = list(dict.fromkeys(numbers_in(topic)))
        self.assertEqual(arrived, sorted(arrived))
        missing = set(range(3000)) - set(arrived)
        ((first, last),) = self.ranges(gateway)
        self.assertTrue(all(first <= number + 1 <= last for number in missing))
        audit = ("audit", "-c", gateway.config, "--data", gateway.data)
        rows = list(map(json.loads, millrace(*audit, "--json").stdout.splitlines()))
        (drop,) = (one for one in rows if "first" in one)
        row = rows[0]
        self.assertEqual((row["dropped"], row["lost"], row["pending"]), (len(missing), 0, 0))
        self.assertEqual(row["delivered"], len(arrived))
        self.assertGreater(len(missing), 1000)
        self.assertEqual((drop["bridge"], drop["reason"]), ("kafka", "max_size"))
        done = millrace(*audit, "--kafka")
        self.assertIn("DROPPED", done.stdout)
        self.assertNotIn("event by event", done.stderr)
        gateway.restart()
        self.assertEqual(self.ranges(gateway), [(first, last)])
        self.assertEqual(gateway.metric("millrace_journal_dropped_records_total"),
                         last - first + 1)
        self.assertFalse(gateway.log.find("are lost"))
        gateway.stop()
        self.assertIn(f"{first}", millrace(*audit).stdout)
        recount(gateway, delivered=1, dropped=-1)
        done = millrace(*audit, "--kafka", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("kafka, lane 0: 1 events are missing", done.stderr)

    def test_each_record_was_delivered_or_is_in_a_range(self):
        topics = {"full_least": (), "full_once": ("delivery: exactly_once",
                                                  "auto_create: { enable: true }")}
        texts = {}
        for topic, keys in topics.items():
            kafka().create_topic(topic, partitions=1)
            texts[topic] = config("drop_oldest", topic, *keys)
        kafka().stop()
        self.addCleanup(kafka().start)
        with Gateway(texts["full_least"]) as least, Gateway(texts["full_once"]) as once:
            self.fill(least)
            self.fill(once)
            kafka().start()
            for topic, gateway in (("full_least", least), ("full_once", once)):
                with self.subTest(topic):
                    self.check(gateway, topic)
            self.assertEqual(len(numbers_in("full_once")), len(set(numbers_in("full_once"))))

    HELD = "'kafka' needs what is behind record 0 and may not drop it"

    def sender(self, gateway):
        """2,000 events of one client, more than the journal holds."""
        sender = subprocess.Popen(
            ["mosquitto_pub", "-p", str(gateway.mqtt_port), "-i", "d", "-q", "1", "-t", "t/1",
             "-l"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self.addCleanup(sender.kill)
        sender.stdin.write("".join(f"{number:0{PAD}d}\n" for number in range(2000)).encode())
        sender.stdin.close()
        return sender

    def test_who_leaves_the_configuration_holds_back_nobody(self):
        small = SMALL.format(when_full="drop_oldest")
        away = 'bridges: { kafka: { servers: "127.0.0.1:1", topic: t, may_drop: false } }\n'
        with Gateway(small + away, sets=["gateway.drain=100ms"]) as gateway:
            sender = self.sender(gateway)
            gateway.wait_log(self.HELD)
            gateway.config.write_text(small, encoding="utf-8")
            os.kill(gateway.pid(), signal.SIGHUP)
            gateway.wait_log(r"dropped for 'kafka' \(priority 0\)")
            self.assertEqual(sender.wait(PATIENCE), 0)

    def test_who_may_not_drop_holds_back_publishers(self):
        kafka().create_topic("full_never", partitions=1)
        text = config("drop_oldest", "full_never", "may_drop: false")
        kafka().stop()
        self.addCleanup(kafka().start)
        with Gateway(text) as gateway:
            sender = self.sender(gateway)
            gateway.wait_log(self.HELD)
            self.assertEqual(self.ranges(gateway), [])
            kafka().start()
            self.assertEqual(sender.wait(PATIENCE), 0)
            gateway.wait_drained("kafka")
            self.assertEqual(list(dict.fromkeys(numbers_in("full_never"))), list(range(2000)))


if __name__ == "__main__":
    unittest.main()
