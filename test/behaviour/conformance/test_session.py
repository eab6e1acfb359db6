"""Sessions that outlive their connection, and what is owed to them (3.1.2.4, 4.1, 4.4)."""

import time
import unittest

import kit
import packets as mq
from kit import Suite, fresh, lasting, shows
from kit import start as setUpModule
from kit import stop as tearDownModule


class Session(Suite):
    @shows(v5="3.1.2-5 4.1.0-1 4.5.0-1 3.1.2-23", v3="3.1.2-4 3.1.2-5 4.1.0-1 4.1.0-2 4.5.0-1")
    def test_3_1_2_5_what_comes_while_a_client_is_away_waits_for_it(self, version):
        for how in ("leave", "vanish"):
            peer = self.peer(version, **lasting(version))
            topic = fresh("away")
            peer.subscribe(topic, qos=2)
            getattr(peer, how)()
            sender = self.peer(version)
            for number in range(10):
                sender.publish(topic, str(number), 1 + number % 2)
            again = self.peer(version, peer.client, present=True, **lasting(version))
            found = again.messages(10)
            for qos in (1, 2):
                self.assertEqual([int(one.payload) for one in found if one.qos == qos],
                                 list(range(qos - 1, 10, 2)))
            again.publish(topic, b"still subscribed", 1)
            again.message(payload=b"still subscribed")

    @shows(v5="3.1.2-4", v3="3.1.2-6")
    def test_3_1_2_4_a_clean_start_forgets_everything(self, version):
        peer = self.peer(version, **lasting(version))
        topic = fresh("forget")
        peer.subscribe(topic, qos=2)
        peer.leave()
        self.peer(version).publish(topic, b"lost", 2)
        clean = self.peer(version, peer.client, present=False)
        clean.leave()
        again = self.peer(version, peer.client, present=False, **lasting(version))
        again.publish(topic, b"x", 1)
        self.assertEqual(again.until(again), [])

    @shows(v5="4.1.0-2 3.1.2-23")
    def test_4_1_0_2_a_session_ends_when_its_expiry_is_over(self, version):
        gone, stays = (self.peer(version, **lasting(version, seconds)) for seconds in (1, 600))
        at_once = self.peer(version, clean=False)
        for peer in (gone, stays, at_once):
            peer.leave()
        time.sleep(1.5)  # sleep: the second must pass
        self.peer(version, gone.client, present=False, **lasting(version))
        self.peer(version, stays.client, present=True, **lasting(version))
        self.peer(version, at_once.client, present=False, **lasting(version))

    @shows(v5="4.1.0-2 3.14.2-2")
    def test_4_1_0_2_disconnect_may_change_the_expiry(self, version):
        for before, after, present in ((600, 0, False), (1, 600, True)):
            peer = self.peer(version, **lasting(version, before))
            peer.leave(properties=mq.props(session_expiry=after))
            if present:
                time.sleep(1.5)  # sleep: the first expiry must pass
            self.peer(version, peer.client, present=present, **lasting(version))
        peer = self.peer(version)
        peer.send(mq.disconnect(version, 0, mq.props(session_expiry=1)))
        peer.refused(0x82)

    @shows(v5="3.3.2-5 4.3.3-13")
    def test_3_3_2_5_what_is_too_old_is_not_delivered(self, version):
        peer = self.peer(version, **lasting(version))
        topic = fresh("old")
        peer.subscribe(topic, qos=2)
        peer.leave()
        sender = self.peer(version)
        for qos in (1, 2):
            sender.publish(topic, b"old", qos, properties=mq.props(message_expiry=1))
            sender.publish(topic, b"new", qos, properties=mq.props(message_expiry=600))
        sender.publish(topic, b"kept", 1, retain=True, properties=mq.props(message_expiry=1))
        time.sleep(1.5)  # sleep: the second must pass
        again = self.peer(version, peer.client, present=True, **lasting(version))
        found = again.until(sender)
        self.assertEqual([one.payload for one in found], [b"new", b"new"])
        for one in found:
            self.assertIn(one.props["message_expiry"], range(500, 600))
        fresh_one = self.peer(version)
        fresh_one.subscribe(topic)
        self.assertEqual(fresh_one.until(sender), [])

    @shows(v5="4.3.3-7")
    def test_4_3_3_7_what_was_begun_is_finished_although_it_is_old(self, version):
        peer = self.peer(version, **lasting(version))
        topic = fresh("begun")
        peer.subscribe(topic, qos=2)
        self.peer(version).publish(topic, b"x", 2, properties=mq.props(message_expiry=2))
        one = peer.message(acknowledge=False)
        peer.vanish()
        time.sleep(2.5)  # sleep: the two seconds must pass
        again = self.peer(version, peer.client, present=True, **lasting(version))
        again.message(packet_id=one.packet_id, dup=True)
        again.alive()

    @shows(v5="3.1.2-23 4.1.0-1 4.4.0-1", v3="3.1.2-4 4.1.0-1 4.4.0-1")
    def test_4_1_0_1_a_session_survives_a_crash_of_the_server(self, version):
        peer = self.peer(version, **lasting(version))
        topic = fresh("crash")
        peer.subscribe(topic, qos=2)
        sender = self.peer(version, **lasting(version))
        for qos in (1, 2):
            sender.publish(topic, str(qos), qos)
        sender.send(mq.publish(topic, b"3", version, 2, 99))
        sender.expect(mq.PUBREC, packet_id=99)
        found = [peer.message(acknowledge=False) for _ in range(3)]
        peer.send(mq.ack(mq.PUBREC, found[1].packet_id))
        peer.expect(mq.PUBREL, packet_id=found[1].packet_id)
        kit.gateway.kill()
        kit.gateway.start()
        again = self.peer(version, peer.client, present=True, **lasting(version))
        second = [again.packet() for _ in range(3)]
        messages = [one for one in second if one.kind == mq.PUBLISH]
        self.assertEqual([one.packet_id for one in messages],
                         [found[0].packet_id, found[2].packet_id])
        self.assertTrue(all(one.dup for one in messages))
        self.assertEqual([one.packet_id for one in second if one.kind == mq.PUBREL],
                         [found[1].packet_id])
        back = self.peer(version, sender.client, present=True, **lasting(version))
        back.send(mq.publish(topic, b"3", version, 2, 99, dup=True))
        back.expect(mq.PUBREC, packet_id=99)
        back.send(mq.ack(mq.PUBREL, 99))
        back.expect(mq.PUBCOMP, packet_id=99, code=0)
        again.alive()
        self.assertEqual(again.later, [])


if __name__ == "__main__":
    unittest.main()
