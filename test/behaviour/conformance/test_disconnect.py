"""DISCONNECT, the ends of connections, and what carries them (3.14, 4.2, 4.13)."""

import unittest

import kit
import packets as mq
from harness import until
from kit import Suite, fresh, shows
from kit import start as setUpModule
from kit import stop as tearDownModule


class Disconnect(Suite):
    @shows(v5="3.14.4-1 3.14.4-2", v3="3.14.4-1 3.14.4-2")
    def test_3_14_4_1_nothing_comes_after_disconnect(self, version):
        topic = fresh("after")
        watch = self.peer(version)
        watch.subscribe(topic)
        peer = self.peer(version)
        peer.send(mq.disconnect(version) + mq.publish(topic, b"x", version))
        peer.closed()
        self.assertEqual(watch.until(watch), [])

    @shows(v5="3.14.2-1 3.14.1-1")
    def test_3_14_2_1_reason_codes_that_no_client_may_send_are_refused(self, version):
        for code in (0x01, 0x8B, 0x8D, 0x8E, 0xFF):
            peer = self.peer(version)
            peer.send(mq.disconnect(version, code))
            peer.refused(0x81, 0x82)

    @shows(v5="3.14.0-1 3.2.0-1")
    def test_3_14_0_1_no_disconnect_before_connack(self, version):
        for raw in (mq.publish("t", b"", version), mq.auth(0x18), b"\x10\x02\0\x04",
                    b"\x30\xff\xff\xff\x7f", mq.disconnect(version)):
            peer = self.stranger(version)
            peer.send(raw)
            found = peer.packet() if raw[0] != 0x10 else None
            self.assertTrue(found is None or found.kind == mq.CONNACK, found)

    @shows(v5="3.14.2-3 3.14.2-4 3.1.2-24")
    def test_3_14_2_3_a_small_packet_size_gets_no_long_disconnect(self, version):
        for size in (60, 40):
            peer = self.peer(version, properties=mq.props(maximum_packet_size=size))
            peer.send(mq.publish("a/#", b"", version))
            self.assertLessEqual(peer.expect(mq.DISCONNECT, code=0x90).size, size)
            peer.closed()

    @shows(v5="4.2.0-1", v3="7.1.1-1 7.0.0-2")
    def test_4_2_0_1_tcp_carries_packets_in_any_pieces(self, version):
        topic = fresh("pieces")
        peer = self.stranger(version)
        raw = (mq.connect(fresh(), version) + mq.subscribe([(topic, 1)], version)
               + mq.publish(topic, b"x" * 200, version, 1, 5))
        for byte in raw:
            peer.send(bytes([byte]))
        peer.expect(mq.CONNACK)
        peer.answer(mq.SUBACK)
        peer.answer(mq.PUBACK)
        peer.message(payload=b"x" * 200)

    @shows(v5="3.14.4-2 4.13.2-1")
    def test_4_13_2_1_a_server_that_stops_says_so(self, version):
        peers = [self.peer(version) for _ in range(3)]
        kit.gateway.stop()
        for peer in peers:
            peer.refused(0x8B)
        kit.gateway.start()
        until(lambda: kit.gateway.http("/readyz")[0] == 200, "the gateway to be ready")


if __name__ == "__main__":
    unittest.main()
