"""kafka_reader - everything that a topic got since begin(), given to a checker record by record.

    Reader.begin()                     notes where each partition ends now
    Reader.keep()                      what is there now, kept, because the topic is to be deleted
    Reader.read(maker, checker)        from there to the ends of now; bounded memory

`isolation`: read_committed (default) sees no record of an open or aborted transaction.
"""

import base64
import json
import time

import harness
from event import Damaged, client_id

BATCH = 10_000
LANE_SHIFT = 48  # an identity is lane + 1 and seq in one number; the journal of a run is one


def identity(lane, seq):
    return (lane + 1) << LANE_SHIFT | seq


def identity_of(headers):
    """Of `millrace_id` = <journal id>-<lane>-<seq>; 0: there is none."""
    for name, value in headers or ():
        if name == "millrace_id":
            _, lane, seq = value.decode().rsplit("-", 2)
            return identity(int(lane), int(seq))
    return 0


def is_backfill(headers):
    """Marked as of a backlog that fresh events have overtaken."""
    return any(name == "millrace_backfill" for name, _ in headers or ())


def take_letters(lines, maker, checker):
    """The dead letters, as `millrace dlq show --json` gives them."""
    for letter in map(json.loads, lines):
        where = f"letter {letter['seq']}"
        try:
            event = maker.recognise(base64.b64decode(letter["payload"]))
        except (Damaged, ValueError) as why:
            checker.damaged(where, f"{why!r}: {letter.get('reason')}")
            continue
        checker.aside(event.device, event.number, f"{where}: {letter.get('reason')}",
                      identity(letter["from_lane"], letter["from_seq"]))


class Reader:
    def __init__(self, servers, topic, isolation="read_committed"):
        self.servers, self.topic, self.isolation = servers, topic, isolation
        self.starts, self.kept = {}, []

    def consumer(self):
        from confluent_kafka import Consumer

        return Consumer({
            "bootstrap.servers": self.servers, "group.id": "ledger", "enable.auto.commit": False,
            "auto.offset.reset": "error", "enable.partition.eof": True,
            "isolation.level": self.isolation, "queued.max.messages.kbytes": 65536,
        })

    def ends(self, consumer, patience=30):
        """Of each partition; one that has just been made, or lost its leader, is asked again."""
        from confluent_kafka import KafkaException, TopicPartition

        def ask():
            try:
                known = consumer.list_topics(self.topic, patience).topics[self.topic].partitions
                return {n: consumer.get_watermark_offsets(TopicPartition(self.topic, n), 5)[1]
                        for n in known}
            except KafkaException:
                return None

        return harness.until(ask, f"the ends of {self.topic}", patience)

    def begin(self):
        consumer = self.consumer()
        self.starts = self.ends(consumer)
        consumer.close()

    def keep(self):
        """The topic begins anew behind this."""
        self.each(self.kept.append)
        self.starts = {}

    def read(self, maker, checker, patience=300):
        """An AssertionError when the end was not reached in time."""
        for record in self.kept:
            take(record, maker, checker)
        self.each(lambda record: take(record, maker, checker), patience)

    def each(self, take_it, patience=300):
        from confluent_kafka import KafkaError, TopicPartition

        consumer = self.consumer()
        try:
            partitions = self.ends(consumer)
            consumer.assign([TopicPartition(self.topic, n, self.starts.get(n, 0))
                             for n in partitions])
            ended, deadline = set(), time.monotonic() + patience
            while len(ended) < len(partitions):
                records = consumer.consume(BATCH, 0.2)
                if not records and time.monotonic() > deadline:
                    raise AssertionError(f"{self.topic}: the end was not reached in {patience} s")
                for record in records:
                    error = record.error()
                    if error is None:
                        take_it(record)
                        if record.offset() + 1 >= partitions[record.partition()]:
                            ended.add(record.partition())
                    elif error.code() == KafkaError._PARTITION_EOF:
                        ended.add(record.partition())
                    else:
                        raise AssertionError(str(error))
        finally:
            consumer.close()


def take(record, maker, checker):
    where = f"{record.partition()}:{record.offset()}"
    try:
        event = maker.recognise(record.value() or b"")
    except Damaged as why:
        checker.damaged(where, str(why))
        return
    if record.key() != client_id(maker.run, event.device).encode():
        checker.damaged(where, f"device {event.device}: its key is {record.key()!r}")
        return
    checker.saw(event.device, event.number, where, record.partition(),
                identity_of(record.headers()), is_backfill(record.headers()))
