"""Templates, event time, headers and several Kafkas, as they arrive in real ones.

Devices are mosquitto and paho; the readers are confluent-kafka and kcat.
"""

import datetime
import json
import subprocess
import time
import unittest

import harness
from harness import PATIENCE, Gateway, Kafka, kafka, millrace, mosquitto_pub, program, until

setUpModule = harness.kafka_up
tearDownModule = harness.kafka_down


def config(*bridges):
    """bridges: (name, bootstrap, topic, further lines)"""
    lines = ["bridges:"]
    for name, bootstrap, topic, keys in bridges:
        lines += [f"  {name}:", "    type: kafka", f'    servers: "{bootstrap}"',
                  f'    topic: "{topic}"', *(f"    {line}" for line in keys.splitlines())]
    return "\n".join([*lines, ""])


def one(topic, keys):
    return config(("kafka", kafka().bootstrap, topic, keys))


def published(gateway, topic, *payloads, client="press-4", options=()):
    """Each payload acknowledged, in order."""
    text = "".join(f"{payload}\n" for payload in payloads).encode()
    mosquitto_pub(gateway.mqtt_port, "-V", "5", "-i", client, "-q", "1", "-t", topic, *options,
                  "-l", payload=text)


def dead(gateway, name="kafka"):
    """[(reason, payload)] of a stopped gateway."""
    folder = gateway.data / "dead-letters" / name
    said = millrace("journal", "cat", "--json", "--data", folder).stdout
    return [json.loads(line) for line in said.splitlines()]


class Payload(unittest.TestCase):
    def test_topic_and_key_come_from_the_payload_and_what_lacks_them_is_kept_aside(self):
        keys = 'message_key: "${payload.meta.line:-none}"'
        events = ['{"kind":"temp","meta":{"line":"a4"}}', '{"meta":{"line":7},"kind":"flow"}',
                  '{"kind":"temp"}', '{"kind":null}', "21.5 C", '{"kind":"../etc"}']
        with Gateway(one("pay_${payload.kind}", keys)) as gateway:
            published(gateway, "hall/1", *events)
            gateway.wait_drained("kafka")
            temp = kafka().records("pay_temp", 2)
            flow = kafka().records("pay_flow", 1)
            tamed = kafka().records("pay_.._etc", 1)
            metrics = gateway.metrics()
            gateway.stop()
            letters = dead(gateway)
        got = sorted((r.key(), r.value().decode()) for r in temp)
        self.assertEqual(got, [(b"a4", events[0]), (b"none", events[2])])
        self.assertEqual([(r.key(), r.value().decode()) for r in flow], [(b"7", events[1])])
        self.assertEqual(tamed[0].value().decode(), events[5])
        self.assertEqual(metrics['millrace_sink_dead_letters_total{bridge="kafka",lane="0"}'], 2)
        self.assertEqual([letter["reason"] for letter in letters], [
            "the payload's field 'kind' is null",
            "the payload is not JSON, so it has no field 'kind'",
        ])

    def test_the_partition_follows_the_key_of_each_record(self):
        kafka().create_topic("keyed", partitions=7)
        with Gateway(one("keyed", 'message_key: "${payload.id}"')) as gateway:
            published(gateway, "a", *('{"id":"%s"}' % chr(97 + n % 20) for n in range(200)))
            records = kafka().records("keyed", 200)
        places = {}
        for record in records:
            self.assertEqual(json.loads(record.value())["id"].encode(), record.key())
            places.setdefault(record.key(), set()).add(record.partition())
        self.assertEqual({len(place) for place in places.values()}, {1})
        self.assertGreater(len(set.union(*places.values())), 3)

    def test_no_device_makes_more_topics_than_allowed(self):
        with Gateway(one("few_${payload.k}", "max_topics: 3")) as gateway:
            published(gateway, "a", *('{"k":%d}' % (n % 5) for n in range(20)))
            gateway.wait_drained("kafka")
            got = [len(kafka().records(f"few_{n}", 4)) for n in range(3)]
            known = subprocess.run(
                [program("kcat"), "-b", kafka().bootstrap, "-L", "-J"], check=True,
                capture_output=True, timeout=PATIENCE).stdout
            gateway.stop()
            reasons = {letter["reason"] for letter in dead(gateway)}
        self.assertEqual(got, [4, 4, 4])
        names = {t["topic"] for t in json.loads(known)["topics"] if t["topic"].startswith("few_")}
        self.assertEqual(names, {"few_0", "few_1", "few_2"})
        self.assertEqual(reasons, {f"topic 'few_{n}' would be one more than the 3 allowed"
                                   for n in (3, 4)})


class Time(unittest.TestCase):
    def test_it_is_the_devices_own_in_any_unit_and_the_envelope_has_both(self):
        keys = 'timestamp: "${payload.ts}"\nvalue_encoder: json'
        now = int(time.time())
        text = datetime.datetime.fromtimestamp(now, datetime.timezone.utc).isoformat()
        with Gateway(one("time", keys)) as gateway:
            published(gateway, "a", *('{"ts":%s}' % ts for ts in (
                now - 60, f"{now}.25", now * 1000 + 7, now * 1000000, now * 10**9, f'"{text}"')))
            records = kafka().records("time", 6)
        self.assertEqual([record.timestamp() for record in records], [
            (1, ms) for ms in ((now - 60) * 1000, now * 1000 + 250, now * 1000 + 7, now * 1000,
                               now * 1000, now * 1000)])
        for record in records:
            event = json.loads(record.value())
            self.assertEqual(event["ts"], record.timestamp()[1])
            self.assertAlmostEqual(event["received"] / 1000, now, delta=PATIENCE)

    def test_an_impossible_one_becomes_the_receive_time_and_is_counted(self):
        with Gateway(one("clock", 'timestamp: "${payload.ts}"')) as gateway:
            published(gateway, "a", '{"ts":5}', '{"ts":"soon"}', "{}", '{"ts":99999999999}')
            records = kafka().records("clock", 4)
            gateway.wait_drained("kafka")
            replaced = gateway.metrics()[
                'millrace_sink_timestamps_replaced_total{bridge="kafka",lane="0"}']
            gateway.wait_log("no usable time of its own.*timestamp '5' is further in the past")
        self.assertEqual(replaced, 4)
        for record in records:
            self.assertAlmostEqual(record.timestamp()[1] / 1000, time.time(), delta=PATIENCE)

    def test_or_a_dead_letter_if_one_wants(self):
        keys = ('timestamp: "${payload.ts}"\ntimestamp_unit: ms\ntimestamp_max_past: 1h\n'
                "timestamp_on_error: dead_letter")
        now = int(time.time() * 1000)
        with Gateway(one("strict", keys)) as gateway:
            published(gateway, "a", '{"ts":%d}' % (now - 7200000), '{"ts":%d}' % now)
            (record,) = kafka().records("strict", 1)
            gateway.wait_drained("kafka")
            gateway.stop()
            (letter,) = dead(gateway)
        self.assertEqual(record.timestamp()[1], now)
        self.assertEqual(letter["reason"], f"timestamp '{now - 7200000}' is further in the past "
                                           "than timestamp_max_past")


class Headers(unittest.TestCase):
    def test_full_says_what_mqtt_said_and_no_device_can_forge_it(self):
        options = ["-D", "publish", "content-type", "text/plain",
                   "-D", "publish", "response-topic", "answers/4",
                   "-D", "publish", "correlation-data", "c-7",
                   "-D", "publish", "user-property", "unit", "C",
                   "-D", "publish", "user-property", "mqtt_client", "somebody else",
                   "-D", "publish", "user-property", "unit", "K"]
        with Gateway(one("full", "headers: full")) as gateway:
            published(gateway, "hall/temp", "21.5", options=options)
            (record,) = kafka().records("full", 1)
            out = subprocess.run(
                [program("kcat"), "-C", "-e", "-q", "-b", kafka().bootstrap, "-t", "full", "-J"],
                capture_output=True, text=True, check=True, timeout=PATIENCE).stdout
        headers = [(name, value.decode()) for name, value in record.headers()]
        self.assertRegex(headers[0][1], r"^[0-9a-f-]{36}-0-\d+$")
        self.assertEqual(headers[1:], [
            ("mqtt_topic", "hall/temp"), ("mqtt_qos", "1"), ("mqtt_retain", "false"),
            ("mqtt_client", "press-4"), ("mqtt_content_type", "text/plain"),
            ("mqtt_response_topic", "answers/4"), ("mqtt_correlation_data", "c-7"),
            ("unit", "C"), ("user_mqtt_client", "somebody else"), ("unit", "K"),
        ])
        self.assertEqual(json.loads(out)["headers"], [x for pair in headers for x in pair])

    def test_a_list_of_templates(self):
        keys = ('headers:\n  - site: plant-7\n  - unit: "${payload.unit}"\n'
                '  - level: "${topic[1]}/${qos}"\n  - who: "${props.who:-nobody}"')
        with Gateway(one("listed", keys)) as gateway:
            published(gateway, "hall/temp", '{"unit":"C"}', "21.5 C")
            both = kafka().records("listed", 2)
        with_unit = [("site", b"plant-7"), ("unit", b"C"), ("level", b"temp/1"),
                     ("who", b"nobody")]
        self.assertEqual(both[0].headers(), with_unit)
        self.assertEqual(both[1].headers(), [with_unit[0], *with_unit[2:]])


class Start(unittest.TestCase):
    def test_a_new_bridge_can_begin_at_a_time_and_a_renamed_one_is_new(self):
        boot = kafka().bootstrap
        with Gateway(config(("first", boot, "start_a", ""))) as gateway:
            published(gateway, "a", *range(300))
            gateway.wait_drained("first")
            kafka().records("start_a", 300)
            middle = kafka().records("start_a", 300)[-1].timestamp()[1] / 1000
            # The next event's receive time is in a later millisecond.
            until(lambda: time.time() > middle + 0.002, "the clock to move")
            at = datetime.datetime.fromtimestamp(time.time(), datetime.timezone.utc)
            published(gateway, "a", *range(300, 320))
            gateway.wait_drained("first")
            gateway.stop()
            gateway.config.write_text(config(
                ("first", boot, "start_a", ""),
                ("renamed", boot, "start_b", ""),
                ("timed", boot, "start_c", f'start: "{at.isoformat()}"'),
                ("late", boot, "start_d", "start: now")), encoding="utf-8")
            gateway.start()
            gateway.wait_log(r"renamed: is new in lane 0; begins behind record 0")
            gateway.wait_log(r"timed: is new in lane 0")
            published(gateway, "a", 320)
            for name in ("first", "renamed", "timed", "late"):
                gateway.wait_drained(name)
            got = {topic: [int(r.value()) for r in kafka().records(f"start_{topic}", count)]
                   for topic, count in (("a", 321), ("b", 321), ("c", 21), ("d", 1))}
        self.assertEqual(got["a"], list(range(321)))
        self.assertEqual(got["b"], list(range(321)))
        self.assertEqual(got["c"], list(range(300, 321)))
        self.assertEqual(got["d"], [320])


class TwoKafkas(unittest.TestCase):
    def test_one_being_away_does_not_hurt_the_other_and_it_catches_up(self):
        other = Kafka(partitions=2)
        self.addCleanup(other.remove)
        both = config(("near", kafka().bootstrap, "both", 'from: ["line/#"]'),
                      ("far", other.bootstrap, "both", 'message_key: "${payload.n}"'))
        with Gateway(both, sets=["gateway.drain=200ms"]) as gateway:
            published(gateway, "line/1", *('{"n":%d}' % n for n in range(100)))
            gateway.wait_drained("near")
            gateway.wait_drained("far")
            other.kill()
            published(gateway, "line/1", *('{"n":%d}' % n for n in range(100, 600)))
            published(gateway, "other/1", '{"n":600}')
            gateway.wait_drained("near")
            self.assertEqual(len(kafka().records("both", 600)), 600)
            gateway.wait_log(r"component=bridge msg=\"far: away")
            self.assertEqual(gateway.bridge("far")["lag_records"], 501)
            gateway.restart()  # each has a cursor of its own on disk
            published(gateway, "line/1", '{"n":601}')
            gateway.wait_drained("near")
            self.assertEqual(gateway.bridge("far")["lag_records"], 502)
            other.start()
            gateway.wait_drained("far", patience=2 * PATIENCE)
            near = [json.loads(r.value())["n"] for r in kafka().records("both", 601)]
            far = [r.key() for r in other.records("both", 602)]
        self.assertEqual(near, [*range(600), 601])
        self.assertEqual(sorted(set(int(key) for key in far)), list(range(602)))


if __name__ == "__main__":
    unittest.main()
