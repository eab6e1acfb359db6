"""How sockets are served: by io_uring or without it, which one is chosen and what is said of it;
and that clients that say nothing cost nothing."""

import contextlib
import pathlib
import re
import subprocess
import time
import unittest

from harness import RELEASE, Gateway, cannot, program
from wire import PUBACK, Wire, connect, publish

BY_RING = r"component=net .*served by epoll, and what is sent leaves by io_uring"
WITHOUT = r"component=net .*served by epoll alone: io_uring: "


def refused(inject):
    """A prefix: the kernel says no."""
    probe = subprocess.run([program("strace"), "-qq", "-o", "/dev/null", "true"],
                           capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        cannot(f"strace cannot trace here: {probe.stderr.strip()}")
    return [program("strace"), "-f", "-qq", "-o", "/dev/null", "-e",
            f"trace={inject.split(':')[0]}", "-e", f"inject={inject}"]


def serves(test, gateway, devices=5, rounds=20):
    """Publishes of several devices at a time are acknowledged, each in order."""
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(gateway.mqtt_port, f"d{i}")) for i in range(devices)]
        for number in range(1, rounds + 1):
            for wire in wires:
                wire.send(publish("loop/1", b"x" * 20, 1, number))
            for wire in wires:
                first, body = wire.read()
                test.assertEqual((first >> 4, int.from_bytes(body[:2], "big")), (PUBACK, number))


def sleeps(pid, name):
    """How often the thread has gone to sleep."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == name:
            status = (task / "status").read_text()
            return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.M)[1])
    raise AssertionError(f"there is no thread {name}")


class Loop(unittest.TestCase):
    def gateway(self, config, inject=None):
        # The release program: below strace the sanitizers' does not end.
        gateway = Gateway(config, binary=RELEASE / "millrace",
                          prefix=refused(inject) if inject else ())
        self.addCleanup(gateway.temp.remove)
        return gateway

    def test_auto_says_which_it_is(self):
        with self.gateway("") as gateway:
            said = gateway.wait_log(f"{BY_RING}|{WITHOUT}")
            print(said[0])
            serves(self, gateway)

    def test_epoll_is_epoll(self):
        with self.gateway("gateway: { loop: epoll }\n") as gateway:
            self.assertIsNone(gateway.log.find("io_uring"))
            serves(self, gateway)

    def test_where_it_is_forbidden_there_is_epoll_and_the_reason(self):
        for error, hint in (("EPERM", "a container forbids it"), ("ENOSYS", "without it"),
                            ("EINVAL", "older than 5.18"), ("ENOMEM", "ulimit -l")):
            with self.subTest(error=error):
                inject = f"io_uring_setup:error={error}"
                with self.gateway("", inject) as gateway:
                    gateway.wait_log(WITHOUT + ".*" + hint)
                    serves(self, gateway, rounds=3)

    def test_who_insists_on_it_is_told_at_the_start(self):
        gateway = self.gateway("gateway: { loop: io_uring }\n", "io_uring_setup:error=EPERM")
        gateway.spawn()
        gateway.wait_log(r"gateway\.loop: io_uring: .*auto")
        self.assertNotEqual(gateway.process.wait(60), 0)
        gateway.process = None
        gateway.__exit__(None)

    def test_a_ring_that_fails_later_costs_nothing_but_a_line(self):
        with self.gateway("", "io_uring_enter:error=EAGAIN:when=3+") as gateway:
            if gateway.wait_log(f"{BY_RING}|{WITHOUT}")[0].find("alone") >= 0:
                self.skipTest("there is no io_uring here")
            serves(self, gateway, rounds=200)
            gateway.wait_log("level=warn .*io_uring has failed")

    def test_clients_that_say_nothing_let_the_shard_sleep(self):
        with self.gateway("gateway: { shards: 1 }\n") as gateway, contextlib.ExitStack() as stack:
            for i in range(20):
                stack.enter_context(Wire(gateway.mqtt_port, f"d{i}"))
            time.sleep(0.5)  # sleep: nothing happens, and that is what is looked at
            before = sleeps(gateway.process.pid, "shard-0")
            time.sleep(2)  # sleep: likewise
            woke = sleeps(gateway.process.pid, "shard-0") - before
            self.assertLess(woke, 20, "a shard with silent clients wakes all the time")
            # Timers are as true as before: a client that is silent for too long is dropped.
            silent = stack.enter_context(Wire(gateway.mqtt_port))
            silent.send(connect("silent", keep_alive=1))
            silent.read()
            began = time.monotonic()
            self.assertEqual(silent.sock.recv(1), b"")
            self.assertGreaterEqual(time.monotonic() - began, 1.4)
            serves(self, gateway, devices=2)


if __name__ == "__main__":
    unittest.main()
