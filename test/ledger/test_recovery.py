"""A start behind kill -9: how long until the first device is served, and is everything there.

The log is a gigabyte, a queue of a session holds a million messages, or a hundred thousand sessions
are to come back.  In each `./dev test` a small part of that, and no bound that a busy machine could
break; ./dev soak recovery has the whole of it, and the bounds: one second, and three.

    MR_RECOVERY  all: the whole, with its bounds
"""

import os
import pathlib
import sys
import time
import unittest

from harness import PATIENCE, RELEASE, Gateway, millrace
from tally import tally
from wire import Wire, connect, packet, publish, subscribe

IS_WHOLE = os.environ.get("MR_RECOVERY") == "all"
LOG_EVENTS, PAYLOAD = (1_000_000, 1000) if IS_WHOLE else (10_000, 1000)
QUEUED = 1_000_000 if IS_WHOLE else 10_000
SESSIONS = 100_000 if IS_WHOLE else 1_000
SERVED_S, SESSIONS_S = (1.0, 3.0) if IS_WHOLE else (PATIENCE, PATIENCE)
BURST = 500  # sessions that are made at once, publishes that are sent at once
CONFIG = """\
gateway: { memory: 2GiB, shards: 1 }
mqtt: { max_queued_messages: 1000000, max_queued_bytes: 4GiB }
journal: { max_size: 8GiB }
"""


def answered(wire, count, kind):
    """So many packets of a kind."""
    for _ in range(count):
        got = wire.read()
        assert got is not None and got[0] >> 4 == kind, got


class Recovery(unittest.TestCase):
    def setUp(self):
        self.gateway = Gateway(CONFIG, binary=RELEASE / "millrace")
        self.addCleanup(self.gateway.temp.remove)
        self.addCleanup(self.gateway.kill)
        self.gateway.start()

    def publish(self, count, payload):
        """`payload`: of the n-th.  All acknowledged."""
        with Wire(self.gateway.mqtt_port, "publisher") as wire:
            for begin in range(0, count, BURST):
                numbers = range(begin, min(begin + BURST, count))
                wire.send(b"".join(publish("q/x", payload(n), 1, n % BURST + 1) for n in numbers))
                answered(wire, len(numbers), 4)

    def served_again(self, name):
        """kill -9; seconds from the next start to the CONNACK of `name`, and whether it was there.

        The caches are dropped where that is allowed, as behind a power cut.
        """
        self.gateway.kill()
        drop_caches()
        began = time.monotonic()
        self.gateway.spawn()
        while True:
            assert self.gateway.process.poll() is None, self.gateway.log.text()
            try:
                wire = Wire(self.gateway.mqtt_port)
                break
            except ConnectionRefusedError:
                time.sleep(0.001)  # sleep: the port tells nobody when it opens
        self.addCleanup(wire.sock.close)
        wire.send(connect(name, flags=0))
        kind, body = wire.read()
        took = time.monotonic() - began
        self.assertEqual((kind, body[1]), (0x20, 0))
        self.gateway.wait_ready()
        return took, body[0] == 1, wire

    def say(self, what, took, bound):
        found = self.gateway.log.find(r"(\d+ segments, \d+ records checked in \d+ ms)")
        print(f"  {what}: served after {took * 1000:.0f} ms ({found and found[1]}) ",
              file=sys.stderr, flush=True)
        tally(what, 1, 0, 0)
        self.assertLess(took, bound)

    def bytes_of(self):
        return sum(file.stat().st_blocks * 512
                   for file in pathlib.Path(self.gateway.data).rglob("*.seg"))

    def test_a_long_log(self):
        self.publish(LOG_EVENTS, lambda n: b"%d" % n + b"x" * PAYLOAD)
        size = self.bytes_of()
        took, _, _ = self.served_again("first")
        self.say(f"{LOG_EVENTS:,} events, {size / 1e6:,.0f} MB", took, SERVED_S)
        self.gateway.kill()
        done = millrace("journal", "verify", "--data", self.gateway.data,
                        binary=self.gateway.binary)
        self.assertEqual(done.stdout, f"lane 0: {LOG_EVENTS + 1} records, seqs 1 to "
                                      f"{LOG_EVENTS + 1}: fine\n")  # and a session

    def test_a_long_queue(self):
        with Wire(self.gateway.mqtt_port) as wire:
            wire.send(connect("reader", flags=0) + subscribe(["q/#"]))
            answered(wire, 1, 2)
            answered(wire, 1, 9)
        self.publish(QUEUED, lambda n: b"%d" % n)
        took, was_there, wire = self.served_again("reader")
        self.assertTrue(was_there)
        self.say(f"{QUEUED:,} messages queued", took, SERVED_S)
        for number in range(QUEUED):
            kind, body = wire.read()
            self.assertEqual((kind >> 4, int(body[7:])), (3, number))
            wire.send(packet(4, 0, body[5:7]))

    def test_many_sessions(self):
        for begin in range(0, SESSIONS, BURST):
            wires = [Wire(self.gateway.mqtt_port) for _ in range(BURST)]
            for n, wire in enumerate(wires, begin):
                wire.send(connect(f"session-{n}", flags=0) + subscribe([f"s/{n}"]))
            for wire in wires:
                answered(wire, 1, 2)
                answered(wire, 1, 9)
                wire.sock.close()
        took, was_there, _ = self.served_again(f"session-{SESSIONS - 1}")
        self.assertTrue(was_there)
        self.say(f"{SESSIONS:,} sessions", took, SESSIONS_S)
        self.assertEqual(self.gateway.metric("millrace_mqtt_sessions"), SESSIONS)


def drop_caches():
    try:
        os.sync()
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("1", encoding="ascii")
    except OSError:
        pass  # only root may, and not everywhere


if __name__ == "__main__":
    unittest.main()
