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

import faults
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
# What has a bound (docs/MEMORY.md) fills with the longest absence of Kafka: of each of the two
# lanes 32 MiB of journal blocks, as much that a reader who lags has of its own, up to 32 MiB of the
# bridge's ring, and some 400 B a record on its way, of us and librdkafka.  While nothing is away
# memory may not grow: the run ends with CALM_S of that, CALMS times at most.  A run of LONG_S
# begins with what fills all of it: Kafka is paused, so that it is offered as many records as may be
# on their way, and then away, each until twice what the blocks hold waits; from then on memory may
# not grow in the second half either.
SHARDS, RATE, SIZE = 2, 4000, 600
RESIDENT_KIB_MAX = 320 * 1024
GROWTH_KIB_MAX = 1024
CALM_LAG = 2 * RATE
CALM_S = 20
CALMS = 3
LONG_S = 900
FULL_LAG = 2 * SHARDS * (32 << 20) // SIZE
PATIENCE_S = 300
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
            if SECONDS >= LONG_S:
                windows += self.fill(world)
            with Watch(world.gateway) as watch:
                windows += self.suffer(world, GENTLE, SECONDS * 4 / 5 - CALM_S)
                calm = self.calm(world)
            report = self.verdict(world, windows, idle)
            world.assert_kept(self, report)
            self.judge(watch, calm)

    def connected(self, gateway):
        return sum("kafka: connected" in line for line in gateway.log.all)

    def suffer(self, world, names, seconds):
        steps = schedule(SEED, names, min(ROUNDS, int(seconds) + 1), GAP_S)
        return Nemesis(world, steps, say).run(time.monotonic() + seconds)

    def fill(self, world):
        """Absences of Kafka longer than any that come behind them, and their catching up."""
        nemesis = Nemesis(world, [], say)
        for name in ("kafka-pause", "kafka-stop"):
            fault = faults.known()[name](random.Random(SEED))
            window = nemesis.open_window(fault)
            fault.begin(world)
            harness.until(lambda: (world.lag() or 0) >= FULL_LAG, f"{FULL_LAG:,} events to wait",
                          PATIENCE_S)
            nemesis.finish(fault, window)
            self.caught_up(world)
        return nemesis.windows

    def caught_up(self, world):
        harness.until(lambda: (lag := world.lag()) is not None and lag <= CALM_LAG,
                      "what waits for Kafka to become little", PATIENCE_S)

    def calm(self, world):
        """A while in which nothing is away, of a gateway that has nothing to catch up with.  What
        has a bound may still come nearer to it in one; what grows with the events does in each.
        """
        self.caught_up(world)
        for _ in range(CALMS):
            with Watch(world.gateway) as watch:
                world.rest(CALM_S)
            if watch.growth_kib(watch.looks) < GROWTH_KIB_MAX:
                break
        return watch

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

    def judge(self, watch, calm):
        half = watch.second_half()
        self.assertEqual(len({one.pid for one in watch.looks}), 1, "it lived on")
        say(f"  memory {watch.looks[0].resident_kib:,} to {half[-1].resident_kib:,} KiB, second "
            f"half {watch.growth_kib():+,.0f} KiB ({watch.slope_kib_per_hour():+,.0f} KiB/h); "
            f"at most {max(one.descriptors for one in half)} descriptors")
        self.assertLess(max(one.resident_kib for one in half), RESIDENT_KIB_MAX)
        grown = calm.growth_kib(calm.looks)
        say(f"  {grown:+,.0f} KiB while nothing was away")
        self.assertLess(grown, GROWTH_KIB_MAX, "memory grows with the events")
        if SECONDS >= LONG_S:
            self.assertLess(watch.growth_kib(), GROWTH_KIB_MAX, "memory grew without an end")


if __name__ == "__main__":
    unittest.main()
