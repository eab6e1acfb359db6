"""attack - a healthy pair beside an attacker.

    class Cves(attack.Attacked):              one gateway and one pair per class
        def test_cve_…(self):
            for _ in self.rounds():           once; for seconds under ./dev soak attacks
                ... attack, and check the answer

When a test ends, everything that the healthy publisher has sent meanwhile must have been
acknowledged and delivered, nobody of the two may have been disconnected, the p99 of its
way through the gateway must be below the bound, and the gateway's memory must at no moment
have been larger by more than `gateway.memory` and a tenth than before the first attack.

The pair runs in a process of its own, so that what is measured is the gateway and not the
attacker's Python.  With the sanitizers, on a machine that others load, the bound is
generous; ./dev soak attacks measures the release program with the real one, 50 ms.
"""

import json
import os
import pathlib
import struct
import sys
import time
import unittest

from harness import PATIENCE, Gateway, Lines, popen
from tally import tally
from wire import PUBACK, PUBLISH, Wire, publish, subscribe

SECONDS = float(os.environ.get("MR_ATTACK_SECONDS", "0"))
P99_MS = float(os.environ.get("MR_ATTACK_P99_MS", "2000"))
IS_STRICT = "MR_ATTACK_P99_MS" in os.environ
MEMORY_MIB = 64
RATE = 50
WINDOW = 8  # publishes without PUBACK; every configuration's Receive Maximum is larger

CONFIG = f"gateway: {{ memory: {MEMORY_MIB}MiB, shards: 1 }}\n"


def p99_of(latencies):
    return sorted(latencies)[len(latencies) * 99 // 100] if latencies else 0


class Pair:
    """The healthy publisher and its subscriber."""

    def __init__(self, port):
        self.process = popen([sys.executable, "-B", __file__, port], stdin=-1, stdout=-1, text=True)
        self.lines = Lines(self.process.stdout)
        self.lines.wait("ready")

    def measure(self, since):
        """Latencies in ms of what was sent since then and has arrived; all of it has."""
        start = len(self.lines.all)
        self.process.stdin.write(f"{since}\n")
        self.process.stdin.flush()
        return json.loads(self.lines.wait(r"latencies (.*)", start=start)[1])

    def end(self):
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.lines.thread.join(PATIENCE)


class Attacked(unittest.TestCase):
    config = ""

    @classmethod
    def setUpClass(cls):
        cls.gateway = Gateway(CONFIG + cls.config)
        cls.prepare()
        cls.gateway.start()
        cls.pair = Pair(cls.gateway.mqtt_port)
        cls.resident_kib = cls.gateway.resident_kib()
        if SECONDS:
            begun = time.monotonic()
            time.sleep(SECONDS)  # sleep: the time that is measured
            print(f"  without an attack: p99 {p99_of(cls.pair.measure(begun)):.1f} ms",
                  file=sys.stderr)

    @classmethod
    def prepare(cls):
        """Files that the configuration names."""

    @classmethod
    def tearDownClass(cls):
        try:
            cls.pair.end()
            cls.gateway.stop()
        finally:
            cls.gateway.__exit__(None)

    def setUp(self):
        self.begun = time.monotonic()

    def rounds(self):
        yield 0
        number = 1
        while time.monotonic() < self.begun + SECONDS:
            yield number
            number += 1

    def tearDown(self):
        latencies = self.pair.measure(self.begun)
        p99 = p99_of(latencies)
        grown_kib = self.gateway.resident_kib(peak=True) - self.resident_kib
        if SECONDS:
            print(f"  {self._testMethodName}: {len(latencies)} healthy messages, p99 {p99:.1f} ms,"
                  f" memory at most {grown_kib / 1024:+.1f} MiB", file=sys.stderr)
        tally(self._testMethodName, 1, len(latencies), 0)
        self.assertLess(p99, P99_MS, "p99 of the healthy pair in ms")
        if IS_STRICT:  # else the sanitizer's own memory is in it
            self.assertLess(grown_kib, MEMORY_MIB * 1024 * 1.1)

    # ---- what attackers do ----

    def wire(self, greet=None, version=5, **more):
        return Wire(self.gateway.mqtt_port, greet, version, **more)

    def send_and_end(self, data, greet=None, version=5):
        """What is answered to `data` until the connection ends."""
        with self.wire(greet, version) as wire:
            try:
                wire.send(data)
            except OSError:
                pass  # closed in the midst of it
            return wire.read_until_closed()

    def resident(self):
        return self.gateway.resident_kib()


# ---- the pair's process ----


class Traffic:
    def __init__(self, port):
        self.subscriber = Wire(port, "healthy-subscriber", 5)
        self.subscriber.send(subscribe(["healthy/#"], 1, 5))
        self.subscriber.read()
        self.publisher = Wire(port, "healthy-publisher", 5)
        self.sent = {}  # number: when
        self.unacked = 0
        self.arrived = []  # (when it was sent, ms)
        self.number = 0

    def send_one(self, due):
        """`due`: when it should have been sent; what it waited for is part of its latency."""
        self.number += 1
        self.unacked += 1
        self.sent[self.number] = due
        self.publisher.send(publish("healthy/pair", struct.pack(">I", self.number), 1,
                                    self.number % 65535 + 1, 5))

    def take(self, wire, patience):
        """What is there, for so long."""
        wire.sock.settimeout(max(patience, 0.001))
        try:
            got = wire.read()
        except TimeoutError:
            return False
        if got is None or got[0] >> 4 not in (PUBACK, PUBLISH):
            raise AssertionError(f"the healthy client was sent {got}")
        if wire is self.publisher:
            self.unacked -= 1
            return True
        topic_len = struct.unpack(">H", got[1][:2])[0]
        at = 2 + topic_len
        wire.send(struct.pack(">BBH", PUBACK << 4, 2, struct.unpack(">H", got[1][at:at + 2])[0]))
        number = struct.unpack(">I", got[1][-4:])[0]
        when = self.sent.pop(number)
        self.arrived.append((when, (time.monotonic() - when) * 1000))
        return True

    def settle(self):
        deadline = time.monotonic() + PATIENCE
        while self.sent and time.monotonic() < deadline:
            self.take(self.subscriber, 0.1)
        if self.sent:
            raise AssertionError(f"{len(self.sent)} healthy messages did not arrive")
        while self.unacked and time.monotonic() < deadline:
            self.take(self.publisher, 0.1)
        if self.unacked:
            raise AssertionError(f"{self.unacked} healthy publishes were not acknowledged")

    def run(self, asked):
        print("ready", flush=True)
        due = time.monotonic()
        while not asked.ended:
            while due <= time.monotonic() and self.unacked < WINDOW:
                self.send_one(due)
                due += 1 / RATE
            self.take(self.subscriber, min(due - time.monotonic(), 1 / RATE))
            while self.take(self.publisher, 0):
                pass
            if asked.all:
                since = float(asked.all.pop(0))
                self.settle()
                print("latencies", json.dumps([ms for when, ms in self.arrived if when >= since]),
                      flush=True)
                self.arrived.clear()
                due = time.monotonic()


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    Traffic(int(sys.argv[1])).run(Lines(sys.stdin))
