"""CONNECT: who may come in, and with what (section 3.1 of both versions)."""

import time
import unittest

import packets as mq
from kit import Suite, fresh, shows
from kit import start as setUpModule
from kit import stop as tearDownModule
from wire import packet, text


class First(Suite):
    @shows(v5="3.1.0-1", v3="3.1.0-1")
    def test_3_1_0_1_the_first_packet_is_connect(self, version):
        for first in (mq.publish("t", b"x", version), mq.subscribe([("t", 0)], version),
                      mq.packet(mq.PINGREQ, 0, b""), mq.disconnect(version),
                      mq.ack(mq.PUBREL, 1), mq.packet(mq.CONNACK, 0, b"\0\0"), b"\xf0\0", b"\0\0"):
            peer = self.stranger(version)
            peer.send(first)
            peer.closed()

    @shows(v5="3.1.0-2 4.13.1-1 4.13.2-1", v3="3.1.0-2 4.8.0-1")
    def test_3_1_0_2_a_second_connect_ends_the_connection(self, version):
        peer = self.peer(version)
        peer.send(mq.connect(peer.client, version))
        peer.refused(0x82)

    @shows(v5="3.1.2-1", v3="3.1.2-1")
    def test_3_1_2_1_another_protocol_name_is_refused(self, version):
        for name in ("mqtt", "MQTt", "MQT", "hj", "HTTP", ""):
            self.refused_connect(version, None, 0x84, 1, name=name)

    @shows(v5="3.1.2-2")
    def test_3_1_2_2_an_unknown_version_is_refused(self, version):
        for level in (6, 7, 0x7F):
            self.refused_connect(version, 0x84, level=level)

    @shows(v3="3.1.2-2")
    def test_v3_3_1_2_2_an_unknown_level_gets_return_code_1(self, version):
        for level in (0, 1, 2, 3):
            self.refused_connect(version, 1, level=level)

    @shows(v5="3.1.2-3 3.1.4-1", v3="3.1.2-3 3.1.4-1")
    def test_3_1_2_3_the_reserved_flag_is_zero(self, version):
        self.refused_connect(version, *([0x81, 0x82] if version == 5 else [None]), flags=1)

    @shows(v5="2.1.3-1", v3="2.2.2-1 2.2.2-2")
    def test_2_1_3_1_reserved_flags_of_connect(self, version):
        for flags in (1, 2, 4, 8):
            raw = bytes([0x10 | flags]) + mq.connect(fresh(), version)[1:]
            self.refused_connect(version, *([0x81, None] if version == 5 else [None]), raw=raw)

    @shows(v5="3.1.4-1 3.1.3-3 3.1.3-1", v3="3.1.4-1 3.1.3-3 3.1.3-1")
    def test_3_1_4_1_a_connect_cut_short_is_refused(self, version):
        whole = mq.connect("abc", version, will={"topic": "w", "payload": b"p"}, username="u",
                           password="p")
        for length in range(len(whole) - 2):
            body = whole[2 : 2 + length]
            peer = self.stranger(version)
            peer.send(packet(mq.CONNECT, 0, body))
            answer = peer.packet()
            if version == 5 and length > 6:
                self.assertIn(answer.code, (0x81, 0x82))
                answer = peer.packet()
            self.assertIsNone(answer, length)

    @shows(v5="3.1.4-1 3.1.2-16 3.1.2-18", v3="3.1.4-1 3.1.2-18 3.1.2-20")
    def test_3_1_2_16_bytes_that_no_flag_announced_are_refused(self, version):
        body = mq.connect("abc", version)[2:]
        for more in (b"\0", text("user"), text("user") + text("password")):
            self.refused_connect(version, *([0x81] if version == 5 else [None]),
                                 raw=packet(mq.CONNECT, 0, body + more))

    @shows(v5="3.1.2-17 3.1.2-19", v3="3.1.2-19 3.1.2-21")
    def test_3_1_2_17_announced_names_and_passwords_are_there(self, version):
        whole = bytearray(mq.connect("abc", version))
        for flag in (0x80, 0xC0):
            whole[9] = 2 | flag
            self.refused_connect(version, *([0x81] if version == 5 else [None]), raw=bytes(whole))
        self.peer(version, username="u", password="p")

    @shows(v3="3.1.2-22")
    def test_v3_3_1_2_22_no_password_without_a_user_name(self, version):
        self.refused_connect(version, None, password="p")

    @shows(v5="3.1.2-19 3.1.2-16")
    def test_3_1_2_19_a_password_alone_is_allowed(self, version):
        self.peer(version, password="p")

    @shows(v5="3.1.4-6", v3="3.1.4-5")
    def test_3_1_4_6_what_follows_a_refused_connect_is_not_processed(self, version):
        topic = fresh("t")
        watch = self.peer(version)
        watch.subscribe(topic)
        for client in (b"\xff", b"a\0b"):
            peer = self.stranger(version)
            peer.send(mq.connect(client, version) + mq.publish(topic, b"no", version))
            while peer.packet() is not None:
                pass
        self.assertEqual(watch.until(self.peer(version)), [])

    @shows(v5="3.1.4-5 3.2.0-1 3.2.0-2", v3="3.1.4-4 3.2.0-1")
    def test_3_1_4_5_connack_comes_first_and_once(self, version):
        peer = self.stranger(version)
        peer.send(mq.connect(fresh(), version) + mq.subscribe([("t", 0)], version)
                  + mq.packet(mq.PINGREQ, 0, b""))
        peer.expect(mq.CONNACK, code=0)
        peer.expect(mq.SUBACK)
        peer.expect(mq.PINGRESP)
        peer.alive()

    @shows(v5="3.1.2-22", v3="3.1.2-24")
    def test_3_1_2_22_silence_of_one_and_a_half_keep_alives_ends_it(self, version):
        began = time.monotonic()
        peer = self.peer(version, keep_alive=1)
        peer.refused(0x8D)
        self.assertGreater(time.monotonic() - began, 1.4)

    @shows(v5="3.2.2-22 3.12.4-1", v3="3.12.4-1")
    def test_3_2_2_22_the_keep_alive_that_the_client_asked_for_is_used(self, version):
        peer = self.peer(version, keep_alive=65535)
        self.assertNotIn("server_keep_alive", peer.connack.props)
        peer.alive()


class ClientId(Suite):
    @shows(v5="3.1.3-4 1.5.4-1 1.5.4-2", v3="3.1.3-4 1.5.3-1 1.5.3-2")
    def test_3_1_3_4_the_client_id_is_utf_8(self, version):
        codes = [0x81, 0x85] if version == 5 else [None]
        for client in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"a\0b",
                       b"\xe2\x82"):
            self.refused_connect(version, *codes, client=client)

    @shows(v5="3.1.3-5", v3="3.1.3-5")
    def test_3_1_3_5_the_plain_client_ids_are_allowed(self, version):
        for client in ("0123456789abcdefghijklm", "nopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVW", "XYZ",
                       "a"):
            self.peer(version, client)

    @shows(v5="1.5.4-3 3.1.3-2", v3="1.5.3-3 3.1.3-2")
    def test_1_5_4_3_a_byte_order_mark_is_a_character_of_the_client_id(self, version):
        plain = self.peer(version, "mark")
        marked = self.peer(version, "\ufeffmark")
        plain.alive()
        marked.alive()

    @shows(v5="3.1.3-2 3.1.3-5", v3="3.1.3-2")
    def test_3_1_3_2_long_client_ids_tell_sessions_apart(self, version):
        one = self.peer(version, "i" * 65534 + "1")
        two = self.peer(version, "i" * 65534 + "2")
        one.alive()
        two.alive()

    @shows(v5="3.1.3-6 3.1.3-7 3.2.2-16")
    def test_3_1_3_6_a_client_without_id_is_told_its_own(self, version):
        first, second = self.peer(version, ""), self.peer(version, "", clean=False)
        names = [peer.connack.props["assigned_client_id"] for peer in (first, second)]
        self.assertNotEqual(*names)
        third = self.peer(version, names[0])
        first.refused(0x8E)
        third.alive()

    @shows(v3="3.1.3-6 3.1.3-7")
    def test_v3_3_1_3_6_clients_without_id_are_not_taken_for_one(self, version):
        first, second = self.peer(version, ""), self.peer(version, "")
        first.alive()
        second.alive()

    @shows(v3="3.1.3-8 3.1.3-9 3.2.2-4 3.2.2-5")
    def test_v3_3_1_3_8_no_id_and_a_session_that_stays_is_refused(self, version):
        self.refused_connect(version, 2, client="", clean=False)

    @shows(v5="3.1.3-8 3.2.2-7 3.2.2-8 3.2.2-6")
    def test_3_1_3_8_after_a_refusal_the_connection_ends(self, version):
        self.refused_connect(version, 0x81, 0x85, client=b"\xff")

    @shows(v5="3.1.4-3 3.14.4-2", v3="3.1.4-2")
    def test_3_1_4_3_an_older_connection_of_the_same_client_ends(self, version):
        first = self.peer(version)
        second = self.peer(version, first.client)
        first.refused(0x8E)
        second.alive()

    @shows(v5="3.1.3-12 1.5.4-1", v3="3.1.3-11 1.5.3-1")
    def test_3_1_3_12_the_user_name_is_utf_8(self, version):
        for name in (b"\xff", b"a\0b", b"\xed\xbf\xbf"):
            self.refused_connect(version, *([0x81] if version == 5 else [None]), username=name)
        self.peer(version, username="p\u00e4ul", password=b"\xff\0")


class Properties(Suite):
    @shows(v5="3.1.4-1 2.2.2-1 1.5.7-1")
    def test_2_2_2_1_a_wrong_property_block_is_refused(self, version):
        good = mq.props(receive_maximum=1)
        wrong = {
            "unknown": b"\x7e\0", "of a publish": mq.props(topic_alias=1),
            "of a will": mq.props(will_delay=1), "of a server": mq.props(server_keep_alive=1),
            "twice": good + good, "receive maximum 0": mq.props(receive_maximum=0),
            "packet size 0": mq.props(maximum_packet_size=0),
            "request problem 2": mq.props(request_problem_info=2),
            "request response 2": mq.props(request_response_info=2),
            "expiry twice": mq.props(session_expiry=1) * 2, "cut": good[:-1],
            "a name that is no UTF-8": mq.props(user=(b"\xff", b"v")),
            "a value with U+0000": mq.props(user=(b"n", b"\0")),
            "data without method": mq.props(auth_data=b"x"),
        }
        for what, properties in wrong.items():
            with self.subTest(what):
                self.refused_connect(version, 0x81, 0x82, properties=properties)

    @shows(v5="1.5.5-1")
    def test_1_5_5_1_a_length_in_more_bytes_than_it_needs_is_refused(self, version):
        head = text("MQTT") + b"\x05\x02\0\x3c"
        self.refused_connect(version, 0x81, raw=packet(mq.CONNECT, 0, head + b"\x80\0" + text("x")))
        body = head + b"\0" + text("x")
        self.refused_connect(version, 0x81, raw=bytes([0x10, len(body) | 0x80, 0]) + body)

    @shows(v5="3.1.2-28")
    def test_3_1_2_28_no_response_information_unless_asked_for(self, version):
        for how in (b"", mq.props(request_response_info=0)):
            self.assertNotIn("response_info", self.peer(version, properties=how).connack.props)

    @shows(v5="3.1.2-29")
    def test_3_1_2_29_without_problem_information_acks_carry_no_reasons(self, version):
        peer = self.peer(version, properties=mq.props(request_problem_info=0))
        peer.send(mq.publish("$SYS/x", b"x", version, 1, 7))
        self.bare(peer.expect(mq.PUBACK))
        peer.send(mq.ack(mq.PUBREL, 99) + mq.ack(mq.PUBREC, 98)
                  + mq.unsubscribe(["nothing"], version, 5) + mq.subscribe([("$share/g/t", 0)],
                                                                           version, 6))
        found = [peer.packet() for _ in range(4)]
        self.assertEqual(sorted(one.kind for one in found),
                         [mq.PUBREL, mq.PUBCOMP, mq.SUBACK, mq.UNSUBACK])
        for one in found:
            self.bare(one)

    def bare(self, found):
        self.assertEqual(found.props, {"user": [], "subscription_id": []})

    @shows(v5="4.12.0-1")
    def test_4_12_0_1_an_unknown_authentication_method_is_refused(self, version):
        self.refused_connect(version, 0x8C, 0x87, properties=mq.props(auth_method="nobody's"))

    @shows(v5="4.12.0-6 4.12.0-7")
    def test_4_12_0_6_no_auth_without_a_method(self, version):
        peer = self.peer(version)
        self.assertNotIn("auth_method", peer.connack.props)
        peer.send(mq.auth(0x19, mq.props(auth_method="SCRAM-SHA-256")))
        peer.refused(0x82)

    @shows(v5="3.15.1-1")
    def test_3_15_1_1_reserved_flags_of_auth(self, version):
        for flags in (1, 2, 4, 8):
            peer = self.peer(version)
            peer.send(mq.auth(0x18, mq.props(auth_method="x"), flags))
            peer.refused(0x81, 0x82)


class Connack(Suite):
    @shows(v5="3.2.2-1 3.2.2-2 3.1.2-4 3.1.4-4", v3="3.2.2-1 3.1.4-3 3.1.2-6")
    def test_3_2_2_2_a_clean_start_has_no_session_present(self, version):
        lasting = mq.props(session_expiry=600) if version == 5 else b""
        old = self.peer(version, clean=False, properties=lasting)
        old.subscribe("clean/t", qos=1)
        old.leave()
        again = self.peer(version, old.client, present=False, clean=True)
        self.assertEqual(again.until(self.peer(version)), [])
        again.publish("clean/t", b"x", 1)
        self.assertEqual(again.until(again), [])

    @shows(v5="3.2.2-3 3.1.2-5 3.1.2-6 3.1.2-23 3.1.4-4", v3="3.2.2-2 3.2.2-3 3.1.2-4 3.1.4-3")
    def test_3_2_2_3_session_present_says_whether_there_was_one(self, version):
        lasting = mq.props(session_expiry=600) if version == 5 else b""
        first = self.peer(version, clean=False, properties=lasting, present=False)
        first.leave()
        second = self.peer(version, first.client, clean=False, properties=lasting, present=True)
        second.vanish()
        self.peer(version, first.client, clean=False, properties=lasting, present=True)

    @shows(v5="3.2.2-9 3.2.2-10")
    def test_3_2_2_9_every_qos_is_supported(self, version):
        peer = self.peer(version)
        self.assertNotIn("maximum_qos", peer.connack.props)
        self.assertEqual(peer.subscribe(("q/0", 0), ("q/1", 1), ("q/2", 2)), [0, 1, 2])

    @shows(v5="3.2.2-12 3.2.2-13")
    def test_3_2_2_12_wills_of_every_qos_and_retain_are_taken(self, version):
        for qos in (0, 1, 2):
            for retain in (False, True):
                will = {"topic": fresh("w"), "qos": qos, "retain": retain}
                peer = self.peer(version, will=will)
                self.assertNotEqual(peer.connack.props.get("retain_available"), 0)
                peer.leave()

    @shows(v5="3.2.2-19 3.2.2-20 3.1.2-24")
    def test_3_2_2_19_a_small_packet_size_gets_no_long_connack(self, version):
        for size in (100, 60, 40, 30, 20, 5, 4, 1):
            small = mq.props(maximum_packet_size=size)
            found = self.stranger(version)
            found.send(mq.connect(fresh(), version, properties=small))
            connack = found.packet()
            if connack is None:
                self.assertLess(size, 5)
                continue
            self.assertLessEqual(connack.size, size)
            self.assertNotIn("reason_string", connack.props)
            self.assertIn(connack.code, (0, 0x83) if size < 40 else (0,))

    @shows(v5="3.2.2-19 3.2.2-20 3.2.2-8")
    def test_3_2_2_19_nor_a_long_refusal(self, version):
        for size in (30, 10, 5):
            found = self.refused_connect(version, 0x8C, None, properties=mq.props(
                maximum_packet_size=size, auth_method="nobody's"))
            if found is not None:
                self.assertLessEqual(found.size, size)

    @shows(v3="3.2.2-6")
    def test_v3_3_2_2_6_what_no_return_code_says_is_a_plain_end(self, version):
        self.refused_connect(version, None, flags=1)


if __name__ == "__main__":
    unittest.main()
