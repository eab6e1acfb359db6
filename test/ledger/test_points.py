"""The gateway ends at a chosen point of its own work, under load: nothing is lost, nothing doubled.

Points are calls of the program, in front of them and behind them: writes, flushes and renames of
the journal, cursors and session store, requests to Kafka and their answers, packets to devices,
steps of a start with another number of shards (test_starts.py has all of them).

    MR_LEDGER_SEED  repeat a run (printed at the start)
    MR_POINTS       how many (default 40 by chance; all: each of them at its hits 1, 2, 3 and 10)
"""

import os
import random
import unittest

import failpoint
import harness
from faults_point import AtPoint
from harness import RELEASE
from nemesis import Step
from world import Plan, World, say

SEED = int(os.environ.get("MR_LEDGER_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
WANTED = os.environ.get("MR_POINTS", "40")
ONE_RUN = 60  # points of a run: then its books are compared
REACHED_MIN = 0.75
POISON = 200  # every so many events of a device one is a dead letter

setUpModule = harness.kafka_up
tearDownModule = harness.kafka_down


def chosen():
    """[(point, hit)]"""
    every = [(point, hit) for point in failpoint.POINTS for hit in point.hits]
    if WANTED == "all":
        return every
    return random.Random(SEED).sample(every, int(WANTED))


def steps(points, rng):
    for point, hit in points:
        fault = AtPoint(random.Random(rng.random()))
        fault.point, fault.hit = point, hit
        yield Step(rng.uniform(0, 0.2), True, fault)
        yield Step(0, False, fault)


class Points(unittest.TestCase):
    def test_an_end_at_any_point_costs_no_event(self):
        points = chosen()
        met = []
        for begin in range(0, len(points), ONE_RUN):
            met += self.run_of(begin, points[begin : begin + ONE_RUN])
        missed = [f"{point.name} ({hit})" for point, hit, reached in met if not reached]
        say(f"  {len(met) - len(missed)} of {len(met)} points reached; not: {', '.join(missed)}")
        self.assertGreaterEqual(len(met) - len(missed), REACHED_MIN * len(met))

    def run_of(self, number, points):
        plan = Plan(seed=SEED + number, name="points", faults=("point",), segment="128KiB",
                    packet="16KiB", journal="16MiB", size=300, watched=3, poison=POISON,
                    binary=RELEASE / "millrace")
        with World(plan, harness.kafka()) as world:
            report = world.run(list(steps(points, random.Random(SEED + number))))
            world.assert_kept(self, report)
            return world.points


if __name__ == "__main__":
    unittest.main()
