"""The ledger on the real program with a real Kafka: faults at random moments under load.

Devices publish with QoS 0, 1 and 2 in both versions of the protocol and come back to persistent
sessions; some are read over MQTT too.  At the end every event is accounted for, by a reader at
isolation read_committed.

    MR_LEDGER_SEED      repeat a run (printed at the start)
    MR_LEDGER_ROUNDS    how often the gateway is killed (default 10)
    MR_LEDGER_DELIVERY  exactly_once, at_least_once (default: either, by test)
"""

import os
import random
import unittest

import harness
from harness import BUILD, RELEASE
from world import Plan, World, say

SEED = int(os.environ.get("MR_LEDGER_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
ROUNDS = int(os.environ.get("MR_LEDGER_ROUNDS", "10"))
DELIVERY = os.environ.get("MR_LEDGER_DELIVERY")

setUpModule = harness.kafka_up
tearDownModule = harness.kafka_down


class Ledger(unittest.TestCase):
    def kept(self, delivery="exactly_once", **plan):
        plan = Plan(seed=SEED, delivery=DELIVERY or delivery, **plan)
        with World(plan, harness.kafka()) as world:
            report = world.run()
            said = "\n".join([report.line(), *report.offenders(world.journal_path)])
            say(said)
            self.assertFalse(report.broken, said)
            self.assertGreater(report.sums()["DUP_CLIENT"] + len(report.windows), 0)

    def test_kill_9_costs_no_event(self):
        self.kept(name="kill", rounds=ROUNDS, watched=5, binary=RELEASE / "millrace")

    def test_kafka_away_and_other_shards_cost_no_event(self):
        self.kept(name="away", rounds=max(4, ROUNDS // 2), shards=(2, 1, 3),
                  faults=("shards", "kill", "kafka-kill", "kafka-pause"),
                  binary=RELEASE / "millrace")

    def test_the_sanitized_program_keeps_every_event(self):
        if BUILD == RELEASE:
            self.skipTest("this run has no sanitizer build")
        self.kept(name="sanitized", delivery="at_least_once", rounds=max(1, ROUNDS // 2),
                  rate=3000, shards=(2,), watched=2, binary=BUILD / "millrace")


if __name__ == "__main__":
    unittest.main()
