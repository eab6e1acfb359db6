"""A start that ends at any of its own calls on files, in front of it and behind it.

The first start on an empty folder; a start on a journal, cursors and sessions; and one with another
number of shards, which moves the sessions, also where the journal alone has them, of two other
numbers.  Behind each of them an ordinary start has everything: sessions, subscriptions, and what
waits in their queues, once and in order.

    MR_START_STEPS  how many of the calls of each start (default 3, spread over it; all: each)
"""

import itertools
import os
import random
import shutil
import unittest

import failpoint
import harness
from harness import PATIENCE, RELEASE, Gateway, Temp, millrace
from tally import tally
from wire import PUBREC, Wire, connect, packet, publish, subscribe

STEPS = os.environ.get("MR_START_STEPS", "3")
SEED = int(os.environ.get("MR_LEDGER_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
EVENTS, SESSIONS = 20, 6
CONFIG = "journal: { max_size: 64MiB, segment_size: 2MiB }\n"
PUBREL, PUBCOMP = 0x62, 0x70


def present(gateway, name):
    """A connection to a session that is kept, and whether it was there."""
    wire = Wire(gateway.mqtt_port)
    wire.patience(PATIENCE)
    wire.send(connect(name, flags=0))
    kind, body = wire.read()
    assert kind == 0x20 and body[1] == 0, (kind, body)
    return wire, body[0] == 1


def publish_exactly(wire, first, last):
    for number in range(first, last):
        wire.send(publish("start/x", b"%d" % number, 2, number + 1))
        assert wire.read()[0] == 0x50
        wire.send(packet(6, 2, (number + 1).to_bytes(2, "big")))
        assert wire.read()[0] == PUBCOMP


def take_exactly(wire, count):
    """The payloads of `count` messages of QoS 2, whose exchanges are over."""
    payloads, open_ids = [], set()
    while len(payloads) < count or open_ids:
        kind, body = wire.read()
        if kind == PUBREL:
            open_ids.discard(body[:2])
            wire.send(packet(7, 0, body[:2]))
            continue
        assert kind >> 4 == 3, (kind, body)
        at = 2 + int.from_bytes(body[:2], "big")
        payloads.append(int(body[at + 2 :]))
        open_ids.add(body[at : at + 2])
        wire.send(packet(PUBREC, 0, body[at : at + 2]))
    return payloads


class Starts(unittest.TestCase):
    def setUp(self):
        self.temp = Temp("starts")
        self.addCleanup(self.temp.remove)
        self.data = self.temp.path / "data"

    def gateway(self, shards):
        gateway = Gateway(CONFIG, binary=RELEASE / "millrace", data=self.data,
                          sets=[f"gateway.shards={shards}"])
        self.addCleanup(gateway.temp.remove)
        self.addCleanup(gateway.kill)
        return gateway

    def start_with(self, gateway, *point):
        """A start that is killed at its point, or when it is ready; how often the point was met."""
        said = self.temp.path / "said"
        said.unlink(missing_ok=True)
        gateway.prefix = failpoint.prefix(said, "*", f"{self.temp.path}/data*", *point)
        gateway.spawn()
        harness.until(lambda: gateway.process.poll() is not None
                      or gateway.log.find('component=gateway .*msg="ready"'), "the start")
        gateway.kill()
        gateway.prefix = []
        return len(said.read_text().split()) if said.exists() else 0

    def each_step(self, gateway, reset, judge):
        reset()
        calls = self.start_with(gateway, "before", "1+", "note")
        self.assertGreater(calls, 20)
        steps = list(itertools.product(range(1, calls + 1), ("before", "after")))
        if STEPS != "all":
            rng = random.Random(SEED)
            part = max(1, len(steps) // int(STEPS))
            steps = [rng.choice(steps[at : at + part]) for at in range(0, len(steps), part)]
        for hit, when in steps:
            with self.subTest(seed=SEED, hit=hit, when=when):
                reset()
                self.start_with(gateway, when, hit)
                gateway.start()
                judge(gateway)
                gateway.kill()
                millrace("journal", "verify", "--data", self.data, binary=gateway.binary)
        print(f"  {len(steps)} ends at {calls} calls ", end="", flush=True)
        tally(self._testMethodName, len(steps), 0, 0)

    def test_the_first_start(self):
        def reset():
            shutil.rmtree(self.data, ignore_errors=True)

        def judge(gateway):
            wire, was_there = present(gateway, "pub")
            with wire:
                self.assertFalse(was_there)
                publish_exactly(wire, 0, 3)

        self.each_step(self.gateway(1), reset, judge)

    def with_sessions(self, before, after, between=None):
        """Sessions with messages waiting, made with `before` shards; starts with `after`.

        With `between`: more messages came with so many shards, and then the stores are away.
        """
        gateway = self.gateway(before)
        gateway.start()
        names = [f"reader-{n}" for n in range(SESSIONS)]
        for name in names:
            with present(gateway, name)[0] as wire:
                wire.send(subscribe(["start/#"], qos=2))
                self.assertEqual(wire.read()[0], 0x90)
        half = EVENTS // 2 if between else EVENTS
        with present(gateway, "pub")[0] as wire:
            publish_exactly(wire, 0, half)
        if between:
            gateway.stop()  # the cursors are where the stores are
            gateway = self.gateway(between)
            gateway.start()
            with present(gateway, "pub")[0] as wire:
                publish_exactly(wire, half, EVENTS)
            gateway.stop()
            shutil.rmtree(self.data / "sessions")
        gateway.kill()
        kept = self.temp.path / "kept"
        shutil.copytree(self.data, kept)

        def reset():
            shutil.rmtree(self.data)
            shutil.copytree(kept, self.data)

        def judge(gateway):
            for name in names:
                wire, was_there = present(gateway, name)
                with wire:
                    self.assertTrue(was_there, name)
                    self.assertEqual(take_exactly(wire, EVENTS), list(range(EVENTS)), name)
            wire, was_there = present(gateway, "pub")
            with wire:
                self.assertTrue(was_there)

        self.each_step(self.gateway(after), reset, judge)

    def test_a_start_with_sessions(self):
        self.with_sessions(1, 1)

    def test_a_start_with_more_shards(self):
        self.with_sessions(1, 3)

    def test_a_start_with_fewer_shards(self):
        self.with_sessions(3, 1)

    def test_a_start_without_the_stores(self):
        self.with_sessions(1, 3, between=2)


if __name__ == "__main__":
    unittest.main()
