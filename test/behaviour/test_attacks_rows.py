"""The attacks of the list, row by row, and the answer to each, while a healthy pair goes on
(attack.py).

Rows with a file of their own: passwords that are guessed (test_bans.py), rates and maxima
(test_limits.py), ids bound to users and what may be read and written (test_acl.py), TLS
(test_attacks_tls.py, test_tls.py), WebSockets (test_attacks_websocket.py), topics that lead to
Kafka (test_templates.py).
"""

import random
import socket
import struct
import unittest

import attack
from wire import (CONNACK, DISCONNECT, PUBACK, PUBLISH, PUBREC, PUBREL, SUBACK, connect, packet,
                  publish, subscribe, text, varint)

PINGREQ = b"\xc0\x00"


def publish_5(topic, payload, properties, qos=1, packet_id=1):
    body = text(topic) + (struct.pack(">H", packet_id) if qos else b"")
    return packet(PUBLISH, qos << 1, body + varint(len(properties)) + properties + payload)


class Rows(attack.Attacked):
    config = """mqtt:
  connect_timeout: 1s
  packet_timeout: 1s
  receive_maximum: 10
  topic_alias_maximum: 5
  max_subscriptions: 1000
  max_sessions: 200
  max_retained_messages: 500
  max_queued_messages: 100
  max_packet_size: 256KiB
"""

    def reason(self, data, version=5):
        found = self.send_and_end(data, "attacker", version)
        return found[-1][1][0] if found and found[-1][0] >> 4 == DISCONNECT else None

    # ---- connections ----

    def test_first_packet_is_no_connect(self):
        for _ in self.rounds():
            for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"SSH-2.0-x\r\n", b"\x00" * 10,
                         b"\x16\x03\x01\x02\x00\x01", b"\xff" * 10, b"\x30", PINGREQ,
                         publish("a", b"x", 1, 1), subscribe(["#"])):
                self.assertEqual(self.send_and_end(data), [])

    def test_no_connect_and_half_packets(self):
        """A hundred of each: nothing at all, half a CONNECT, and one byte at a time."""
        whole = connect("loris", 5)
        for _ in self.rounds():
            wires = [self.wire() for _ in range(150)]
            for n, wire in enumerate(wires):
                wire.send((b"", whole[:len(whole) // 2], whole[:1])[n % 3])
            for at in range(1, 4):
                for wire in wires[2::3]:
                    wire.send(whole[at:at + 1])
            for wire in wires:
                self.assertEqual(wire.read_until_closed(), [])
                wire.sock.close()

    def test_connect_flood(self):
        for n in self.rounds():
            for turn in range(300):
                with self.wire() as wire:
                    wire.send(connect(f"flood-{n}-{turn}", 4 + turn % 2))
                    if turn % 2:
                        self.assertEqual(wire.read()[1][1], 0)

    def test_reconnect_storm_of_one_client(self):
        for _ in self.rounds():
            for _ in range(150):
                with self.wire() as wire:
                    wire.send(connect("storm", 5, flags=0, properties=b"\x11\x00\x00\x00\x05"))
                    self.assertEqual(wire.read()[1][1], 0)

    def test_half_open_connections(self):
        """The peer is gone without a word (its side is shut, its data unread)."""
        for n in self.rounds():
            wires = [self.wire() for _ in range(50)]
            for number, wire in enumerate(wires):
                wire.send(connect(f"half-{n}-{number}", 5))
                wire.sock.shutdown(socket.SHUT_WR)
            for wire in wires:
                wire.read_until_closed()
                wire.sock.close()

    # ---- what is agreed ----

    def test_packet_over_the_maximum(self):
        for _ in self.rounds():
            self.assertEqual(self.reason(b"\x32\x81\x80\x10"), 0x95)
            self.assertEqual(self.reason(b"\x82\xff\xff\xff\x7f"), 0x95)
            self.assertIsNone(self.reason(b"\x32\xff\xff\xff\x7f", 4))

    def test_receive_maximum_exceeded(self):
        for _ in self.rounds():
            data = b"".join(publish("r/m", b"x", 2, n + 1, 5) for n in range(11))
            self.assertEqual(self.reason(data), 0x93)

    def test_topic_aliases(self):
        for _ in self.rounds():
            self.assertEqual(self.reason(publish_5("a", b"x", b"\x23\x00\x00")), 0x94)
            self.assertEqual(self.reason(publish_5("a", b"x", b"\x23\x00\x06")), 0x94)
            self.assertEqual(self.reason(publish_5("", b"x", b"\x23\x00\x05")), 0x82)

    # ---- topics and filters ----

    def test_bad_topics(self):
        for _ in self.rounds():
            for topic in (b"a/#", b"+", b"a/+/b", b"a\x00", b"\xed\xa0\x80",
                          b"\xf8\x88\x80\x80\x80"):
                self.assertIn(self.reason(publish(topic, b"x", 1, 1, 5)), (0x81, 0x82, 0x90), topic)

    def test_bad_filters(self):
        bad = ("a#", "#/a", "a/#/b", "+a", "a+/b", "", "$share/", "$share/g", "$share//a",
               "$share/g/", "$share/+/a", "$share/#/a", "$share/g+/a")
        for _ in self.rounds():
            for one in bad:
                with self.wire("filters") as wire:
                    wire.send(subscribe([one], 1, 5) + PINGREQ)
                    kind, body = wire.read()
                    self.assertIn(kind >> 4, (SUBACK, DISCONNECT), one)
                    self.assertGreaterEqual(body[-1] if kind >> 4 == SUBACK else body[0], 0x80, one)

    def test_deep_topics_and_filters(self):
        for _ in self.rounds():
            with self.wire("deep") as wire:
                wire.send(subscribe(["/".join("+" * 201), "/".join("+" * 200)], 1, 5))
                self.assertEqual(list(wire.read()[1][-2:]), [0x8F, 1])
                wire.send(publish("/".join("a" * 201), b"x", 1, 2, 5))
                self.assertEqual(wire.read()[1][2], 0x90)

    def test_filters_times_topics(self):
        """Filters that all match one topic in many ways: the match is bounded."""
        for n in self.rounds():
            chooser = random.Random(n)
            with self.wire(f"blow-{n}", 4) as wire, self.wire("blows", 4) as publisher:
                for part in range(9):
                    filters = {"/".join(chooser.choice("+a") for _ in range(18)) + chooser.choice(
                        ("", "/#")) for _ in range(100)}
                    wire.send(subscribe(sorted(filters), part + 1, 4, qos=0))
                    wire.read()
                for _ in range(5):
                    publisher.send(publish("/".join("a" * 18), b"x", 1, 1))
                    self.assertEqual(publisher.read()[0] >> 4, PUBACK)

    # ---- bombs ----

    def test_subscription_bomb(self):
        for _ in self.rounds():
            with self.wire("bomb") as wire:
                codes = b""
                for part in range(15):
                    wire.send(subscribe([f"bomb/{part}/{n}" for n in range(100)], part + 1, 5))
                    codes += wire.read()[1][3:]
                self.assertEqual((codes.count(1), codes.count(0x97)), (1000, 500))

    def test_retained_bomb(self):
        before = self.resident()
        for n in self.rounds():
            with self.wire("retains", 4) as wire:
                for part in range(20):
                    wire.send(b"".join(publish(f"kept/{n}/{part}/{one}", b"x" * 1000, 1, one + 1, 4,
                                               retain=True) for one in range(50)))
                    for _ in range(50):
                        self.assertEqual(wire.read()[0] >> 4, PUBACK)
        self.assertLessEqual(self.gateway.metric("millrace_mqtt_retained_messages"), 500)
        self.assertLess(self.resident() - before, attack.MEMORY_MIB * 1024)

    def test_session_bomb(self):
        codes = set()
        for n in self.rounds():
            for number in range(250):
                with self.wire() as wire:
                    wire.send(connect(f"session-{n}-{number}", 5, flags=0,
                                      properties=b"\x11\x00\x00\x00\x02"))
                    codes.add(wire.read()[1][1])
        self.assertEqual(codes, {0, 0x97})

    def test_user_properties_bomb(self):
        before = self.resident()
        many = (b"\x26" + text("k" * 10) + text("v" * 10)) * 5000
        for _ in self.rounds():
            with self.wire("properties") as wire:
                wire.send(publish_5("p/p", b"x", many))
                self.assertEqual(wire.read()[0] >> 4, PUBACK)
                wire.send(subscribe(["p/p"], 2, 5) + publish_5("p/p", b"x", many, packet_id=3))
                kinds = {wire.read()[0] >> 4 for _ in range(3)}
                self.assertEqual(kinds, {SUBACK, PUBACK, PUBLISH})
            with self.wire() as wire:
                body = text("MQTT") + b"\x05\x06\x00\x3c" + varint(len(many)) + many + text("props")
                wire.send(packet(1, 0, body + b"\x00" + text("w") + text("x")))
                self.assertIn(wire.read()[1][1], (0, 0x95))
        self.assertLess(self.resident() - before, 32768)

    # ---- $SYS ----

    def test_sys_cannot_be_forged_or_met_by_wildcards(self):
        for _ in self.rounds():
            with self.wire("forger") as wire:
                wire.send(subscribe(["#", "+/broker/uptime"], 1, 5))
                wire.read()
                wire.send(publish("$SYS/broker/uptime", b"0", 1, 2, 5))
                kind, body = self.skip_messages(wire)
                self.assertEqual((kind >> 4, body[2]), (PUBACK, 0x87))
                wire.send(PINGREQ)
                self.skip_messages(wire)

    def skip_messages(self, wire):
        """The next packet that is no PUBLISH; none of them may be of a $ topic."""
        while True:
            kind, body = wire.read()
            if kind >> 4 != PUBLISH:
                return kind, body
            self.assertFalse(body[2:].startswith(b"$"), body)

    # ---- QoS 2 ----

    def test_qos_2_replay_and_unknown_release(self):
        for _ in self.rounds():
            with self.wire("replay") as wire, self.wire("witness") as witness:
                witness.send(subscribe(["two/#"], 1, 5, qos=0))
                witness.read()
                for _ in range(5):
                    wire.send(publish("two/x", b"once", 2, 9, 5, dup=True))
                    self.assertEqual(wire.read()[0] >> 4, PUBREC)
                wire.send(packet(PUBREL, 2, b"\x00\x09"))
                self.assertEqual(wire.read()[0] >> 4, 7)
                wire.send(packet(PUBREL, 2, b"\x00\x63"))
                self.assertEqual(wire.read()[1][2], 0x92)
                wire.send(publish("two/end", b"", 1, 1, 5))
                topics = [witness.read()[1][2:9], witness.read()[1][2:9]]
                self.assertEqual(topics, [b"two/x\x00o", b"two/end"])

    def test_acknowledgements_nobody_waits_for(self):
        for _ in self.rounds():
            for kind, flags in ((4, 0), (5, 0), (7, 0)):
                with self.wire("acks") as wire:
                    wire.send(packet(kind, flags, b"\x12\x34") * 1000 + PINGREQ)
                    wire.read()

    # ---- slow consumers ----

    def test_subscribers_that_never_read(self):
        before = self.resident()
        for n in self.rounds():
            deaf = []
            for number in range(5):
                wire = self.wire(f"deaf-{n}-{number}", 4)
                wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                wire.send(subscribe(["loud/#"], 1, 4, qos=number % 2))
                wire.read()
                deaf.append(wire)
            with self.wire("loud", 4) as wire:
                for turn in range(150):
                    wire.send(publish("loud/x", b"y" * 20000, 1, turn % 9 + 1))
                    self.assertEqual(wire.read()[0] >> 4, PUBACK)
            for wire in deaf:
                wire.sock.close()
        self.assertLess(self.resident() - before, attack.MEMORY_MIB * 1024)

    # ---- anything ----

    def test_malformed_anything(self):
        """Valid packets with a byte changed, cut or added: 0x8x, or an answer, never a crash."""
        seed = random.randrange(1 << 32)
        chooser = random.Random(seed)
        properties = (b"\x01\x01\x02\x00\x00\x00\x09\x03" + text("t") + b"\x08" + text("r")
                      + b"\x09" + text("c") + b"\x26" + text("k") + text("v"))
        whole = [publish("m/a", b"x" * 30, 1, 1, 5), subscribe(["m/#"], 2, 5),
                 publish_5("m/b", b"x", properties, 2, 3), packet(PUBREL, 2, b"\x00\x03"),
                 packet(10, 2, b"\x00\x04\x00" + text("m/#")), packet(DISCONNECT, 0, b"\x04\x00"),
                 packet(15, 0, b"\x18\x06\x15" + text("m/s"))]
        for _ in self.rounds():
            for _ in range(120):
                with self.subTest(seed=seed), self.wire("malformed") as wire:
                    data = bytearray(chooser.choice(whole))
                    for _ in range(chooser.randrange(1, 4)):
                        at = chooser.randrange(len(data))
                        data[at:at + chooser.randrange(2)] = bytes(
                            chooser.randrange(256) for _ in range(chooser.randrange(2)))
                        data = data or bytearray(b"\x00")
                    wire.send(bytes(data))
                    wire.sock.shutdown(socket.SHUT_WR)
                    for kind, body in wire.read_until_closed():
                        if kind >> 4 == DISCONNECT:
                            self.assertGreaterEqual(body[0], 0x80)

    def test_connect_with_every_flag(self):
        for _ in self.rounds():
            for flags in range(256):
                for version in (4, 5):
                    body = text("MQTT") + bytes([version, flags]) + b"\x00\x3c"
                    body += (b"\x00" if version == 5 else b"") + text("flags")
                    for kind, said in self.send_and_end(packet(1, 0, body) + b"\xe0\x00"):
                        self.assertEqual(kind >> 4, CONNACK)
                        self.assertTrue(said[1] == 0 or said[1] < 6 or said[1] >= 0x80)

    # ---- the admin server ----

    def test_admin_server_is_not_to_be_misled(self):
        for _ in self.rounds():
            for request in (b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
                            b"GET /api/v1/%2e%2e/status HTTP/1.1\r\nHost: evil.example\r\n\r\n",
                            b"POST /api/v1/clients/kick?client=x HTTP/1.1\r\nHost: evil.example\r\n"
                            b"Origin: http://evil.example\r\nContent-Length: 0\r\n\r\n",
                            b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 200000 + b"\r\n\r\n",
                            b"POST /api/v1/bans/clear HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
                            b"Content-Length: 5\r\n\r\n0\r\n\r\n", b"\x10\x0c\x00\x04MQTT\x04"):
                with socket.create_connection(("127.0.0.1", self.gateway.admin_port), 10) as one:
                    try:
                        one.sendall(request)
                        one.shutdown(socket.SHUT_WR)
                        first = one.recv(65536)
                    except OSError:
                        continue
                    self.assertNotIn(b" 200 ", first.split(b"\r\n", 1)[0], request[:60])
                    self.assertNotIn(b"root:", first)


if __name__ == "__main__":
    unittest.main()
