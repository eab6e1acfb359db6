"""devices - devices in one event loop, what each sent and was thanked for; and their judge.

For tests that steer them step by step; test/ledger has the ledger for load and faults.

    Publisher ──▶ Ledger: sent 1..n, acknowledged {..}
    Kafka     ──▶ Arrival (device, number, partition, offset, payload intact)
    judge(ledger, arrivals) ──▶ sentences about what is wrong; none: the promise was kept

The promise: every acknowledged event is in Kafka; first appearances of a device's events
are in the order it sent them; nothing is there that was never sent.  An event that was
sent but not acknowledged may be there, or not; any event may be there more than once.
"""

import asyncio
import collections
import dataclasses
import hashlib
import json

import wire

COMPLAINTS_MAX = 20  # a broken run breaks in a thousand places; the first few tell


@dataclasses.dataclass
class Ledger:
    sent: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    acknowledged: dict = dataclasses.field(
        default_factory=lambda: collections.defaultdict(set)
    )

    def acknowledged_count(self):
        return sum(map(len, self.acknowledged.values()))


@dataclasses.dataclass(slots=True)  # there are a million of them
class Arrival:
    device: str
    number: int
    partition: int
    offset: int
    intact: bool = True


def payload_of(device, number):
    """Its content follows from its name, so a changed byte is noticed."""
    digest = hashlib.sha256(f"{device}/{number}".encode()).hexdigest()
    filler = digest * (number % 7)
    return json.dumps({"device": device, "number": number, "filler": filler}).encode()


def arrival_of(record):
    """From a Kafka record written by a bridge with `value_encoder: raw`."""
    try:
        event = json.loads(record.value())
        device, number = event["device"], event["number"]
    except (ValueError, KeyError, TypeError):
        return Arrival(repr(record.value()), -1, record.partition(), record.offset(), False)
    intact = record.value() == payload_of(device, number) and record.key() == device.encode()
    return Arrival(device, number, record.partition(), record.offset(), intact)


def judge(ledger, arrivals):
    complaints = []
    by_device = collections.defaultdict(list)
    for one in sorted(arrivals, key=lambda a: (a.partition, a.offset)):
        by_device[one.device].append(one)

    for device, found in by_device.items():
        if len({one.partition for one in found}) > 1:
            complaints.append(f"{device}: in more than one partition")
        complaints += judge_device(device, found, ledger.sent[device])
    for device, numbers in ledger.acknowledged.items():
        missing = sorted(numbers - {one.number for one in by_device[device]})
        if missing:
            complaints.append(f"{device}: acknowledged but lost: {missing[:10]}"
                              f" ({len(missing)} of {len(numbers)})")
    return complaints[:COMPLAINTS_MAX]


def judge_device(device, found, sent):
    seen, highest = set(), 0
    for one in found:
        if not one.intact:
            yield f"{device}: event {one.number} is not what was sent"
        if not 1 <= one.number <= sent:
            yield f"{device}: event {one.number} was never sent"
        elif one.number not in seen and one.number < highest:
            yield f"{device}: event {one.number} first appears after {highest}"
        seen.add(one.number)
        highest = max(highest, one.number)


class Publisher:
    """A device that believes nothing but a PUBACK, and comes back after every loss.

    After a reconnect it sends what was not acknowledged again, in order, with DUP.
    It keeps `window` events under way until quit() is called; then it waits for the rest.
    After each acknowledgement it rests for `rest_s` seconds.
    """

    def __init__(self, name, port, ledger, window, rest_s=0.0):
        self.name, self.port, self.ledger, self.window = name, port, ledger, window
        self.rest_s = rest_s
        self.waiting = collections.OrderedDict()  # packet id -> number, in the order of sending
        self.quitting = False
        self.reconnects = 0

    def quit(self):
        self.quitting = True

    async def run(self):
        while not self.quitting or self.waiting:
            try:
                await self.one_connection()
            except (ConnectionError, asyncio.IncompleteReadError):
                self.reconnects += 1
                await asyncio.sleep(0.05)  # sleep: nobody tells a device when its gateway is back

    async def one_connection(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(wire.connect(self.name, keep_alive=0))
            kind, body = await wire.read_packet(reader)
            assert (kind, body[1]) == (0x20, 0), f"CONNACK {kind:#x} {body!r}"
            for packet_id, number in self.waiting.items():
                writer.write(self.publish(packet_id, number, dup=True))
            while not self.quitting or self.waiting:
                self.fill(writer)
                await writer.drain()
                self.take_ack(*await wire.read_packet(reader))
                if self.rest_s:
                    await asyncio.sleep(self.rest_s)  # sleep: the pace of this device
            writer.write(wire.packet(wire.DISCONNECT, 0, b""))
        finally:
            writer.close()

    def publish(self, packet_id, number, dup=False):
        return wire.publish(
            f"ledger/{self.name}", payload_of(self.name, number), 1, packet_id, dup=dup
        )

    def fill(self, writer):
        while not self.quitting and len(self.waiting) < self.window:
            self.ledger.sent[self.name] += 1
            number = self.ledger.sent[self.name]
            packet_id = number % 65535 + 1
            self.waiting[packet_id] = number
            writer.write(self.publish(packet_id, number))

    def take_ack(self, kind, body):
        assert kind == 0x40, f"{self.name}: expected a PUBACK, got {kind:#x} {body!r}"
        packet_id = int.from_bytes(body[:2], "big")
        number = self.waiting.pop(packet_id, None)
        assert number is not None, f"{self.name}: PUBACK for {packet_id}, which is not under way"
        self.ledger.acknowledged[self.name].add(number)
