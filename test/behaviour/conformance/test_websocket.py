"""MQTT over WebSocket (section 6 of both versions)."""

import base64
import hashlib
import os
import socket
import struct
import unittest

import kit
import packets as mq
from kit import Peer, Suite, fresh, shows
from kit import stop as tearDownModule

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def setUpModule():
    kit.start('listeners:\n  web: { bind: "127.0.0.1:0", websocket: /mqtt }\n')


def web_port():
    return int(kit.gateway.log.wait(r"listening on \S*?:(\d+) \(web\)")[1])


class Web:
    """A socket that speaks WebSocket (RFC 6455): what is sent becomes a frame."""

    def __init__(self, sock, protocols="mqtt"):
        self.sock = sock
        self.raw = b""
        self.closed_with = None
        self.pongs = []
        key = base64.b64encode(os.urandom(16))
        offer = f"Sec-WebSocket-Protocol: {protocols}\r\n" if protocols else ""
        sock.sendall(f"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                     f"Connection: Upgrade\r\nSec-WebSocket-Key: {key.decode()}\r\n"
                     f"Sec-WebSocket-Version: 13\r\n{offer}\r\n".encode())
        head = self.until_empty_line().decode()
        self.status = int(head.split(" ")[1])
        lines = [line.split(": ", 1) for line in head.split("\r\n")[1:] if line]
        self.headers = {name.lower(): value for name, value in lines}
        digest = base64.b64encode(hashlib.sha1(key + MAGIC).digest()).decode()
        assert self.status != 101 or self.headers["sec-websocket-accept"] == digest

    def until_empty_line(self):
        while b"\r\n\r\n" not in self.raw:
            more = self.sock.recv(4096)
            if not more:
                break
            self.raw += more
        head, _, self.raw = self.raw.partition(b"\r\n\r\n")
        return head

    def frame(self, kind, data, final=True):
        mask = os.urandom(4)
        size = len(data)
        head = bytes([(0x80 if final else 0) | kind])
        if size < 126:
            head += bytes([0x80 | size])
        elif size < 65536:
            head += bytes([0x80 | 126]) + struct.pack(">H", size)
        else:
            head += bytes([0x80 | 127]) + struct.pack(">Q", size)
        masked = bytes(byte ^ mask[at & 3] for at, byte in enumerate(data))
        self.sock.sendall(head + mask + masked)

    def take(self, count):
        while len(self.raw) < count:
            more = self.sock.recv(65536)
            if not more:
                return None
            self.raw += more
        found, self.raw = self.raw[:count], self.raw[count:]
        return found

    def next_frame(self):
        """(kind, data), or None at the end of the connection."""
        head = self.take(2)
        if head is None:
            return None
        size = head[1]
        assert size < 128, "a server does not mask"
        if size > 125:
            form = ">H" if size == 126 else ">Q"
            size = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return head[0] & 15, self.take(size)

    # ---- as Wire wants it ----

    def sendall(self, data):
        self.frame(BINARY, data)

    def recv(self, _):
        while True:
            found = self.next_frame()
            if found is None:
                return b""
            kind, data = found
            if kind == CLOSE:
                self.closed_with = struct.unpack(">H", data[:2])[0] if data else None
                return b""
            if kind == PONG:
                self.pongs.append(data)
                continue
            assert kind in (BINARY, CONTINUATION), f"frame {kind} [MQTT-6.0.0-1]"
            if data:
                return data

    def settimeout(self, seconds):
        self.sock.settimeout(seconds)

    def shutdown(self, how):
        self.sock.shutdown(how)

    def close(self):
        self.sock.close()


class WebPeer(Peer):
    def connect(self, **how):
        self.sock = Web(self.sock)
        assert self.sock.status == 101, self.sock.status
        return super().connect(**how)


class WebSocket(Suite):
    def web(self, version, **how):
        peer = WebPeer(version, port=web_port(), **how)
        peer.patience(kit.PATIENCE)
        self.__dict__.setdefault("peers", []).append(peer)
        return peer

    def upgrade(self, protocols):
        sock = socket.create_connection(("127.0.0.1", web_port()), kit.PATIENCE)
        self.addCleanup(sock.close)
        return Web(sock, protocols)

    @shows(v5="6.0.0-4", v3="6.0.0-4")
    def test_6_0_0_4_the_server_selects_mqtt(self, version):
        for offer in ("mqtt", "soap, mqtt", "mqtt, mqttv3.1"):
            web = self.upgrade(offer)
            self.assertEqual((web.status, web.headers["sec-websocket-protocol"]), (101, "mqtt"))

    @shows(v5="6.0.0-3", v3="6.0.0-3")
    def test_6_0_0_3_who_does_not_offer_mqtt_is_refused(self, version):
        for offer in (None, "soap", "MQTT2"):
            self.assertNotEqual(self.upgrade(offer).status, 101)

    @shows(v5="6.0.0-1", v3="6.0.0-1")
    def test_6_0_0_1_another_frame_than_a_binary_one_ends_the_connection(self, version):
        peer = self.web(version)
        peer.alive()
        peer.sock.frame(TEXT, b"hello")
        while peer.read() is not None:
            pass
        self.assertIn(peer.sock.closed_with, (None, 1002, 1003))

    @shows(v5="6.0.0-2", v3="6.0.0-2")
    def test_6_0_0_2_packets_and_frames_are_not_aligned(self, version):
        topic = fresh("frames")
        peer = self.web(version)
        for byte in mq.subscribe([(topic, 1)], version, 5):
            peer.send(bytes([byte]))
        peer.expect(mq.SUBACK, packet_id=5)
        one = mq.publish(topic, b"1", version, 1, 6)
        peer.send(one + mq.publish(topic, b"2", version, 1, 7) + one[:3])
        peer.sock.frame(BINARY, one[3:6], final=False)
        peer.sock.frame(PING, b"between")
        peer.sock.frame(CONTINUATION, one[6:])
        for packet_id in (6, 7, 6):
            peer.answer(mq.PUBACK, packet_id=packet_id)
        self.assertEqual([one.payload for one in peer.messages(3)], [b"1", b"2", b"1"])
        self.assertEqual(peer.sock.pongs, [b"between"])

    @shows(v5="6.0.0-1 6.0.0-2 4.2.0-1", v3="6.0.0-1 6.0.0-2 7.1.1-1")
    def test_6_0_0_1_everything_works_as_over_tcp(self, version):
        topic = fresh("web")
        plain = self.peer(version)
        web = self.web(version, will={"topic": topic + "/will", "qos": 1})
        plain.subscribe(topic + "/#", qos=2)
        web.subscribe(topic, qos=2)
        for qos in (0, 1, 2):
            web.publish(topic, b"x" * 100_000 + str(qos).encode(), qos)
            for peer in (plain, web):
                self.assertEqual(len(peer.message(qos=qos).payload), 100_001)
        web.vanish()
        plain.message(topic=topic + "/will")


if __name__ == "__main__":
    unittest.main()
