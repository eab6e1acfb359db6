"""The n-th call on a file fails once: EIO, ENOSPC, or only a part of a write is done.

Over a start with a session and a device that waits for each acknowledgement.  Behind a flush or a
write of the journal that failed nothing is acknowledged any more: the program ends with a sentence
that names the file, the cause and the next step, and an ordinary start has everything that was
acknowledged, once and in order.  Where there is no room acknowledgements are withheld, and it goes
on by itself.

    MR_LEDGER_SEED  repeat a run (printed when it fails)
    MR_DISK_CALLS   how many n of each kind (default 3, spread; all: each)
"""

import errno
import os
import random
import unittest

from harness import PATIENCE, millrace
from one_life import OneLife, gone, spread
from tally import tally
from test_starts import present
from wire import packet, publish

SEED = int(os.environ.get("MR_LEDGER_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
CALLS = os.environ.get("MR_DISK_CALLS", "3")
EVENTS, PAYLOAD = 250, b"x" * 3000
CONFIG = """\
mqtt: { max_packet_size: 16KiB }
journal: { max_size: 32MiB, segment_size: 256KiB }
"""
SENTENCE = r"(?i)level=error .*(input/output error|no space left).*check the disk"
ENDS = (71, 73, 74)


class Calls(OneLife):
    NAME, CONFIG, FILTER = "calls", CONFIG, "calls/#"

    def work(self):
        """How many were acknowledged: the first ones, in order, until the gateway is gone."""
        acked = 0
        with gone(), present(self.gateway, "device")[0] as wire:
            for number in range(EVENTS):
                wire.send(publish("calls/x", b"%d " % number + PAYLOAD, 1, number + 1))
                got = wire.read()
                if got is None:
                    break
                self.assertEqual((got[0], got[1]), (0x40, (number + 1).to_bytes(2, "big")))
                acked += 1
        return acked

    def trial(self, call, hit, action):
        """(acknowledged, exit code or None)"""
        self.begin(call, f"{self.data}*", "before", hit, action)
        acked, code = 0, self.gateway.process.poll()
        if code is None:
            acked = self.work()
            with gone():  # it may be about to end
                code = self.gateway.process.wait(0 if acked == EVENTS else PATIENCE)
        return acked, code, self.end()

    def judge(self, acked):
        """An ordinary start has them."""
        self.gateway.start()
        wire, was_there = present(self.gateway, "reader")
        with wire:
            self.assertTrue(was_there)
            wire.send(packet(12, 0, b""))  # its answer comes behind what is sent at once
            numbers = []
            while len(numbers) < acked:
                kind, body = wire.read()
                if kind >> 4 != 3:
                    continue
                at = 2 + int.from_bytes(body[:2], "big")
                numbers.append(int(body[at + 2 :].split()[0]))
                wire.send(packet(4, 0, body[at : at + 2]))
            self.assertEqual(numbers, list(range(acked)))
        self.gateway.kill()
        millrace("journal", "verify", "--data", self.data, binary=self.gateway.binary)

    def each(self, call, action, goes_on):
        acked, _, _ = self.trial(call, "1+", "note")
        self.assertEqual(acked, EVENTS)
        count = len(self.said.read_text().split())
        numbers, ended = spread(count, CALLS, SEED), 0
        for number in numbers:
            with self.subTest(seed=SEED, call=call, action=action, number=number):
                acked, code, log = self.trial(call, number, str(action))
                if code is None:
                    self.assertEqual(acked, EVENTS, log.text())
                else:
                    self.assertFalse(goes_on and acked != 0, log.text())
                    self.assertIn(code, ENDS, log.text())
                    self.assertIsNotNone(log.find(SENTENCE), log.text())
                    ended += 1
                try:
                    self.judge(acked)
                finally:
                    self.gateway.kill()
        print(f"  {len(numbers)} of {count} calls of {call}: ended {ended} times ", end="",
              flush=True)
        tally(f"{call} of {count}", len(numbers), len(numbers) * EVENTS, 0)

    def test_a_flush_that_fails(self):
        self.each("fdatasync", errno.EIO, False)

    def test_a_write_that_fails(self):
        self.each("pwritev", errno.EIO, False)

    def test_a_write_without_room(self):
        self.each("pwritev", errno.ENOSPC, True)

    def test_a_write_that_is_short(self):
        self.each("pwritev", "short", True)


if __name__ == "__main__":
    unittest.main()
