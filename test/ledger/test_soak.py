"""A mixed load with faults by chance, for a while: the books, memory and descriptors stay even.

For the first fifth of the time the gateway is killed, stopped and paused, and so is Kafka.  For the
rest it lives on and is watched: Kafka comes and goes, SIGHUPs and pauses hit it, devices lose
their connections all the time.  At the end every event is accounted for.

    MR_SOAK_SECONDS  how long (default 180; ./dev soak mixed: 1800)
    MR_LEDGER_SEED, MR_LEDGER_DELIVERY  as for test_ledger
"""

import os
import random
import time
import unittest

import harness
from nemesis import Nemesis, schedule
from watch import Watch, look, open_files
from world import Plan, World, say

SECONDS = float(os.environ.get("MR_SOAK_SECONDS", "180"))
SEED = int(os.environ.get("MR_LEDGER_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
DELIVERY = os.environ.get("MR_LEDGER_DELIVERY", "exactly_once")
DEADLY = ("kill", "term", "pause", "hup", "kafka-pause")
GENTLE = ("pause", "hup", "kafka-pause", "kafka-pause", "kafka-kill", "kafka-stop")
ROUNDS = 100_000  # more than there is time for
GAP_S = (1.0, 5.0)
# What has a bound (docs/MEMORY.md) fills once: of each of the two lanes 32 MiB of journal blocks
# and 32 MiB of the bridge's ring.  Events of SIZE bytes at RATE a second have done that within a
# minute; from when FULL_BYTES of them were acknowledged, memory may not grow any more.
SHARDS, RATE, SIZE = 2, 4000, 600
FULL_BYTES = 192 << 20
RESIDENT_KIB_MAX = 224 * 1024
GROWTH_KIB_MAX = 1024
# Beside the clients': a segment that is just being changed, connections to Kafka that come and go.
DESCRIPTORS_MORE = 8

setUpModule = harness.kafka_up
tearDownModule = harness.kafka_down


class Soak(unittest.TestCase):
    def test_a_mixed_load_leaves_everything_even(self):
        plan = Plan(seed=SEED, name="soak", delivery=DELIVERY, watched=5, rate=RATE, size=SIZE,
                    churn=10, shards=(SHARDS,), devices=40, faults=DEADLY + GENTLE)
        with World(plan, harness.kafka()) as world:
            harness.until(lambda: self.connected(world.gateway) == SHARDS, "each lane's Kafka")
            idle = look(world.gateway).descriptors
            world.start_load()
            windows = self.suffer(world, DEADLY, SECONDS / 5)
            with Watch(world.gateway, world.acked) as watch:
                windows += self.suffer(world, GENTLE, SECONDS * 4 / 5)
            report = self.verdict(world, windows, idle)
            world.assert_kept(self, report)
            self.judge(watch)

    def connected(self, gateway):
        return sum("kafka: connected" in line for line in gateway.log.all)

    def suffer(self, world, names, seconds):
        steps = schedule(SEED, names, min(ROUNDS, int(seconds) + 1), GAP_S)
        return Nemesis(world, steps, say).run(time.monotonic() + seconds)

    def verdict(self, world, windows, idle):
        """On the way, when all clients have gone: their descriptors went too."""
        drain = world.drain

        def drain_and_look():
            done = drain()
            try:
                harness.until(lambda: look(world.gateway).descriptors <= idle + DESCRIPTORS_MORE,
                              f"the descriptors to go back to about {idle}")
            except AssertionError:
                say(open_files(world.gateway))
                raise
            return done

        world.drain = drain_and_look
        return world.verdict(windows)

    def judge(self, watch):
        half = watch.second_half()
        self.assertEqual(len({one.pid for one in watch.looks}), 1, "it lived on")
        say(f"  memory {watch.looks[0].resident_kib:,} to {half[-1].resident_kib:,} KiB, second "
            f"half {watch.growth_kib():+,.0f} KiB ({watch.slope_kib_per_hour():+,.0f} KiB/h); "
            f"at most {max(one.descriptors for one in half)} descriptors")
        self.assertLess(max(one.resident_kib for one in half), RESIDENT_KIB_MAX)
        if half[0].acked * SIZE >= FULL_BYTES:
            self.assertLess(watch.growth_kib(), GROWTH_KIB_MAX, "memory grew without an end")
        else:
            say(f"  only {half[0].acked:,} events in the first half: memory was still filling")


if __name__ == "__main__":
    unittest.main()
