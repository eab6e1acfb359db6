"""How sockets are served: by io_uring or without it, which one is chosen and what is said of it."""

import contextlib
import subprocess
import unittest

from harness import RELEASE, Gateway, cannot, program
from wire import PUBACK, Wire, publish

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


if __name__ == "__main__":
    unittest.main()
