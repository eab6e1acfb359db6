"""A storm of logins, each of them slow: whoever is in does not notice."""

import statistics
import threading
import time
import unittest

import wire
from harness import PATIENCE, Gateway, Temp, millrace, until
from test_login import connect

CLIENTS = 500
HEALTHY_S = 0.05  # of a healthy pair, p99, beyond what the machine does to it without a storm
CALM = 200  # publishes


class Healthy(threading.Thread):
    """Publishes to itself, QoS 1, and measures until it is told to stop."""

    def __init__(self, port):
        super().__init__()
        self.peer = wire.Wire(port)
        self.peer.send(connect("healthy", "healthy", "s3cret"))
        assert self.peer.read()[1] == b"\x00\x00"
        self.peer.send(wire.subscribe(["healthy"], qos=0))
        assert self.peer.read()[0] >> 4 == wire.SUBACK
        self.times = []
        self.ends = threading.Event()

    def run(self):
        number = 0
        while not self.ends.is_set():
            number = number % 60000 + 1
            began = time.monotonic()
            self.peer.send(wire.publish("healthy", b"x" * 100, 1, number))
            kinds = {self.peer.read()[0] >> 4, self.peer.read()[0] >> 4}
            self.times.append(time.monotonic() - began)
            assert kinds == {wire.PUBACK, wire.PUBLISH}, kinds
            self.ends.wait(0.005)

    def p99(self):
        """Of what was measured since the last time."""
        times, self.times = self.times, []
        return statistics.quantiles(times, n=100)[98]

    def stop(self):
        self.ends.set()
        self.join(PATIENCE)
        self.peer.sock.close()


class Storm(unittest.TestCase):
    def test_500_logins_of_10000_iterations_stall_nobody(self):
        temp = Temp("storm")
        self.addCleanup(temp.remove)
        users = temp.path / "users"
        millrace("passwd", "-c", "-b", "-I", "10000", users, "device", "s3cret", check=True)
        millrace("passwd", "-b", "-I", "10000", users, "healthy", "s3cret", check=True)
        lines = users.read_text(encoding="utf-8").splitlines()
        device = next(one for one in lines if one.startswith("device:")).split(":", 1)[1]
        with users.open("a", encoding="utf-8") as more:  # a name each, so that none is remembered
            more.writelines(f"device-{number}:{device}\n" for number in range(CLIENTS))
        with Gateway(f"auth: {{ password_file: {users} }}\n") as gateway:
            healthy = Healthy(gateway.mqtt_port)
            healthy.start()
            until(lambda: len(healthy.times) >= CALM, "a calm while")
            calm = healthy.p99()
            peers = [wire.Wire(gateway.mqtt_port) for _ in range(CLIENTS)]
            began = time.monotonic()
            for number, peer in enumerate(peers):
                peer.send(connect(f"c{number}", f"device-{number}", "s3cret"))
            answers = [peer.read() for peer in peers]
            took = time.monotonic() - began
            p99 = healthy.p99()
            healthy.stop()
            for peer in peers:
                peer.sock.close()
        print(f"{CLIENTS} logins in {took:.1f} s; p99 of a healthy pair {p99 * 1000:.1f} ms, "
              f"before it {calm * 1000:.1f} ms")
        self.assertEqual({body for _, body in answers}, {b"\x00\x00"})
        self.assertGreater(took, 0.5)  # it was a storm
        self.assertLess(p99, HEALTHY_S + 2 * calm)


if __name__ == "__main__":
    unittest.main()
