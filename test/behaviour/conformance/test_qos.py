"""PUBACK, PUBREC, PUBREL, PUBCOMP, and who keeps what until when (3.4 to 3.7, 4.3, 4.4, 4.9)."""

import unittest

import packets as mq
from kit import Suite, fresh, lasting, shows
from kit import start as setUpModule
from kit import stop as tearDownModule


class Receiver(Suite):
    @shows(v5="4.3.2-5", v3="4.3.2-2")
    def test_4_3_2_5_after_puback_an_identifier_is_new(self, version):
        peer = self.peer(version)
        topic = fresh("again")
        peer.subscribe(topic)
        for payload, dup in ((b"1", False), (b"2", True), (b"3", False)):
            peer.publish(topic, payload, 1, packet_id=9, dup=dup)
        self.assertEqual([one.payload for one in peer.messages(3)], [b"1", b"2", b"3"])

    @shows(v5="4.3.3-8 4.3.3-10 4.3.3-11 4.3.3-12", v3="4.3.3-2")
    def test_4_3_3_10_until_pubrel_an_identifier_is_the_same_message(self, version):
        peer = self.peer(version)
        topic = fresh("twice")
        peer.subscribe(topic)
        for dup in (False, True, True):
            peer.send(mq.publish(topic, b"1", version, 2, 7, dup=dup))
            peer.answer(mq.PUBREC, packet_id=7, code=0)
        peer.send(mq.ack(mq.PUBREL, 7))
        peer.answer(mq.PUBCOMP, packet_id=7, code=0)
        peer.publish(topic, b"2", 2, packet_id=7, dup=True)
        self.assertEqual([one.payload for one in peer.until(peer)], [b"1", b"2"])

    @shows(v5="4.3.3-10 4.1.0-1", v3="4.3.3-2 4.1.0-1")
    def test_4_3_3_10_also_when_the_client_comes_back_in_between(self, version):
        topic = fresh("twice")
        watch = self.peer(version)
        watch.subscribe(topic)
        first = self.peer(version, **lasting(version))
        first.send(mq.publish(topic, b"1", version, 2, 7))
        first.expect(mq.PUBREC, packet_id=7)
        first.vanish()
        second = self.peer(version, first.client, present=True, **lasting(version))
        second.send(mq.publish(topic, b"1", version, 2, 7, dup=True))
        second.expect(mq.PUBREC, packet_id=7, code=0)
        second.send(mq.ack(mq.PUBREL, 7))
        second.expect(mq.PUBCOMP, packet_id=7, code=0)
        self.assertEqual([one.payload for one in watch.until(second)], [b"1"])

    @shows(v5="3.7.2-1 4.3.3-11", v3="4.3.3-2")
    def test_3_7_2_1_a_pubrel_of_nothing_is_answered(self, version):
        peer = self.peer(version)
        peer.send(mq.ack(mq.PUBREL, 77))
        peer.expect(mq.PUBCOMP, packet_id=77, code=0x92 if version == 5 else 0)
        peer.alive()

    @shows(v5="3.6.2-1")
    def test_3_6_2_1_a_pubrec_of_nothing_is_answered(self, version):
        peer = self.peer(version)
        peer.send(mq.ack(mq.PUBREC, 77))
        peer.expect(mq.PUBREL, packet_id=77, code=0x92)
        peer.alive()

    @shows(v5="3.4.2-1 3.5.2-1 3.6.2-1 3.7.2-1")
    def test_3_4_2_1_reason_codes_of_other_packets_are_refused(self, version):
        for kind, codes in ((mq.PUBACK, (1, 0x92, 0x93, 0xFF)), (mq.PUBREC, (2, 0x92, 0x8E)),
                            (mq.PUBREL, (0x10, 0x80)), (mq.PUBCOMP, (0x10, 0x80))):
            for code in codes:
                peer = self.peer(version)
                peer.send(mq.ack(kind, 1, version, code))
                peer.refused(0x81, 0x82)

    @shows(v5="3.4.2-2 3.4.2-3 3.5.2-2 3.5.2-3 3.6.2-2 3.6.2-3 3.7.2-2 3.7.2-3 3.9.2-1 3.9.2-2"
              " 3.11.2-1 3.11.2-2 3.1.2-24")
    def test_3_4_2_2_no_reason_string_makes_an_answer_too_large(self, version):
        for size in (60, 40):
            peer = self.peer(version, properties=mq.props(maximum_packet_size=size))
            peer.send(mq.publish("$SYS/x", b"", version, 1, 7)
                      + mq.publish("$SYS/x", b"", version, 2, 8) + mq.ack(mq.PUBREC, 9)
                      + mq.ack(mq.PUBREL, 10) + mq.subscribe([("t", 0)], version, 11)
                      + mq.unsubscribe(["nothing"], version, 12))
            found = [peer.packet() for _ in range(6)]
            self.assertEqual(sorted((one.kind, one.packet_id) for one in found),
                             [(mq.PUBACK, 7), (mq.PUBREC, 8), (mq.PUBREL, 9), (mq.PUBCOMP, 10),
                              (mq.SUBACK, 11), (mq.UNSUBACK, 12)])
            for one in found:
                self.assertLessEqual(one.size, size, one)

    @shows(v5="4.3.3-9 3.5.2-1 3.4.2-1")
    def test_4_3_3_9_after_a_refusal_an_identifier_is_new(self, version):
        peer = self.peer(version)
        topic = fresh("new")
        peer.subscribe(topic, qos=2)
        self.assertEqual(peer.publish("$SYS/x", b"", 2, packet_id=7).code, 0x87)
        peer.publish(topic, b"x", 2, packet_id=7)
        peer.message(payload=b"x")

    @shows(v3="3.3.5-2")
    def test_v3_3_3_5_2_what_may_not_be_published_is_acknowledged(self, version):
        peer = self.peer(version)
        peer.subscribe("$SYS/x", qos=2)
        for qos in (1, 2):
            peer.publish("$SYS/x", b"no", qos)
        self.assertEqual(peer.until(peer), [])

    @shows(v5="3.3.4-7 4.9.0-1")
    def test_3_3_4_7_more_than_receive_maximum_is_refused(self, version):
        peer = self.peer(version)
        maximum = peer.connack.props["receive_maximum"]
        for number in range(1, maximum + 1):
            peer.send(mq.publish("flow", b"", version, 2, number))
        for number in range(1, maximum + 1):
            peer.expect(mq.PUBREC, packet_id=number)
        peer.send(mq.publish("flow", b"", version, 2, 1, dup=True))
        peer.expect(mq.PUBREC, packet_id=1)
        peer.send(mq.publish("flow", b"", version, 2, maximum + 1))
        peer.refused(0x93)


class Sender(Suite):
    def sent(self, version, count, qos, how=None):
        """A session that got `count` messages of this QoS and acknowledged none."""
        peer = self.peer(version, **(how or lasting(version)))
        topic = fresh("kept")
        peer.subscribe(topic, qos=2)
        sender = self.peer(version)
        for number in range(count):
            sender.publish(topic, str(number), qos)
        return peer, [peer.message(acknowledge=False, dup=False, qos=qos) for _ in range(count)]

    @shows(v5="3.3.1-1 4.4.0-1 4.3.2-3 4.3.3-3 4.6.0-1",
           v3="3.3.1-1 4.4.0-1 2.3.1-4 4.3.2-1 4.6.0-6")
    def test_4_4_0_1_what_was_not_acknowledged_comes_again(self, version):
        for qos in (1, 2):
            peer, first = self.sent(version, 5, qos)
            peer.vanish()
            again = self.peer(version, peer.client, present=True, **lasting(version))
            second = [again.message(acknowledge=False, dup=True, qos=qos) for _ in range(5)]
            self.assertEqual([(one.packet_id, one.payload) for one in first],
                             [(one.packet_id, one.payload) for one in second])
            for one in second:
                again.acknowledge(one)
            again.leave()
            last = self.peer(version, peer.client, present=True, **lasting(version))
            self.assertEqual(last.until(self.peer(version)), [])

    @shows(v5="4.4.0-1", v3="4.4.0-1")
    def test_4_4_0_1_nothing_is_sent_again_on_a_living_connection(self, version):
        peer, _ = self.sent(version, 1, 1)
        for _ in range(20):
            peer.alive()
        self.assertEqual(peer.later, [])

    @shows(v5="4.3.3-4 4.3.3-5 4.3.3-6 4.4.0-1", v3="4.3.3-1 4.4.0-1")
    def test_4_3_3_6_after_pubrel_only_pubrel_comes_again(self, version):
        peer, (one,) = self.sent(version, 1, 2)
        peer.send(mq.ack(mq.PUBREC, one.packet_id))
        peer.expect(mq.PUBREL, packet_id=one.packet_id)
        peer.vanish()
        for _ in range(2):
            again = self.peer(version, peer.client, present=True, **lasting(version))
            again.expect(mq.PUBREL, packet_id=one.packet_id)
            again.alive()
            again.vanish()
        last = self.peer(version, peer.client, present=True, **lasting(version))
        last.expect(mq.PUBREL, packet_id=one.packet_id)
        last.send(mq.ack(mq.PUBCOMP, one.packet_id))
        last.alive()
        last.leave()
        after = self.peer(version, peer.client, present=True, **lasting(version))
        self.assertEqual(after.until(self.peer(version)), [])

    @shows(v5="4.3.3-4 3.6.2-1", v3="4.3.3-1")
    def test_4_3_3_4_every_pubrec_gets_its_pubrel(self, version):
        for how in (lasting(version), {"clean": True}):
            peer, (one,) = self.sent(version, 1, 2, how)
            for _ in range(3):
                peer.send(mq.ack(mq.PUBREC, one.packet_id))
                peer.expect(mq.PUBREL, packet_id=one.packet_id, code=0)
            peer.send(mq.ack(mq.PUBCOMP, one.packet_id))
            peer.alive()

    @shows(v5="4.4.0-2 4.3.3-4")
    def test_4_4_0_2_a_refused_message_does_not_come_again(self, version):
        for qos, kind in ((1, mq.PUBACK), (2, mq.PUBREC)):
            peer, found = self.sent(version, 3, qos)
            for one in found:
                peer.send(mq.ack(kind, one.packet_id, version, 0x80))
            peer.alive()
            peer.leave()
            again = self.peer(version, peer.client, present=True, **lasting(version))
            self.assertEqual(again.until(self.peer(version)), [])

    @shows(v5="3.3.4-9 4.9.0-1 4.9.0-2 3.3.4-10 4.9.0-3")
    def test_4_9_0_2_receive_maximum_of_the_client_is_kept(self, version):
        peer = self.peer(version, properties=mq.props(receive_maximum=2))
        topic, other = fresh("window"), fresh("free")
        peer.subscribe(topic, qos=2)
        peer.subscribe(other, qos=0)
        sender = self.peer(version)
        for number in range(6):
            sender.publish(topic, str(number), 1 + number % 2)
        sender.publish(other, b"0")
        window = [peer.message(acknowledge=False) for _ in range(2)]
        peer.message(topic=other, qos=0)
        peer.alive()
        self.assertEqual(peer.subscribe(fresh("more"), qos=1), [1])
        self.assertEqual(peer.unsubscribe("nothing"), [0x11])
        self.assertEqual(peer.later, [])
        found = []
        while window:
            one = window.pop(0)
            found.append(one.payload)
            peer.acknowledge(one)
            if len(found) + len(window) < 6:
                window.append(peer.message(acknowledge=False))
        self.assertEqual(found, [b"0", b"1", b"2", b"3", b"4", b"5"])

    @shows(v5="4.9.0-2 3.3.4-9")
    def test_4_9_0_2_a_pubrec_does_not_open_the_window_but_a_failed_one_does(self, version):
        peer = self.peer(version, properties=mq.props(receive_maximum=1))
        topic = fresh("window")
        peer.subscribe(topic, qos=2)
        sender = self.peer(version)
        for number in range(3):
            sender.publish(topic, str(number), 2)
        one = peer.message(acknowledge=False, payload=b"0")
        peer.send(mq.ack(mq.PUBREC, one.packet_id))
        peer.expect(mq.PUBREL)
        peer.alive()
        self.assertEqual(peer.later, [])
        peer.send(mq.ack(mq.PUBCOMP, one.packet_id))
        two = peer.message(acknowledge=False, payload=b"1")
        peer.send(mq.ack(mq.PUBREC, two.packet_id, version, 0x97))
        peer.message(payload=b"2")

    @shows(v5="2.2.1-3", v3="2.3.1-2 2.3.1-3")
    def test_2_2_1_3_both_sides_number_for_themselves(self, version):
        peer = self.peer(version)
        topic = fresh("both")
        peer.subscribe(topic, qos=1)
        peer.publish(topic, b"1", 1)
        got = peer.message(acknowledge=False)
        peer.publish(topic, b"2", 2, packet_id=got.packet_id)
        peer.acknowledge(got)
        peer.message(payload=b"2")


if __name__ == "__main__":
    unittest.main()
