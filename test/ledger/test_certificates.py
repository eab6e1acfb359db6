"""Certificates expire under load: the brokers', and the gateway's own while it is connected.

The gateway says which one expired and when, holds what comes, and goes on by itself when there is a
renewed one.

    MR_LEDGER_SEED      repeat a run (printed at the start)
    MR_LEDGER_DELIVERY  exactly_once, at_least_once (default: by chance)
"""

import os
import random
import unittest

import faults
import harness
from cluster import Cluster
from faults_certificate import Tls
from nemesis import Step
from world import Plan, World

SEED = int(os.environ.get("MR_LEDGER_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
DELIVERY = os.environ.get("MR_LEDGER_DELIVERY")
FAULTS = ("brokers-certificate", "own-certificate")


def steps(rng):
    known = faults.known()
    for name in FAULTS:
        fault = known[name](random.Random(rng.random()))
        yield Step(0.2, True, fault)
        yield Step(rng.uniform(*fault.lasts), False, fault)


class Certificates(unittest.TestCase):
    def test_they_expire_and_are_renewed(self):
        rng = random.Random(SEED)
        delivery = DELIVERY or rng.choice(("exactly_once", "at_least_once"))
        temp = harness.Temp("certificates")
        self.addCleanup(temp.remove)
        tls = Tls(temp.path)
        kafka = Cluster(1, proxied=True, tls=tls)
        self.addCleanup(kafka.remove)
        plan = Plan(seed=SEED, name="certificates", delivery=delivery, faults=FAULTS, rate=2000,
                    config=tls.config(), binary=harness.RELEASE / "millrace")
        with World(plan, kafka) as world:
            report = world.run(list(steps(rng)))
            world.assert_kept(self, report)


if __name__ == "__main__":
    unittest.main()
