"""A disk that is slow, full, fails or becomes read only; too few descriptors; too little memory; a
wall clock that is set.

Under load; the gateway goes on or ends with a sentence, and behind an ordinary start nothing that
was acknowledged is gone.  Needs root (mount -o loop, a memory controller).

    MR_LEDGER_SEED     repeat a run (printed at the start)
    MR_TROUBLES        how many of them (default 5; ./dev soak trouble: 160)
"""

import os
import random
import unittest

import faults
import harness
from disk import Disk
from faults_limits import CGROUPS
from harness import RELEASE
from nemesis import Step
from world import Plan, World

SEED = int(os.environ.get("MR_LEDGER_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
TROUBLES = int(os.environ.get("MR_TROUBLES", "5"))
POISON = 200  # every so many events of a device one is a dead letter
KINDS = ("io-error", "io-error", "slow-disk", "full-disk", "read-only", "descriptors", "no-memory",
         "memory-limit", "clock")


def setUpModule():
    Disk("ledger").remove()  # says why when there can be none, before Kafka is started
    harness.kafka_up()


tearDownModule = harness.kafka_down


def kinds():
    return [kind for kind in KINDS
            if kind != "memory-limit" or os.access(CGROUPS / "cgroup.procs", os.W_OK)]


def steps(rng):
    """Each kind once before one comes again."""
    known, kind_of = faults.known(), []
    while len(kind_of) < TROUBLES:
        kind_of += rng.sample(kinds(), len(kinds()))
    for kind in kind_of[:TROUBLES]:
        fault = known[kind](random.Random(rng.random()))
        yield Step(rng.uniform(0, 0.3), True, fault)
        yield Step(rng.uniform(*fault.lasts), False, fault)


class Trouble(unittest.TestCase):
    def test_local_trouble_costs_no_event(self):
        plan = Plan(seed=SEED, name="trouble", faults=tuple(KINDS), segment="256KiB",
                    packet="16KiB", size=300, watched=3, poison=POISON,
                    binary=RELEASE / "millrace")
        with World(plan, harness.kafka()) as world:
            report = world.run(list(steps(random.Random(SEED))))
            world.assert_kept(self, report)


if __name__ == "__main__":
    unittest.main()
