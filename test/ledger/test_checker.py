"""The checker can say no: it is fed runs that are broken on purpose, one way each."""

import tempfile
import unittest

import books as of
import journal
from checker import FAULTS, Checker, Group, Rules
from dropped import Dropped
from event import Damaged, Maker
from faults_topic import Gone
from nemesis import schedule
from report import Report

DEVICES, EVENTS, LAST_ACKED = (0, 1, 2), 10, 8  # device n publishes with QoS n


def fine_books():
    """9 and 10 of each device were not acknowledged; 5 was sent again."""
    books = of.Books()
    for device in DEVICES:
        for number in range(1, EVENTS + 1):
            books.note(journal.SENT, device, device, number)
            if device and number <= LAST_ACKED:
                books.note(journal.ACKED, device, device, number)
        books.note(journal.RESENT, device, device, 5)
    return books


def fine_arrivals():
    """(device, number, partition, identity); 10 did not arrive."""
    return [(device, number, device % 2, 100 * (device + 1) + number)
            for device in DEVICES for number in range(1, EVENTS)]


class Judged(unittest.TestCase):
    def check(self, arrivals, rules=None, identities=True, backlog=(), **end):
        """`backlog`: the numbers that are marked so."""
        checker = Checker(fine_books(), rules)
        for place, (device, number, partition, identity) in enumerate(arrivals):
            checker.saw(device, number, f"{partition}:{place}", partition,
                        identity if identities else 0, number in backlog)
        return checker.finish(**end)

    def found(self, fault, times, arrivals, *args, **options):
        checker = self.check(arrivals, *args, **options)
        self.assertEqual({name: checker.counts[name] for name in FAULTS if checker.counts[name]},
                         {fault: times} if times else {}, checker.offences)
        self.assertEqual(checker.is_broken(), times > 0)
        return checker

    def kept(self, arrivals, *args, **options):
        return self.found(None, 0, arrivals, *args, **options)

    def test_a_kept_promise_is_accepted(self):
        self.kept(fine_arrivals())
        self.kept(fine_arrivals(), identities=False)

    def test_poison_is_in_the_dead_letters_and_nowhere_else(self):
        poison = [one for one in fine_arrivals() if one[1] % 4 == 0]
        others = [one for one in fine_arrivals() if one[1] % 4]
        for arrivals, letters, fault in (
                (others, poison, None), (fine_arrivals(), [], "MISROUTED"),
                (others, poison + others[:1], "MISROUTED"), (others, poison[:-1], "LOST"),
                (others, poison + poison[-1:], "DUP_BROKER"),
                (others, [*poison, (*poison[-1][:3], 1)], "DUP_SOURCE"),
                (others, [*poison, (0, 99, 0, 1)], "PHANTOM")):
            checker = Checker(fine_books(), Rules(poison=4))
            for place, (device, number, partition, identity) in enumerate(arrivals):
                checker.saw(device, number, f"{partition}:{place}", partition, identity)
            for device, number, _, identity in letters:
                checker.aside(device, number, "letter", identity)
            checker.finish()
            self.assertEqual({name for name in FAULTS if checker.counts[name]},
                             {fault} if fault else set(), checker.offences)

    def test_what_was_not_acknowledged_may_be_missing(self):
        self.kept([one for one in fine_arrivals() if one[0] and one[1] <= LAST_ACKED])

    def test_a_backlog_that_was_overtaken_is_marked_and_in_order_by_itself(self):
        fine = fine_arrivals()
        fresh = [one for one in fine if one[1] > 6]
        backlog = [one for one in fine if one[1] <= 6]
        self.kept(fresh + backlog, backlog=range(1, 7))
        self.kept(backlog[:3] + fresh + backlog[3:], backlog=range(1, 7))
        self.found("REORDER", 3, fresh + backlog, backlog=[1, 2, 3, 5, 6])
        self.found("REORDER", 1, fresh + [backlog[1], backlog[0], *backlog[2:]],
                   backlog=range(1, 7))
        self.found("DUP_BROKER", 1, fresh + backlog + fresh[:1], backlog=range(1, 7))
        self.found("LOST", 1, fresh + [one for one in backlog if one[:2] != (1, 3)],
                   backlog=range(1, 7))

    def test_each_lost_event(self):
        for gone in fine_arrivals():
            if gone[0] and gone[1] <= LAST_ACKED:
                left = [one for one in fine_arrivals() if one != gone]
                checker = self.found("LOST", 1, left)
                bad = checker.offences[0]
                self.assertEqual((bad.device, bad.number), gone[:2])

    def test_a_device_of_which_nothing_arrived(self):
        self.found("LOST", LAST_ACKED, [one for one in fine_arrivals() if one[0] != 2])

    def test_what_the_gateway_still_has_is_stuck(self):
        self.found("STUCK", 1, [one for one in fine_arrivals() if one[:2] != (1, 3)],
                   drained=False)

    def test_what_is_never_acknowledged_is_stuck(self):
        self.found("STUCK", 4, fine_arrivals(), publisher_done=False)  # 9, 10 of QoS 1 and 2

    def test_an_event_nobody_sent(self):
        self.found("PHANTOM", 1, fine_arrivals() + [(1, 11, 1, 999)])
        self.found("PHANTOM", 1, fine_arrivals() + [(7, 1, 1, 999)])
        self.found("PHANTOM", 1, fine_arrivals() + [(1, 0, 1, 999)])

    def test_a_refused_event(self):
        checker = Checker(fine_books())
        checker.books.note(journal.REFUSED, 1, 1, 9)
        checker.saw(1, 9, "0:0", 0, 1)
        self.assertEqual(checker.counts["PHANTOM"], 1)

    def test_two_events_in_the_wrong_order(self):
        fine = fine_arrivals()
        for at, (one, other) in enumerate(zip(fine, fine[1:])):
            if one[0] == other[0]:
                self.found("REORDER", 1, fine[:at] + [other, one] + fine[at + 2 :])

    def test_a_device_in_two_partitions(self):
        fine = fine_arrivals()
        device, number, partition, identity = fine[-1]
        self.found("MISROUTED", 1, fine[:-1] + [(device, number, partition + 1, identity)])

    def moved(self, number):
        """Device 1 goes elsewhere with this event, and stays there."""
        return [(device, one, 7 if device == 1 and one >= number else partition, identity)
                for device, one, partition, identity in fine_arrivals()]

    def test_a_device_that_moves_when_partitions_were_added(self):
        once = Rules(moves=1)
        self.kept(self.moved(5), once)
        self.found("MISROUTED", 5, self.moved(5))
        left_behind = [(device, number, 1 if (device, number) == (1, 7) else partition, identity)
                       for device, number, partition, identity in self.moved(5)]
        self.found("MISROUTED", 1, left_behind, once)
        back = [(device, number, 8 if (device, number) == (1, 9) else partition, identity)
                for device, number, partition, identity in self.moved(5)]
        self.found("MISROUTED", 1, back, once)

    def test_what_a_deleted_topic_took_with_it(self):
        gone = Gone()
        gone.last, gone.when = [{device: 2 for device in DEVICES}], [100.0]
        gone.sent = {(device, number): 99.0 for device in DEVICES
                     for number in range(1, EVENTS + 1)}
        without = [one for one in fine_arrivals() if one[0] != 1 or one[1] not in (3, 4)]
        checker = self.kept(without, Rules(gone=gone))
        self.assertEqual(checker.counts["GONE"], 2)
        more = [one for one in without if one[:2] != (1, 6)]  # 5 is there
        self.found("LOST", 1, more, Rules(gone=gone))
        gone.sent[1, 4] = 101.0  # when everybody knew
        self.found("LOST", 1, without, Rules(gone=gone))

    def test_what_the_books_say_was_dropped(self):
        def of_lane(arrivals):  # event n of a device is record 10 * n + device of lane 0
            return [(device, number, partition, 1 << 48 | 10 * number + device)
                    for device, number, partition, _ in arrivals]

        without = of_lane([one for one in fine_arrivals() if one[:2] not in ((1, 3), (1, 4))])
        checker = self.kept(without, Rules(dropped=Dropped({0: [(31, 41)]})))
        self.assertEqual(checker.counts["DROPPED"], 2)
        self.found("LOST", 1, without, Rules(dropped=Dropped({0: [(31, 31)]})))
        self.found("LOST", 2, without, Rules(dropped=Dropped({0: [(51, 61)], 1: [(31, 41)]})))
        self.found("LOST", 2, without, Rules(dropped=Dropped({})))
        first = of_lane([one for one in fine_arrivals() if one[0] != 1 or one[1] > 2])
        self.kept(first, Rules(dropped=Dropped({0: [(1, 25)]})))
        none = of_lane([one for one in fine_arrivals() if one[0] != 1])
        self.kept(none, Rules(dropped=Dropped({0: [(1, 90)]})))
        self.found("LOST", LAST_ACKED, none, Rules(dropped=Dropped({})))

    def test_one_acceptance_delivered_twice(self):
        for one in fine_arrivals():
            self.found("DUP_BROKER", 1, fine_arrivals() + [one])
            checker = self.kept(fine_arrivals() + [one, one], Rules(replays=True))
            self.assertEqual(checker.counts["REPLAY"], 2)

    def test_more_acceptances_than_the_device_sent(self):
        for device, number, partition, identity in fine_arrivals():
            again = (device, number, partition, identity + 5000)
            if (device, number) == (1, 5):
                checker = self.kept(fine_arrivals() + [again])
                self.assertEqual(checker.counts["DUP_CLIENT"], 1)
                third = (device, number, partition, identity + 6000)
                self.found("DUP_SOURCE", 1, fine_arrivals() + [again, third])
            else:
                self.found("DUP_SOURCE", 1, fine_arrivals() + [again], Rules(replays=True))

    def test_copies_without_an_identity(self):
        for one in fine_arrivals():
            if one[:2] == (1, 5):
                self.kept(fine_arrivals() + [one], identities=False)
                self.found("DUP_BROKER", 1, fine_arrivals() + [one, one], identities=False)
            else:
                self.found("DUP_BROKER", 1, fine_arrivals() + [one], identities=False)

    def test_an_event_at_two_members_of_a_group(self):
        group = Group(Checker(fine_books(), Rules(ordered=False, replays=True)))
        for device, number, _, _ in fine_arrivals():
            group.saw(number % 2, device, number, "")
        self.assertFalse(group.checker.finish().is_broken())
        group.saw(1, 2, 4, "")
        self.assertEqual(group.checker.counts["MISROUTED"], 1)

    def test_a_forgotten_session(self):
        checker = Checker(fine_books())
        checker.session_faults(["led-1-1: the gateway has forgotten its session"])
        self.assertTrue(checker.is_broken())


class Payloads(unittest.TestCase):
    def test_every_changed_bit_is_noticed(self):
        maker = Maker(7)
        payload = maker.make(3, 5, 1.25)
        event = maker.recognise(payload)
        self.assertEqual((event.device, event.number, event.sent), (3, 5, 1.25))
        for bit in range(8 * len(payload)):
            changed = bytearray(payload)
            changed[bit // 8] ^= 1 << bit % 8
            with self.assertRaises(Damaged):
                maker.recognise(bytes(changed))

    def test_every_shortened_payload_and_another_run_are_noticed(self):
        payload = Maker(7).make(3, 5, 1.25)
        for size in range(len(payload)):
            with self.assertRaises(Damaged):
                Maker(7).recognise(payload[:size])
        with self.assertRaises(Damaged):
            Maker(8).recognise(payload)


class Told(unittest.TestCase):
    def test_the_journal_comes_back_as_it_was_written(self):
        with tempfile.NamedTemporaryFile() as file:
            writer = journal.Writer(file.name)
            written = [(kind, 1, 0, kind, 2**40 + kind, 0.5) for kind in range(1, 7)]
            for one in written:
                writer.note(*one)
            writer.close()
            self.assertEqual(list(journal.entries(file.name)), written)

    def test_an_offender_has_its_times_and_the_fault_in_force(self):
        with tempfile.NamedTemporaryFile() as file:
            writer = journal.Writer(file.name)
            writer.note(journal.SENT, 1, 0, 4, 1, 100.0)
            writer.note(journal.ACKED, 1, 0, 4, 1, 100.5)
            writer.close()
            checker = Checker(of.Books.read(file.name)).finish()
            windows = [{"fault": "kill", "begin": 99.0, "end": 100.2, "acked": 0}]
            report = Report("it", 1, checker.books.counts, {"kafka": checker}, windows)
            self.assertEqual(report.exit_code(), 1)
            self.assertIn("BROKEN", report.line())
            self.assertIn("lost 1", report.line())
            told = list(report.offenders(file.name))
            self.assertEqual(len(told), 1)
            for words in ("device 4, event 1", "acked 100.5", "fault in force: kill"):
                self.assertIn(words, told[0])

    def test_a_seed_makes_the_same_schedule(self):
        def names(seed):
            return [(step.gap, step.begins, step.fault.name, step.fault.rng.random())
                    for step in schedule(seed, ("kill", "pause", "kafka-kill"), 50)]

        self.assertEqual(names(5), names(5))
        self.assertNotEqual(names(5), names(6))

    def test_every_fault_ends_and_no_target_has_two(self):
        open_targets = set()
        for step in schedule(9, ("kill", "pause", "kafka-kill", "kafka-pause"), 500):
            if step.begins:
                self.assertNotIn(step.fault.target, open_targets)
                open_targets.add(step.fault.target)
            else:
                open_targets.remove(step.fault.target)
        self.assertEqual(open_targets, set())

    def test_a_gateway_that_stands_still_does_not_wait_for_a_kafka_that_starts(self):
        in_force, together = set(), set()
        names = ("kill", "pause", "kafka-kill", "kafka-stop", "kafka-pause")
        for step in schedule(10, names, 2000):
            if step.begins:
                together |= {frozenset((step.fault.name, name)) for name in in_force}
                in_force.add(step.fault.name)
            else:
                in_force.remove(step.fault.name)
        self.assertFalse(together & {frozenset(("pause", "kafka-kill")),
                                     frozenset(("pause", "kafka-stop"))})
        for others in (("pause", "kafka-pause"), ("kill", "kafka-kill"), ("kill", "kafka-stop")):
            self.assertIn(frozenset(others), together)


if __name__ == "__main__":
    unittest.main()
