"""The ledger on the real program with a real Kafka: faults at random moments under load.

Devices publish with QoS 0, 1 and 2 in both versions of the protocol and come back to persistent
sessions; some are read over MQTT too.  At the end every event is accounted for, by a reader at
isolation read_committed.

    MR_LEDGER_SEED      repeat a run (printed at the start)
    MR_LEDGER_ROUNDS    how often the gateway is killed (default 15; half as often in the others)
    MR_LEDGER_DELIVERY  exactly_once, at_least_once (default: either, by test)
"""

import os
import random
import unittest

import harness
from harness import BUILD, RELEASE
from world import Plan, World

SEED = int(os.environ.get("MR_LEDGER_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
ROUNDS = int(os.environ.get("MR_LEDGER_ROUNDS", "15"))
ONE_RUN = 100  # then its books are compared, and the next seed has its turn
DELIVERY = os.environ.get("MR_LEDGER_DELIVERY")

setUpModule = harness.kafka_up
tearDownModule = harness.kafka_down


class Ledger(unittest.TestCase):
    def kept(self, rounds, delivery="exactly_once", **plan):
        for done in range(0, rounds, ONE_RUN):
            one = Plan(seed=SEED + done, rounds=min(ONE_RUN, rounds - done),
                       delivery=DELIVERY or delivery, **plan)
            with World(one, harness.kafka()) as world:
                report = world.run()
                world.assert_kept(self, report)
                self.assertGreater(report.sums()["DUP_CLIENT"] + len(report.windows), 0)

    def test_kill_9_costs_no_event(self):
        self.kept(ROUNDS, name="kill", watched=5, binary=RELEASE / "millrace")

    def test_kafka_away_and_other_shards_cost_no_event(self):
        self.kept(max(4, ROUNDS // 2), name="away", shards=(2, 1, 3),
                  faults=("shards", "kill", "kafka-kill", "kafka-pause"),
                  binary=RELEASE / "millrace")

    def test_a_full_journal_drops_only_what_its_books_list(self):
        self.kept(max(2, ROUNDS // 5), name="full", faults=("kafka-kill", "kill"), size=400,
                  rate=4000, journal="1MiB, when_full: drop_oldest", segment="256KiB",
                  packet="64KiB", binary=RELEASE / "millrace")

    def test_the_sanitized_program_keeps_every_event(self):
        if BUILD == RELEASE:
            self.skipTest("this run has no sanitizer build")
        self.kept(max(1, ROUNDS // 2), name="sanitized", delivery="at_least_once",
                  rate=3000, shards=(2,), watched=2, binary=BUILD / "millrace")


if __name__ == "__main__":
    unittest.main()
