"""`drain: live_first`: fresh events overtake the backlog of a time without Kafka; gateway and Kafka
die again while they do.

Nothing lost, nothing doubled, each of the two streams in order: what is out of order must be marked
with the header millrace_backfill.

    MR_LEDGER_SEED     repeat a run (printed at the start)
    MR_LIVE_ROUNDS     kills of the gateway while fresh events overtake (default 2)
"""

import json
import os
import random
import threading
import time
import unittest

import faults
import harness
from event import Damaged, Maker
from harness import RELEASE, until
from nemesis import Step
from world import Plan, World, say

SEED = int(os.environ.get("MR_LEDGER_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
ROUNDS = int(os.environ.get("MR_LIVE_ROUNDS", "2"))
RATE, AWAY_S = 1000, 3.0
KEYS = """\
    drain: {drain}
    live_after: 1s
    backfill_rate: 2500
    retry_max: 1s
"""

setUpModule = harness.kafka_up
tearDownModule = harness.kafka_down


class Overtaken(faults.Fault):
    """Wait until fresh events overtake a backlog, then kill -9 the gateway while they do."""

    name = "overtaken"
    default = False
    times = 0

    def begin(self, world):
        until(lambda: live(world.gateway), "fresh events that overtake", 60)
        Overtaken.times += 1
        world.rest(self.rng.uniform(0, 1.0))
        world.gateway.kill()

    def end(self, world):
        world.start_gateway()


class Joined(faults.Fault):
    """Wait until there is one position again."""

    name = "joined"
    default = False

    def begin(self, world):
        until(lambda: live(world.gateway) is None and up(world.gateway), "one position again", 90)


def bridges(gateway):
    try:
        return json.loads(gateway.http("/api/v1/bridges")[1])["bridges"]
    except OSError:
        return []


def live(gateway):
    """What the bridge says of its fresh events; None: it has one position."""
    return next((row["live"] for row in bridges(gateway)), None)


def up(gateway):
    return any(row["state"] == "up" for row in bridges(gateway))


def schedule(rng):
    """Kafka away, then kills and a second outage while fresh events overtake what has gathered."""
    away = faults.known()["kafka-kill"](rng)
    yield Step(1.0, True, away)
    yield Step(AWAY_S, False, away)
    for number in range(ROUNDS):
        killed = Overtaken(random.Random(rng.random()))
        yield Step(0, True, killed)
        yield Step(rng.uniform(0, 0.5), False, killed)
        if number == 0:
            paused = faults.known()["kafka-pause"](rng)
            yield Step(rng.uniform(0, 1), True, paused)
            # So long that fresh events overtake again, if the first backlog is gone by then.
            yield Step(rng.uniform(AWAY_S, AWAY_S + 1), False, paused)
    joined = Joined(rng)
    yield Step(0, True, joined)
    yield Step(0, False, joined)


class Latency(threading.Thread):
    """A reader beside the run: how old an event is when it can be read, if it was sent behind
    `since`.
    """

    def __init__(self, world):
        super().__init__(daemon=True)
        self.maker, self.consumer = Maker(world.run_id, world.plan.size), world.reader.consumer()
        self.partitions = world.reader.starts
        self.topic, self.over = world.topic, threading.Event()
        self.ages = []  # (sent, seconds, marked)

    def run(self):
        from confluent_kafka import TopicPartition

        self.consumer.assign([TopicPartition(self.topic, n, at)
                              for n, at in self.partitions.items()])
        while not self.over.is_set():
            for record in self.consumer.consume(10_000, 0.1):
                if record.error() is None:
                    self.note(record)
        self.consumer.close()

    def note(self, record):
        try:
            event = self.maker.recognise(record.value() or b"")
        except Damaged:
            return  # the ledger will say so
        marked = any(name == "millrace_backfill" for name, _ in record.headers() or ())
        self.ages.append((event.sent, time.time() - event.sent, marked))

    def end(self):
        self.over.set()
        self.join()

    def behind(self, since, until_s):
        return [age * 1000 for sent, age, _ in self.ages if since < sent < until_s]


class Live(unittest.TestCase):
    def setUp(self):
        harness.kafka().start()

    def plan(self, name, drain, **more):
        return Plan(seed=SEED, name=name, faults=("kafka-kill", "kafka-pause", "kill"),
                    delivery="exactly_once", rate=RATE, churn=0, config=KEYS.format(drain=drain),
                    binary=RELEASE / "millrace", **more)

    def test_overtaken_by_fresh_events(self):
        Overtaken.times = 0
        with World(self.plan("live", "live_first"), harness.kafka()) as world:
            reader = Latency(world)
            reader.start()
            report = world.run(list(schedule(random.Random(SEED))))
            reader.end()
            marked = sum(one for _, _, one in reader.ages)
            say(f"  killed {Overtaken.times} times while fresh events overtook; {marked:,} of "
                f"{len(reader.ages):,} records are of the backlog")
            self.assertEqual(Overtaken.times, ROUNDS)
            self.assertGreater(marked, 0)
            world.assert_kept(self, report)


if __name__ == "__main__":
    unittest.main()
