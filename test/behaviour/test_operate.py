"""Bridges as an operator handles them, against a real Kafka: pause, resume, seek, dead letters."""

import json
import random
import shutil
import unittest
import urllib.request

import harness
from harness import Gateway, kafka, kafka_bridge, millrace, mosquitto_pub, published, until

setUpModule = harness.kafka_up
tearDownModule = harness.kafka_down


def values(topic, count):
    return [record.value().decode() for record in kafka().records(topic, count)]


def state(gateway):
    (row,) = (json.loads(line) for line in
              millrace("bridge", "ls", "--json", "--data", gateway.data).stdout.splitlines())
    return row


def operate(gateway, *args, check=True):
    return millrace("bridge", *args, "--data", gateway.data, check=check)


class Pause(unittest.TestCase):
    def test_a_paused_bridge_delivers_nothing_until_it_is_resumed_and_stays_so_in_restarts(self):
        kafka().create_topic("paused", partitions=1)
        with Gateway(kafka_bridge("paused")) as gateway:
            published(gateway, "t/1", ["a", "b"])
            gateway.wait_drained("kafka")
            operate(gateway, "pause", "kafka")
            gateway.wait_log("kafka: is paused in lane 0 behind record 2")
            published(gateway, "t/1", ["c"])
            gateway.restart()
            gateway.wait_log("kafka: is paused in lane 0 behind record 2")
            published(gateway, "t/1", ["d"])
            row = until(lambda: state(gateway) if state(gateway)["lag_seconds"] > 0 else None,
                        "the age of what waits")
            self.assertEqual((row["state"], row["cursor"], row["lag_records"]), ("paused", 2, 2))
            self.assertEqual(values("paused", 2), ["a", "b"])
            operate(gateway, "resume", "kafka")
            gateway.wait_drained("kafka")
            self.assertEqual(values("paused", 4), ["a", "b", "c", "d"])

    def test_it_can_be_paused_and_resumed_while_the_gateway_is_stopped(self):
        kafka().create_topic("stopped", partitions=1)
        with Gateway(kafka_bridge("stopped")) as gateway:
            published(gateway, "t/1", ["a"])
            gateway.wait_drained("kafka")
            gateway.stop()
            operate(gateway, "pause", "kafka")
            gateway.start()
            published(gateway, "t/1", ["b"])
            self.assertEqual(state(gateway)["state"], "paused")
            gateway.stop()
            operate(gateway, "resume", "kafka")
            gateway.start()
            gateway.wait_drained("kafka")
            self.assertEqual(values("stopped", 2), ["a", "b"])

    def test_a_bridge_that_is_not_there_is_named(self):
        with Gateway(kafka_bridge("t")) as gateway:
            done = operate(gateway, "pause", "kafak", check=False)
            self.assertEqual(done.returncode, 66)
            self.assertIn("kafak", done.stderr)


class Seek(unittest.TestCase):
    def test_back_repeats_and_forward_passes_over(self):
        kafka().create_topic("seek", partitions=1)
        with Gateway(kafka_bridge("seek")) as gateway:
            published(gateway, "t/1", range(1, 6))
            gateway.wait_drained("kafka")
            dry = operate(gateway, "seek", "kafka", "--to", "3")
            self.assertIn("3 records come again", dry.stdout)
            self.assertIn("--yes", dry.stderr)
            self.assertEqual(state(gateway)["cursor"], 5)
            operate(gateway, "seek", "kafka", "--to", "3", "--yes")
            gateway.wait_drained("kafka")
            self.assertEqual(values("seek", 8), ["1", "2", "3", "4", "5", "3", "4", "5"])

            operate(gateway, "pause", "kafka")
            published(gateway, "t/1", ["never"])
            said = operate(gateway, "seek", "kafka", "--to", "now", "--yes").stdout
            self.assertIn("1 records are passed over", said)
            operate(gateway, "resume", "kafka")
            published(gateway, "t/1", ["last"])
            gateway.wait_drained("kafka")
            self.assertEqual(values("seek", 9)[8:], ["last"])

    def test_it_moves_while_the_gateway_is_stopped_too(self):
        kafka().create_topic("cold", partitions=1)
        with Gateway(kafka_bridge("cold")) as gateway:
            published(gateway, "t/1", ["a", "b", "c"])
            gateway.wait_drained("kafka")
            gateway.stop()
            operate(gateway, "seek", "kafka", "--to", "1h", "--yes")
            gateway.start()
            gateway.wait_drained("kafka")
            self.assertEqual(values("cold", 6), ["a", "b", "c"] * 2)

    def test_a_target_that_does_not_answer_gives_back_what_it_holds(self):
        away = 'bridges:\n  kafka:\n    servers: "127.0.0.1:1"\n    topic: t\n'
        with Gateway(away, sets=["gateway.drain=100ms"]) as gateway:
            published(gateway, "t/1", ["a", "b", "c"])
            operate(gateway, "seek", "kafka", "--to", "now", "--yes")
            self.assertEqual((state(gateway)["cursor"], state(gateway)["inflight"]), (3, 0))

    def test_a_place_that_cannot_be_is_refused(self):
        with Gateway(kafka_bridge("t")) as gateway:
            for place, code in (("99", 65), ("yesterday", 64)):
                done = operate(gateway, "seek", "kafka", "--to", place, "--yes", check=False)
                self.assertEqual(done.returncode, code, done.stderr)
                self.assertIn(place, done.stderr)
            self.assertEqual(operate(gateway, "seek", "kafka", check=False).returncode, 64)


BIG = "".join(random.Random(5).choices("0123456789abcdef", k=5000))  # hard to compress


def set_topic_limit(topic, max_bytes):
    from confluent_kafka.admin import AdminClient, ConfigResource

    admin = AdminClient({"bootstrap.servers": kafka().bootstrap})
    resource = ConfigResource("TOPIC", topic, set_config={"max.message.bytes": str(max_bytes)})
    for done in admin.alter_configs([resource]).values():
        done.result(harness.PATIENCE)


def post(gateway, path):
    url = f"http://127.0.0.1:{gateway.admin_port}/api/v1/{path}"
    request = urllib.request.Request(url, data=b"", headers={"X-Millrace": "1"})
    with urllib.request.urlopen(request, timeout=harness.PATIENCE) as answer:
        return json.loads(answer.read())


def dlq(gateway, *args, check=True):
    return millrace("dlq", *args, "--data", gateway.data, check=check)


def letters(gateway, bridge_name="kafka"):
    return [json.loads(line) for line in
            dlq(gateway, "show", bridge_name, "--json").stdout.splitlines()]


class Explain(unittest.TestCase):
    def test_the_running_gateway_knows_how_many_partitions_there_are(self):
        kafka().create_topic("counted", partitions=3)
        with Gateway(kafka_bridge("counted")) as gateway:
            command = ("explain", "-c", gateway.config, "--data", gateway.data, "plant/1", "x")
            self.assertIn("modulo the number of partitions", millrace(*command).stdout)
            mosquitto_pub(gateway.mqtt_port, "-q", "1", "-t", "plant/1", "-m", "x")
            gateway.wait_drained("kafka")
            self.assertRegex(millrace(*command).stdout, r"partition +[0-2] of 0 to 2\n")
            said = json.loads(millrace(*command, "--json").stdout)
            self.assertEqual(said["partition"], said["hash"] % 3)
            gateway.stop()
            self.assertIn("modulo the number of partitions", millrace(*command).stdout)
            gateway.start()


class DeadLetters(unittest.TestCase):
    def test_a_retried_letter_goes_to_its_bridge_alone_and_is_gone_from_the_dead_letters(self):
        kafka().create_topic("small", partitions=1, max_message_bytes=2000)
        kafka().create_topic("other", partitions=1)
        config = kafka_bridge("small") + "\n".join([
            "  other:", "    type: kafka", f'    servers: "{kafka().bootstrap}"',
            "    topic: other", "    value_encoder: raw", ""])
        with Gateway(config) as gateway:
            published(gateway, "t/1", ["a", BIG, "c"])
            for name in ("kafka", "other"):
                gateway.wait_drained(name)
            (row,) = (json.loads(line) for line in
                      dlq(gateway, "ls", "--json").stdout.splitlines())
            self.assertEqual((row["bridge"], row["count"]), ("kafka", 1))
            (letter,) = letters(gateway)
            self.assertEqual((letter["from_seq"], letter["topic"], letter["client"],
                              letter["payload"]), (2, "t/1", "d", BIG))
            self.assertIn("1 dead letters", dlq(gateway, "retry", "kafka").stdout)
            self.assertEqual(len(letters(gateway)), 1, "a dry run changes nothing")

            set_topic_limit("small", 100000)
            said = dlq(gateway, "retry", "kafka", "--yes").stdout
            self.assertIn("retried 1 of 1", said)
            for name in ("kafka", "other"):
                gateway.wait_drained(name)
            self.assertEqual(values("small", 3), ["a", "c", BIG])
            self.assertEqual(values("other", 3), ["a", BIG, "c"])
            self.assertEqual(letters(gateway), [])
            self.assertEqual(post(gateway, "dead-letters/retry?name=kafka&letters=1-1"),
                             {"count": 0}, "a request that comes again finds nothing to do")
            gateway.restart()
            self.assertEqual(letters(gateway), [])
            self.assertIn("no dead letters", dlq(gateway, "ls").stderr)
            self.assertIsNone(gateway.log.find("had been retried when the last run ended"))
            gateway.wait_drained("kafka")
            self.assertEqual(values("small", 3), ["a", "c", BIG])

    def test_of_letters_in_the_middle_too_each_is_retried_once(self):
        kafka().create_topic("lvl_late", partitions=1)
        kafka().create_topic("lvl_x", partitions=1)
        with Gateway(kafka_bridge("lvl_${topic[1]}", "max_topics: 1")) as gateway:
            published(gateway, "t/late", ["first"])
            published(gateway, "t/x", ["one", "two", "three"])
            gateway.wait_drained("kafka")
            self.assertEqual([one["payload"] for one in letters(gateway)], ["one", "two", "three"])
            gateway.stop()
            text = gateway.config.read_text("utf-8")
            gateway.config.write_text(text.replace("max_topics: 1", "max_topics: 9"), "utf-8")
            gateway.start()
            for count in (1, 0):
                self.assertEqual(post(gateway, "dead-letters/retry?name=kafka&letters=2-2"),
                                 {"count": count})
            gateway.wait_drained("kafka")
            self.assertEqual(values("lvl_x", 1), ["two"])
            self.assertEqual([one["payload"] for one in letters(gateway)], ["one", "three"])

    def test_what_fails_again_becomes_a_new_letter_and_others_stay_where_they_are(self):
        with Gateway(kafka_bridge("lvl_${topic[1]}")) as gateway:
            for number in range(5):
                published(gateway, f"flat{number}", [number])
            gateway.wait_drained("kafka")
            self.assertEqual([one["payload"] for one in letters(gateway)], [0, 1, 2, 3, 4])
            dlq(gateway, "drop", "kafka", "--topic", "flat3", "--yes")
            self.assertEqual([one["payload"] for one in letters(gateway)], [0, 1, 2, 4])
            dlq(gateway, "retry", "kafka", "--topic", "flat1", "--yes")
            gateway.wait_drained("kafka")
            self.assertEqual([one["payload"] for one in letters(gateway)], [0, 2, 4, 1])
            gateway.kill()
            gateway.start()
            self.assertEqual([one["payload"] for one in letters(gateway)], [0, 2, 4, 1])
            dlq(gateway, "drop", "kafka", "--yes")
            self.assertEqual(letters(gateway), [])

    def test_a_seek_back_writes_no_letter_twice_but_one_that_was_dropped_anew(self):
        with Gateway(kafka_bridge("again_${topic[1]}")) as gateway:
            published(gateway, "one", [1])
            published(gateway, "two", [2])
            gateway.wait_drained("kafka")
            dlq(gateway, "drop", "kafka", "--topic", "two", "--yes")
            operate(gateway, "seek", "kafka", "--to", "oldest", "--yes")
            gateway.wait_drained("kafka")
            self.assertEqual([one["topic"] for one in letters(gateway)], ["one", "two"])

    def test_letters_of_a_journal_that_was_replaced_take_nobodys_place(self):
        with Gateway(kafka_bridge("anew_${topic[1]}")) as gateway:
            published(gateway, "one", [1])
            gateway.wait_drained("kafka")
            gateway.stop()
            for folder in ("journal", "sessions"):
                shutil.rmtree(gateway.data / folder)
            gateway.start()
            published(gateway, "two", [2])
            gateway.wait_drained("kafka")
            self.assertEqual([one["topic"] for one in letters(gateway)], ["one", "two"])

    def test_a_letter_of_a_time_of_larger_packets_says_what_it_needs(self):
        text = "mqtt: {{ max_packet_size: {} }}\n" + kafka_bridge("large_${{topic[1]}}")
        with Gateway(text.format("2MiB")) as gateway:
            operate(gateway, "pause", "kafka")
            published(gateway, "flat", ["x" * 1500000])
            gateway.stop()
            gateway.config.write_text(text.format("16KiB"), "utf-8")
            gateway.start()
            operate(gateway, "resume", "kafka")
            gateway.wait_log(r"level=error .*payload has 1500000 bytes, and mqtt.max_packet_size")
            gateway.stop()
            gateway.config.write_text(text.format("2MiB"), "utf-8")
            gateway.start()
            gateway.wait_drained("kafka")
            self.assertEqual([one["topic"] for one in letters(gateway)], ["flat"])

    def test_what_is_not_there_is_named(self):
        with Gateway(kafka_bridge("t")) as gateway:
            done = dlq(gateway, "show", "kafak", check=False)
            self.assertEqual(done.returncode, 66)
            self.assertIn("kafak", done.stderr)
            self.assertEqual(dlq(gateway, "ls").returncode, 0)
            published(gateway, "t/1", ["x"])


if __name__ == "__main__":
    unittest.main()
