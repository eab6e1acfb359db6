"""wire - MQTT packets byte by byte, for what no well-behaved client would send.

Encoding here is by hand and on purpose independent of the gateway's codec.
"""

import socket
import struct

from harness import PATIENCE

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL = 1, 2, 3, 4, 5, 6
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 8, 9, 10, 11, 12, 13, 14


def varint(number):
    out = bytearray()
    while True:
        number, low = divmod(number, 128)
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack(">H", len(raw)) + raw


def packet(kind, flags, body):
    return bytes([kind << 4 | flags]) + varint(len(body)) + body


def connect(client, version=4, keep_alive=60, flags=0x02, will=None, properties=b"", login=None):
    """`will`: (topic, payload, qos); `login`: (user, password)."""
    tail = text(client)
    if will:
        topic, payload, qos = will
        flags |= 0x04 | qos << 3
        tail += (b"\x00" if version == 5 else b"") + text(topic) + text(payload)
    props = varint(len(properties)) + properties if version == 5 else b""
    if login:
        flags |= 0xC0
        tail += text(login[0]) + text(login[1])
    head = text("MQTT") + bytes([version, flags]) + struct.pack(">H", keep_alive)
    return packet(CONNECT, 0, head + props + tail)


def publish(topic, payload, qos=0, packet_id=0, version=4, dup=False, retain=False):
    body = text(topic) + (struct.pack(">H", packet_id) if qos else b"")
    body += (b"\x00" if version == 5 else b"") + payload
    return packet(PUBLISH, (8 if dup else 0) | qos << 1 | (1 if retain else 0), body)


def subscribe(filters, packet_id=1, version=4, qos=1):
    body = struct.pack(">H", packet_id) + (b"\x00" if version == 5 else b"")
    return packet(SUBSCRIBE, 2, body + b"".join(text(one) + bytes([qos]) for one in filters))


async def read_packet(reader):
    """(first byte, body) from a stream of asyncio."""
    kind = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return kind, await reader.readexactly(length)


class Wire:
    """One connection; packets in, packets out."""

    def __init__(self, port, greet=None, version=4, source=None):
        """`source`: the address to come from, such as 127.0.0.7."""
        self.sock = socket.create_connection(("127.0.0.1", port), PATIENCE,
                                             (source, 0) if source else None)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        if greet is not None:
            self.send(connect(greet, version))
            kind, body = self.read()
            assert kind >> 4 == CONNACK and body[1] == 0, (kind, body)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def read(self):
        """(first byte, body), or None when the other side has closed."""
        while True:
            whole = self._cut()
            if whole:
                return whole
            try:
                more = self.sock.recv(65536)
            except ConnectionResetError:
                return None
            if not more:
                return None
            self.buffer += more

    def _cut(self):
        length = shift = 0
        for at, byte in enumerate(self.buffer[1:5], 1):
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                end = at + 1 + length
                if len(self.buffer) < end:
                    return None
                whole = self.buffer[0], self.buffer[at + 1 : end]
                self.buffer = self.buffer[end:]
                return whole
        return None

    def read_until_closed(self):
        """All packets up to the end of the connection."""
        found = []
        while True:
            one = self.read()
            if one is None:
                return found
            found.append(one)

    def patience(self, seconds):
        self.sock.settimeout(seconds)
