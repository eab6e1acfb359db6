"""The wall clock is set while the gateway runs (libfaketime): nothing ends early, nothing stays.

The rule is in docs/SESSIONS.md.  The monotonic clock runs on, as the kernel's does.
"""

import struct
import time
import unittest

import wire
from harness import RELEASE, Gateway, Temp, mosquitto_pub, until
from wallclock import WallClock

HOUR, YEAR = 3600, 365 * 24 * 3600


def setUpModule():
    global temp
    temp = Temp("clock")


def tearDownModule():
    temp.remove()


class Clock:
    """A gateway whose wall clock can be set."""

    def __init__(self, config="", sets=()):
        self.clock = WallClock(temp.path / "offset")
        self.gateway = Gateway(config, sets=list(sets), binary=RELEASE / "millrace",
                               prefix=self.clock.prefix)

    def set(self, step):
        """Set the clock by `step` seconds; returns when the gateway has seen it."""
        before = self.seen()
        self.clock.set(self.clock.offset + step)
        mosquitto_pub(self.gateway.mqtt_port, "-t", "wake", "-m", "x")
        until(lambda: self.seen() > before, "that it notices")

    def seen(self):
        return self.gateway.log.text().count("the clock was set by")


def connect(name, expiry, clean=False, will_delay=None):
    props = b"\x11" + struct.pack(">I", expiry)
    flags, tail = (0x02 if clean else 0), wire.text(name)
    if will_delay is not None:
        flags |= 0x04 | 1 << 3
        delay = b"\x18" + struct.pack(">I", will_delay)
        tail += wire.varint(len(delay)) + delay + wire.text(f"will/{name}") + wire.text("gone")
    head = wire.text("MQTT") + bytes([5, flags]) + struct.pack(">H", 0)
    return wire.packet(wire.CONNECT, 0, head + wire.varint(len(props)) + props + tail)


def publish(topic, payload, expiry, retain=False):
    props = b"\x02" + struct.pack(">I", expiry)
    body = wire.text(topic) + b"\x00\x01" + wire.varint(len(props)) + props + payload
    return wire.packet(wire.PUBLISH, 2 | retain, body)


def delivered(body):
    """(packet id, payload, what is left of the expiry) of a PUBLISH of QoS 1."""
    at = 2 + struct.unpack(">H", body[:2])[0] + 2
    props, payload = body[at + 1:at + 1 + body[at]], body[at + 1 + body[at]:]
    left = struct.unpack(">I", props[1:5])[0] if props[:1] == b"\x02" else None
    return body[at - 2:at], payload, left


class Steps(unittest.TestCase):
    def leave(self, clock, name, expiry, will_delay=None):
        """A session that waits; its connection ends without DISCONNECT."""
        with wire.Wire(clock.gateway.mqtt_port) as one:
            one.send(connect(name, expiry, True, will_delay) + wire.subscribe([f"to/{name}"],
                                                                              version=5))
            self.assertEqual(one.read()[1][1], 0)
            self.assertEqual(one.read()[0] >> 4, wire.SUBACK)

    def send(self, clock, topic, payload, expiry):
        with wire.Wire(clock.gateway.mqtt_port) as one:
            one.send(connect("sender", 0, True) + publish(topic, payload, expiry))
            one.read()
            self.assertEqual(one.read()[0] >> 4, wire.PUBACK)

    def fetch(self, clock, name, at_least=1):
        """(session present, [(payload, left)]) of who comes back, and takes what there is."""
        came = []
        with wire.Wire(clock.gateway.mqtt_port) as one:
            one.send(connect(name, 600))
            _, connack = one.read()
            while len(came) < at_least:
                self.take(one, one.read(), came)
            one.send(wire.packet(wire.PINGREQ, 0, b""))
            while (got := one.read())[0] >> 4 != wire.PINGRESP:
                self.take(one, got, came)
        return connack[0], came

    def take(self, one, got, came):
        self.assertEqual(got[0] >> 4, wire.PUBLISH)
        packet_id, *rest = delivered(got[1])
        came.append(tuple(rest))
        one.send(wire.packet(wire.PUBACK, 0, packet_id))

    def assert_left(self, came, payload, expiry):
        ((what, left),) = came
        self.assertEqual(what, payload)
        self.assertTrue(expiry - 60 < left <= expiry, left)

    def test_a_step_ends_nothing_early_and_keeps_nothing(self):
        clock = Clock()
        with clock.gateway as gateway, wire.Wire(gateway.mqtt_port, "watch", version=5) as watch:
            watch.send(wire.subscribe(["will/#"], version=5))
            watch.read()
            for number, step in enumerate((HOUR, -HOUR, YEAR, -YEAR, -HOUR, HOUR)):
                with self.subTest(step=step):
                    long, short = f"long-{number}", f"short-{number}"
                    self.leave(clock, long, 600)
                    self.send(clock, f"to/{long}", b"stays", 300)
                    self.send(clock, f"to/{long}", b"goes", 1)
                    # The end of the session is earlier than the delay, and behind that of "goes".
                    self.leave(clock, short, 1, will_delay=600)
                    clock.set(step)
                    self.assertIn(f"will/{short}".encode(), watch.read()[1])
                    self.assertEqual(self.fetch(clock, short, 0)[0], 0, "it was to end")
                    present, came = self.fetch(clock, long)
                    self.assertEqual(present, 1, "it was to stay")
                    self.assert_left(came, b"stays", 300)
                    self.send(clock, f"to/{long}", b"after", 300)
                    self.assert_left(self.fetch(clock, long)[1], b"after", 300)

    def test_a_restart_remembers_the_steps(self):
        """As where there is no clock of its own, and the network sets it by years."""
        clock = Clock()
        with clock.gateway as gateway:
            for number, step in enumerate((YEAR, -YEAR)):
                with self.subTest(step=step):
                    long = f"long-{number}"
                    self.leave(clock, long, 600)
                    self.send(clock, f"to/{long}", b"stays", 300)
                    clock.set(step)
                    gateway.restart()
                    present, came = self.fetch(clock, long)
                    self.assertEqual(present, 1)
                    self.assert_left(came, b"stays", 300)

    def retained(self, clock, name):
        """(payload, left) of the retained message of `state`, None: there is none."""
        with wire.Wire(clock.gateway.mqtt_port) as one:
            one.send(connect(name, 0, True) + wire.subscribe(["state"], version=5))
            one.read()
            self.assertEqual(one.read()[0] >> 4, wire.SUBACK)
            one.send(wire.packet(wire.PINGREQ, 0, b""))
            got = one.read()
            return delivered(got[1])[1:] if got[0] >> 4 == wire.PUBLISH else None

    def retain(self, clock, payload, expiry):
        with wire.Wire(clock.gateway.mqtt_port) as one:
            one.send(connect("sender", 0, True) + publish("state", payload, expiry, retain=True))
            one.read()
            self.assertEqual(one.read()[0] >> 4, wire.PUBACK)

    def retain_will(self, clock, payload, expiry):
        props = b"\x02" + struct.pack(">I", expiry)
        body = (wire.text("MQTT") + bytes([5, 0x02 | 0x04 | 1 << 3 | 0x20]) + b"\x00\x00\x00" +
                wire.text("dying") + wire.varint(len(props)) + props + wire.text("state") +
                struct.pack(">H", len(payload)) + payload)
        with wire.Wire(clock.gateway.mqtt_port) as one:
            one.send(wire.packet(wire.CONNECT, 0, body))
            self.assertEqual(one.read()[1][1], 0)

    def test_a_retained_message_does_not_have_the_age_of_the_former_one(self):
        """Of several shards: its time says which one of two is the later one, too."""
        clock = Clock(sets=["gateway.shards=3"])
        with clock.gateway as gateway, wire.Wire(gateway.mqtt_port, "watch", version=5) as watch:
            watch.send(wire.subscribe(["state"], version=5))
            watch.read()
            for how in (self.retain, self.retain_will):
                how(clock, b"old", 2)
                watch.read()
                until(lambda: self.retained(clock, "reader") is None, "that it expires")
                clock.set(-HOUR)
                begin = time.monotonic()
                how(clock, b"new", 300)
                payload, left = delivered(watch.read()[1])[1:]
                self.assertEqual(payload, b"new")
                self.assertTrue(300 - (time.monotonic() - begin) <= left <= 301, left)
                for name in ("a", "b", "c", "d"):
                    until(lambda name=name: self.retained(clock, name), "that it is retained")
                    payload, left = self.retained(clock, name)
                    self.assertTrue(299 - (time.monotonic() - begin) <= left <= 301, left)


if __name__ == "__main__":
    unittest.main()
