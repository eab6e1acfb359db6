"""The power fails under load, and comes back: nothing that was acknowledged is gone.

The gateway's data lie on an ext4 of their own; a cut takes from it whatever was not flushed, file
contents and directory entries alike.  Segments are small and payloads large, so that a cut often
comes while a segment begins; checkpoints of the session store and writes of cursors go on all the
time.  Needs root (mount -o loop).

    MR_LEDGER_SEED   repeat a run (printed at the start)
    MR_POWER_ROUNDS  cuts (default 10; ./dev soak power: 200)
"""

import os
import random
import unittest

import failpoint
import harness
from disk import Disk
from harness import RELEASE, Gateway, millrace
from wire import Wire, publish
from world import Plan, World

SEED = int(os.environ.get("MR_LEDGER_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
ROUNDS = int(os.environ.get("MR_POWER_ROUNDS", "10"))
SOON = (0.1, 0.8)


def setUpModule():
    Disk("ledger").remove()  # says why when there can be none, before Kafka is started
    harness.kafka_up()


tearDownModule = harness.kafka_down


def plan(**more):
    return Plan(seed=SEED, name="power", faults=("power",), gap=SOON, segment="256KiB",
                packet="16KiB", size=300, watched=3, binary=RELEASE / "millrace", **more)


class Power(unittest.TestCase):
    def test_a_power_cut_costs_no_event(self):
        with World(plan(rounds=ROUNDS), harness.kafka()) as world:
            report = world.run()
            world.assert_kept(self, report)
            self.assertEqual(len(report.windows), ROUNDS)


class Lie(unittest.TestCase):
    """Whether a cut can show anything: one with a flush that does nothing loses events."""

    EVENTS = 200

    def found_after_a_cut(self, prefix):
        """How many of EVENTS acknowledged events are in the journal behind a cut."""
        disk = Disk("lie")
        self.addCleanup(disk.remove)
        disk.mount()
        gateway = Gateway("journal: { max_size: 16MiB, segment_size: 2MiB }\n", prefix=prefix,
                          binary=RELEASE / "millrace", data=disk.path / "data")
        self.addCleanup(gateway.temp.remove)
        self.addCleanup(gateway.kill)
        gateway.start()
        with Wire(gateway.mqtt_port, "d") as device:
            for number in range(1, self.EVENTS + 1):
                device.send(publish("lie/1", b"number", 1, number))
                self.assertEqual(device.read()[0], 0x40)
        disk.cut_power()
        gateway.kill()
        disk.unmount()
        disk.mount()
        done = millrace("journal", "cat", "--data", gateway.data, binary=gateway.binary,
                        check=False)  # with the lie it says which seqs are lost
        return done.stdout.count("lie/1")

    def test_an_honest_flush_keeps_all(self):
        self.assertEqual(self.found_after_a_cut([]), self.EVENTS)

    def test_a_flush_that_does_nothing_is_found_out(self):
        lie = failpoint.prefix("/dev/null", "fdatasync", "*.seg", "before", "1+", "lie")
        self.assertLess(self.found_after_a_cut(lie), self.EVENTS)


if __name__ == "__main__":
    unittest.main()
