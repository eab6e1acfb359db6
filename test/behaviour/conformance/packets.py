"""packets - MQTT 3.1.1 and 5.0 on the wire, read with the eyes of a strict client.

Encoding does what it is told, right or wrong.  Decoding refuses what the specification
does not let a server send: wrong flags, unknown reason codes, properties in the wrong
packet or twice.  So every test of the suite checks every packet that it gets.
"""

import struct

from wire import packet, text, varint

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK = 8, 9, 10, 11
PINGREQ, PINGRESP, DISCONNECT, AUTH = 12, 13, 14, 15
NAMES = ["?", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE",
         "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"]

# 2.2.2.2: identifier, how its value is written, and the packets in which a server may send it.
PROPERTIES = {
    "payload_format": (0x01, "u8", {PUBLISH}),
    "message_expiry": (0x02, "u32", {PUBLISH}),
    "content_type": (0x03, "text", {PUBLISH}),
    "response_topic": (0x08, "text", {PUBLISH}),
    "correlation_data": (0x09, "binary", {PUBLISH}),
    "subscription_id": (0x0B, "varint", {PUBLISH}),
    "session_expiry": (0x11, "u32", {CONNACK}),
    "assigned_client_id": (0x12, "text", {CONNACK}),
    "server_keep_alive": (0x13, "u16", {CONNACK}),
    "auth_method": (0x15, "text", {CONNACK, AUTH}),
    "auth_data": (0x16, "binary", {CONNACK, AUTH}),
    "request_problem_info": (0x17, "u8", set()),
    "will_delay": (0x18, "u32", set()),
    "request_response_info": (0x19, "u8", set()),
    "response_info": (0x1A, "text", {CONNACK}),
    "server_reference": (0x1C, "text", {CONNACK, DISCONNECT}),
    "reason_string": (0x1F, "text", {CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK,
                                     DISCONNECT, AUTH}),
    "receive_maximum": (0x21, "u16", {CONNACK}),
    "topic_alias_maximum": (0x22, "u16", {CONNACK}),
    "topic_alias": (0x23, "u16", {PUBLISH}),
    "maximum_qos": (0x24, "u8", {CONNACK}),
    "retain_available": (0x25, "u8", {CONNACK}),
    "user": (0x26, "pair", {CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK,
                            DISCONNECT, AUTH}),
    "maximum_packet_size": (0x27, "u32", {CONNACK}),
    "wildcard_available": (0x28, "u8", {CONNACK}),
    "subscription_id_available": (0x29, "u8", {CONNACK}),
    "shared_available": (0x2A, "u8", {CONNACK}),
}
BY_ID = {number: name for name, (number, _, _) in PROPERTIES.items()}

# The reason codes that a server may put into each packet of 5.0.
CODES = {
    CONNACK: {0x00, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F},
    PUBACK: {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    PUBREC: {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    PUBREL: {0x00, 0x92},
    PUBCOMP: {0x00, 0x92},
    SUBACK: {0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
    UNSUBACK: {0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
    DISCONNECT: {0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90,
                 *range(0x93, 0xA3)},
    AUTH: {0x00, 0x18},
}
CODES_V3 = {CONNACK: range(6), SUBACK: {0, 1, 2, 0x80}}


def props(*pairs, **named):
    """The bytes of properties, without their length.  `pairs`: (name, value), in this order."""
    out = b""
    for name, value in [*named.items(), *pairs]:
        number, kind, _ = PROPERTIES[name]
        out += bytes([number])
        if kind == "text" or kind == "binary":
            out += text(value)
        elif kind == "pair":
            out += text(value[0]) + text(value[1])
        elif kind == "varint":
            out += varint(value)
        else:
            out += struct.pack({"u8": ">B", "u16": ">H", "u32": ">I"}[kind], value)
    return out


class Reader:
    def __init__(self, raw):
        self.raw = raw
        self.at = 0

    def take(self, count):
        assert self.at + count <= len(self.raw), f"cut short: {self.raw!r}"
        self.at += count
        return self.raw[self.at - count : self.at]

    def number(self, kind):
        form = {"u8": ">B", "u16": ">H", "u32": ">I"}[kind]
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def varint(self):
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                assert byte or not shift, "a number in more bytes than it needs [MQTT-1.5.5-1]"
                return value
        raise AssertionError("a variable byte integer of more than four bytes")

    def binary(self):
        return self.take(self.number("u16"))

    def text(self):
        found = self.binary().decode("utf-8", "strict")
        assert "\0" not in found, "U+0000 in a string [MQTT-1.5.4-2]"
        return found

    def rest(self):
        return self.take(len(self.raw) - self.at)

    def left(self):
        return len(self.raw) - self.at

    def value(self, kind):
        if kind == "pair":
            return self.text(), self.text()
        if kind in ("text", "binary", "varint"):
            return getattr(self, kind)()
        return self.number(kind)

    def props(self, kind):
        """{name: value}; "user" and "subscription_id" are lists, in the order they came."""
        inner = Reader(self.take(self.varint()))
        found = {"user": [], "subscription_id": []}
        while inner.left():
            name = BY_ID[inner.take(1)[0]]
            _, form, allowed = PROPERTIES[name]
            assert kind in allowed, f"{name} in {NAMES[kind]}"
            value = inner.value(form)
            if name in ("user", "subscription_id"):
                found[name].append(value)
            else:
                assert name not in found, f"{name} twice in {NAMES[kind]}"
                found[name] = value
        return found


class Packet:
    """What a server sent, taken apart."""

    def __init__(self, first, body, version):
        self.kind = first >> 4
        self.flags = first & 15
        self.size = 1 + len(varint(len(body))) + len(body)
        self.props = {"user": [], "subscription_id": []}
        self.code = 0
        self.packet_id = None
        reader = Reader(body)
        {CONNACK: self._connack, PUBLISH: self._publish, PUBACK: self._ack, PUBREC: self._ack,
         PUBREL: self._ack, PUBCOMP: self._ack, SUBACK: self._suback, UNSUBACK: self._suback,
         PINGRESP: self._empty, DISCONNECT: self._disconnect, AUTH: self._disconnect,
         }[self.kind](reader, version)
        assert not reader.left(), f"bytes behind the end of {self}"
        if self.kind != PUBLISH:
            assert self.flags == (2 if self.kind == PUBREL else 0), f"wrong flags of {self}"
        codes = CODES if version == 5 else CODES_V3
        for code in getattr(self, "codes", [self.code]):
            assert code in codes.get(self.kind, {0}), f"code {code:#x} in {NAMES[self.kind]}"

    def __repr__(self):
        return f"{NAMES[self.kind]} {vars(self)}"

    def _connack(self, reader, version):
        flags = reader.number("u8")
        assert flags in (0, 1), "reserved CONNACK flags [MQTT-3.2.2-1]"
        self.present = bool(flags)
        self.code = reader.number("u8")
        if version == 5:
            self.props = reader.props(self.kind)

    def _publish(self, reader, version):
        self.dup, self.qos, self.retain = bool(self.flags & 8), self.flags >> 1 & 3, self.flags & 1
        assert self.qos != 3, "both QoS bits are set [MQTT-3.3.1-4]"
        assert self.qos or not self.dup, "DUP with QoS 0 [MQTT-3.3.1-2]"
        self.topic = reader.text()
        assert "+" not in self.topic and "#" not in self.topic, "a wildcard in a topic name"
        if self.qos:
            self.packet_id = reader.number("u16")
            assert self.packet_id, "packet identifier 0"
        if version == 5:
            self.props = reader.props(self.kind)
            assert self.props.get("topic_alias") != 0, "topic alias 0 [MQTT-3.3.2-8]"
        self.payload = reader.rest()

    def _ack(self, reader, version):
        self.packet_id = reader.number("u16")
        if version == 5 and reader.left():
            self.code = reader.number("u8")
        if version == 5 and reader.left():
            self.props = reader.props(self.kind)

    def _suback(self, reader, version):
        self.packet_id = reader.number("u16")
        if version == 5:
            self.props = reader.props(self.kind)
        self.codes = list(reader.rest())
        assert version == 5 or self.kind == SUBACK or not self.codes, "UNSUBACK of 3.1.1 with codes"

    def _disconnect(self, reader, version):
        assert version == 5, f"{NAMES[self.kind]} from a server of 3.1.1"
        if reader.left():
            self.code = reader.number("u8")
        if reader.left():
            self.props = reader.props(self.kind)

    def _empty(self, reader, version):
        del reader, version


def block(properties, version):
    return varint(len(properties)) + properties if version == 5 else b""


def connect(client, version, clean=True, keep_alive=60, will=None, username=None, password=None,
            properties=b"", flags=0, name="MQTT", level=None):
    """`will`: {topic, payload, qos, retain, properties}; `flags`: more bits than follow from it."""
    flags |= 0x02 if clean else 0
    tail = text(client)
    if will is not None:
        flags |= 0x04 | will.get("qos", 0) << 3 | (0x20 if will.get("retain") else 0)
        tail += block(will.get("properties", b""), version)
        tail += text(will["topic"]) + text(will.get("payload", b""))
    if username is not None:
        flags |= 0x80
        tail += text(username)
    if password is not None:
        flags |= 0x40
        tail += text(password)
    head = text(name) + bytes([version if level is None else level, flags])
    head += struct.pack(">H", keep_alive)
    return packet(CONNECT, 0, head + block(properties, version) + tail)


def publish(topic, payload, version, qos=0, packet_id=1, dup=False, retain=False, properties=b""):
    payload = payload if isinstance(payload, bytes) else payload.encode()
    body = text(topic) + (struct.pack(">H", packet_id) if qos else b"")
    flags = (8 if dup else 0) | qos << 1 | (1 if retain else 0)
    return packet(PUBLISH, flags, body + block(properties, version) + payload)


def ack(kind, packet_id, version=4, code=0, flags=None):
    body = struct.pack(">H", packet_id) + (bytes([code]) if version == 5 and code else b"")
    return packet(kind, (2 if kind == PUBREL else 0) if flags is None else flags, body)


def subscribe(filters, version, packet_id=1, properties=b"", flags=2):
    """`filters`: [(filter, options byte)]"""
    body = struct.pack(">H", packet_id) + block(properties, version)
    return packet(SUBSCRIBE, flags, body + b"".join(text(f) + bytes([o]) for f, o in filters))


def unsubscribe(filters, version, packet_id=1, properties=b"", flags=2):
    body = struct.pack(">H", packet_id) + block(properties, version)
    return packet(UNSUBSCRIBE, flags, body + b"".join(text(f) for f in filters))


def disconnect(version, code=0, properties=b"", flags=0):
    body = bytes([code]) + block(properties, version) if version == 5 and (code or properties) \
        else b""
    return packet(DISCONNECT, flags, body)


def auth(code, properties=b"", flags=0):
    return packet(AUTH, flags, bytes([code]) + block(properties, 5))
