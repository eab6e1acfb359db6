"""What no well-behaved client sends: the reason code the specification names, then a close.

3.1.1 knows no DISCONNECT from the server, so there the connection just ends.
"""

import struct
import unittest

import wire
from harness import PATIENCE, Gateway
from wire import Wire, connect, packet, publish, subscribe, text

MALFORMED, PROTOCOL_ERROR, TOPIC_FILTER_INVALID, TOPIC_NAME_INVALID = 0x81, 0x82, 0x8F, 0x90
PACKET_TOO_LARGE, QOS_NOT_SUPPORTED = 0x95, 0x9B


def setUpModule():
    global gateway
    gateway = Gateway("mqtt: {}\n").start()


def tearDownModule():
    with gateway:
        pass


def reason(packets):
    """Reason code of the DISCONNECT at the end, None without one."""
    if packets and packets[-1][0] >> 4 == wire.DISCONNECT:
        return packets[-1][1][0]
    return None


class Malformed(unittest.TestCase):
    # What is sent after a CONNECT, and the reason codes [the specification allows] for version 5.
    CASES = {
        "reserved packet type 0": (b"\x00\x00", {MALFORMED, PROTOCOL_ERROR}),
        "publish with QoS 3": (b"\x36\x05\x00\x01a\x00\x01", {MALFORMED}),
        "publish with DUP and QoS 0": (b"\x38\x04\x00\x01a\x00", {MALFORMED, PROTOCOL_ERROR}),
        "publish with packet id 0": (
            packet(3, 2, text("a") + b"\x00\x00" + b"\x00"), {MALFORMED, PROTOCOL_ERROR}),
        "topic longer than its packet": (
            packet(3, 0, b"\x00\xff" + b"ab"), {MALFORMED}),
        "wildcard in a topic name": (
            packet(3, 0, text("a/+/b") + b"\x00"), {TOPIC_NAME_INVALID, MALFORMED}),
        "zero byte in a topic name": (
            packet(3, 0, text("a\x00b") + b"\x00"), {MALFORMED, TOPIC_NAME_INVALID}),
        "topic name that is no UTF-8": (
            packet(3, 0, text(b"\xff\xfe") + b"\x00"), {MALFORMED, TOPIC_NAME_INVALID}),
        "a second CONNECT": (connect("again", 5), {PROTOCOL_ERROR}),
        "remaining length of five bytes": (b"\x30\xff\xff\xff\xff\x01", {MALFORMED}),
        "subscribe with wrong flags": (
            b"\x80" + subscribe(["a"], version=5)[1:], {MALFORMED}),
        "subscribe without a filter": (
            packet(8, 2, b"\x00\x01\x00"), {PROTOCOL_ERROR, MALFORMED}),
        "pingreq with a body": (b"\xc0\x01\x00", {MALFORMED}),
        "a packet only a server sends": (packet(13, 0, b""), {PROTOCOL_ERROR, MALFORMED}),
        "unknown property": (
            packet(3, 0, text("a") + b"\x02\x7f\x00"), {MALFORMED, PROTOCOL_ERROR}),
        "a property twice": (
            packet(3, 0, text("a") + b"\x04\x01\x00\x01\x00"), {PROTOCOL_ERROR, MALFORMED}),
    }

    def test_version_5_names_the_reason_and_closes(self):
        for name, (data, allowed) in self.CASES.items():
            with self.subTest(name), Wire(gateway.mqtt_port, "bad", 5) as device:
                device.send(data)
                self.assertIn(reason(device.read_until_closed()), allowed)

    def test_version_3_closes_without_a_word(self):
        v3 = {
            "publish with QoS 3": b"\x36\x05\x00\x01a\x00\x01",
            "wildcard in a topic name": publish("a/#", b""),
            "a second CONNECT": connect("again"),
            "remaining length of five bytes": b"\x30\xff\xff\xff\xff\x01",
            "subscribe with wrong flags": b"\x80" + subscribe(["a"])[1:],
        }
        for name, data in v3.items():
            with self.subTest(name), Wire(gateway.mqtt_port, "bad") as device:
                device.send(data)
                self.assertEqual(device.read_until_closed(), [])

    def test_a_first_packet_that_is_no_connect_ends_the_connection(self):
        for data in (publish("a", b"x"), b"GET / HTTP/1.1\r\n\r\n", b"\xc0\x00", b"\x10\x00"):
            with self.subTest(data), Wire(gateway.mqtt_port) as device:
                device.send(data)
                self.assertEqual(device.read_until_closed(), [])

    def test_an_unknown_version_is_refused_with_its_code(self):
        for version, expected in ((3, 1), (6, 0x84)):
            with self.subTest(version=version), Wire(gateway.mqtt_port) as device:
                device.send(connect("old", version))
                packets = device.read_until_closed()
                self.assertLessEqual(len(packets), 1)
                if packets:
                    self.assertEqual(packets[0][0] >> 4, wire.CONNACK)
                    self.assertIn(packets[0][1][1], {expected, 1, 0x84})

    def test_one_bad_device_does_not_disturb_the_others(self):
        with Wire(gateway.mqtt_port, "good") as good:
            for data, _ in self.CASES.values():
                with Wire(gateway.mqtt_port, "evil", 5) as evil:
                    evil.send(data)
                    evil.read_until_closed()
            good.send(publish("good/1", b"x", 1, 7))
            self.assertEqual(good.read(), (0x40, b"\x00\x07"))

    def test_a_filter_that_is_none_is_refused(self):
        for pattern in ("a/#/b", "a#", "+a", "a/b+"):
            with self.subTest(pattern), Wire(gateway.mqtt_port, "filter", 5) as device:
                device.send(subscribe([pattern], version=5))
                kind, body = device.read()
                if kind >> 4 == wire.SUBACK:
                    self.assertEqual(body[-1], TOPIC_FILTER_INVALID)
                else:
                    self.assertIn(body[0], {TOPIC_FILTER_INVALID, MALFORMED, PROTOCOL_ERROR})


class Takeover(unittest.TestCase):
    def test_the_older_connection_is_told_in_version_5_and_just_closed_in_3(self):
        for version, expected in ((5, [(0xE0, b"\x8e")]), (4, [])):
            with self.subTest(version=version), Wire(gateway.mqtt_port, "twin", version) as first:
                with Wire(gateway.mqtt_port, "twin", version) as second:
                    told = [(kind, body[:1]) for kind, body in first.read_until_closed()]
                    self.assertEqual(told, expected)
                    second.send(publish("t/1", b"here", 1, 1, version))
                    self.assertEqual(second.read()[0], 0x40)


class Stream(unittest.TestCase):
    def test_a_packet_may_come_byte_by_byte_and_many_at_once(self):
        whole = connect("slow") + publish("s/1", b"x" * 300, 1, 1)
        with Wire(gateway.mqtt_port) as device:
            for at in range(len(whole)):
                device.send(whole[at : at + 1])
            self.assertEqual(device.read(), (0x20, b"\x00\x00"))
            self.assertEqual(device.read(), (0x40, b"\x00\x01"))
            many = range(2, 502)
            device.send(b"".join(publish("s/1", b"y", 1, number) for number in many))
            got = [device.read() for _ in many]
        self.assertEqual(got, [(0x40, struct.pack(">H", number)) for number in many])

    def test_ping_is_answered(self):
        with Wire(gateway.mqtt_port, "ping") as device:
            device.send(b"\xc0\x00")
            self.assertEqual(device.read(), (0xD0, b""))

    def test_an_empty_client_id_gets_a_name_in_version_5(self):
        with Wire(gateway.mqtt_port) as device:
            device.send(connect("", 5))
            kind, body = device.read()
            self.assertEqual((kind, body[1]), (0x20, 0))
            self.assertIn(b"\x12", body[2:], "Assigned Client Identifier")

    def test_a_packet_larger_than_allowed_is_refused(self):
        with Wire(gateway.mqtt_port, "huge", 5) as device:
            device.patience(PATIENCE)
            device.send(b"\x30\xff\xff\xff\x7f")  # 268,435,455 bytes will follow
            self.assertEqual(reason(device.read_until_closed()), PACKET_TOO_LARGE)


if __name__ == "__main__":
    unittest.main()
