"""The books: what became of every record adds up, through everything, and Kafka has what they say.

`millrace audit` beside a running gateway and without one, `--kafka` against a real Kafka; and that
it fails where something is missing, doubled or not ours.
"""

import json
import subprocess
import unittest

import cursors
import harness
from harness import PATIENCE, Gateway, kafka, kafka_bridge, millrace, published, until

setUpModule = harness.kafka_up
tearDownModule = harness.kafka_down

SUBTRACTED = "repeated"
COLUMNS = [column for column in cursors.COLUMNS if column != SUBTRACTED]


def operate(gateway, *args):
    return millrace("bridge", *args, "--data", gateway.data)


def audit(gateway, *args, check=True):
    return millrace("audit", "-c", gateway.config, "--data", gateway.data, *args, check=check)


def said(gateway):
    return [json.loads(line) for line in audit(gateway, "--json").stdout.splitlines()]


def books_of(gateway):
    (row,) = [row for row in said(gateway) if "range" not in row]
    return row


def books(gateway):
    """The one row; that it adds up is asserted."""
    row = books_of(gateway)
    passed = sum(row[name] for name in COLUMNS) - row[SUBTRACTED]
    assert passed == row["cursor"] - row["begin"], row
    assert row["received"] == passed + row["pending"], row
    assert row["balanced"] and row["difference"] == 0, row
    return row


def columns(row):
    """Those that are not 0."""
    return {name: row[name] for name in (*COLUMNS, SUBTRACTED, "pending") if row[name]}


def journal_id(gateway):
    return json.loads(gateway.http("/api/v1/status")[1])["journal_id"]


def write(topic, identity):
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": kafka().bootstrap})
    producer.produce(topic, "x", headers=[("millrace_id", identity)])
    assert producer.flush(PATIENCE) == 0


class Sums(unittest.TestCase):
    def test_every_column_through_restarts_seeks_and_a_kill(self):
        kafka().create_topic("sums_a", partitions=2)
        with Gateway(kafka_bridge("sums_${topic[1]}", "headers: id", "from: ['in/#']")) as gateway:
            published(gateway, "in/a", range(100))
            published(gateway, "out/a", range(7))
            published(gateway, "in", range(3))  # no level 1: dead letters
            gateway.wait_drained("kafka")
            row = books(gateway)
            delivered = {"delivered": 100, "skipped": 7, "dead_letters": 3}
            self.assertEqual({name: row[name] for name in delivered}, delivered)
            audit(gateway, "kafka", "--kafka")
            gateway.restart()
            self.assertEqual(books(gateway)["delivered"], 100)

            operate(gateway, "pause", "kafka")
            published(gateway, "in/a", range(100, 110))
            self.assertEqual(books(gateway)["pending"], 10)
            operate(gateway, "seek", "kafka", "--to", "now", "--yes")
            operate(gateway, "resume", "kafka")
            gateway.wait_drained("kafka")
            self.assertEqual(books(gateway)["given_up"], 10)
            gateway.kill()
            before = books(gateway)
            gateway.start()
            published(gateway, "in/a", range(110, 200))
            gateway.wait_drained("kafka")
            row = books(gateway)
            self.assertEqual(row["delivered"] - before["delivered"], 90)
            audit(gateway, "--kafka")

            gateway.stop()
            operate(gateway, "seek", "kafka", "--to", "oldest", "--yes")
            self.assertEqual(books(gateway)["repeated"], row["cursor"])
            gateway.start()
            gateway.wait_drained("kafka")
            again = books(gateway)
            self.assertEqual(again["delivered"], row["delivered"] + 200)
            self.assertEqual(again["dead_letters"], 6)
            done = audit(gateway, "--kafka")
            self.assertIn("not checked: order, because a seek went back", done.stderr)
            ranges = [one["range"] for one in said(gateway) if "range" in one]
            self.assertEqual([(one["column"], one["from"], one["to"]) for one in ranges],
                             [("given_up", 110, 120), ("repeated", row["cursor"], 0)])
            self.assertEqual(json.loads(gateway.http("/api/v1/ledger")[1])["ranges"], ranges)
            page = json.loads(gateway.http("/api/v1/ledger")[1])
            self.assertEqual((page["balanced"], page["ledger"][0]["delivered"]),
                             (True, again["delivered"]))
            self.assertEqual(gateway.metric("millrace_ledger_records_total", 'column="delivered"'),
                             again["delivered"])
            self.assertEqual(gateway.metric("millrace_ledger_unbalanced"), 0)
            self.assertTrue(json.loads(gateway.http("/readyz")[1])["checks"]["ledger"])

    def test_exactly_once_through_kills(self):
        kafka().create_topic("sums_once", partitions=2)
        keys = ("headers: id", "delivery: exactly_once", "auto_create: { enable: true }")
        with Gateway(kafka_bridge("sums_once", *keys)) as gateway:
            for first in range(0, 900, 300):
                published(gateway, "t/1", range(first, first + 300))
                gateway.kill()  # whatever is committed, the cursor on disk is behind
                books(gateway)
                gateway.start()
            gateway.wait_drained("kafka")
            row = books(gateway)
            self.assertEqual(row["delivered"] + row["confirmed"] + row["control"], row["cursor"])
            done = audit(gateway, "--kafka")
            self.assertIn("900 events found in Kafka", done.stdout)
            self.assertIn("; 0 repetitions, 0 out of order", done.stdout)
            gateway.stop()
            audit(gateway, "--kafka")

            write("sums_once", f"{row_id(gateway)}-0-{row['cursor']}")
            done = audit(gateway, "--kafka", check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("kafka, lane 0: 1 events are there twice", done.stderr)


def row_id(gateway):
    """The journal's id, without a gateway: of a record that it has delivered."""
    record = kafka().records("sums_once")[0]
    return dict(record.headers())["millrace_id"].decode()[:36]


class Kafka(unittest.TestCase):
    def test_what_is_missing_or_not_ours_is_found(self):
        kafka().create_topic("wrong", partitions=1)
        with Gateway(kafka_bridge("wrong", "headers: id")) as gateway:
            published(gateway, "t/1", range(20))
            gateway.wait_drained("kafka")
            audit(gateway, "--kafka")
            identity = journal_id(gateway)
            write("wrong", "no id of ours")
            self.assertIn("1 are of other gateways", audit(gateway, "--kafka").stderr)
            write("wrong", f"{identity}-9-1")
            done = audit(gateway, "--kafka", check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("1 records name this journal but no lane", done.stderr)
            write("wrong", f"{identity}-0-1000000")
            done = audit(gateway, "--kafka", check=False)
            self.assertIn("beyond this journal's newest", done.stderr)
            operate(gateway, "pause", "kafka")
            for done in kafka().admin.delete_topics(["wrong"]).values():
                done.result(PATIENCE)
            done = audit(gateway, "--kafka", check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("20 events are missing", done.stderr)

    def test_without_ids_it_counts_and_says_what_it_cannot_tell(self):
        kafka().create_topic("plain", partitions=1)
        with Gateway(kafka_bridge("plain")) as gateway:
            published(gateway, "t/1", range(20))
            gateway.wait_drained("kafka")
            done = audit(gateway, "--kafka")
            self.assertIn("kafka: 20 records in Kafka, at least 20 wanted", done.stdout)
            self.assertIn("set `headers: id`", done.stderr)
            self.truncate("plain", 5)
            self.assertIn("retention has removed records of 1 partitions",
                          audit(gateway, "--kafka").stderr)

    def truncate(self, topic, offset):
        from confluent_kafka import TopicPartition

        for done in kafka().admin.delete_records([TopicPartition(topic, 0, offset)]).values():
            done.result(PATIENCE)

    def test_what_an_open_transaction_hides_is_waited_for(self):
        from confluent_kafka import Producer

        kafka().create_topic("hidden", partitions=1)
        with Gateway(kafka_bridge("hidden", "headers: id")) as gateway:
            published(gateway, "t/1", range(10))
            gateway.wait_drained("kafka")
            other = Producer({"bootstrap.servers": kafka().bootstrap, "transactional.id": "open"})
            other.init_transactions(PATIENCE)
            other.begin_transaction()
            other.produce("hidden", "x")
            self.assertEqual(other.flush(PATIENCE), 0)
            published(gateway, "t/1", range(10, 20))
            gateway.wait_drained("kafka")
            command = (harness.BUILD / "millrace", "audit", "-c", gateway.config, "--data",
                       gateway.data, "--kafka")
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  text=True) as process:
                with self.assertRaises(subprocess.TimeoutExpired):
                    process.wait(2)  # until the neighbour's transaction is over
                other.commit_transaction(PATIENCE)
                said, _ = process.communicate(timeout=PATIENCE)
            self.assertEqual(process.returncode, 0, said)
            self.assertIn("20 events found in Kafka", said)

    def test_a_topic_that_begins_with_an_underscore(self):
        kafka().create_topic("_under", partitions=1)
        with Gateway(kafka_bridge("_under", "headers: id")) as gateway:
            published(gateway, "t/1", range(20))
            gateway.wait_drained("kafka")
            self.assertIn("20 events found in Kafka", audit(gateway, "--kafka").stdout)

    def test_of_a_compacted_topic_none_is_called_missing(self):
        kafka().create_topic("latest", partitions=1)
        with Gateway(kafka_bridge("latest", "headers: id")) as gateway:
            published(gateway, "t/1", range(20))
            gateway.wait_drained("kafka")
            operate(gateway, "pause", "kafka")
            kafka().delete_topic("latest")  # as compaction might, of all but the latest
            until(lambda: "latest" not in kafka().admin.list_topics(timeout=PATIENCE).topics,
                  "the topic is gone")
            kafka().create_topic("latest", partitions=1, cleanup_policy="compact")
            self.assertIn("compact", audit(gateway, "--kafka").stderr)

    def test_what_cannot_be_asked_is_said(self):
        with Gateway('bridges:\n  kafka:\n    servers: "127.0.0.1:1"\n    topic: t\n',
                     sets=["gateway.drain=100ms"]) as gateway:
            self.assertEqual(audit(gateway, "nobody", check=False).returncode, 66)
            done = audit(gateway, "--kafka", check=False)
            self.assertEqual(done.returncode, 69)
            self.assertIn("Kafka cannot be asked for its topics", done.stderr)


class Exact(unittest.TestCase):
    """With the ranges of its cursor every record of a bridge has its number in Kafka."""

    def test_what_was_given_up_or_came_again_is_checked_event_by_event(self):
        kafka().create_topic("ranges", partitions=2)
        keys = ("headers: id", "delivery: exactly_once", "auto_create: { enable: true }")
        with Gateway(kafka_bridge("ranges", *keys)) as gateway:
            identity = journal_id(gateway)
            published(gateway, "t/1", range(50))
            gateway.wait_drained("kafka")
            operate(gateway, "pause", "kafka")
            published(gateway, "t/1", range(50, 60))
            given_up = books(gateway)["cursor"] + 3
            operate(gateway, "seek", "kafka", "--to", "now", "--yes")
            operate(gateway, "resume", "kafka")
            published(gateway, "t/1", range(60, 70))
            gateway.wait_drained("kafka")
            self.assertEqual(books(gateway)["given_up"], 10)
            self.assertNotIn("event by event", audit(gateway, "--kafka").stderr)
            operate(gateway, "seek", "kafka", "--to", "oldest", "--yes")
            gateway.wait_drained("kafka")
            audit(gateway, "--kafka")
            operate(gateway, "pause", "kafka")
            published(gateway, "t/1", range(70, 80))
            never = books(gateway)["cursor"] + 2
            operate(gateway, "seek", "kafka", "--to", "now", "--yes")
            operate(gateway, "resume", "kafka")
            write("ranges", f"{identity}-0-{given_up}")
            done = audit(gateway, "--kafka", check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"1 repetitions are there, the first of record {given_up}", done.stderr)
            write("ranges", f"{identity}-0-{never}")
            done = audit(gateway, "--kafka", check=False)
            self.assertIn("1 events are there that were given up, the first record "
                          f"{never}", done.stderr)

    def test_a_seek_that_kafka_was_not_told_of_is_no_alarm(self):
        kafka().create_topic("sought", partitions=1)
        keys = ("headers: id", "delivery: exactly_once", "auto_create: { enable: true }")
        with Gateway(kafka_bridge("sought", *keys)) as gateway:
            published(gateway, "t/1", range(10))
            gateway.wait_drained("kafka")
            operate(gateway, "pause", "kafka")
            published(gateway, "t/1", range(5))
            gateway.stop()
            operate(gateway, "seek", "kafka", "--to", "now", "--yes")
            done = audit(gateway, "--kafka")
            self.assertIn("the position record is not checked", done.stderr)
            gateway.start()
            operate(gateway, "resume", "kafka")
            published(gateway, "t/1", ["last"])
            gateway.wait_drained("kafka")
            self.assertNotIn("is not checked", audit(gateway, "--kafka").stderr)

    def test_a_cursor_was_ahead_of_an_end_that_cannot_be_read(self):
        kafka().create_topic("endless", partitions=1)
        with Gateway(kafka_bridge("endless", "headers: id")) as gateway:
            published(gateway, "t/1", range(2000))
            gateway.wait_drained("kafka")
            gateway.stop()
            operate(gateway, "seek", "kafka", "--to", "oldest", "--yes")
            newest = max((gateway.data / "journal" / "lane-00").glob("[0-9]*.seg"))
            with newest.open("r+b") as segment:
                segment.write(b"no segment")
            done = audit(gateway, "--kafka")
            self.assertIn("kafka, lane 0: 0 events found in Kafka, wanted 0 ", done.stdout)

    def test_repetitions_of_a_time_at_least_once_are_accepted_up_to_here(self):
        kafka().create_topic("switched", partitions=1)
        keys = ("headers: id", "delivery: exactly_once", "auto_create: { enable: true }")
        with Gateway(kafka_bridge("switched", "headers: id")) as gateway:
            identity = journal_id(gateway)
            published(gateway, "t/1", range(20))
            gateway.wait_drained("kafka")
            write("switched", f"{identity}-0-7")  # as a retry for want of an answer does
            audit(gateway, "--kafka")
            gateway.stop()
            gateway.config.write_text(kafka_bridge("switched", *keys), encoding="utf-8")
            gateway.start()
            published(gateway, "t/1", range(20, 30))
            gateway.wait_drained("kafka")
            done = audit(gateway, "--kafka", check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("kafka, lane 0: 1 events are there twice", done.stderr)
            done = audit(gateway, "kafka", "--kafka", "--accept", "--reason", "at_least_once")
            self.assertIn("kafka, lane 0: repetitions up to here, accepted", done.stderr)
            cursor = books(gateway)["cursor"]
            line = f"repetitions up to record {cursor}, accepted: at_least_once"
            done = audit(gateway, "--kafka")
            self.assertIn(line, done.stdout)
            self.assertIn(f"not checked: repetitions of lane 0 up to record {cursor}", done.stderr)
            published(gateway, "t/1", range(30, 40))
            gateway.wait_drained("kafka")
            gateway.stop()
            self.assertIn(line, audit(gateway, "--kafka").stdout)
            write("switched", f"{identity}-0-{cursor + 1}")
            done = audit(gateway, "--kafka", check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("kafka, lane 0: 1 events are there twice", done.stderr)
            audit(gateway, "kafka", "0", "--kafka", "--accept", "--reason", "again")
            audit(gateway, "--kafka")
            gateway.start()  # what was gone back over is counted by record
            published(gateway, "t/1", ["last"])
            gateway.wait_drained("kafka")
            newest = books(gateway)["cursor"]
            operate(gateway, "seek", "kafka", "--to", "oldest", "--yes")
            gateway.wait_drained("kafka")
            audit(gateway, "--kafka")
            write("switched", f"{identity}-0-{newest}")
            done = audit(gateway, "--kafka", check=False)
            self.assertIn(f"1 repetitions are there, the first of record {newest}", done.stderr)

    def test_the_operator_accepts_books_that_do_not_balance(self):
        kafka().create_topic("accepted", partitions=1)
        with Gateway(kafka_bridge("accepted")) as gateway:
            published(gateway, "t/1", range(20))
            gateway.wait_drained("kafka")
            gateway.stop()
            cursors.recount(gateway, delivered=1)
            gateway.start()
            self.assertFalse(json.loads(gateway.http("/readyz")[1])["checks"]["ledger"])
            self.assertEqual(gateway.metric("millrace_ledger_unbalanced"), 1)
            done = audit(gateway, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("off by 1", done.stdout)
            self.assertEqual(audit(gateway, "kafka", "--accept", check=False).returncode, 64)
            done = audit(gateway, "kafka", "0", "--accept", "--reason", "a test's mistake")
            self.assertIn("kafka, lane 0: off by 1, accepted", done.stderr)
            self.assertIn("off by 1 at record 20, accepted: a test's mistake",
                          audit(gateway).stdout)
            self.assertEqual(gateway.metric("millrace_ledger_unbalanced"), 0)
            self.assertTrue(json.loads(gateway.http("/readyz")[1])["checks"]["ledger"])
            gateway.restart()
            row = books_of(gateway)
            self.assertEqual((row["accepted"], row["balanced"]), (1, True))

            gateway.stop()
            cursors.recount(gateway, delivered=1)
            self.assertEqual(audit(gateway, check=False).returncode, 1)
            audit(gateway, "kafka", "--accept", "--reason", "once more")
            self.assertIn("off by 2, accepted", audit(gateway).stdout)


class Damage(unittest.TestCase):
    """A byte of a segment that the bridge has not read yet has changed."""

    EVENTS = 1500
    CONFIG = ("mqtt: { max_packet_size: 16KiB }\n"
              "journal: { segment_size: 128KiB, max_size: 16MiB }\n")

    def damaged(self, topic):
        """A gateway that is stopped: nothing was delivered, one batch in the middle is spoilt."""
        kafka().create_topic(topic, partitions=1)
        gateway = Gateway(self.CONFIG + kafka_bridge(topic, "headers: id"))
        self.addCleanup(gateway.__exit__, None)
        gateway.start()
        operate(gateway, "pause", "kafka")
        published(gateway, "t/1", [f"{n:0200}" for n in range(self.EVENTS)])
        gateway.stop()
        segments = sorted(gateway.data.glob("journal/lane-00/[0-9]*.seg"))
        self.assertGreater(len(segments), 2)
        with segments[1].open("r+b") as file:
            file.seek(64 << 10)
            byte = file.read(1)
            file.seek(64 << 10)
            file.write(bytes((byte[0] ^ 0xFF,)))
        return gateway

    def judge(self, gateway, topic, line):
        operate(gateway, "resume", "kafka")
        gateway.wait_drained("kafka")
        gateway.wait_log(line)
        row = books(gateway)
        self.assertGreater(row["lost"], 0)
        self.assertEqual(row["delivered"] + row["lost"], self.EVENTS, row)
        self.assertEqual(gateway.metric("millrace_sink_records_lost_total"), row["lost"])
        self.assertEqual(gateway.metric("millrace_ledger_records_total", 'column="lost"'),
                         row["lost"])
        arrived = [int(record.value()) for record in kafka().records(topic, row["delivered"])]
        self.assertEqual(arrived, sorted(set(arrived)))
        audit(gateway, "--kafka")
        gateway.stop()
        audit(gateway, "--kafka")
        return row["lost"]

    def test_a_start_with_damage_counts_what_is_lost(self):
        gateway = self.damaged("hurt")
        gateway.start()
        self.judge(gateway, "hurt", "level=error .*kafka: .* of lane 0 .*lost")

    def test_the_gap_of_a_repair_is_passed_and_counted(self):
        gateway = self.damaged("mended")
        done = millrace("journal", "repair", "--yes", "--json", "--data", gateway.data)
        said = [json.loads(line) for line in done.stdout.splitlines()]
        lost = sum(one["seq_last"] - one["seq_first"] + 1 for one in said if "seq_first" in one)
        gateway.start()
        self.assertEqual(self.judge(gateway, "mended", "level=error .*records of lane 0 between"),
                         lost)


if __name__ == "__main__":
    unittest.main()
