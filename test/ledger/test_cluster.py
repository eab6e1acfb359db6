"""Three brokers, and a network between them and the gateway: brokers killed, paused and stopped,
leaders moved, fewer replicas in sync than the topic asks for, connections cut in the middle.

    MR_LEDGER_SEED      repeat a run (printed at the start)
    MR_LEDGER_DELIVERY  exactly_once, at_least_once (default: by chance)

The long variant, with all the faults of faults_brokers, faults_network and faults_topic:
./dev soak kafka (soak_kafka.py).
"""

import os
import random
import unittest

import faults
from cluster import Cluster
from harness import RELEASE
from nemesis import Step
from world import Plan, World

SEED = int(os.environ.get("MR_LEDGER_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
DELIVERY = os.environ.get("MR_LEDGER_DELIVERY")
BROKERS = ("leader-kill", "leader-stop", "leader-pause", "controller-kill", "controller-pause")
NETWORK = ("cut", "cut", "frozen")
LASTS_MAX = 1.5


def steps(rng):
    """One of a single broker, two of all; meanwhile connections break now and then."""
    known = faults.known()
    for name in (rng.choice(BROKERS), "leaders", "in-sync"):
        for one in (known[name], known[rng.choice(NETWORK)]):
            fault = one(random.Random(rng.random()))
            yield Step(rng.uniform(0, 0.3), True, fault)
            yield Step(min(rng.uniform(*fault.lasts), LASTS_MAX), False, fault)


class ThreeBrokers(unittest.TestCase):
    def test_no_event_is_lost_doubled_or_reordered(self):
        rng = random.Random(SEED)
        delivery = DELIVERY or rng.choice(("exactly_once", "at_least_once"))
        kafka = Cluster(3, proxied=True)
        self.addCleanup(kafka.remove)
        plan = Plan(seed=SEED, name="cluster", delivery=delivery, faults=BROKERS, rate=3000,
                    binary=RELEASE / "millrace")
        with World(plan, kafka) as world:
            report = world.run(list(steps(rng)))
            world.assert_kept(self, report)


if __name__ == "__main__":
    unittest.main()
