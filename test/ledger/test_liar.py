"""The ledger notices a single event in so many that was dropped, doubled, swapped or altered.

A proxy between the devices and a real gateway lies; every lie must come out, and nothing else.

    MR_LIAR_EVERY   one event in so many (default 2000; ./dev soak liar: 100,000)
    MR_LIAR_EVENTS  events of each run (default: five times as many)
"""

import os
import unittest

import harness
import journal
from checker import FAULTS
from helper import Helper
from tally import tally
from world import Plan, World, say

EVERY = int(os.environ.get("MR_LIAR_EVERY", "2000"))
EVENTS = int(os.environ.get("MR_LIAR_EVENTS", str(5 * EVERY)))
DEVICES = 10
# What each lie is called; an altered event is missing as what it was, too.
FOUND = {"drop": ("LOST",), "double": ("DUP_SOURCE",), "swap": ("REORDER",),
         "alter": ("CORRUPT", "LOST")}

setUpModule = harness.kafka_up
tearDownModule = harness.kafka_down


class LyingWorld(World):
    """Its devices reach the gateway through the liar."""

    lie = None

    def mqtt_port(self):
        self.liar = Helper("liar.py", port=self.gateway.mqtt_port, lie=self.lie, every=EVERY)
        return self.liar.wait_first_word()["port"]

    def lies(self):
        self.liar.tell("tell")
        lies = self.liar.wait_end(harness.PATIENCE)["lies"]
        self.liar.kill()
        return lies


class Liar(unittest.TestCase):
    def found(self, lie):
        plan = Plan(seed=1, name=lie, rounds=0, faults=(), devices=DEVICES, qos=(1,), rate=0,
                    churn=0, limit=EVENTS // DEVICES)
        world = LyingWorld(plan, harness.kafka())
        world.lie = lie
        with world:
            report = world.run()
            lies = world.lies()
            say(f"  {lies} lies; {report.line()}")
            self.assertGreaterEqual(lies, 1)
            wanted = {fault: lies if fault in FOUND[lie] else 0 for fault in FAULTS}
            self.assertEqual({fault: report.sums()[fault] for fault in FAULTS}, wanted)
            self.assertEqual(report.exit_code(), 1)
            tally(f"{lie}: {lies} lies, all found", lies, report.counts[journal.SENT], 0)

    def test_a_dropped_event(self):
        self.found("drop")

    def test_a_doubled_event(self):
        self.found("double")

    def test_two_swapped_events(self):
        self.found("swap")

    def test_a_changed_bit(self):
        self.found("alter")


if __name__ == "__main__":
    unittest.main()
