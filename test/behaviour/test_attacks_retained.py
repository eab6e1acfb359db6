"""Filters that match many retained messages: whoever asks for them gets each once, at the pace at
which he reads, and nobody else waits for it (attack.py watches a pair).
"""

import os
import struct
import unittest

import attack
from harness import Gateway
from wire import (PINGREQ, PINGRESP, PUBACK, PUBLISH, SUBACK, UNSUBACK, Wire, connect, packet,
                  publish, subscribe, text)

TOPICS = int(os.environ.get("MR_RETAINED_TOPICS", "60000" if attack.SECONDS else "20000"))
SITES = 100


def topic_of(number):
    return f"many/{number % SITES}/{number // SITES}"


def retain(wire, numbers, payload, qos=0):
    """QoS 0 in one go; what is sent last is acknowledged, so all of it is retained then."""
    wire.send(b"".join(publish(topic_of(n), payload, 0, retain=True) for n in numbers))
    wire.send(publish("last", b"x", 1, 1))
    assert wire.read()[0] >> 4 == PUBACK


def told(got):
    """(topic, payload, RETAIN, packet id) of a PUBLISH of 3.1.1."""
    first, body = got
    length = struct.unpack(">H", body[:2])[0]
    at = 2 + length
    qos = first >> 1 & 3
    packet_id = struct.unpack(">H", body[at:at + 2])[0] if qos else 0
    return body[2:at].decode(), body[at + (2 if qos else 0):], first & 1, packet_id


class Many(attack.Attacked):
    config = "mqtt: { max_retained_messages: 300000 }\n"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with Wire(cls.gateway.mqtt_port, "retains") as wire:
            for begin in range(0, TOPICS, 1000):
                retain(wire, range(begin, begin + 1000), b"old" + b"x" * 60)
        retained = cls.gateway.metric("millrace_mqtt_retained_messages")
        assert retained == TOPICS, f"{retained} are retained: `gateway.memory` is too small"
        cls.resident_kib = cls.gateway.resident_kib()

    def test_many_ask_at_once_and_some_never_read(self):
        for _ in self.rounds():
            wires = [self.wire(f"asks-{n}", 4) for n in range(12)]
            for n, wire in enumerate(wires):
                wire.send(subscribe(["many/#", "many/+/7", "many/7/+"][n % 3:][:1], qos=0))
            for n, wire in enumerate(wires[:6]):
                wanted = [{topic_of(i) for i in range(TOPICS)},
                          {f"many/{site}/7" for site in range(SITES)},
                          {f"many/7/{i}" for i in range(TOPICS // SITES)}][n % 3]
                self.assertEqual(wire.read()[0] >> 4, SUBACK)
                found = [told(wire.read()) for _ in range(len(wanted))]
                self.assertEqual({topic for topic, _, flag, _ in found if flag}, wanted)
            for wire in wires:
                wire.sock.close()

    def test_subscribes_again_and_again_and_never_reads(self):
        before = self.resident()
        for _ in self.rounds():
            with self.wire("again", 4) as wire:
                for n in range(2000):
                    wire.send(subscribe(["many/#"], n + 1, qos=n % 2))
                with self.wire("other", 4) as other:
                    other.send(packet(PINGREQ, 0, b""))
                    self.assertEqual(other.read()[0] >> 4, PINGRESP)
        if attack.IS_STRICT:
            self.assertLess(self.resident() - before, 16384)

    def test_nothing_older_follows_what_is_newer(self):
        changed = {topic_of(n) for n in range(0, TOPICS, TOPICS // 400)}
        with self.wire("changes", 4) as changer, self.wire("sees", 4) as wire:
            wire.send(subscribe(["many/#"], qos=0))
            self.assertEqual(wire.read()[0] >> 4, SUBACK)
            retain(changer, range(0, TOPICS, TOPICS // 400), b"new")
            last = {}
            while len(last) < TOPICS or any(last[topic] != b"new" for topic in changed):
                topic, payload, _, _ = told(wire.read())
                if topic in last:
                    self.assertIn(topic, changed)
                    self.assertEqual(payload, b"new")
                last[topic] = payload
            wire.send(packet(PINGREQ, 0, b""))
            self.assertEqual(wire.read()[0] >> 4, PINGRESP)  # and nothing comes twice
            retain(changer, range(0, TOPICS, TOPICS // 400), b"old")

    def test_unsubscribe_ends_it(self):
        with self.wire("leaves", 4) as wire:
            wire.send(subscribe(["many/#"], qos=1))
            self.assertEqual(wire.read()[0] >> 4, SUBACK)
            wire.send(packet(10, 2, struct.pack(">H", 2) + text("many/#")))
            count = 0
            while wire.read()[0] >> 4 != UNSUBACK:
                count += 1
            self.assertLess(count, TOPICS)
            wire.send(packet(PINGREQ, 0, b""))
            self.assertEqual(wire.read()[0] >> 4, PINGRESP)


class Persistent(unittest.TestCase):
    """QoS 1, and a session that stays: by records, a batch at a time."""

    def setUp(self):
        self.gateway = self.enterContext(Gateway("mqtt: { max_queued_messages: 200 }\n"))
        with Wire(self.gateway.mqtt_port, "retains") as wire:
            wire.send(b"".join(publish(topic_of(n), b"x", 1, n + 1, retain=True)
                               for n in range(3000)))
            for _ in range(3000):
                self.assertEqual(wire.read()[0] >> 4, PUBACK)

    def come(self, present):
        wire = self.enterContext(Wire(self.gateway.mqtt_port))
        wire.send(connect("stays", 4, flags=0))
        self.assertEqual(wire.read()[1], bytes([present, 0]))
        return wire

    def take(self, wire, found, enough):
        while len(found) < enough:
            got = wire.read()
            if got[0] >> 4 == PUBLISH:
                topic, _, flag, packet_id = told(got)
                self.assertTrue(flag)
                found.append(topic)
                wire.send(struct.pack(">BBH", PUBACK << 4, 2, packet_id))

    def quiet(self, wire):
        wire.send(packet(PINGREQ, 0, b""))
        self.assertEqual(wire.read()[0] >> 4, PINGRESP)

    def test_goes_on_when_the_client_is_back(self):
        found = []
        wire = self.come(0)
        wire.send(subscribe(["many/#"]))
        self.take(wire, found, 500)
        wire.sock.close()
        wire = self.come(1)
        while len(set(found)) < 3000:
            self.take(wire, found, len(found) + 1)
        self.assertLess(len(found), 3000 + 250)  # what was in flight came again
        self.quiet(wire)

    def test_begins_anew_after_a_crash(self):
        found = []
        wire = self.come(0)
        wire.send(subscribe(["many/#"]))
        self.take(wire, found, 500)
        self.gateway.kill()
        self.gateway.start()
        wire = self.come(1)
        while len(set(found)) < 3000:
            self.take(wire, found, len(found) + 1)


if __name__ == "__main__":
    unittest.main()
