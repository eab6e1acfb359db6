"""The judge of the crash test can say no: it is fed ledgers that are broken on purpose."""

import copy
import unittest

from ledger import Arrival, Ledger, judge, payload_of


def fine():
    """Two devices, ten events each; 9 and 10 were not acknowledged, 10 did not arrive."""
    ledger, arrivals = Ledger(), []
    for partition, device in enumerate(("a", "b")):
        ledger.sent[device] = 10
        ledger.acknowledged[device] = set(range(1, 9))
        arrivals += [Arrival(device, n, partition, n) for n in range(1, 10)]
    return ledger, arrivals


class Judge(unittest.TestCase):
    def complains(self, ledger, arrivals, about):
        said = judge(ledger, arrivals)
        self.assertTrue(any(about in line for line in said), said)

    def test_a_kept_promise_is_accepted(self):
        self.assertEqual(judge(*fine()), [])

    def test_repeats_after_the_first_appearance_are_accepted(self):
        ledger, arrivals = fine()
        arrivals += [Arrival("a", n, 0, 100 + n) for n in range(3, 8)]
        self.assertEqual(judge(ledger, arrivals), [])

    def test_a_lost_event(self):
        ledger, arrivals = fine()
        for lost in range(len(arrivals)):
            if arrivals[lost].number <= 8:
                left = arrivals[:lost] + arrivals[lost + 1 :]
                self.complains(ledger, left, "acknowledged but lost")

    def test_a_device_of_which_nothing_arrived(self):
        ledger, arrivals = fine()
        self.complains(ledger, [a for a in arrivals if a.device == "a"], "b: acknowledged but lost")

    def test_two_events_in_the_wrong_order(self):
        ledger, arrivals = fine()
        for first in range(8):
            swapped = copy.deepcopy(arrivals)
            swapped[first].offset, swapped[first + 1].offset = first + 2, first + 1
            self.complains(ledger, swapped, "first appears after")

    def test_an_event_nobody_sent(self):
        ledger, arrivals = fine()
        self.complains(ledger, arrivals + [Arrival("a", 11, 0, 50)], "was never sent")
        self.complains(ledger, arrivals + [Arrival("c", 1, 0, 50)], "was never sent")

    def test_a_changed_byte(self):
        ledger, arrivals = fine()
        arrivals[3].intact = False
        self.complains(ledger, arrivals, "is not what was sent")

    def test_a_device_in_two_partitions(self):
        ledger, arrivals = fine()
        arrivals[8].partition = 3
        self.complains(ledger, arrivals, "more than one partition")

    def test_payloads_differ_by_device_and_number(self):
        payloads = {payload_of(device, n) for device in ("a", "b") for n in range(100)}
        self.assertEqual(len(payloads), 200)


if __name__ == "__main__":
    unittest.main()
