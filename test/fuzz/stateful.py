#!/usr/bin/env python3
"""stateful - speak valid and slightly invalid MQTT with a running gateway, and know what must hold.

    build/venv/bin/python -B test/fuzz/stateful.py [SECONDS [SEED]]

Some clients connect, subscribe, publish, acknowledge, leave, vanish and take each other over
in an order that the seed decides; now and then one of their packets is changed on its way.
What must hold, whatever they do:

  - the gateway does not end, and no sanitizer speaks
  - a probe that does nothing wrong is answered
  - a connection that did nothing wrong is only ended by a takeover
  - it gets no packet that nothing asked for, and each of its own is answered in order
  - every QoS 1 and 2 publish that was accepted is in the journal, once if it was sent once

A CONNECT that was changed can become whole with the bytes of a later packet, at any time, and
then it takes its id over, even from a connection that came after it; so only the CONNECTs of
some ids are changed, and nothing is promised to connections of these.

The seed is printed; the same seed makes the same packets, as far as the order in which
answers arrive lets it.
"""

import json
import pathlib
import random
import struct
import subprocess
import sys
import time
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "behaviour"))

from harness import PATIENCE, Gateway, popen  # noqa: E402
from wire import (  # noqa: E402
    CONNACK, CONNECT, DISCONNECT, PINGREQ, PINGRESP, PUBACK, PUBLISH, PUBREC, PUBREL, SUBACK,
    SUBSCRIBE, UNSUBACK, UNSUBSCRIBE, Wire, connect, packet, publish, subscribe, text)

PUBCOMP = 7
IDS = ("anna", "bertram", "christine", "dagobert")  # no change makes one of them another,
WILD = ("emil", "friederike")  # nor these, whose CONNECT may be changed, one of those
TOPICS = ("t", "t/1", "t/1/2", "u", "u/1", "v//w")
FILTERS = ("#", "t/#", "+/1", "t/+/2", "u", "v//+", "$share/g/t/#", "$SYS/#")
ANSWERS = {PUBLISH: (PUBACK, PUBREC), PUBREL: (PUBCOMP,), SUBSCRIBE: (SUBACK,),
           UNSUBSCRIBE: (UNSUBACK,), PINGREQ: (PINGRESP,)}
CONFIG = """gateway: { memory: 64MiB, shards: 1 }
mqtt: { connect_timeout: 2s, packet_timeout: 2s, receive_maximum: 200, max_queued_messages: 200 }
"""


class Connection:
    """One connection and what we know of it."""

    def __init__(self, fuzzer, client):
        self.fuzzer, self.client = fuzzer, client
        self.chooser = fuzzer.chooser
        self.version = self.chooser.choice((4, 4, 5, 5, 5))
        self.wire = Wire(fuzzer.gateway.mqtt_port)
        self.wild = client in WILD
        self.spoilt = self.wild  # we may have broken a rule, so it may be ended
        self.open = {}  # packet id: (kind of ours, payload)
        self.pings = 0
        self.log = []
        clean = self.chooser.random() < 0.5
        properties = b""
        if self.version == 5 and not clean:
            properties = b"\x11" + struct.pack(">I", 30)
        will = ("will/t", "w" * self.chooser.randrange(50), self.chooser.randrange(3))
        self.is_known = clean or client not in fuzzer.spoilt_sessions
        if self.is_known:
            fuzzer.spoilt_sessions.discard(client)
        self.send(connect(client, self.version, flags=2 if clean else 0, properties=properties,
                          will=will if self.chooser.random() < 0.3 else None), CONNECT)
        got = None if self.spoilt else self.wire.read()
        if not self.spoilt and (got is None or got[0] >> 4 != CONNACK or got[1][1] != 0):
            raise AssertionError(f"a valid CONNECT was answered with {got}")

    def send(self, data, kind):
        """Perhaps changed; what was changed is not expected to be answered."""
        often = 0.5 if kind == CONNECT else self.fuzzer.spoil
        if (self.wild or kind != CONNECT) and self.chooser.random() < often:
            data = self.spoil(data)
            self.broke_a_rule()
        self.log.append((kind, data[:80].hex(), self.spoilt))
        try:
            self.wire.send(data)
        except OSError:
            self.fuzzer.ended(self)

    def broke_a_rule(self):
        """A changed packet may also have left any packet id open in the session."""
        self.spoilt = True
        self.fuzzer.spoilt_sessions.add(self.client)

    def spoil(self, data):
        data = bytearray(data)
        for _ in range(self.chooser.randrange(1, 3)):
            at = self.chooser.randrange(len(data))
            how = self.chooser.randrange(4)
            if how == 0:
                data[at] = self.chooser.randrange(256)
            elif how == 1:
                del data[at:at + self.chooser.randrange(1, 4)]
            elif how == 2:
                data[at:at] = self.chooser.randbytes(self.chooser.randrange(1, 5))
            else:
                data[at] ^= 1 << self.chooser.randrange(8)
            data = data or bytearray(b"\x00")
        return bytes(data)

    # ---- what it may do ----

    def a_packet_id(self):
        """Not one that its session may have in use from an earlier connection."""
        last = self.fuzzer.last_ids.get(self.client, 0) % 60000 + 1
        self.fuzzer.last_ids[self.client] = last
        return last

    def do_publish(self):
        if len([1 for kind, _ in self.open.values() if kind in (PUBLISH, PUBREL)]) >= 15:
            return
        qos, packet_id = self.chooser.randrange(3), self.a_packet_id()
        payload = self.fuzzer.payload()
        if qos:
            self.open[packet_id] = (PUBLISH, payload)
        self.send(publish(self.chooser.choice(TOPICS), payload, qos, packet_id, self.version,
                          retain=self.chooser.random() < 0.1), PUBLISH)
        if not self.spoilt:
            self.fuzzer.sent_once.add(payload)

    def do_subscribe(self):
        packet_id = self.a_packet_id()
        self.open[packet_id] = (SUBSCRIBE, None)
        filters = self.chooser.sample(FILTERS, self.chooser.randrange(1, 4))
        self.send(subscribe(filters, packet_id, self.version, self.chooser.randrange(3)), SUBSCRIBE)

    def do_unsubscribe(self):
        packet_id = self.a_packet_id()
        self.open[packet_id] = (UNSUBSCRIBE, None)
        body = struct.pack(">H", packet_id) + (b"\x00" if self.version == 5 else b"")
        self.send(packet(UNSUBSCRIBE, 2, body + text(self.chooser.choice(FILTERS))), UNSUBSCRIBE)

    def do_ping(self):
        self.pings += 1
        self.send(packet(PINGREQ, 0, b""), PINGREQ)

    def do_again(self):
        """A second CONNECT, an answer to nothing, a packet of servers: against the rules."""
        self.broke_a_rule()
        data = self.chooser.choice((connect("x", self.version), packet(CONNACK, 0, b"\x00\x00"),
                                    packet(PUBACK, 0, b"\x77\x77"), packet(PUBCOMP, 0, b"\x77\x77"),
                                    packet(15, 0, b""), packet(SUBSCRIBE, 2, b"\x00\x00")))
        self.send(data, 0)

    def do_leave(self):
        self.send(packet(DISCONNECT, 0, b""), DISCONNECT)
        self.fuzzer.ended(self)

    def do_vanish(self):
        self.fuzzer.ended(self)

    # ---- what comes ----

    def read(self, patience):
        """Take what is there for so long; False: it is over."""
        self.wire.sock.settimeout(patience)
        while True:
            try:
                got = self.wire.read()
            except TimeoutError:
                return True
            except OSError:
                got = None
            if got is None:
                self.over()
                return False
            self.took(got[0] >> 4, got[0] & 15, got[1])
            if self.wire.sock.fileno() < 0:
                return False

    def over(self):
        if not self.spoilt and self.fuzzer.owners.get(self.client) is self:
            raise AssertionError(f"the connection of '{self.client}' was ended for nothing; it had "
                                 f"sent {self.log[-20:]}")
        self.fuzzer.ended(self)

    def took(self, kind, flags, body):
        if kind == DISCONNECT:
            if self.spoilt or (body and body[0] == 0x8E):
                return
            raise AssertionError(f"DISCONNECT {body.hex()} for nothing, after {self.log[-20:]}")
        if kind == PUBLISH:
            self.answer(flags >> 1 & 3, body)
            return
        if kind == PUBREL:
            self.send(packet(PUBCOMP, 0, body[:2]), PUBCOMP)
            return
        if self.spoilt:
            self.note_accepted(kind, body)
            return
        if kind == PINGRESP:
            self.pings -= 1
            assert self.pings >= 0, "PINGRESP without PINGREQ"
            return
        packet_id = struct.unpack(">H", body[:2])[0]
        was = self.open.get(packet_id)
        if was is None or kind not in ANSWERS[was[0]]:
            raise AssertionError(f"packet {kind} of id {packet_id} answers {was}; "
                                 f"sent were {self.log[-20:]}")
        self.note_accepted(kind, body)

    def note_accepted(self, kind, body):
        packet_id = struct.unpack(">H", body[:2])[0] if len(body) >= 2 else 0
        was = self.open.get(packet_id)
        if was is None:
            return
        refused = len(body) > 2 and body[2] >= 0x80
        counts = kind == PUBACK or (kind == PUBREC and self.is_known)
        if counts and was[0] == PUBLISH and not refused and not self.spoilt:
            self.fuzzer.accepted.add(was[1])
        if kind == PUBREC and not refused and was[0] == PUBLISH:
            self.open[packet_id] = (PUBREL, None)
            self.send(packet(PUBREL, 2, body[:2]), PUBREL)
        else:
            self.open.pop(packet_id, None)

    def answer(self, qos, body):
        if qos:
            at = 2 + struct.unpack(">H", body[:2])[0]
            self.send(packet(PUBACK if qos == 1 else PUBREC, 0, body[at:at + 2]), PUBACK)


class Fuzzer:
    def __init__(self, gateway, seed, spoil=0.03):
        self.gateway, self.spoil = gateway, spoil
        self.chooser = random.Random(seed)
        self.seed = seed
        self.count = 0
        self.steps = 0
        self.last_ids = {}  # client id: the packet id it has used last
        self.owners = {}  # client id: its newest connection
        self.spoilt_sessions = set()  # client ids: what they have open may differ from what we know
        self.all = []
        self.accepted = set()
        self.sent_once = set()
        self.probe = Wire(gateway.mqtt_port, "probe", 5)
        self.probe_id = 0

    def payload(self):
        self.count += 1
        size = self.chooser.choice((0, 5, 50, 500, 5000))
        name = f"{self.seed}-{self.count}"  # with a checksum: a changed one is nobody's
        return f"<{name}-{zlib.crc32(name.encode()):08x}>".encode() + b"." * size

    def ended(self, connection):
        connection.wire.sock.close()
        if connection in self.all:
            self.all.remove(connection)
        if self.owners.get(connection.client) is connection:
            del self.owners[connection.client]

    def step(self):
        self.steps += 1
        if not self.all or (len(self.all) < 6 and self.chooser.random() < 0.15):
            client = self.chooser.choice(WILD if self.chooser.random() < 0.15 else IDS)
            self.owners.pop(client, None)
            connection = Connection(self, client)
            self.all.append(connection)
            if not connection.wild:
                self.owners[client] = connection
            return
        one = self.chooser.choice(self.all)
        do = self.chooser.choices(
            (one.do_publish, one.do_subscribe, one.do_unsubscribe, one.do_ping, one.do_again,
             one.do_leave, one.do_vanish), (60, 10, 5, 5, 2, 2, 3))[0]
        do()
        for other in list(self.all):
            other.read(0.0005)

    def check_probe(self):
        """It does nothing wrong, so it is served."""
        self.probe_id = self.probe_id % 60000 + 1
        payload = self.payload()
        self.probe.send(publish("probe", payload, 1, self.probe_id, 5))
        got = self.probe.read()
        assert got is not None and got[0] >> 4 == PUBACK, f"the probe got {got}"
        self.accepted.add(payload)
        self.sent_once.add(payload)

    def run(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(50):
                self.step()
            self.check_probe()
        for one in list(self.all):
            one.do_ping()
            one.read(0.2)
            self.ended(one)
        self.check_probe()

    def check_journal(self):
        """What was accepted is there."""
        self.probe.send(publish("the/end", b"", 1, 1, 5))
        assert self.probe.read()[0] >> 4 == PUBACK
        found = {}
        for event in self.events():
            number = event.get("payload", "").split(">")[0]
            found[number] = found.get(number, 0) + 1
        missing = [one for one in self.accepted if one.decode().split(">")[0] not in found]
        assert not missing, f"{len(missing)} accepted are not in the journal: {missing[0][:60]}"
        double = [one for one in self.sent_once if found.get(one.decode().split(">")[0], 0) > 1]
        assert not double, f"{len(double)} are there twice: {double[0][:60]}"
        return len(found)

    def events(self):
        """Those of the journal, up to the last one."""
        tap = popen([self.gateway.binary, "tap", "--data", self.gateway.data, "--from-start",
                     "--json", "#"], stdout=subprocess.PIPE, text=True)
        with tap:
            for line in tap.stdout:
                event = json.loads(line)
                if event["topic"] == "the/end":
                    break
                yield event
            tap.terminate()


def fuzz(seconds, seed, config=CONFIG):
    """One run; says what it did."""
    print(f"stateful: seed {seed}", file=sys.stderr, flush=True)
    with Gateway(config) as gateway:
        fuzzer = Fuzzer(gateway, seed)
        try:
            fuzzer.run(seconds)
            found = fuzzer.check_journal()
        except Exception as fault:
            raise AssertionError(f"seed {seed}, step {fuzzer.steps}: {fault}") from fault
        finally:
            fuzzer.probe.sock.close()
            for one in list(fuzzer.all):
                fuzzer.ended(one)
    print(f"stateful: {fuzzer.steps} steps, {len(fuzzer.accepted)} publishes accepted, {found} "
          "found in the journal", file=sys.stderr, flush=True)


if __name__ == "__main__":
    LONG = float(sys.argv[1]) if len(sys.argv) > 1 else PATIENCE
    fuzz(LONG, int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 32))
