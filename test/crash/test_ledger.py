"""Kill it: SIGKILL at random moments under load, Kafka stopped and started in between.

At the end every acknowledged event is in Kafka, per device in order, and nothing else.

    MR_CRASH_SEED    repeat a run (printed at the start)
    MR_CRASH_KILLS   how often the gateway is killed (default 10)
    MR_CRASH_ROUNDS  how often the whole thing is done (default 1; ./dev soak)
"""

import asyncio
import os
import random
import sys
import time
import unittest

from ledger import Ledger, Publisher, arrival_of, judge

import harness
from harness import BUILD, RELEASE, Gateway, kafka, millrace

KILLS = int(os.environ.get("MR_CRASH_KILLS", "10"))
ROUNDS = int(os.environ.get("MR_CRASH_ROUNDS", "1"))
SEED = int(os.environ.get("MR_CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
PUBLISHERS, WINDOW = 8, 40

setUpModule = harness.kafka_up
tearDownModule = harness.kafka_down


def config(topic):
    return f"""\
bridges:
  kafka:
    servers: "{kafka().bootstrap}"
    topic: {topic}
    value_encoder: raw
journal:
  max_size: 2GiB
  segment_size: 4MiB
"""


def say(text):
    print(text, file=sys.stderr, flush=True)


class Torment:
    """One gateway, its publishers, and what is done to them."""

    def __init__(self, gateway, rng):
        self.gateway, self.rng = gateway, rng
        self.ledger = Ledger()
        self.publishers = [
            Publisher(f"device-{n}", gateway.mqtt_port, self.ledger, WINDOW)
            for n in range(PUBLISHERS)
        ]

    async def run(self, kills):
        tasks = [asyncio.create_task(one.run()) for one in self.publishers]
        kafka_away = False
        for kill in range(kills):
            await self.load()
            if kill % 3 == 1:
                kafka_away = await self.toggle_kafka(kafka_away)
            await self.crash()
            self.check(tasks)
        if kafka_away:
            await self.toggle_kafka(kafka_away)
        await self.load()
        for one in self.publishers:
            one.quit()
        await asyncio.wait_for(asyncio.gather(*tasks), harness.PATIENCE * 2)

    async def load(self):
        """A random while, in which something must have been acknowledged."""
        before = self.ledger.acknowledged_count()
        await asyncio.sleep(self.rng.uniform(0.2, 2.0))  # sleep: the moment is to be random
        deadline = time.monotonic() + harness.PATIENCE
        while self.ledger.acknowledged_count() == before:
            assert time.monotonic() < deadline, "no event was acknowledged"
            await asyncio.sleep(0.02)  # sleep: publishers run in this very loop

    async def crash(self):
        say(f"  kill -9 after {self.ledger.acknowledged_count()} acknowledged")
        await asyncio.to_thread(self.gateway.kill)
        if self.rng.random() < 0.3:
            await asyncio.sleep(self.rng.uniform(0, 1))  # sleep: devices find nobody for a while
        await asyncio.to_thread(self.gateway.start_again)

    async def toggle_kafka(self, away):
        if away:
            say("  kafka comes back")
            await asyncio.to_thread(kafka().start)
        else:
            hard = self.rng.random() < 0.5
            say(f"  kafka is {'killed' if hard else 'stopped'}")
            await asyncio.to_thread(kafka().kill if hard else kafka().stop)
        return not away

    @staticmethod
    def check(tasks):
        for task in tasks:
            if task.done():
                task.result()


class CrashGateway(Gateway):
    def start_again(self):
        """Start; sometimes, on the way, find out that recovery takes a crash too."""
        if self.rng.random() < 0.25:
            self.spawn()
            time.sleep(self.rng.uniform(0, 0.15))  # sleep: a crash in the middle of a start
            self.kill()
        self.start()


class Kill(unittest.TestCase):
    def torment(self, binary, kills, shards=1):
        for number in range(ROUNDS):
            rng = random.Random(f"{SEED}-{number}-{binary}-{shards}")
            topic = f"ledger_{binary.parent.name}_{shards}_{number}"
            say(f"\n  seed: MR_CRASH_SEED={SEED}, round {number + 1} of {ROUNDS}")
            kafka().start()
            kafka().create_topic(topic, partitions=4)
            gateway = CrashGateway(config(topic), binary=binary,
                                   sets=[f"gateway.shards={shards}"])
            gateway.rng = rng
            with gateway:
                self.one_round(gateway, rng, topic, kills)

    def one_round(self, gateway, rng, topic, kills):
        torment = Torment(gateway, rng)
        asyncio.run(torment.run(kills))
        gateway.wait_drained("kafka", 120)
        gateway.stop()
        arrivals = kafka().each_record(topic, arrival_of, patience=120)
        complaints = judge(torment.ledger, arrivals)
        acknowledged = torment.ledger.acknowledged_count()
        say(f"  {kills} kills, {sum(torment.ledger.sent.values())} sent, {acknowledged} "
            f"acknowledged, {len(arrivals)} records in Kafka, "
            f"{sum(one.reconnects for one in torment.publishers)} reconnects")
        self.assertEqual(complaints, [], f"seed {SEED}")
        self.assertGreaterEqual(len(arrivals), acknowledged)
        millrace("journal", "verify", "--data", gateway.data)
        gateway.start()

    def test_the_release_program_keeps_every_acknowledged_event(self):
        self.torment(RELEASE / "millrace", KILLS)

    def test_two_shards_keep_every_acknowledged_event(self):
        self.torment(RELEASE / "millrace", max(1, KILLS // 2), shards=2)

    def test_the_sanitized_program_keeps_every_acknowledged_event(self):
        if BUILD == RELEASE:
            self.skipTest("this run has no sanitizer build")
        self.torment(BUILD / "millrace", max(1, KILLS // 2), shards=2)


if __name__ == "__main__":
    unittest.main()
