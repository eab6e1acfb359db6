"""ws - WebSocket frames by hand, for what no well-behaved client would send.

    with Ws(port) as ws:              upgraded; TLS with `context`
        ws.send(frame(connect("c")))  frames, or anything else
        ws.packet()                   the next MQTT packet, from as many frames as it takes
        ws.closed_with()              the code of the close frame; everything before it is dropped
"""

import socket
import struct

import wire
from harness import PATIENCE

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def frame(payload, opcode=BINARY, fin=True, mask=b"\x12\x34\x56\x78"):
    head = bytes([(0x80 if fin else 0) | opcode])
    bit = 0x80 if mask else 0
    if len(payload) < 126:
        head += bytes([bit | len(payload)])
    elif len(payload) < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", len(payload))
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", len(payload))
    if not mask:
        return head + payload
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def request(path="/mqtt", protocol="mqtt", **fields):
    """An upgrade; further header fields as keywords, None leaves one of ours out."""
    known = {"Host": "localhost", "Upgrade": "websocket", "Connection": "Upgrade",
             "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13",
             "Sec-WebSocket-Protocol": protocol}
    known.update({name.replace("_", "-"): value for name, value in fields.items()})
    lines = [f"{name}: {value}" for name, value in known.items() if value is not None]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode()


class Ws:
    def __init__(self, port, context=None, upgrade=True, before=b""):
        self.sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if before:
            self.sock.sendall(before)
        if context is not None:
            self.sock = context.wrap_socket(self.sock, server_hostname="localhost")
        self.raw = b""
        self.mqtt = b""
        self.pongs = []
        if upgrade:
            self.send(request())
            status, head, _ = self.answer()
            assert status == 101, head
            assert head["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", head

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def more(self):
        """False: the other side has closed."""
        try:
            got = self.sock.recv(65536)
        except ConnectionResetError:
            return False
        self.raw += got
        return bool(got)

    def answer(self):
        """(status, {header}, body) of the upgrade; the body up to the end unless it is 101."""
        while b"\r\n\r\n" not in self.raw:
            if not self.more():
                return None, {}, self.raw
        head, self.raw = self.raw.split(b"\r\n\r\n", 1)
        first, *lines = head.decode().split("\r\n")
        fields = dict(line.lower().split(": ", 1) if "accept" not in line.lower()
                      else (line.split(": ")[0].lower(), line.split(": ")[1]) for line in lines)
        status = int(first.split()[1])
        body = b""
        if status != 101:
            while self.more():
                pass
            body, self.raw = self.raw, b""
        return status, fields, body

    def frame(self):
        """(opcode, payload) of the next frame; None: closed without one."""
        while True:
            if len(self.raw) >= 2:
                length, at = self.raw[1], 2
                if length == 126 and len(self.raw) >= 4:
                    length, at = struct.unpack(">H", self.raw[2:4])[0], 4
                elif length == 127 and len(self.raw) >= 10:
                    length, at = struct.unpack(">Q", self.raw[2:10])[0], 10
                elif length >= 126:
                    length = 1 << 62
                if len(self.raw) >= at + length:
                    found = self.raw[0] & 15, self.raw[at : at + length]
                    self.raw = self.raw[at + length :]
                    return found
            if not self.more():
                return None

    def packet(self):
        """(first byte, body) of the next MQTT packet."""
        cutter = wire.Wire.__new__(wire.Wire)
        while True:
            cutter.buffer = self.mqtt
            whole = cutter._cut()
            self.mqtt = cutter.buffer
            if whole:
                return whole
            got = self.frame()
            if got is None or got[0] == CLOSE:
                return None
            if got[0] == PONG:
                self.pongs.append(got[1])
            else:
                self.mqtt += got[1]

    def closed_with(self):
        """The code of the close frame behind which the connection ends."""
        code = None
        while (got := self.frame()) is not None:
            if got[0] == CLOSE:
                code = struct.unpack(">H", got[1][:2])[0]
        return code

    def join(self, client, **options):
        self.send(frame(wire.connect(client, **options)))
        kind, body = self.packet()
        assert kind >> 4 == wire.CONNACK and body[1] == 0, (kind, body)
        return self
