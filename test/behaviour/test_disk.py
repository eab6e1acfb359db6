"""The gateway's disk is full, or fails: acks are withheld, or the process ends; never a lie.

ENOSPC heals by itself.  EIO does not: no ack leaves afterwards, the process ends with 74,
and a restart recovers what is really on the disk.
"""

import os
import re
import shutil
import socket
import subprocess
import unittest
from contextlib import ExitStack

import harness
from harness import PATIENCE, RELEASE, Gateway, Temp, cannot, millrace, program, until
from wire import Wire, publish

MIB = 1 << 20


class Publisher:
    """Publishes one event after the other until no PUBACK comes any more."""

    def __init__(self, gateway, name="d"):
        self.wire = Wire(gateway.mqtt_port, name)
        self.sent = self.acked = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.wire.sock.close()

    def until_withheld(self, quiet=1.5, window=50, size=20_000, at_most=20_000):
        """Number of acknowledged events when the gateway has been silent for `quiet` seconds."""
        self.wire.patience(quiet)
        try:
            while self.sent < at_most:
                while self.sent - self.acked < window:
                    self.sent += 1
                    body = b"%d:" % self.sent + b"x" * size
                    self.wire.send(publish("disk/1", body, 1, self.packet_id(self.sent)))
                self.take()
        except TimeoutError:
            return self.acked
        raise AssertionError(f"{self.acked} events acknowledged, none withheld")

    def take_all(self):
        self.wire.patience(PATIENCE)
        while self.acked < self.sent:
            self.take()

    def take(self):
        packet = self.wire.read()
        assert packet is not None, "the gateway closed the connection"
        assert packet == (0x40, self.packet_id(self.acked + 1).to_bytes(2, "big")), packet
        self.acked += 1

    @staticmethod
    def packet_id(number):
        return (number - 1) % 65535 + 1


def numbers_in_journal(gateway):
    """The leading numbers of all payloads of this test, in order."""
    done = millrace("journal", "cat", "--data", gateway.data)
    return [int(found) for found in re.findall(r'(?<![\w.])(\d+):x{10}', done.stdout)]


class Quota(unittest.TestCase):
    CONFIG = """\
gateway: {drain: 200ms}
journal: {max_size: 24MiB, segment_size: 4MiB, keep: 0s}
bridges:
  kafka: {servers: "SERVERS", topic: full, value_encoder: raw}
"""

    def test_a_full_journal_withholds_acks_serves_pings_and_goes_on_by_itself(self):
        kafka = harness.Kafka()
        self.addCleanup(kafka.remove)
        kafka.create_topic("full", partitions=1)
        kafka.stop()
        with ExitStack() as stack:
            config = self.CONFIG.replace("SERVERS", kafka.bootstrap)
            gateway = stack.enter_context(Gateway(config))
            device = stack.enter_context(Publisher(gateway))
            withheld_at = device.until_withheld()
            self.assertGreater(withheld_at, 100)
            with Wire(gateway.mqtt_port, "other") as other:
                other.send(b"\xc0\x00")
                self.assertEqual(other.read(), (0xD0, b""), "a PINGREQ is answered")
            folder = gateway.data / "journal"
            used = {f: f.stat().st_size for f in folder.rglob("*") if f.is_file()}
            lanes = sum(size for f, size in used.items() if f.parent != folder)
            self.assertLessEqual(lanes, 24 * MIB, "max_size is a hard bound of the segments")
            self.assertLessEqual(sum(used.values()) - lanes, MIB, "cursors and meta are small")
            self.assertEqual(gateway.http("/healthz")[0], 200)
            kafka.start()
            device.take_all()
            gateway.wait_drained("kafka", 60)
            first = [int(r.value().split(b":")[0]) for r in kafka.records("full")]
            self.assertEqual(list(dict.fromkeys(first)), list(range(1, device.sent + 1)))


class SmallDisk(unittest.TestCase):
    """A tmpfs that a filler file fills up: the disk says ENOSPC, the quota would allow more."""

    def setUp(self):
        if os.geteuid() != 0:
            cannot("a small disk needs root (mount -t tmpfs)")
        self.temp = Temp("disk")
        self.addCleanup(self.temp.remove)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=48m", "millrace-test", self.temp.path],
            capture_output=True, text=True, check=False,
        )
        if done.returncode != 0:
            cannot(f"a small disk cannot be mounted here: {done.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", self.temp.path], check=True)

    def fill(self, leave):
        path = self.temp.path / "filler"
        free = shutil.disk_usage(self.temp.path).free
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free - leave)
        return path

    def test_a_full_disk_withholds_acks_and_goes_on_when_there_is_room(self):
        # A bridge that cannot deliver keeps every segment; else the oldest would give way.
        config = (
            "gateway: {drain: 100ms}\n"
            "journal: {max_size: 40MiB, segment_size: 4MiB}\n"
            "bridges: {kafka: {servers: '127.0.0.1:1', topic: t}}\n"
        )
        with ExitStack() as stack:
            gateway = stack.enter_context(Gateway(config, data=self.temp.path / "data"))
            device = stack.enter_context(Publisher(gateway))
            filler = self.fill(leave=5 * MIB)
            withheld_at = device.until_withheld()
            self.assertGreater(withheld_at, 0)
            self.assertIsNotNone(gateway.log.find("(?i)no space|full|no room"), gateway.log.text())
            filler.unlink()
            device.take_all()
            gateway.stop()
            self.assertEqual(numbers_in_journal(gateway), list(range(1, device.sent + 1)))
            gateway.start()


class Fault(unittest.TestCase):
    """The n-th call of the release program fails, by strace."""

    def strace(self, inject):
        probe = subprocess.run([program("strace"), "-qq", "-o", "/dev/null", "true"],
                               capture_output=True, text=True, check=False)
        if probe.returncode != 0:
            cannot(f"strace cannot trace here: {probe.stderr.strip()}")
        calls = inject.split(":")[0]
        return [program("strace"), "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}",
                "-e", f"inject={inject}"]

    def acked_until_closed(self, gateway, count=400):
        """Publish one by one; the numbers that were acknowledged before the end."""
        acked = []
        try:
            with Wire(gateway.mqtt_port, "d") as device:
                for number in range(1, count + 1):
                    device.send(publish("disk/1", b"%d:" % number + b"x" * 20, 1, number))
                    if device.read() is None:
                        break
                    acked.append(number)
        except (ConnectionError, socket.timeout):
            pass
        return acked

    def test_after_eio_on_fdatasync_no_ack_leaves_and_the_process_ends_with_74(self):
        for when in (8, 20, 57):
            with self.subTest(when=when):
                gateway = Gateway(binary=RELEASE / "millrace",
                                  prefix=self.strace(f"fdatasync:error=EIO:when={when}+"))
                self.addCleanup(gateway.temp.remove)
                gateway.start()
                acked = self.acked_until_closed(gateway)
                self.assertLess(len(acked), 400, "the fault was met")
                gateway.wait_exit(74)
                said = r"journal lane 0: \S+ cannot be \w+: input/output error; check the disk"
                self.assertIsNotNone(gateway.log.find("level=error .*" + said), gateway.log.text())
                errors = re.findall("level=error.*", gateway.log.text())
                self.assertEqual(len(errors), 1, "it is said once")
                gateway.prefix = []
                gateway.start()
                more = self.acked_until_closed(gateway, 10)
                self.assertEqual(len(more), 10)
                gateway.stop()
                found = numbers_in_journal(gateway)
                self.assertEqual(found[: len(acked)], acked, "what was acknowledged is there")
                self.assertEqual(found[-10:], more)
                millrace("journal", "verify", "--data", gateway.data)

    def test_enospc_is_waited_out(self):
        # strace counts per thread: the small segment keeps the writes of the start below 20.
        for calls in ("pwrite64,pwritev,pwritev2", "fdatasync"):
            with self.subTest(calls=calls):
                gateway = Gateway(
                    "journal: {max_size: 40MiB, segment_size: 4MiB}\n",
                    binary=RELEASE / "millrace",
                    prefix=self.strace(f"{calls}:error=ENOSPC:when=20..24"),
                )
                self.addCleanup(gateway.temp.remove)
                with gateway:
                    acked = self.acked_until_closed(gateway, 200)
                    self.assertEqual(len(acked), 200)
                    said = r"level=error .*is full; nothing is acknowledged until there is room"
                    self.assertIsNotNone(gateway.log.find(said), gateway.log.text())
                    gateway.stop()
                    self.assertEqual(numbers_in_journal(gateway), acked)
                    gateway.prefix = []
                    gateway.start()

    def test_a_slow_disk_only_costs_time(self):
        gateway = Gateway(binary=RELEASE / "millrace",
                          prefix=self.strace("fdatasync:delay_enter=30000:when=1+"))
        with gateway:
            self.assertEqual(len(self.acked_until_closed(gateway, 30)), 30)
            until(lambda: gateway.http("/healthz")[0] == 200, "health")


if __name__ == "__main__":
    unittest.main()
