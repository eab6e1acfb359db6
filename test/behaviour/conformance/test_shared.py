"""Shared subscriptions (section 4.8.2 of 5.0)."""

import unittest

import packets as mq
from kit import Suite, fresh, lasting, shows
from kit import start as setUpModule
from kit import stop as tearDownModule


class Shared(Suite):
    @shows(v5="4.8.2-1 4.8.2-2")
    def test_4_8_2_1_a_malformed_shared_filter_is_refused_alone(self, version):
        bad = ("$share//t", "$share/g", "$share/g/", "$share/+/t", "$share/#/t", "$share/a+/t",
               "$share/a#b/t", "$share/")
        peer = self.peer(version)
        topic = fresh("good")
        self.assertEqual(peer.subscribe(*bad, topic, "$share/g/+/t", qos=1),
                         [0x8F] * len(bad) + [1, 1])
        self.assertEqual(peer.unsubscribe(*bad), [0x11] * len(bad))
        peer.publish(topic, b"x", 1)
        peer.message(payload=b"x")
        for filter_ in ("$share/g/a#", "$share/g/#/b"):
            peer = self.peer(version)
            peer.send(mq.subscribe([(filter_, 0)], version))
            peer.refused(0x8F)

    @shows(v5="3.8.3-4")
    def test_3_8_3_4_no_local_with_a_shared_subscription_is_refused(self, version):
        peer = self.peer(version)
        peer.send(mq.subscribe([("$share/g/t", 4)], version))
        peer.refused(0x82)

    @shows(v5="4.8.2-3")
    def test_4_8_2_3_each_member_gets_its_own_qos_and_each_message_goes_to_one(self, version):
        topic, group = fresh("shared"), fresh("group")
        members = [self.peer(version) for _ in range(3)]
        for qos, member in enumerate(members):
            self.assertEqual(member.subscribe(f"$share/{group}/{topic}", qos=qos), [qos])
        plain = self.peer(version)
        plain.subscribe(topic, qos=2)
        sender = self.peer(version)
        for number in range(30):
            sender.publish(topic, str(number), 2)
        self.assertEqual(len(plain.messages(30)), 30)
        found = [member.until(sender) for member in members]
        for qos, messages in enumerate(found):
            self.assertTrue(messages, "a member got nothing")
            self.assertEqual({one.qos for one in messages}, {qos})
            self.assertEqual({one.topic for one in messages}, {topic})
        everything = sorted(int(one.payload) for messages in found for one in messages)
        self.assertEqual(everything, list(range(30)))

    @shows(v5="3.10.4-1 3.10.4-2")
    def test_3_10_4_1_who_leaves_a_group_gets_nothing_more(self, version):
        topic = fresh("shared")
        shared = f"$share/{fresh('group')}/{topic}"
        first, second, sender = (self.peer(version) for _ in range(3))
        sender.publish(topic, b"kept", 1, retain=True)
        for member in (first, second):
            self.assertEqual(member.subscribe(shared, qos=1), [1])
            self.assertEqual(member.until(sender), [])
        self.assertEqual(first.unsubscribe(shared, topic), [0, 0x11])
        for number in range(4):
            sender.publish(topic, str(number), 1)
        self.assertEqual(len(second.until(sender)), 4)
        self.assertEqual(first.until(sender), [])

    def begun(self, version, qos, how):
        """A member that got a message and did not answer, another member, and a sender."""
        topic, group = fresh("shared"), fresh("group")
        first = self.peer(version, **how)
        first.subscribe(f"$share/{group}/{topic}", qos=qos)
        sender = self.peer(version)
        sender.publish(topic, b"x", qos)
        message = first.message(acknowledge=False, qos=qos)
        second = self.peer(version)
        second.subscribe(f"$share/{group}/{topic}", qos=qos)
        return first, message, second, sender

    @shows(v5="4.8.2-4")
    def test_4_8_2_4_qos_2_is_finished_with_the_member_that_has_begun(self, version):
        first, message, second, sender = self.begun(version, 2, lasting(version))
        first.vanish()
        self.assertEqual(second.until(sender), [])
        again = self.peer(version, first.client, present=True, **lasting(version))
        again.message(packet_id=message.packet_id, dup=True, payload=b"x")
        again.alive()
        self.assertEqual(second.until(sender), [])

    @shows(v5="4.8.2-5")
    def test_4_8_2_5_qos_2_goes_to_nobody_else_when_the_session_ends(self, version):
        first, _, second, sender = self.begun(version, 2, {})
        first.vanish()
        self.assertEqual(second.until(sender), [])

    @shows(v5="4.8.2-6 4.4.0-2")
    def test_4_8_2_6_what_a_member_refuses_goes_to_nobody_else(self, version):
        for qos, kind in ((1, mq.PUBACK), (2, mq.PUBREC)):
            first, message, second, sender = self.begun(version, qos, {})
            first.send(mq.ack(kind, message.packet_id, version, 0x83))
            first.alive()
            first.leave()
            self.assertEqual(second.until(sender), [])


if __name__ == "__main__":
    unittest.main()
