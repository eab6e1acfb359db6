"""SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, retained messages (3.8 to 3.11, 3.3.1.3)."""

import unittest

import packets as mq
from kit import Suite, fresh, shows
from kit import start as setUpModule
from kit import stop as tearDownModule
from wire import packet, text


class Subscribe(Suite):
    @shows(v5="3.8.4-1 3.8.4-2 2.2.1-6 3.8.4-5 3.8.4-6 3.8.4-7 3.9.3-1 3.9.3-2",
           v3="3.8.4-1 3.8.4-2 2.3.1-7 3.8.4-4 3.8.4-5 3.9.3-1 3.9.3-2")
    def test_3_8_4_6_one_code_for_each_filter_in_order(self, version):
        peer = self.peer(version)
        filters = [("a", 2), ("b/+", 0), ("#", 1), ("c", 0), ("a", 1)]
        peer.send(mq.subscribe(filters, version, 0xABCD))
        answer = peer.expect(mq.SUBACK, packet_id=0xABCD)
        self.assertEqual(answer.codes, [2, 0, 1, 0, 1])

    @shows(v5="3.1.2-24")
    def test_3_1_2_24_no_answer_is_larger_than_the_client_takes(self, version):
        names = [f"a/{number}" for number in range(100)]
        for raw in (mq.subscribe([(name, 1) for name in names], version),
                    mq.unsubscribe(names, version)):
            peer = self.peer(version, properties=mq.props(maximum_packet_size=60))
            peer.send(raw)
            peer.refused(0x95)

    @shows(v5="3.8.3-1 1.5.4-1 1.5.4-2 4.7.3-2", v3="3.8.3-1 1.5.3-1 1.5.3-2 4.7.3-2")
    def test_3_8_3_1_a_filter_is_utf_8(self, version):
        for filter_ in (b"\xff", b"a/\xed\xa0\x80", b"a\0"):
            peer = self.peer(version)
            peer.send(mq.subscribe([("good", 0), (filter_, 0)], version))
            peer.refused(0x81, 0x8F)

    @shows(v5="3.8.3-2", v3="3.8.3-3")
    def test_3_8_3_2_a_subscribe_has_a_filter(self, version):
        for raw in (mq.subscribe([], version), mq.unsubscribe([], version)):
            peer = self.peer(version)
            peer.send(raw)
            peer.refused(0x81, 0x82)

    @shows(v5="3.8.3-5", v3="3.8.3-4")
    def test_3_8_3_5_reserved_bits_of_the_options_are_zero(self, version):
        bad = (0x40, 0x80, 0xC1, 3, 0x30) if version == 5 else (3, 4, 8, 0x10, 0x20, 0x40, 0x80)
        for options in bad:
            peer = self.peer(version)
            peer.send(mq.subscribe([("t", options)], version))
            peer.refused(0x81, 0x82)

    @shows(v5="4.7.1-1 4.7.1-2 4.7.3-1", v3="4.7.1-2 4.7.1-3 4.7.3-1")
    def test_4_7_1_1_filters_with_misplaced_wildcards_are_refused(self, version):
        for filter_ in ("#/a", "a#", "a/#/b", "a/b#", "##", "+a", "a+", "a/+b", "a/b+/c", "++",
                        "+#", ""):
            peer = self.peer(version)
            peer.send(mq.subscribe([(filter_, 0)], version))
            answer = peer.packet()
            if answer is not None and answer.kind == mq.SUBACK:
                self.assertEqual(answer.codes, [0x8F if version == 5 else 0x80])
            elif answer is not None:
                self.assertIn(answer.code, (0x81, 0x82, 0x8F))
                peer.closed()

    @shows(v3="3.8.3-2", v5="3.3.2-3 4.7.2-1")
    def test_4_7_2_1_matching(self, version):
        cases = {
            "sport/tennis/#": ["sport/tennis", "sport/tennis/p1", "sport/tennis/p1/r",
                               "sport/tennis/"], "sport/+": ["sport/", "sport/tennis"],
            "+": ["sport", "x"], "/+": ["/x"], "+/+": ["/x", "sport/", "sport/tennis"],
            "+/tennis/#": ["sport/tennis", "sport/tennis/p1", "sport/tennis/p1/r", "sport/tennis/"],
            "$own/#": ["$own", "$own/a", "$own/a/b"], "$own/+": ["$own/a"], "+/a": [],
            "sport/+/+": ["sport/tennis/p1", "sport/tennis/"], "SPORT": [], "sport ": [],
        }
        topics = ["sport", "sport/", "/x", "x", "sport/tennis", "sport/tennis/", "sport/tennis/p1",
                  "sport/tennis/p1/r", "$own", "$own/a", "$own/a/b"]
        cases["#"] = [topic for topic in topics if topic[0] != "$"]
        sender = self.peer(version)
        for filter_, expected in cases.items():
            with self.subTest(filter_):
                peer = self.peer(version)
                peer.subscribe(filter_)
                for topic in topics:
                    sender.publish(topic, b"x", 1)
                found = [one.topic for one in peer.until(sender, qos=1)]
                self.assertEqual([topic for topic in found if topic in topics],
                                 [topic for topic in topics if topic in expected])

    @shows(v3="4.7.2-1")
    def test_v3_4_7_2_1_wildcards_do_not_match_dollar_topics(self, version):
        peer = self.peer(version)
        peer.subscribe("#", "+/mine", "+/+")
        for topic in ("$mine", "$mine/mine", fresh("$other")):
            peer.publish(topic, b"x", 1)
        found = [one.topic for one in peer.until(peer)]
        self.assertEqual([topic for topic in found if topic[0] == "$"], [])

    @shows(v5="3.8.4-3 3.8.4-4", v3="3.8.4-3")
    def test_3_8_4_3_the_same_filter_again_replaces_the_subscription(self, version):
        peer = self.peer(version)
        topic = fresh("same")
        peer.publish(topic, b"kept", 1, retain=True)
        for qos in (2, 0, 1):
            self.assertEqual(peer.subscribe(topic, qos=qos), [qos])
            peer.message(payload=b"kept", retain=1, qos=min(qos, 1))
        peer.publish(topic, b"once", 2)
        self.assertEqual([(one.payload, one.qos) for one in peer.until(peer)], [(b"once", 1)])

    @shows(v5="3.8.3-3")
    def test_3_8_3_3_no_local_keeps_ones_own_messages_away(self, version):
        peer = self.peer(version)
        topic = fresh("local")
        peer.subscribe(topic, options=4 | 1)
        peer.publish(topic, b"mine", 1)
        other = self.peer(version)
        other.publish(topic, b"yours", 1)
        self.assertEqual([one.payload for one in peer.until(other)], [b"yours"])

    @shows(v5="3.3.1-12 3.3.1-13")
    def test_3_3_1_12_retain_as_published(self, version):
        topic = fresh("rap")
        plain, as_published = self.peer(version), self.peer(version)
        plain.subscribe(topic, options=1)
        as_published.subscribe(topic, options=8 | 1)
        sender = self.peer(version)
        for retain in (True, False):
            sender.publish(topic, b"x", 1, retain=retain)
            plain.message(retain=0)
            as_published.message(retain=int(retain))

    @shows(v5="3.3.4-3 3.3.4-5")
    def test_3_3_4_3_subscription_identifiers(self, version):
        peer = self.peer(version)
        topic = fresh("id")
        for number in (1, 127, 128, 16384, 268435455):
            peer.subscribe(topic, qos=1, properties=mq.props(subscription_id=number))
            peer.publish(topic, b"x", 1)
            self.assertEqual(peer.message().props["subscription_id"], [number])
        peer.subscribe(topic, qos=1)
        peer.publish(topic, b"x", 1)
        self.assertEqual(peer.message().props["subscription_id"], [])
        peer.send(mq.subscribe([(topic, 0)], version, 9, mq.props(subscription_id=0)))
        peer.refused(0x81, 0x82)

    @shows(v5="4.5.0-1", v3="4.5.0-1")
    def test_4_5_0_1_everybody_who_subscribed_gets_it(self, version):
        topic = fresh("all")
        peers = [self.peer(version) for _ in range(5)]
        for number, peer in enumerate(peers):
            peer.subscribe(topic if number % 2 else topic + "/#", qos=number % 3)
        self.peer(version).publish(topic, b"x", 2)
        for number, peer in enumerate(peers):
            peer.message(topic=topic, qos=number % 3)


class Unsubscribe(Suite):
    @shows(v5="3.10.4-1 3.10.4-2 3.10.4-4 3.10.4-5 3.10.4-6 3.11.3-1 3.11.3-2 2.2.1-6",
           v3="3.10.4-1 3.10.4-2 3.10.4-4 3.10.4-5 3.10.4-6 2.3.1-7")
    def test_3_10_4_1_exactly_the_same_filter_goes(self, version):
        peer = self.peer(version)
        peer.subscribe("un/a", "un/b", "un/+", "un/c")
        peer.send(mq.unsubscribe(["un/a", "un/#", "un/+", "UN/c"], version, 0xBEEF))
        answer = peer.expect(mq.UNSUBACK, packet_id=0xBEEF)
        self.assertEqual(answer.codes, [0, 0x11, 0, 0x11] if version == 5 else [])
        for topic in ("un/a", "un/b", "un/c"):
            peer.publish(topic, b"x")
        self.assertEqual([one.topic for one in peer.until(peer, qos=0)], ["un/b", "un/c"])

    @shows(v5="3.10.3-1 3.10.3-2", v3="3.10.3-1 3.10.3-2")
    def test_3_10_3_1_filters_of_unsubscribe_are_utf_8(self, version):
        for filters in ([b"\xff"], ["good", b"a\0"], []):
            peer = self.peer(version)
            peer.send(mq.unsubscribe(filters, version))
            peer.refused(0x81, 0x82, 0x8F)
        peer = self.peer(version)
        peer.send(packet(mq.UNSUBSCRIBE, 2, b"\0\1" + mq.block(b"", version) + text("a")[:-1]))
        peer.refused(0x81)

    @shows(v5="3.10.4-3", v3="3.10.4-3")
    def test_3_10_4_3_what_has_begun_is_finished(self, version):
        peer = self.peer(version)
        topic = fresh("un")
        peer.subscribe(topic, qos=2)
        peer.publish(topic, b"1", 2)
        one = peer.message(acknowledge=False)
        self.assertEqual(peer.unsubscribe(topic), [0] if version == 5 else [])
        peer.send(mq.ack(mq.PUBREC, one.packet_id))
        peer.expect(mq.PUBREL, packet_id=one.packet_id)
        peer.send(mq.ack(mq.PUBCOMP, one.packet_id))
        peer.publish(topic, b"2", 2)
        self.assertEqual(peer.until(peer), [])


class Retained(Suite):
    def kept(self, version, topic):
        """What a new subscriber is sent at once."""
        peer = self.peer(version)
        peer.subscribe(topic, qos=2)
        return [(one.payload, one.qos, one.retain) for one in peer.until(self.peer(version))]

    @shows(v5="3.3.1-5 3.3.1-9", v3="3.3.1-5 3.3.1-6 3.3.1-7 3.3.1-8 3.1.2-7")
    def test_3_3_1_5_the_last_retained_message_is_kept(self, version):
        topic = fresh("keep")
        for qos in (2, 1, 0):
            sender = self.peer(version)
            sender.publish(topic, b"old", qos, retain=True)
            sender.publish(topic, str(qos), qos, retain=True)
            sender.leave()
            self.assertEqual(self.kept(version, topic), [(str(qos).encode(), qos, 1)])

    @shows(v5="3.3.1-6 3.3.1-7", v3="3.3.1-10 3.3.1-11")
    def test_3_3_1_6_an_empty_payload_clears_it_and_is_delivered(self, version):
        topic = fresh("clear")
        sender = self.peer(version)
        live = self.peer(version)
        live.subscribe(topic, qos=1)
        for qos in (0, 1, 2):
            sender.publish(topic, b"there", 1, retain=True)
            live.message(payload=b"there")
            sender.publish(topic, b"", qos, retain=True)
            live.message(payload=b"", retain=0)
            self.assertEqual(self.kept(version, topic), [])

    @shows(v5="3.3.1-8", v3="3.3.1-12")
    def test_3_3_1_8_a_message_that_is_not_retained_changes_nothing(self, version):
        topic = fresh("keep")
        sender = self.peer(version)
        sender.publish(topic, b"no", 1)
        self.assertEqual(self.kept(version, topic), [])
        sender.publish(topic, b"yes", 1, retain=True)
        sender.publish(topic, b"no", 1)
        sender.publish(topic, b"", 1)
        self.assertEqual(self.kept(version, topic), [(b"yes", 1, 1)])

    @shows(v3="3.3.1-9")
    def test_v3_3_3_1_9_to_a_subscription_that_was_there_retain_is_0(self, version):
        peer = self.peer(version)
        topic = fresh("flag")
        peer.subscribe(topic, qos=1)
        self.peer(version).publish(topic, b"x", 1, retain=True)
        peer.message(retain=0)

    @shows(v5="3.3.1-9 3.3.1-10 3.3.1-11")
    def test_3_3_1_10_retain_handling(self, version):
        topic = fresh("handling")
        sender = self.peer(version)
        sender.publish(topic, b"kept", 1, retain=True)
        peer = self.peer(version)

        def brought(handling):
            self.assertEqual(peer.subscribe(topic, options=handling << 4 | 1), [1])
            return len(peer.until(sender))

        self.assertEqual(brought(2), 0)
        self.assertEqual(brought(1), 0)
        self.assertEqual(brought(0), 1)
        self.assertEqual(brought(0), 1)
        peer.unsubscribe(topic)
        self.assertEqual(brought(1), 1)
        self.assertEqual(brought(1), 0)
        self.assertEqual(brought(2), 0)

    @shows(v5="3.3.1-5 3.3.2-4 3.3.2-6 3.3.2-17 3.3.2-20")
    def test_3_3_1_5_properties_are_kept_with_it(self, version):
        topic = fresh("props")
        self.peer(version).publish(topic, b"x", 1, retain=True, properties=mq.props(
            ("user", ("a", "1")), ("user", ("a", "2")), message_expiry=1000, content_type="c",
            payload_format=1))
        peer = self.peer(version)
        peer.subscribe(topic, qos=1, properties=mq.props(subscription_id=5))
        found = peer.message(retain=1).props
        self.assertEqual((found["user"], found["content_type"], found["payload_format"]),
                         ([("a", "1"), ("a", "2")], "c", 1))
        self.assertIn(found["message_expiry"], range(900, 1001))
        self.assertEqual(found["subscription_id"], [5])


if __name__ == "__main__":
    unittest.main()
