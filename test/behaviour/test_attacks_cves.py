"""What broke other brokers, CVE by CVE, while a healthy pair goes on (attack.py).

Not here: CVE-2017-9868 (test_hardened.py); CVE-2026-25627 (test_attacks_websocket.py); those of
access rules, CVE-2017-7650, 2018-20145, 2021-34434, 2026-6564, Moquette #689 and mochi #503
(test_acl.py); CVE-2024-10525, a fault of a client library, and CVE-2024-3935, one of MQTT bridges
between brokers, which the gateway does not have.
"""

import json
import struct
import threading
import unittest

import attack
from harness import Gateway, millrace
from wire import (CONNACK, CONNECT, DISCONNECT, PUBACK, PUBLISH, PUBREC, PUBREL, SUBACK,
                  UNSUBSCRIBE, Wire, connect, packet, publish, subscribe, text, varint)

PUBCOMP = 7

LEAK_KIB = 4096  # 1,500 attempts may leave no more than this behind


class Cves(attack.Attacked):
    config = "mqtt: { max_session_expiry: 1h }\n"

    def reason(self, data, version=5):
        """Of the DISCONNECT that `data` is answered with by an open connection; None: without."""
        found = self.send_and_end(data, "attacker", version)
        return found[-1][1][0] if found and found[-1][0] >> 4 == DISCONNECT else None

    def test_cve_2017_7651_and_2023_0809_claims_are_not_allocated(self):
        """Headers that claim a large packet and bring nothing, CONNECT and others."""
        before = self.resident()
        for _ in self.rounds():
            wires = [self.wire() for _ in range(200)]
            for n, wire in enumerate(wires):
                wire.send(b"\x10\xff\xff\x3f\x00\x04MQTT" if n % 2 else b"\x30\xff\xff\x3f")
            self.assertLess(self.resident() - before, 16384)
            for wire in wires:
                wire.sock.close()

    def test_cve_2017_7653_bad_utf_8_hurts_nobody_else(self):
        for _ in self.rounds():
            for topic in (b"\xff\xfe", b"a/\xc0\xaf", b"a/\xed\xa0\x80", b"\x00", b"a\x00b"):
                self.assertIn(self.reason(publish(topic, b"x", 1, 1, 5)), (0x81, 0x82, 0x90))
                self.assertIsNone(self.reason(publish(topic, b"x", 1, 1), 4))

    def test_cve_2017_7654_and_2023_3592_refused_connects_leave_nothing_behind(self):
        """Wills with bad properties, and valid ones of which nothing comes."""
        will = varint(5) + b"\x18\x00\x00\x00\x00" + text("w/t") + text("x" * 2000)
        for _ in self.rounds():
            for properties in (b"\x0b\x01", b"\x01\x07", b"\x26\x00\x01a", b"\xff"):
                body = text("MQTT") + b"\x05\x06\x00\x3c\x00" + text("leak")
                body += varint(len(properties)) + properties + text("w/t") + text("x" * 2000)
                self.one_refused(packet(CONNECT, 0, body))
            body = text("MQTT") + b"\x05\x46\x00\x3c\x00" + text("leak") + will  # user missing
            self.one_refused(packet(CONNECT, 0, body))
        before = self.resident()
        for _ in range(1500 if attack.IS_STRICT else 50):
            self.one_refused(packet(CONNECT, 0, body))
        self.assertLess(self.resident() - before, LEAK_KIB)

    def one_refused(self, data):
        for kind, body in self.send_and_end(data):
            self.assertEqual(kind >> 4, CONNACK)
            self.assertGreaterEqual(body[1], 0x80)

    def test_cve_2017_7655_packets_without_a_body(self):
        for _ in self.rounds():
            for kind in range(16):
                for version in (4, 5):
                    with self.wire("empty", version) as wire:
                        wire.send(packet(kind, 2 if kind in (6, 8, 10) else 0, b"") + b"\xc0\x00")
                        wire.read()

    def test_cve_2018_12543_topics_that_begin_with_a_dollar(self):
        for _ in self.rounds():
            with self.wire("dollar") as wire:
                for n, topic in enumerate(("$", "$SYS", "$SYS/", "$SYS/broker/x", "$x", "$/",
                                           "$share", "$share/g/t", "$SYS/a/b/c/d/e")):
                    wire.send(publish(topic, b"x", 1, n + 1, 5))
                    kind, body = wire.read()
                    self.assertEqual(kind >> 4, PUBACK)
                    if topic.startswith("$SYS"):
                        self.assertEqual(body[2], 0x87)

    def test_cve_2019_11778_will_delay_and_session_expiry(self):
        """The will outlives the session, the session the will, and somebody comes back."""
        for n in self.rounds():
            for expiry, delay in ((0, 1), (1, 0), (1, 2), (2, 1), (0, 0xffffffff)):
                client = f"expires-{n}-{expiry}"
                properties = b"\x11" + struct.pack(">I", expiry)
                body = text("MQTT") + b"\x05\x06\x00\x3c" + varint(5) + properties + text(client)
                body += varint(5) + b"\x18" + struct.pack(">I", delay) + text("w/t") + text("gone")
                for _ in range(3):
                    with self.wire() as wire:
                        wire.send(packet(CONNECT, 0, body))
                        self.assertEqual(wire.read()[1][1], 0)

    def test_cve_2019_11779_a_topic_of_65400_slashes(self):
        slashes = "/" * 65400
        for _ in self.rounds():
            with self.wire("slashes") as wire:
                wire.send(subscribe([slashes, "+/" * 32000 + "#"], 1, 5))
                kind, body = wire.read()
                self.assertEqual((kind >> 4, list(body[-2:])), (SUBACK, [0x8F, 0x8F]))
                wire.send(publish(slashes, b"x", 1, 2, 5))
                self.assertEqual(wire.read()[1][2], 0x90)
                wire.send(packet(UNSUBSCRIBE, 2, b"\x00\x03\x00" + text(slashes)))
                wire.read()

    def test_cve_2021_28166_a_client_sends_what_servers_send(self):
        connack = packet(CONNACK, 0, b"\x00\x00\x00")
        for _ in self.rounds():
            for data in (connack, packet(SUBACK, 0, b"\x00\x01\x00\x00"),
                         packet(11, 0, b"\x00\x01\x00\x00"), packet(13, 0, b"")):
                self.assertEqual(self.reason(data), 0x82)
                self.assertIsNone(self.reason(data, 4))

    def test_cve_2021_34432_an_empty_topic(self):
        for _ in self.rounds():
            self.assertIn(self.reason(publish("", b"x", 1, 1, 5)), (0x82, 0x94, 0x90))
            self.assertIsNone(self.reason(publish("", b"x", 1, 1), 4))

    def test_cve_2023_28366_qos_2_ids_that_are_never_released(self):
        """The same ids again and again are one message each, and cost nothing more."""
        before = self.resident()
        for _ in self.rounds():
            with self.wire("repeats") as wire:
                burst = b"".join(publish("r/p", b"y" * 500, 2, n + 1, 5) for n in range(20))
                for _ in range(30):
                    wire.send(burst)
                    for _ in range(20):
                        self.assertEqual(wire.read()[0] >> 4, PUBREC)
        self.assertLess(self.resident() - before, 16384)

    def test_cve_2024_8376_sequences_around_the_end_of_a_connection(self):
        unsubscribe = packet(UNSUBSCRIBE, 2, b"\x00\x02\x00" + text("s/#"))
        parts = {"c": connect("sequence", 5), "d": packet(DISCONNECT, 0, b""),
                 "s": subscribe(["s/#"], 1, 5), "u": unsubscribe,
                 "p": publish("s/x", b"x", 1, 3, 5), "q": publish("s/x", b"x", 2, 4, 5)}
        for _ in self.rounds():
            for order in ("cds", "csdu", "csupd", "ccsu", "cspduq", "csqdp", "cdds", "scd",
                          "cuuss"):
                with self.wire() as wire:
                    try:
                        wire.send(b"".join(parts[one] for one in order) + parts["d"])
                    except OSError:
                        pass
                    wire.read_until_closed()

    def test_cve_2026_21888_and_2019_19307_lengths_of_five_bytes_and_the_largest(self):
        for _ in self.rounds():
            for kind in range(1, 16):
                for length in (b"\xff\xff\xff\xff\x01", b"\x80\x80\x80\x80\x01",
                               b"\xff\xff\xff\x7f"):
                    flags = 2 if kind in (6, 8, 10) else 0
                    reason = self.reason(bytes([kind << 4 | flags]) + length)
                    self.assertIn(reason, (0x81, 0x82, 0x95))
                    self.assertEqual(self.send_and_end(bytes([kind << 4 | flags]) + length), [])

    def test_cve_2026_22040_and_2025_59946_takeovers_while_subscribing(self):
        def fight(number, persistent):
            for turn in range(15):
                properties = b"\x11\x00\x00\x00\x3c" if persistent else b""
                with self.wire() as wire:
                    try:
                        wire.send(connect("contended", 5, flags=turn % 2 * 2,
                                          properties=properties))
                        wire.send(subscribe([f"f/{number}", "f/+", "f/#"], 1, 5))
                        wire.send(publish("f/1", b"x" * 100, turn % 3, 2, 5))
                        wire.read()
                    except OSError:
                        pass  # taken over

        for _ in self.rounds():
            fighters = [threading.Thread(target=fight, args=(n, n % 2)) for n in range(6)]
            for one in fighters:
                one.start()
            for one in fighters:
                one.join()
        with self.wire("contended") as wire:
            wire.send(b"\xc0\x00")
            self.assertIsNotNone(wire.read())

    def test_cve_2024_48077_a_client_that_never_reads_its_acknowledgements(self):
        before = self.resident()
        for _ in self.rounds():
            with self.wire("deaf", 4) as wire:
                wire.patience(2)
                burst = b"".join(publish("d/f", b"", 1, n % 65535 + 1) for n in range(2000))
                try:
                    for _ in range(50):
                        wire.send(burst)
                except OSError:
                    pass  # it is not read any more, or it was closed
        self.assertLess(self.resident() - before, attack.MEMORY_MIB * 1024)

    def test_cve_2026_42209_retained_messages_that_expire_at_once(self):
        for n in self.rounds():
            with self.wire(f"expiring-{n}") as wire:
                for seconds in (0, 1, 0xffffffff):
                    body = text(f"ret/{seconds}") + b"\x00\x01\x05\x02" + struct.pack(">I", seconds)
                    wire.send(packet(PUBLISH, 3, body + b"x"))
                    self.assertEqual(wire.read()[0] >> 4, PUBACK)
                wire.send(subscribe(["ret/#"], 2, 5))
                while wire.read()[0] >> 4 != SUBACK:
                    pass
                wire.send(packet(PUBLISH, 3, text("ret/4294967295") + b"\x00\x02\x00"))
                while wire.read()[0] >> 4 != PUBACK:
                    pass

    def test_mochi_2024_50948_a_subscriber_gone_in_the_midst_of_its_messages(self):
        for n in self.rounds():
            for turn in range(10):
                with self.wire(f"midst-{n}-{turn}") as wire:
                    wire.send(subscribe(["m/#"], 1, 5) + publish("m/x", b"z" * 20000, 1, 2, 5) * 5)

    def test_sol_17_the_newer_connection_has_the_id(self):
        for _ in self.rounds():
            with self.wire("owned") as older, self.wire("owned") as newer:
                self.assertEqual(older.read()[1][0], 0x8E)
                self.assertIsNone(older.read())
                newer.send(b"\xc0\x00")
                self.assertEqual(newer.read()[0] >> 4, 13)


class Herd(attack.Attacked):
    config = "mqtt: { max_keepalive: 3s }\n"

    def test_cve_2020_13849_slowite(self):
        """A herd that chooses the longest keep alive is told a shorter one, and held to it."""
        for n in self.rounds():
            wires = [self.wire() for _ in range(100)]
            for number, wire in enumerate(wires):
                wire.send(connect(f"herd-{n}-{number}", 5, keep_alive=65535))
                self.assertIn(b"\x13\x00\x03", wire.read()[1])  # Server Keep Alive: 3 s
            for wire in wires:
                last = wire.read_until_closed()[-1]
                self.assertEqual((last[0] >> 4, last[1][0]), (DISCONNECT, 0x8D))
                wire.sock.close()


class Exhausted(unittest.TestCase):
    def test_cve_2017_7652_a_reload_without_descriptors_keeps_the_configuration(self):
        few = ("sh", "-c", 'ulimit -n 180; exec "$0" "$@"')  # 128 of them are kept back
        with Gateway("mqtt: { max_subscriptions: 1 }\n", prefix=few) as gateway:
            held = []
            with self.assertRaises((AssertionError, OSError, TimeoutError)):
                for n in range(300):
                    held.append(Wire(gateway.mqtt_port))
                    held[-1].patience(1)
                    held[-1].send(connect(f"fd-{n}", 5))
                    self.assertIsNotNone(held[-1].read())
            gateway.process.send_signal(1)
            gateway.wait_log("reload: ")
            held[0].send(subscribe(["a", "b"], 1, 5))
            self.assertEqual(list(held[0].read()[1][-2:]), [1, 0x97])
            held[0].send(publish("a", b"x", 1, 2, 5))
            kinds = {held[0].read()[0] >> 4, held[0].read()[0] >> 4}
            self.assertEqual(kinds, {PUBLISH, PUBACK}, "there are descriptors for the journal")
            for wire in held:
                wire.sock.close()


class Crashed(unittest.TestCase):
    def test_cve_2026_8741_qos_2_sent_again_after_a_crash_is_there_once(self):
        persistent = {"properties": b"\x11\x00\x00\x00\x3c", "flags": 0}
        with Gateway("") as gateway:
            with Wire(gateway.mqtt_port) as wire:
                wire.send(connect("twice", 5, **persistent))
                wire.read()
                wire.send(publish("q/2", b"once", 2, 7, 5))
                self.assertEqual(wire.read()[0] >> 4, PUBREC)
                gateway.kill()
            gateway.start()
            with Wire(gateway.mqtt_port) as wire:
                wire.send(connect("twice", 5, **persistent))
                self.assertEqual(wire.read()[1][0], 1)  # session present
                wire.send(publish("q/2", b"once", 2, 7, 5, dup=True))
                self.assertEqual(wire.read()[0] >> 4, PUBREC)
                wire.send(packet(PUBREL, 2, struct.pack(">H", 7)))
                self.assertEqual(wire.read()[0] >> 4, PUBCOMP)
                wire.send(publish("q/end", b"last", 1, 8, 5))
                self.assertEqual(wire.read()[0] >> 4, PUBACK)
            said = millrace("tap", "--data", gateway.data, "--from-start", "--json", "-n", "2",
                            "q/#")
            topics = [json.loads(line)["topic"] for line in said.stdout.splitlines()]
            self.assertEqual(topics, ["q/2", "q/end"])


if __name__ == "__main__":
    unittest.main()
