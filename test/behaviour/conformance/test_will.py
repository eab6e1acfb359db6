"""Wills (3.1.2.5 to 3.1.2.7, 3.1.3.2)."""

import time
import unittest

import packets as mq
from kit import Suite, fresh, lasting, shows
from kit import start as setUpModule
from kit import stop as tearDownModule


class Will(Suite):
    def watched(self, version, **will):
        """A watcher, and a client with a will that it would see."""
        topic = fresh("will")
        watch = self.peer(version)
        watch.subscribe(topic, qos=2)
        return watch, self.peer(version, will={"topic": topic, "payload": b"gone", **will}), topic

    @shows(v5="3.1.2-7 3.1.2-8 3.1.2-14", v3="3.1.2-8 3.1.2-9 3.1.2-16")
    def test_3_1_2_8_a_connection_that_vanishes_leaves_its_will(self, version):
        for qos in (0, 1, 2):
            watch, dying, topic = self.watched(version, qos=qos)
            dying.vanish()
            watch.message(topic=topic, payload=b"gone", qos=qos, retain=0)
            late = self.peer(version)
            late.subscribe(topic)
            self.assertEqual(late.until(watch), [])

    @shows(v5="3.1.2-8", v3="3.1.2-8")
    def test_3_1_2_8_a_protocol_error_and_a_takeover_leave_the_will(self, version):
        watch, dying, topic = self.watched(version, qos=1)
        dying.send(mq.publish("a/#", b"", version))
        watch.message(topic=topic, payload=b"gone")
        watch, dying, topic = self.watched(version, qos=1)
        self.peer(version, dying.client)
        watch.message(topic=topic, payload=b"gone")

    @shows(v5="3.1.2-8 3.1.2-22", v3="3.1.2-8 3.1.2-24")
    def test_3_1_2_22_silence_leaves_the_will(self, version):
        topic = fresh("will")
        watch = self.peer(version)
        watch.subscribe(topic)
        silent = self.peer(version, keep_alive=1, will={"topic": topic})
        watch.message(topic=topic)
        silent.refused(0x8D)

    @shows(v5="3.1.2-15", v3="3.1.2-17")
    def test_3_1_2_15_a_retained_will_is_retained(self, version):
        watch, dying, topic = self.watched(version, qos=1, retain=True)
        dying.vanish()
        watch.message(retain=0)
        late = self.peer(version)
        late.subscribe(topic)
        late.message(payload=b"gone", retain=1)
        watch.publish(topic, b"", 1, retain=True)

    @shows(v5="3.14.4-3 3.1.2-10 3.1.2-8", v3="3.14.4-3 3.1.2-10 3.1.2-12")
    def test_3_14_4_3_disconnect_revokes_the_will(self, version):
        watch, dying, _ = self.watched(version, qos=1)
        dying.leave()
        self.peer(version).vanish()
        self.assertEqual(watch.until(self.peer(version)), [])

    @shows(v5="3.1.2-8 3.14.4-3")
    def test_3_1_2_8_disconnect_with_will_leaves_it(self, version):
        for code in (0x04, 0x80, 0x99):
            watch, dying, _ = self.watched(version, qos=1)
            dying.leave(code)
            watch.message(payload=b"gone")

    @shows(v5="3.1.2-8 3.1.3-9 3.1.2-10")
    def test_3_1_3_9_who_is_back_before_the_delay_is_over_leaves_no_will(self, version):
        topic = fresh("will")
        watch = self.peer(version)
        watch.subscribe(topic, qos=1)
        will = {"topic": topic, "qos": 1, "properties": mq.props(will_delay=2)}
        first = self.peer(version, will=will, **lasting(version))
        first.vanish()
        back = self.peer(version, first.client, present=True, **lasting(version))
        time.sleep(2.5)  # sleep: the delay must pass
        self.assertEqual(watch.until(back), [])
        second = self.peer(version, will=will, **lasting(version))
        began = time.monotonic()
        second.vanish()
        watch.message(topic=topic)
        self.assertGreater(time.monotonic() - began, 1.9)

    @shows(v5="3.1.2-8 3.1.2-10")
    def test_3_1_2_8_the_will_does_not_come_later_than_the_session_ends(self, version):
        topic = fresh("will")
        watch = self.peer(version)
        watch.subscribe(topic, qos=1)
        late = {"topic": topic, "qos": 1, "properties": mq.props(will_delay=3600)}
        self.peer(version, will=late, **lasting(version, 1)).vanish()
        self.peer(version, will=late).vanish()
        self.assertEqual(len(watch.messages(2)), 2)

    @shows(v5="3.1.2-9 3.1.2-11 3.1.2-12 3.1.2-13 3.1.3-11 1.5.4-1",
           v3="3.1.2-9 3.1.2-11 3.1.2-13 3.1.2-14 3.1.2-15 3.1.3-10 1.5.3-1")
    def test_3_1_2_12_wrong_wills_are_refused(self, version):
        codes = [0x81, 0x82, 0x90] if version == 5 else [None]
        for flags in (0x08, 0x10, 0x18, 0x20, 0x28):
            self.refused_connect(version, *codes, flags=flags)
        self.refused_connect(version, *codes, flags=0x04)
        self.refused_connect(version, *codes, will={"topic": "t", "qos": 3})
        for topic in (b"\xff", b"a\0", b""):
            self.refused_connect(version, *codes, will={"topic": topic})
        for topic in ("a/#", "+"):
            self.refused_connect(version, *codes, will={"topic": topic})

    @shows(v5="2.2.2-1 3.1.2-9")
    def test_3_1_2_9_wrong_properties_of_a_will_are_refused(self, version):
        for properties in (mq.props(session_expiry=1), mq.props(will_delay=1) * 2, b"\x05",
                           mq.props(payload_format=3), mq.props(response_topic="#"),
                           mq.props(topic_alias=1), mq.props(subscription_id=1)):
            self.refused_connect(version, 0x81, 0x82, 0x90,
                                 will={"topic": "t", "properties": properties})


if __name__ == "__main__":
    unittest.main()
