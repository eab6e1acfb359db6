"""PUBLISH: what is in it, what is refused, and how it comes out again (section 3.3)."""

import unittest

import packets as mq
from kit import Suite, fresh, shows
from kit import start as setUpModule
from kit import stop as tearDownModule
from wire import packet, text

MAX = 1 << 20  # `max_packet_size`


class In(Suite):
    @shows(v5="3.3.1-4 4.13.1-1", v3="3.3.1-4 4.8.0-1")
    def test_3_3_1_4_both_qos_bits_end_the_connection(self, version):
        peer = self.peer(version)
        peer.send(mq.publish("t", b"x", version, qos=3))
        peer.refused(0x81)

    @shows(v5="3.3.1-2", v3="3.3.1-2")
    def test_3_3_1_2_dup_with_qos_0_is_refused(self, version):
        peer = self.peer(version)
        peer.send(mq.publish("t", b"x", version, dup=True))
        peer.refused(0x81, 0x82)

    @shows(v5="3.3.2-2 4.7.0-1", v3="3.3.2-2 4.7.1-1")
    def test_3_3_2_2_a_topic_name_has_no_wildcards(self, version):
        for topic in ("a/#", "#", "+", "a/+/b", "a+", "a#b"):
            peer = self.peer(version)
            peer.send(mq.publish(topic, b"x", version))
            peer.refused(0x90, 0x81)

    @shows(v5="3.3.2-1 1.5.4-1 1.5.4-2 4.7.3-2", v3="3.3.2-1 1.5.3-1 1.5.3-2 4.7.3-2")
    def test_3_3_2_1_the_topic_is_utf_8(self, version):
        for topic in (b"\xff", b"a/\xc0\xaf", b"\xed\xa0\x80", b"a\0b", b"\xf8\x88\x80\x80\x80"):
            peer = self.peer(version)
            peer.send(mq.publish(topic, b"x", version))
            peer.refused(0x81, 0x90)

    @shows(v5="4.7.3-1", v3="4.7.3-1")
    def test_4_7_3_1_a_topic_has_at_least_one_character(self, version):
        peer = self.peer(version)
        peer.send(mq.publish("", b"x", version))
        peer.refused(0x82, 0x90)

    @shows(v5="4.7.3-3", v3="4.7.3-3")
    def test_4_7_3_3_a_topic_may_have_65535_bytes(self, version):
        peer = self.peer(version)
        topic = fresh("long").ljust(65535, "x")
        self.assertEqual(peer.subscribe(topic), [0])
        peer.publish(topic, b"there", 1)
        peer.message(topic=topic, payload=b"there")

    @shows(v5="2.2.1-3", v3="2.3.1-1")
    def test_2_2_1_3_a_packet_identifier_is_not_0(self, version):
        for raw in (mq.publish("t", b"x", version, 1, 0), mq.publish("t", b"x", version, 2, 0),
                    mq.subscribe([("t", 0)], version, 0), mq.unsubscribe(["t"], version, 0)):
            peer = self.peer(version)
            peer.send(raw)
            peer.refused(0x81, 0x82)

    @shows(v5="2.2.1-2", v3="2.3.1-5")
    def test_2_2_1_2_qos_0_has_no_packet_identifier(self, version):
        peer = self.peer(version)
        topic = fresh("t")
        peer.subscribe(topic)
        peer.publish(topic, b"\0\7rest")
        self.assertIsNone(peer.message(payload=b"\0\7rest", qos=0).packet_id)

    @shows(v5="3.3.4-1 4.3.2-4 2.2.1-5", v3="3.3.4-1 4.3.2-2 2.3.1-6")
    def test_3_3_4_1_every_qos_has_its_answer(self, version):
        peer = self.peer(version)
        peer.send(mq.publish("t", b"0", version))
        peer.alive()
        peer.send(mq.publish("t", b"1", version, 1, 0x1234))
        peer.expect(mq.PUBACK, packet_id=0x1234)
        peer.send(mq.publish("t", b"2", version, 2, 0xFFFF))
        peer.expect(mq.PUBREC, packet_id=0xFFFF)
        peer.send(mq.ack(mq.PUBREL, 0xFFFF))
        peer.expect(mq.PUBCOMP, packet_id=0xFFFF)

    @shows(v5="3.2.2-15")
    def test_3_2_2_15_a_packet_that_is_too_large_is_refused_before_its_body(self, version):
        peer = self.peer(version)
        self.assertEqual(peer.connack.props["maximum_packet_size"], MAX)
        peer.send(b"\x30" + b"\xff\xff\xff\x7f")
        peer.refused(0x95)
        whole = self.peer(version)
        whole.send(mq.publish("t", b"x" * 3 * MAX, version))
        whole.refused(0x95)
        fits = self.peer(version)
        fits.publish("t", b"x" * (MAX - 16), 1)

    @shows(v5="2.1.3-1 3.6.1-1 3.8.1-1 3.10.1-1 3.14.1-1",
           v3="2.2.2-1 2.2.2-2 3.6.1-1 3.8.1-1 3.10.1-1 3.14.1-1")
    def test_2_1_3_1_reserved_flags_are_refused(self, version):
        for raw, good in ((mq.ack(mq.PUBACK, 1), 0), (mq.ack(mq.PUBREC, 1), 0),
                          (mq.ack(mq.PUBREL, 1), 2), (mq.ack(mq.PUBCOMP, 1), 0),
                          (mq.subscribe([("t", 0)], version), 2),
                          (mq.unsubscribe(["t"], version), 2), (packet(mq.PINGREQ, 0, b""), 0),
                          (mq.disconnect(version), 0)):
            for flags in set(range(16)) - {good}:
                peer = self.peer(version)
                peer.send(bytes([raw[0] & 0xF0 | flags]) + raw[1:])
                peer.refused(0x81)

    @shows(v5="4.13.1-1", v3="4.8.0-1")
    def test_4_13_1_1_packets_that_only_a_server_sends_are_refused(self, version):
        for kind in (mq.CONNACK, mq.SUBACK, mq.UNSUBACK, mq.PINGRESP):
            peer = self.peer(version)
            peer.send(packet(kind, 0, b"" if kind == mq.PINGRESP else b"\0\1\0"))
            peer.refused(0x81, 0x82)

    @shows(v5="4.13.1-1", v3="4.8.0-1")
    def test_4_13_1_1_packets_cut_short_are_refused(self, version):
        for raw in (packet(mq.PUBLISH, 0, b"\0"), packet(mq.PUBLISH, 0, b"\0\5abc"),
                    packet(mq.PUBLISH, 2, text("t") + b"\0"), packet(mq.PUBACK, 0, b"\0"),
                    packet(mq.PUBREL, 2, b""), packet(mq.SUBSCRIBE, 2, b"\0"),
                    packet(mq.UNSUBSCRIBE, 2, b"\0"), packet(mq.PINGREQ, 0, b"x"),
                    b"\x30\xff\xff\xff\xff\x01", packet(mq.PUBREC, 0, b"\0\1\0\0\0\0")):
            peer = self.peer(version)
            peer.send(raw)
            peer.refused(0x81, 0x82)


class Out(Suite):
    @shows(v5="3.3.2-3 4.3.1-1 4.3.2-2 4.3.3-2 3.8.4-8",
           v3="3.3.2-3 4.3.1-1 4.3.2-1 4.3.3-1 3.8.4-6")
    def test_3_8_4_8_a_message_comes_with_the_lower_qos(self, version):
        for granted in (0, 1, 2):
            for sent in (0, 1, 2):
                peer = self.peer(version)
                topic = fresh("qos")
                self.assertEqual(peer.subscribe(topic, qos=granted), [granted])
                self.peer(version).publish(topic, b"x", sent)
                peer.message(topic=topic, qos=min(granted, sent), dup=False, payload=b"x")

    @shows(v5="2.2.1-4 4.3.2-1 4.3.3-1", v3="2.3.1-4 2.3.1-1 4.3.2-1 4.3.3-1")
    def test_2_2_1_4_messages_on_the_way_have_different_identifiers(self, version):
        peer = self.peer(version)
        topic = fresh("ids")
        peer.subscribe(topic, qos=2)
        sender = self.peer(version)
        for number in range(20):
            sender.publish(topic, b"x", 1 + number % 2)
        found = [peer.message(acknowledge=False).packet_id for _ in range(20)]
        self.assertEqual(len(set(found)), 20)
        self.assertNotIn(0, found)

    @shows(v5="3.3.1-3", v3="3.3.1-3")
    def test_3_3_1_3_dup_is_not_passed_on(self, version):
        peer = self.peer(version)
        topic = fresh("dup")
        peer.subscribe(topic, qos=2)
        sender = self.peer(version)
        for qos in (1, 2):
            sender.publish(topic, b"x", qos, dup=True)
            peer.message(dup=False, qos=qos)

    @shows(v5="1.5.4-3 4.7.3-4", v3="1.5.3-3 4.7.3-4")
    def test_1_5_4_3_topics_come_out_byte_for_byte(self, version):
        peer = self.peer(version)
        peer.subscribe("raw/#")
        names = ["raw/\ufeffmark", "raw/\u00e4", "raw/a\u0308", "raw/\u212b", "raw/A", "raw/a",
                 "raw/ ", "raw//", "raw/%41", "raw/\U0001f600", "raw/a/../b", "raw/\u0001"]
        for name in names:
            peer.publish(name, b"x")
        self.assertEqual([peer.message().topic for _ in names], names)
        exact = self.peer(version)
        exact.subscribe("raw/\u00e4", "raw/\ufeffmark", "raw/A")
        for name in names:
            exact.publish(name, b"x")
        self.assertEqual([one.topic for one in exact.until(exact)],
                         ["raw/\ufeffmark", "raw/\u00e4", "raw/A"])

    @shows(v5="4.6.0-5 4.6.0-6", v3="4.6.0-5 4.6.0-6")
    def test_4_6_0_5_messages_of_a_client_come_in_their_order(self, version):
        for qos in (0, 1, 2):
            peer = self.peer(version)
            topic = fresh("order")
            peer.subscribe(topic, qos=2)
            sender = self.peer(version)
            for number in range(50):
                sender.send(mq.publish(topic, str(number), version, qos, number + 1))
            self.assertEqual([int(peer.message().payload) for _ in range(50)], list(range(50)))

    @shows(v5="3.3.4-2 3.3.4-3 3.3.4-5", v3="3.3.5-1")
    def test_3_3_4_2_overlapping_filters_get_their_highest_qos(self, version):
        peer = self.peer(version)
        topic = fresh("over")
        for number, (filter_, qos) in enumerate(((topic, 1), (topic + "/#", 2), ("+", 0)), 1):
            peer.subscribe(filter_, qos=qos,
                           properties=mq.props(subscription_id=number) if version == 5 else b"")
        self.peer(version).publish(topic, b"x", 2)
        found = peer.messages(3)
        self.assertEqual(sorted(one.qos for one in found), [0, 1, 2])
        if version == 5:
            self.assertEqual(sorted(one.props["subscription_id"] for one in found), [[1], [2], [3]])


class Properties(Suite):
    ALL = {"payload_format": 1, "content_type": "text/pl\u00e4in", "response_topic": "answers/1",
           "correlation_data": b"\0\1\xff"}
    USER = [("b", "1"), ("a", "2"), ("b", "1"), ("", "")]

    @shows(v5="3.3.2-4 3.3.2-15 3.3.2-16 3.3.2-17 3.3.2-18 3.3.2-20")
    def test_3_3_2_4_properties_come_out_as_they_went_in(self, version):
        given = mq.props(*[("user", pair) for pair in self.USER], **self.ALL)
        for qos in (0, 1, 2):
            peer = self.peer(version)
            topic = fresh("props")
            peer.subscribe(topic, qos=2)
            self.peer(version).publish(topic, b"text", qos, properties=given)
            found = peer.message(payload=b"text").props
            self.assertEqual(found, {**self.ALL, "user": self.USER, "subscription_id": []})

    @shows(v5="3.1.3-10 3.3.2-18")
    def test_3_1_3_10_the_properties_of_a_will_keep_their_order(self, version):
        topic = fresh("will")
        given = mq.props(*[("user", pair) for pair in self.USER], **self.ALL)
        watch = self.peer(version)
        watch.subscribe(topic, qos=2)
        self.peer(version, will={"topic": topic, "payload": b"w", "qos": 2,
                                 "properties": given}).vanish()
        self.assertEqual(watch.message(payload=b"w").props,
                         {**self.ALL, "user": self.USER, "subscription_id": []})

    @shows(v5="3.3.2-1 3.3.2-13 3.3.2-14 3.3.2-19 1.5.7-1 3.3.4-6 3.3.2-8 3.3.2-9 2.2.2-1")
    def test_3_3_2_14_wrong_properties_are_refused(self, version):
        wrong = {
            "response topic with +": mq.props(response_topic="a/+"),
            "response topic with #": mq.props(response_topic="#"),
            "response topic no UTF-8": mq.props(response_topic=b"\xff"),
            "content type no UTF-8": mq.props(content_type=b"\xff"),
            "content type with U+0000": mq.props(content_type=b"\0"),
            "pair no UTF-8": mq.props(user=(b"a", b"\xed\xa0\x80")),
            "a subscription identifier": mq.props(subscription_id=1),
            "alias 0": mq.props(topic_alias=0), "alias over the maximum": mq.props(topic_alias=11),
            "format 2": mq.props(payload_format=2), "expiry twice": mq.props(message_expiry=1) * 2,
            "of a connect": mq.props(session_expiry=1), "unknown": b"\x04\0",
            "cut short": mq.props(message_expiry=1)[:-1],
        }
        for what, properties in wrong.items():
            with self.subTest(what):
                peer = self.peer(version)
                peer.send(mq.publish("t", b"x", version, properties=properties))
                peer.refused(0x81, 0x82, 0x90, 0x94)

    @shows(v5="3.3.2-7 3.3.2-12 3.2.2-17")
    def test_3_3_2_12_topic_aliases_up_to_the_maximum(self, version):
        peer = self.peer(version)
        peer.subscribe("alias/#")
        maximum = peer.connack.props["topic_alias_maximum"]
        for alias in range(1, maximum + 1):
            peer.publish(f"alias/{alias}", b"1", properties=mq.props(topic_alias=alias))
            peer.publish("", b"2", 1, properties=mq.props(topic_alias=alias))
        peer.publish("alias/new", b"1", properties=mq.props(topic_alias=1))
        peer.publish("", b"2", properties=mq.props(topic_alias=1))
        found = [(one.topic, one.payload) for one in peer.until(peer)]
        expected = [(f"alias/{name}", payload) for name in [*range(1, maximum + 1), "new"]
                    for payload in (b"1", b"2")]
        self.assertEqual(sorted(found), sorted(expected))
        other = self.peer(version)
        other.send(mq.publish("", b"x", version, properties=mq.props(topic_alias=1)))
        other.refused(0x82)

    @shows(v5="3.3.2-7 3.3.2-8 3.3.2-11 3.1.2-26 3.1.2-27")
    def test_3_1_2_27_no_alias_to_who_offers_none(self, version):
        for offered in (0, 2, None):
            how = b"" if offered is None else mq.props(topic_alias_maximum=offered)
            peer = self.peer(version, properties=how)
            peer.subscribe("noalias/#", qos=1)
            sender = self.peer(version)
            names = {}
            for number in range(12):
                sender.publish(f"noalias/{number % 4}", b"x", 1)
            for number in range(12):
                one = peer.message()
                alias = one.props.get("topic_alias")
                self.assertLessEqual(alias or 0, offered or 0)
                if alias and one.topic:
                    names[alias] = one.topic
                self.assertEqual(one.topic or names[alias], f"noalias/{number % 4}")

    @shows(v5="3.3.2-5 3.3.2-6")
    def test_3_3_2_6_the_expiry_that_is_left_is_passed_on(self, version):
        peer = self.peer(version)
        peer.subscribe("life/#", qos=1)
        sender = self.peer(version)
        sender.publish("life/1", b"x", 1, properties=mq.props(message_expiry=100))
        self.assertIn(peer.message().props["message_expiry"], range(60, 101))
        sender.publish("life/1", b"x", 1, properties=mq.props(message_expiry=0xFFFFFFFF))
        self.assertGreater(peer.message().props["message_expiry"], 0xFFFFFF00)

    @shows(v5="3.1.2-24 3.1.2-25")
    def test_3_1_2_24_what_is_too_large_for_a_client_is_not_sent_to_it(self, version):
        peer = self.peer(version, properties=mq.props(maximum_packet_size=60, receive_maximum=1))
        topic = fresh("size")
        peer.subscribe(topic, qos=1)
        sender = self.peer(version)
        fits = 60 - 2 - 2 - len(topic) - 2 - 1
        for size in (fits + 1, 5000, fits, fits + 1, 0):
            sender.publish(topic, b"x" * size, 1)
        found = [peer.message(), peer.message()]
        self.assertEqual([len(one.payload) for one in found], [fits, 0])
        self.assertEqual(found[0].size, 60)


if __name__ == "__main__":
    unittest.main()
