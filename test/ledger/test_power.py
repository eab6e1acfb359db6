"""The power fails under load, and comes back: nothing that was acknowledged is gone.

The gateway's data lie on an ext4 of their own; a cut takes from it whatever was not flushed, file
contents and directory entries alike.  Segments are small and payloads large, so that a cut often
comes while a segment begins; checkpoints of the session store and writes of cursors go on all the
time.  Needs root (mount -o loop).

    MR_LEDGER_SEED   repeat a run (printed at the start)
    MR_POWER_ROUNDS  cuts (default 8; ./dev soak power: 200)
"""

import os
import random
import unittest

import harness
from disk import Disk
from harness import RELEASE
from world import Plan, World, say

SEED = int(os.environ.get("MR_LEDGER_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
ROUNDS = int(os.environ.get("MR_POWER_ROUNDS", "8"))
SOON = (0.1, 0.8)


def setUpModule():
    Disk("ledger").remove()  # says why when there can be none, before Kafka is started
    harness.kafka_up()


tearDownModule = harness.kafka_down


def plan(**more):
    return Plan(seed=SEED, name="power", faults=("power",), gap=SOON, segment="256KiB", size=300,
                watched=3, binary=RELEASE / "millrace", **more)


class Power(unittest.TestCase):
    def test_a_power_cut_costs_no_event(self):
        with World(plan(rounds=ROUNDS), harness.kafka()) as world:
            report = world.run()
            said = "\n".join([report.line(), *report.offenders(world.journal_path)])
            say(said)
            self.assertFalse(report.broken, said)
            self.assertEqual(len(report.windows), ROUNDS)


if __name__ == "__main__":
    unittest.main()
