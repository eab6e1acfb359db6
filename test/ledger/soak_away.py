"""Kafka is away for an hour, or for MR_AWAY_SECONDS, while 100 devices go on publishing.

They get their acknowledgements throughout; memory stays where it was; the log says once
that Kafka is away and once that it is back; afterwards everything is there, in order.
Too long for the suite: ./dev soak away [SECONDS].
"""

import os
import time
import unittest

import harness
from harness import kafka
from world import Plan, World, say

SECONDS = float(os.environ.get("MR_AWAY_SECONDS", "3600"))
DEVICES, PER_SECOND = 100, 1000
LOOK_S = 10
# What has a bound (docs/MEMORY.md) fills once: the journal's blocks, 32 MiB a lane, and the
# rings of the bridge, 24 MiB, slowly, because an attempt touches a record or two of them.
# In the second half of the hour nothing may grow any more.
GROWTH_KIB_MAX = 1024
RESIDENT_KIB_MAX = 96 * 1024

setUpModule = harness.kafka_up
tearDownModule = harness.kafka_down


class Away(unittest.TestCase):
    def test_nothing_is_lost_while_kafka_is_away_for_long(self):
        plan = Plan(seed=1, rounds=0, faults=(), devices=DEVICES, rate=PER_SECOND, window=1,
                    qos=(1,), churn=0, name="away", delivery="at_least_once",
                    replays=True)
        with World(plan, kafka()) as world:
            world.start_load()
            world.rest(30)  # first some of it with Kafka
            kafka().kill()
            looks = self.away(world)
            kafka().start()
            self.come_back(world, looks)
            said = [line for line in world.gateway.log.all
                    if "level=warn" in line or "level=error" in line]
            report = world.verdict([])
            world.assert_kept(self, report)
            self.judge(looks, said)

    def away(self, world):
        """(seconds since it went, RSS KiB, acknowledged, lag) every LOOK_S."""
        looks, since = [], time.monotonic()
        while (gone := time.monotonic() - since) < SECONDS:
            world.rest(min(LOOK_S, SECONDS - gone + 0.01))
            looks.append((time.monotonic() - since, world.gateway.resident_kib(), world.acked(),
                          world.gateway.bridge("kafka")["lag_records"]))
            if len(looks) % 30 == 1:
                say("  away {:5.0f} s: RSS {:,} KiB, {:,} acknowledged, lag {:,}"
                    .format(*looks[-1]))
        return looks

    def come_back(self, world, looks):
        back, before = time.monotonic(), world.acked()
        world.gateway.wait_drained("kafka", 300)
        say(f"  drained {looks[-1][3]:,} records in {time.monotonic() - back:.1f} s while "
            f"{world.acked() - before:,} more came")

    def judge(self, looks, said):
        filled = [look[1] for look in looks if look[0] >= SECONDS / 2]
        say(f"  away {looks[-1][0]:.0f} s; RSS {filled[0]:,} to {filled[-1]:,} KiB; "
            f"warnings: {len(said)}")
        self.assertLess(filled[-1] - filled[0], GROWTH_KIB_MAX, "memory grew without an end")
        self.assertLess(filled[-1], RESIDENT_KIB_MAX)
        self.assertLessEqual(len(said), 3, "\n".join(said))
        for before, after in zip(looks, looks[1:]):
            self.assertGreater(after[2], before[2], "acknowledgements went on all the time")


if __name__ == "__main__":
    unittest.main()
