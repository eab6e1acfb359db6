"""kit - what the conformance tests share: one gateway a file, peers, and the statements' numbers.

    from kit import Suite, Peer, shows, start as setUpModule, stop as tearDownModule

    class Connect(Suite):
        @shows(v5="3.1.0-2", v3="3.1.0-2")
        def test_3_1_0_2_a_second_connect_is_a_protocol_error(self, version): ...

A test runs once for each version that it names.  tools/conformance.py compares the numbers
with docs/CONFORMANCE.md.  The number in a test's name is that of 5.0, or of 3.1.1 if it is
shown there alone.
"""

import functools
import itertools
import socket
import unittest

import packets as mq
from harness import PATIENCE, Gateway
from wire import Wire

gateway = None
_fresh = itertools.count(1)


def start(config="", sets=()):
    global gateway
    gateway = Gateway(config, sets=sets).start()


def stop():
    gateway.__exit__(None)


def fresh(what="x"):
    """A client id or topic that nobody has used."""
    return f"{what}-{next(_fresh)}"


def lasting(version, seconds=600):
    """CONNECT of a session that outlives its connection."""
    properties = mq.props(session_expiry=seconds) if version == 5 else b""
    return {"clean": False, "properties": properties}


def shows(v5="", v3=""):
    """The statements that a test shows, as "3.1.0-1 3.1.0-2"; of 3.1.1 with `v3`."""
    versions = ([4] if v3 else []) + ([5] if v5 else [])

    def decorate(test):
        @functools.wraps(test)
        def run(self):
            for version in versions:
                with self.subTest(version={4: "3.1.1", 5: "5.0"}[version]):
                    try:
                        test(self, version)
                    finally:
                        self.close_peers()

        return run

    return decorate


class Peer(Wire):
    """One connection of one version.  Messages that a call does not ask for wait in `later`."""

    def __init__(self, version, client=None, connect=True, present=None, port=None, **how):
        super().__init__(port or gateway.mqtt_port)
        self.version = version
        self.client = fresh("peer") if client is None else client
        self.later = []
        self.ids = itertools.count(1)
        self.connack = None
        if connect:
            self.connack = self.connect(**how)
            assert self.connack.code == 0, self.connack
            if present is not None:
                assert self.connack.present == present, self.connack

    def connect(self, **how):
        self.send(mq.connect(self.client, self.version, **how))
        return self.expect(mq.CONNACK)

    # ---- what comes ----

    def packet(self):
        """The next packet, or None at the end of the connection."""
        return self.later.pop(0) if self.later else self._arrived()

    def _arrived(self):
        found = self.read()
        return None if found is None else mq.Packet(*found, self.version)

    def expect(self, kind, **fields):
        """The next packet, which must be of this kind and have these fields."""
        found = self.packet()
        assert found is not None, f"closed instead of {mq.NAMES[kind]}"
        assert found.kind == kind, f"{found} instead of {mq.NAMES[kind]}"
        for name, value in fields.items():
            assert getattr(found, name) == value, f"{name} is not {value!r}: {found}"
        return found

    def answer(self, kind, **fields):
        """As expect(), but messages that come before it are kept for later."""
        while True:
            found = self._arrived()
            if found is None or found.kind != mq.PUBLISH:
                self.later.insert(0, found)
                return self.expect(kind, **fields)
            self.later.append(found)

    def closed(self):
        """The other side ends the connection, without another word."""
        found = self.packet()
        assert found is None, f"{found} instead of the end"

    def refused(self, *codes):
        """The connection ends; 5.0 is told why, by one of these codes."""
        if self.version == 5:
            found = self.expect(mq.DISCONNECT)
            assert found.code in codes, found
            assert "session_expiry" not in found.props
        self.closed()

    def alive(self):
        self.send(mq.packet(mq.PINGREQ, 0, b""))
        self.answer(mq.PINGRESP)

    # ---- whole exchanges ----

    def subscribe(self, *filters, qos=0, options=None, properties=b""):
        """The codes of the SUBACK."""
        packet_id = next(self.ids)
        option = qos if options is None else options
        wanted = [one if isinstance(one, tuple) else (one, option) for one in filters]
        self.send(mq.subscribe(wanted, self.version, packet_id, properties))
        answer = self.answer(mq.SUBACK)
        assert answer.packet_id == packet_id, answer
        assert len(answer.codes) == len(wanted), answer
        return answer.codes

    def unsubscribe(self, *filters):
        packet_id = next(self.ids)
        self.send(mq.unsubscribe(filters, self.version, packet_id))
        answer = self.answer(mq.UNSUBACK)
        assert answer.packet_id == packet_id, answer
        return answer.codes

    def publish(self, topic, payload=b"x", qos=0, packet_id=None, **how):
        """Publish and see it through; the last answer, or None of QoS 0."""
        packet_id = packet_id or next(self.ids)
        self.send(mq.publish(topic, payload, self.version, qos, packet_id, **how))
        if qos == 0:
            return None
        answer = self.answer(mq.PUBACK if qos == 1 else mq.PUBREC)
        assert answer.packet_id == packet_id, answer
        if qos == 2 and answer.code < 0x80:
            self.send(mq.ack(mq.PUBREL, packet_id))
            answer = self.answer(mq.PUBCOMP)
            assert answer.packet_id == packet_id, answer
        return answer

    def acknowledge(self, message):
        """Whatever its QoS asks for, to the end."""
        if message.qos == 1:
            self.send(mq.ack(mq.PUBACK, message.packet_id))
        elif message.qos == 2:
            self.send(mq.ack(mq.PUBREC, message.packet_id))
            release = self.answer(mq.PUBREL)
            assert release.packet_id == message.packet_id, release
            self.send(mq.ack(mq.PUBCOMP, message.packet_id))

    def message(self, acknowledge=True, **fields):
        found = self.expect(mq.PUBLISH, **fields)
        if acknowledge:
            self.acknowledge(found)
        return found

    def messages(self, count):
        return [self.message() for _ in range(count)]

    def until(self, publisher, qos=1):
        """All messages before one that `publisher` sends now: nothing else is on the way."""
        topic = fresh("fence")
        self.subscribe(topic, qos=qos)
        publisher.publish(topic, b"", qos)
        found = []
        while True:
            one = self.message()
            if one.topic == topic:
                return found
            found.append(one)

    def leave(self, code=0, properties=b""):
        """DISCONNECT; returns when the server has closed."""
        self.send(mq.disconnect(self.version, code, properties))
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server was faster
        while self.packet() is not None:
            pass
        self.sock.close()

    def vanish(self):
        """The connection ends without DISCONNECT, and the server knows it."""
        self.sock.shutdown(socket.SHUT_WR)
        while self.packet() is not None:
            pass
        self.sock.close()


class Suite(unittest.TestCase):
    def peer(self, version, *args, **how):
        """A peer that is closed when the test is over, or its version's part of it."""
        peer = Peer(version, *args, **how)
        peer.patience(PATIENCE)
        self.__dict__.setdefault("peers", []).append(peer)
        return peer

    def close_peers(self):
        for peer in self.__dict__.pop("peers", []):
            peer.sock.close()

    def stranger(self, version):
        """A connection that has not said CONNECT."""
        return self.peer(version, connect=False)

    def refused_connect(self, version, *codes, **how):
        """CONNECT with these oddities is answered by one of the codes, or not at all (None)."""
        peer = self.stranger(version)
        raw = how.pop("raw", None)
        client = how.pop("client", None)
        peer.send(raw or mq.connect(fresh() if client is None else client, version, **how))
        found = peer.packet()
        if found is None:
            self.assertIn(None, codes)
            return None
        self.assertEqual(found.kind, mq.CONNACK)
        self.assertIn(found.code, codes)
        self.assertFalse(found.present)
        peer.closed()
        return found
