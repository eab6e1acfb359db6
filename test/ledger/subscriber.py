"""subscriber - readers over MQTT, with persistent sessions that lose their connection now and then.

A process of its own:  subscriber.py OPTIONS (JSON, see Options).  What each reader takes goes to a
file, entry by entry; on stdout a line of JSON when all have subscribed and at the end.  On stdin:
"quit {device: count}" means that so many different events of each device are still to be expected
in total at every reader (every group); it ends when they are there, or when nothing has come
for `quiet` seconds.
"""

import collections
import dataclasses
import json
import pathlib
import random
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "behaviour"))
import wire  # noqa: E402
from event import Damaged, Maker, topic  # noqa: E402
from peer import PACKET_ID, Loop, Lost, Peer  # noqa: E402

ENTRY = struct.Struct("<BBxxIQ")  # reader, 1: intact, device, number
CHUNK = ENTRY.size * 50_000
TURN_S = 0.05


@dataclasses.dataclass
class Options:
    port: int
    run: int
    path: str
    devices: list  # whose events are read
    readers: list  # [name, QoS, group or ""] each
    size: int = 100
    poison: int = 0  # as the publisher's
    losses: float = 0.0005  # how likely a connection is lost at a packet
    version: int = 5
    quiet: float = 30.0


def entries(path):
    """(reader, intact, device, number) in the order of arrival."""
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            yield from ENTRY.iter_unpack(chunk)


class Reader(Peer):
    def __init__(self, number, options, shared):
        self.label, self.qos, group = options.readers[number]
        super().__init__(f"led-{options.run}-{self.label}", options.port, options.version)
        self.reader, self.shared, self.losses = number, shared, options.losses
        self.rng = random.Random(f"{options.run}-{self.label}")
        prefix = f"$share/{group}/" if group else ""
        self.filters = [prefix + topic(options.run, device) for device in options.devices]
        self.view = group or self.label
        self.held = {}  # QoS 2: what came under a packet id that awaits its PUBREL
        self.subscribed = False

    def ready(self):
        if not self.subscribed:
            self.say(wire.subscribe(self.filters, version=self.version, qos=self.qos))

    def take(self, kind, body):
        what = kind >> 4
        answered = True
        if what != wire.SUBACK and self.rng.random() < self.losses:
            if self.rng.random() < 0.5:
                raise Lost("before it was taken")
            answered = False
        if what == wire.PUBLISH:
            self.take_publish(kind >> 1 & 3, body)
        elif what == wire.PUBREL:
            self.held.pop(body[:2], None)
            self.say(wire.packet(7, 0, body[:2]))
        elif what == wire.SUBACK:
            self.subscribed = True
            if any(code >= 0x80 for code in body[-len(self.filters) :]):
                self.faults.append(f"{self.name}: SUBACK {body.hex()}")
        if not answered:
            raise Lost("before it was answered")

    def take_publish(self, qos, body):
        at = 2 + PACKET_ID.unpack_from(body)[0]
        packet_id = body[at : at + 2]
        at += 2 if qos else 0
        if self.version == 5:
            at += body[at] + 1  # properties: short here
        payload = body[at:]
        if qos == 2:
            if packet_id not in self.held:
                self.held[packet_id] = payload
                self.shared.store(self, payload)
            elif self.held[packet_id] != payload:
                self.faults.append(f"{self.name}: packet id {packet_id.hex()} is used for another "
                                   "event before its PUBREL")
            self.say(wire.packet(wire.PUBREC, 0, packet_id))
        else:
            self.shared.store(self, payload)
            if qos:
                self.say(wire.packet(wire.PUBACK, 0, packet_id))


class Store:
    """The file, and how many different events of a device each view has."""

    def __init__(self, options):
        self.file = open(options.path, "wb", buffering=1 << 16)
        self.maker = Maker(options.run, options.size, options.poison)
        self.seen = collections.defaultdict(bytearray)  # (view, device): one byte a number
        self.different = collections.Counter()  # (view, device): how many of them
        self.last = time.monotonic()

    def store(self, reader, payload):
        self.last = time.monotonic()
        try:
            event = self.maker.recognise(payload)
        except Damaged:
            self.file.write(ENTRY.pack(reader.reader, 0, 0, 0))
            return
        self.file.write(ENTRY.pack(reader.reader, 1, event.device, event.number))
        seen = self.seen[reader.view, event.device]
        if event.number >= len(seen):
            seen.extend(bytes(event.number + 1 - len(seen)))
        if not seen[event.number]:
            seen[event.number] = 1
            self.different[reader.view, event.device] += 1

    def has(self, views, expected):
        return all(self.different[view, int(device)] >= count
                   for view in views for device, count in expected.items())


class Subscriber:
    def __init__(self, options):
        self.store = Store(options)
        self.readers = [Reader(n, options, self.store) for n in range(len(options.readers))]
        self.loop = Loop(self.readers)
        self.loop.watch(sys.stdin.fileno())
        self.expected, self.quiet = None, options.quiet

    def run(self):
        told = False
        while not self.is_over():
            if self.loop.turn(TURN_S):
                self.expected = json.loads(sys.stdin.readline().removeprefix("quit") or "{}")
                self.store.last = time.monotonic()
            self.loop.flush()
            if not told and all(one.subscribed for one in self.readers):
                told = True
                self.tell(done=False)
        self.store.file.close()
        self.tell(done=True)

    def is_over(self):
        if self.expected is None:
            return False
        views = {one.view for one in self.readers}
        return (self.store.has(views, self.expected)
                or time.monotonic() - self.store.last > self.quiet)

    def tell(self, done):
        faults = [fault for one in self.readers for fault in one.faults]
        print(json.dumps({"done": done, "faults": faults[:20],
                          "held": {one.label: len(one.held) for one in self.readers},
                          "connections": sum(one.connections for one in self.readers)}),
              flush=True)


if __name__ == "__main__":
    Subscriber(Options(**json.loads(sys.argv[1]))).run()
