"""publisher - devices that believe nothing but an acknowledgement, and keep a journal of their own.

A process of its own:  publisher.py OPTIONS (JSON, see Options).  On stdout a line of JSON five
times a second and at the end; "quit" on stdin: send nothing new, wait for the acknowledgements
that are owed, end.  After a reconnect a device sends what was not acknowledged again, in order,
with the same packet id and DUP; an exchange of QoS 2 that has its PUBREC goes on with PUBREL.
"""

import collections
import dataclasses
import json
import pathlib
import random
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "behaviour"))
import wire  # noqa: E402
from event import Maker, client_id, topic  # noqa: E402
from journal import ACKED, DONE, REFUSED, RESENT, SENT, UNKNOWN, Writer  # noqa: E402
from peer import PACKET_ID, Loop, Peer, reason_of  # noqa: E402

PACKET_IDS = 60_000
TURN_S = 0.005
TELL_S = 0.2
PUBREL_OF = wire.PUBREL << 4 | 2


@dataclasses.dataclass
class Options:
    port: int
    run: int
    path: str  # of the journal
    devices: int = 32
    rate: float = 10_000.0  # events a second, of all devices together; 0: as fast as it goes
    window: int = 50  # unacknowledged events of a device
    qos: tuple = (0, 1, 1, 2, 2)  # of device n: the n-th of these, again and again
    versions: tuple = (4, 5)
    size: int = 100  # bytes of a payload, on the average
    poison: int = 0  # every so many events of a device one is too large for the bridge; 0: none
    limit: int = 0  # events of each device; 0: until told to quit
    churn: float = 0.0  # connections lost a second, each of a device by chance


@dataclasses.dataclass(slots=True)
class UnderWay:
    number: int
    sent: float
    received: bool = False  # PUBREC has come


class Device(Peer):
    def __init__(self, number, options, maker, journal, counts):
        version = options.versions[number // len(options.qos) % len(options.versions)]
        super().__init__(client_id(options.run, number), options.port, version)
        self.device, self.qos = number, options.qos[number % len(options.qos)]
        self.window, self.limit = options.window, options.limit
        self.maker, self.journal, self.counts = maker, journal, counts
        self.number = 0
        self.under_way = collections.OrderedDict()  # by packet id, in the order of sending
        name = topic(options.run, number).encode()
        self.head = len(name).to_bytes(2, "big") + name
        self.properties = b"\x00" if version == 5 else b""
        self.first_byte = wire.PUBLISH << 4 | self.qos << 1

    def is_done(self):
        return not self.under_way and not self.pending

    def room(self):
        """How many more events it may send now."""
        if not self.joined:
            return 0
        room = self.window - len(self.under_way) if self.qos else self.window
        return min(room, self.limit - self.number) if self.limit else room

    def publish(self, count, now):
        for _ in range(count):
            self.number += 1
            packet_id = self.number % PACKET_IDS + 1
            self.journal.note(SENT, self.qos, 0, self.device, self.number, now)
            self.pending.append(self.packet(packet_id, self.number, now, 0))
            if self.qos:
                self.under_way[packet_id] = UnderWay(self.number, now)
        self.counts["sent"] += count

    def packet(self, packet_id, number, now, dup):
        payload = self.maker.make(self.device, number, now)
        body_id = PACKET_ID.pack(packet_id) if self.qos else b""
        length = len(self.head) + len(body_id) + len(self.properties) + len(payload)
        return b"".join((bytes((self.first_byte | dup,)), wire.varint(length), self.head, body_id,
                         self.properties, payload))

    def ready(self):
        now = time.time()
        for packet_id, one in self.under_way.items():
            if one.received:
                self.release(packet_id)
            else:
                self.journal.note(RESENT, self.qos, 0, self.device, one.number, now)
                self.counts["resent"] += 1
                self.say(self.packet(packet_id, one.number, one.sent, 8))

    def release(self, packet_id):
        self.say(bytes((PUBREL_OF, 2)) + PACKET_ID.pack(packet_id))

    def lost(self):
        now = time.time()
        for one in self.under_way.values():
            if not one.received:
                self.journal.note(UNKNOWN, self.qos, 0, self.device, one.number, now)

    def take(self, kind, body):
        packet_id = PACKET_ID.unpack_from(body)[0]
        one = self.under_way.get(packet_id)
        what = kind >> 4
        if one is None or (what == wire.PUBACK) != (self.qos == 1) or what == wire.PUBREL:
            self.faults.append(f"{self.name}: {kind:#x} for packet {packet_id}, which is not owed")
        elif what == 7:
            self.done(packet_id, one)
        elif not one.received:
            self.acknowledged(packet_id, one, reason_of(body))
        elif what == wire.PUBREC:
            self.release(packet_id)

    def acknowledged(self, packet_id, one, reason):
        kind = REFUSED if reason >= 0x80 else ACKED
        self.journal.note(kind, self.qos, reason, self.device, one.number, time.time())
        self.counts["refused" if kind == REFUSED else "acked"] += 1
        if self.qos == 2 and kind == ACKED:
            one.received = True
            self.release(packet_id)
        else:
            del self.under_way[packet_id]

    def done(self, packet_id, one):
        if not one.received:
            self.faults.append(f"{self.name}: PUBCOMP before PUBREC for event {one.number}")
        self.journal.note(DONE, self.qos, 0, self.device, one.number, time.time())
        del self.under_way[packet_id]


class Publisher:
    def __init__(self, options):
        self.options = options
        self.counts = collections.Counter(sent=0, resent=0, acked=0, refused=0)
        self.journal = Writer(options.path)
        maker = Maker(options.run, options.size, options.poison)
        self.devices = [Device(n, options, maker, self.journal, self.counts)
                        for n in range(options.devices)]
        self.loop = Loop(self.devices)
        self.loop.watch(sys.stdin.fileno())
        self.quitting = False
        self.rng, self.next_loss = random.Random(options.run), time.monotonic()
        self.budget, self.filled = 0.0, time.monotonic()
        self.turns = 0

    def run(self):
        told = time.monotonic()
        while not self.is_done():
            if self.loop.turn(TURN_S):
                self.quitting = self.quitting or self.was_told_to_quit()
            if not self.quitting:
                self.fill()
                self.lose_some()
            self.loop.flush()
            if time.monotonic() - told > TELL_S:
                told = time.monotonic()
                self.tell(done=False)
        self.journal.close()
        self.tell(done=True)

    def was_told_to_quit(self):
        return sys.stdin.readline() in ("quit\n", "")

    def is_done(self):
        limit = self.options.limit
        over = self.quitting or limit and all(one.number >= limit for one in self.devices)
        return over and all(one.is_done() for one in self.devices)

    def fill(self):
        """Spread what the rate allows since the last turn, beginning with another device each."""
        now, devices = time.monotonic(), self.devices
        rate = self.options.rate
        self.budget = min(self.budget + (now - self.filled) * rate, rate / 5 + 1)
        self.filled = now
        self.turns += 1
        share = int(self.budget / len(devices)) + 1 if rate else self.options.window
        wall = time.time()
        for n in range(len(devices)):
            if rate and self.budget < 1:
                break
            one = devices[(n + self.turns) % len(devices)]
            count = min(one.room(), share, int(self.budget) if rate else share)
            if count > 0:
                one.publish(count, wall)
                self.budget -= count

    def lose_some(self):
        """What a device has not sent yet, or not read, goes with its connection."""
        churn, now = self.options.churn, time.monotonic()
        if churn and now >= self.next_loss:
            self.next_loss = now + self.rng.expovariate(churn)
            one = self.rng.choice(self.devices)
            if one.joined:
                self.loop.drop(one)

    def tell(self, done):
        faults = [fault for one in self.devices for fault in one.faults]
        owed = sum(len(one.under_way) for one in self.devices)
        said = {**self.counts, "owed": owed, "done": done, "faults": faults[:20],
                "connections": sum(one.connections for one in self.devices)}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    Publisher(Options(**json.loads(sys.argv[1]))).run()
