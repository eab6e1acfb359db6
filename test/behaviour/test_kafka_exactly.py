"""`delivery: exactly_once`: a reader at read_committed finds every event once, in order.

A real Kafka; the reader is confluent-kafka at its default, isolation.level=read_committed.
Failures of Kafka and of the process are in test_kafka_exactly_away.py and test/ledger.
"""

import json
import random
import shutil
import unittest

import harness
from harness import PATIENCE, Gateway, kafka, millrace, published, until

setUpModule = harness.kafka_up
tearDownModule = harness.kafka_down

POSITIONS = "millrace.positions"
# A record batch is compressed before its size is judged; this does not compress below 4,000.
BIG = random.Random(1).randbytes(4000).hex()


def config(topic, keys="", create=True):
    return f"""\
bridges:
  kafka:
    servers: "{kafka().bootstrap}"
    topic: {topic}
    value_encoder: raw
    delivery: exactly_once
    auto_create: {{ enable: {str(create).lower()} }}
    {keys}
"""


def send(gateway, lines, client="d"):
    published(gateway, "t/1", lines, client)


def copied(gateway):
    """Stop it, copy its data folder, and start it again; the copy."""
    gateway.stop()
    copy = gateway.temp.path / "copy"
    shutil.copytree(gateway.data, copy)
    gateway.start()
    return copy


def values(topic, count=None):
    return [int(record.value()) for record in kafka().records(topic, count)]


def murmur2(key):
    """As Kafka's Java client."""
    mixed, multiplier, whole = 0x9747B28C ^ len(key), 0x5BD1E995, len(key) & ~3
    for at in range(0, whole, 4):
        word = int.from_bytes(key[at : at + 4], "little") * multiplier & 0xFFFFFFFF
        word = (word ^ word >> 24) * multiplier & 0xFFFFFFFF
        mixed = mixed * multiplier & 0xFFFFFFFF ^ word
    if whole != len(key):
        mixed = (mixed ^ int.from_bytes(key[whole:], "little")) * multiplier & 0xFFFFFFFF
    mixed = (mixed ^ mixed >> 13) * multiplier & 0xFFFFFFFF
    return mixed ^ mixed >> 15


def home(gateway, partitions):
    """The partition of the position record of lane 0."""
    key = f"{journal_id(gateway)}/kafka/0".encode()
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def grow(topic, partitions):
    from confluent_kafka.admin import NewPartitions

    for done in kafka().admin.create_partitions([NewPartitions(topic, partitions)]).values():
        done.result(PATIENCE)


def journal_id(gateway):
    return json.loads(gateway.http("/api/v1/status")[1])["journal_id"]


def positions(journal):
    """The position records of this journal, oldest first: (lane, what it says, partition)."""
    found = [(record.key().decode().split("/"), record) for record in kafka().records(POSITIONS)]
    return [(int(key[2]), json.loads(record.value()), record.partition())
            for key, record in found if key[0] == journal and key[1] == "kafka"]


class Positions(unittest.TestCase):
    def test_a_restart_and_a_crash_double_nothing(self):
        kafka().create_topic("once", partitions=1)
        with Gateway(config("once")) as gateway:
            send(gateway, range(500))
            gateway.wait_drained("kafka")
            gateway.restart()
            gateway.wait_log(r"goes on behind record 500 \(position record in millrace.positions\)")
            send(gateway, range(500, 1000))
            gateway.kill()  # some of them are under way, whatever the moment
            gateway.start()
            send(gateway, range(1000, 1200))
            gateway.wait_drained("kafka")
            self.assertEqual(values("once", 1200), list(range(1200)))
            self.assertGreater(gateway.metric("millrace_sink_transactions_committed_total"), 0)
            self.assertEqual(gateway.metric("millrace_sink_position_seq"), 1200)
            lane, last, _ = positions(journal_id(gateway))[-1]
            self.assertEqual((lane, last["v"], last["seq"], last["epoch"]), (0, 1, 1200, 1))

    def test_the_topic_is_compacted_or_its_lack_is_said(self):
        from confluent_kafka.admin import ConfigResource

        topic = "positions.other"
        kafka().create_topic("lack", partitions=1)
        with Gateway(config("lack", f"positions_topic: {topic}", create=False)) as gateway:
            send(gateway, range(3))
            said = gateway.wait_log(rf"topic '{topic}' does not exist; .*")[0]
            self.assertIn("--config cleanup.policy=compact", said)
            kafka().create_topic(topic, partitions=2, cleanup_policy="delete")
            self.assertEqual(values("lack", 3), [0, 1, 2])
            said = gateway.wait_log(rf"topic '{topic}' has cleanup.policy=delete.*")[0]
            self.assertIn("--add-config cleanup.policy=compact", said)
        kafka().create_topic("made", partitions=1)
        with Gateway(config("made", "positions_topic: positions.made")) as gateway:
            send(gateway, range(3))
            self.assertEqual(values("made", 3), [0, 1, 2])
            resource = ConfigResource("topic", "positions.made")
            answer = kafka().admin.describe_configs([resource])[resource].result(PATIENCE)
            self.assertEqual(answer["cleanup.policy"].value, "compact")

    def test_without_the_record_it_goes_on_at_the_cursor_and_says_so(self):
        keys = "positions_topic: positions.gone"
        kafka().create_topic("gone", partitions=1)
        with Gateway(config("gone", keys)) as gateway:
            send(gateway, range(50))
            gateway.wait_drained("kafka")
            gateway.stop()
            for done in kafka().admin.delete_topics(["positions.gone"]).values():
                done.result(PATIENCE)
            gateway.start()
            send(gateway, range(50, 100))
            gateway.wait_log(r"level=warn .*the target has lost the position of lane 0")
            gateway.wait_drained("kafka")
            self.assertEqual(values("gone", 100), list(range(100)))

    def test_partitions_that_are_added_twice_do_not_bring_an_old_position_back(self):
        topic = "positions.grown"
        kafka().create_topic("grown", partitions=1)
        kafka().create_topic(topic, partitions=1, cleanup_policy="compact")
        with Gateway(config("grown", f"positions_topic: {topic}")) as gateway:
            homes, events = {0}, 0
            for _ in range(3):
                send(gateway, range(events, events + 20))
                events += 20
                gateway.wait_drained("kafka")
                millrace("audit", "-c", gateway.config, "--data", gateway.data, "--kafka")
                # Where the record has not been yet: what lies in the others is out of date.
                grown = next(count for count in range(2 * len(homes), 200)
                             if home(gateway, count) > max(homes))
                homes.add(home(gateway, grown))
                gateway.stop()
                grow(topic, grown)
                gateway.start()
                gateway.wait_log(rf"goes on behind record {events} \(position record")
            send(gateway, range(events, events + 20))
            gateway.wait_drained("kafka")
            self.assertEqual(values("grown", events + 20), list(range(events + 20)))
            millrace("audit", "-c", gateway.config, "--data", gateway.data, "--kafka")

    def test_a_neighbours_open_transaction_is_waited_for(self):
        from confluent_kafka import Producer

        kafka().create_topic("neighbour", partitions=1)
        with Gateway(config("neighbour")) as gateway:
            send(gateway, range(10))
            gateway.wait_drained("kafka")
            _, _, partition = positions(journal_id(gateway))[-1]
            other = Producer({"bootstrap.servers": kafka().bootstrap, "transactional.id": "other"})
            other.init_transactions(PATIENCE)
            other.begin_transaction()
            other.produce(POSITIONS, b"{}", b"other/kafka/0", partition)
            other.flush(PATIENCE)
            # Our next position stands behind it, out of sight of a reader at read_committed.
            send(gateway, range(10, 20))
            gateway.wait_drained("kafka")
            gateway.restart()
            gateway.wait_log(r"waits for another producer's open transaction")
            self.assertIsNone(gateway.log.find("goes on behind record"))
            other.commit_transaction(PATIENCE)
            gateway.wait_log(r"goes on behind record 20 \(position record")
            self.assertEqual(values("neighbour", 20), list(range(20)))

    def test_an_older_copy_of_the_data_stops_until_the_operator_decides(self):
        kafka().create_topic("older", partitions=1)
        with Gateway(config("older")) as gateway:
            send(gateway, range(20))
            gateway.wait_drained("kafka")
            copy = copied(gateway)
            send(gateway, range(20, 40))
            gateway.wait_drained("kafka")
            gateway.stop()
            gateway.data = copy
            gateway.start()
            said = gateway.wait_log(r"level=error .*names record 40 .*")[0]
            self.assertIn("the newest of this journal is 20", said)
            send(gateway, range(100, 103))  # taken, and kept
            gateway.stop()
            millrace("bridge", "seek", "kafka", "--data", copy, "--to", "21", "--yes")
            gateway.start()
            gateway.wait_drained("kafka")
            self.assertEqual(values("older", 43), [*range(40), *range(100, 103)])


class Operator(unittest.TestCase):
    def test_a_seek_repeats_once_and_holds_through_a_crash(self):
        kafka().create_topic("seek", partitions=1)
        with Gateway(config("seek"), sets=["journal.keep=1h"]) as gateway:
            send(gateway, range(5))
            gateway.wait_drained("kafka")
            millrace("bridge", "seek", "kafka", "-c", gateway.config, "--data", gateway.data,
                     "--set", f"admin.bind=127.0.0.1:{gateway.admin_port}", "--to", "3", "--yes")
            self.assertEqual(values("seek", 8), [0, 1, 2, 3, 4, 2, 3, 4])
            gateway.kill()
            gateway.start()
            send(gateway, [5])
            gateway.wait_drained("kafka")
            self.assertEqual(values("seek", 9), [0, 1, 2, 3, 4, 2, 3, 4, 5])

    def test_a_seek_leaves_nothing_of_fresh_events_under_way(self):
        from confluent_kafka import KafkaException, Producer

        kafka().create_topic("under-way", partitions=1)
        with Gateway(config("under-way", "drain: live_first"), sets=["journal.keep=1h"]) as gateway:
            send(gateway, range(5))
            gateway.wait_drained("kafka")
            fresh = f"millrace-{journal_id(gateway)}-kafka-0-live"
            gateway.stop()
            # What a crash in a transaction of fresh events leaves; Kafka would keep it for minutes.
            left = Producer({"bootstrap.servers": kafka().bootstrap, "transactional.id": fresh,
                             "transaction.timeout.ms": 600000})
            left.init_transactions(PATIENCE)
            left.begin_transaction()
            left.produce("under-way", b"99")
            left.flush(PATIENCE)
            millrace("bridge", "seek", "kafka", "--data", gateway.data, "--to", "3", "--yes")
            gateway.start()
            # A reader at read_committed does not wait for it, and it does not come later.
            self.assertEqual(values("under-way", 8), [0, 1, 2, 3, 4, 2, 3, 4])
            with self.assertRaises(KafkaException):
                left.commit_transaction(PATIENCE)

    def test_what_went_at_least_once_in_between_is_not_repeated(self):
        kafka().create_topic("modes", partitions=1)
        text = config("modes")
        with Gateway(text) as gateway:
            send(gateway, range(10))
            gateway.wait_drained("kafka")
            gateway.stop()
            gateway.config.write_text(text.replace("exactly_once", "at_least_once"), "utf-8")
            gateway.start()
            send(gateway, range(10, 20))
            gateway.wait_drained("kafka")
            gateway.stop()
            gateway.config.write_text(text, "utf-8")
            gateway.start()
            send(gateway, range(20, 30))
            gateway.wait_drained("kafka")
            self.assertEqual(values("modes", 30), list(range(30)))


class Poison(unittest.TestCase):
    def test_what_the_topic_refuses_is_a_dead_letter_and_the_rest_arrives_once(self):
        kafka().create_topic("poison", partitions=1, max_message_bytes=2000)
        with Gateway(config("poison")) as gateway:
            send(gateway, [*range(20), BIG, *range(20, 60)])
            gateway.wait_drained("kafka")
            self.assertEqual(values("poison", 60), list(range(60)))
            self.assertEqual(gateway.metric("millrace_sink_dead_letters_total"), 1)
            gateway.restart()
            send(gateway, [60])
            gateway.wait_drained("kafka")
            self.assertEqual(values("poison", 61), list(range(61)))


class Zombie(unittest.TestCase):
    def test_of_two_copies_the_older_stops_and_says_so(self):
        kafka().create_topic("zombie", partitions=1)
        with Gateway(config("zombie")) as gateway:
            send(gateway, range(10))
            gateway.wait_drained("kafka")
            copy = copied(gateway)
            send(gateway, range(10, 20))
            gateway.wait_drained("kafka")
            with Gateway(config("zombie"), data=copy) as other:
                # The position is beyond what the copy has, so the copy stops at once ...
                other.wait_log(r"level=error .*names record 20")
            with Gateway(config("zombie"), data=copy) as other:
                send(other, range(100, 110))
                other.stop()
                other.start()  # ... until it has as much
                send(other, range(110, 120))
                other.wait_drained("kafka")
                send(gateway, [20])
                gateway.wait_log(r"level=error .*another process delivers under the same "
                                 r"transactional id")
                self.assertIn("stopped", gateway.http("/api/v1/status")[1])
                send(other, [120])
                other.wait_drained("kafka")
            self.assertEqual(values("zombie", 31), [*range(20), *range(110, 121)])


if __name__ == "__main__":
    unittest.main()
