"""The n-th allocation is refused, of the program itself and of the libraries that it uses.

Over a start with sessions, a connect, a subscribe, publishes with QoS 1 and 2 and deliveries.  The
program says what it could not have and ends with 71 (78 while it reads its configuration), or it
goes on: a buffer that the system refuses is as one that gateway.memory has no room for.  Behind an
ordinary start everything is there that was acknowledged, once and in order: what a session's queue
needs is had before the event is journaled, or the event waits.

    MR_MEMORY_POINTS  how many n of each (default 5, spread; all: each)
"""

import os
import random
import unittest

import failpoint
from harness import PATIENCE, SANITIZER
from one_life import OneLife, gone, spread
from tally import tally
from test_starts import present, publish_exactly, take_exactly
from wire import publish, subscribe

POINTS = os.environ.get("MR_MEMORY_POINTS", "5")
SEED = int(os.environ.get("MR_LEDGER_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
CONFIG = "journal: { max_size: 64MiB, segment_size: 2MiB }\n"
BEFORE, EVENTS = 10, 20
TOPIC = "start/x"
DROPPED = "millrace_mqtt_messages_dropped_total"
ENDS = (71, 78)


class Memory(OneLife):
    NAME, CONFIG, FILTER, QOS = "memory", CONFIG, "start/#", 2

    def prepare(self):
        with present(self.gateway, "pub")[0] as wire:
            publish_exactly(wire, 0, BEFORE)

    def work(self):
        """What devices do; the numbers whose PUBREC came, until the gateway is gone."""
        received = []
        with gone(), present(self.gateway, "other")[0] as wire:
            wire.send(subscribe(["other/#"], qos=1))
            wire.read()
            wire.send(publish("other/x", b"hello", 1, 7))
            wire.read()
        with gone(), present(self.gateway, "pub")[0] as wire:
            for number in range(BEFORE, BEFORE + EVENTS):
                wire.send(publish(TOPIC, b"%d" % number, 2, number + 1))
                if wire.read() is None:
                    break
                received.append(number)
        return received

    def trial(self, whose, hit, action="12"):
        """(numbers whose PUBREC came, exit code or None, how often the point was met)"""
        self.begin("malloc", whose, "before", hit, action)
        received = self.work() if self.gateway.process.poll() is None else []
        self.dropped = self.counted_drops()
        code = self.gateway.process.poll()
        if failpoint.reached(self.said) and action != "note" and code is None:
            with gone():
                code = self.gateway.process.wait(0.2)
        log = self.end()
        self.assertIsNone(log.find(SANITIZER.pattern), log.text())
        met = len(self.said.read_text().split()) if self.said.exists() else 0
        return received, code, met

    def counted_drops(self):
        with gone():
            return int(self.gateway.metric(DROPPED, 'reason="memory"'))
        return 0

    def each(self, whose, ends):
        _, _, count = self.trial(whose, "1+", "note")
        self.assertGreater(count, 50)
        numbers, how = spread(count, POINTS, SEED), {}
        for number in numbers:
            with self.subTest(seed=SEED, whose=whose, number=number):
                received, code, _ = self.trial(whose, number)
                self.assertEqual(self.dropped, 0, "acknowledged, and dropped from a queue")
                how[code] = how.get(code, 0) + 1
                self.assertTrue(code is None or code in ends, f"{code}: {self.gateway.log.text()}")
                try:
                    self.judge(received)
                finally:
                    self.gateway.kill()
        print(f"  {len(numbers)} of {count}: ended with {how} ", end="", flush=True)
        tally(self._testMethodName, len(numbers), 0, 0)

    def judge(self, received):
        """An ordinary start has what was acknowledged."""
        self.gateway.start()
        wire, was_there = present(self.gateway, "reader")
        with wire:
            wire.patience(PATIENCE)
            self.assertTrue(was_there)
            owed = BEFORE + len(received)
            taken = take_exactly(wire, owed)
            self.assertEqual(taken, sorted(set(taken)), "once and in order")
            self.assertLessEqual(set(taken), set(range(BEFORE + len(received))))

    def test_an_allocation_of_the_program_is_refused(self):
        self.each("*/millrace", ENDS)

    def test_while_all_is_refused_publishers_wait(self):
        """From the n-th allocation on, for as long as the gateway lives: no PUBREC without room."""
        _, _, count = self.trial("*/millrace", "1+", "note")
        for number in random.Random(SEED).sample(range(max(1, count - 3 * EVENTS), count + 1), 4):
            with self.subTest(seed=SEED, number=number):
                received, _, _ = self.trial("*/millrace", f"{number}+")
                self.assertEqual(self.dropped, 0, "acknowledged, and dropped from a queue")
                try:
                    self.judge(received)
                finally:
                    self.gateway.kill()

    def test_an_allocation_of_a_library_is_refused(self):
        self.each("*/lib*", (*ENDS, 69, 70, 74, -6))


if __name__ == "__main__":
    unittest.main()
