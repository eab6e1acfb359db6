"""event - what a device publishes: a payload that tells who sent it, as which one, and unchanged.

    magic "MRLG" · run u32 · device u32 · number u64 · sent f64 (Unix s) · filler length u16
    · CRC u32 of all the rest · filler, which follows from run, device and number

A changed byte is noticed twice, by the CRC and by the filler.  The CRC is zlib's CRC-32: the
interpreter brings it, and no CRC of the gateway's own (CRC32C) can hide a fault of its own from it.
"""

import dataclasses
import random
import struct
import zlib

HEAD = struct.Struct("<4sIIQdH")
CRC = struct.Struct("<I")
MAGIC = b"MRLG"
POOL_SIZE = 65536
FILLER_MAX = 512
POISON_BYTES = 9000  # more than the bridge of a run with poison sends (world.py)


@dataclasses.dataclass(slots=True)
class Event:
    device: int
    number: int
    sent: float


class Damaged(ValueError):
    """The bytes are not what any device of this run sent."""


class Maker:
    """Makes and recognises the events of one run; `size`: of a payload, on the average; `poison`:
    every so many an event of each device is one that no target takes, because it is too large.
    """

    def __init__(self, run, size=100, poison=0):
        self.run, self.poison = run, poison
        self.filler_min = max(0, size - HEAD.size - CRC.size - 32)
        self.pool = random.Random(run).randbytes(POOL_SIZE + FILLER_MAX + self.filler_min + 64)

    def filler(self, device, number):
        mixed = (device * 0x9E3779B1 + number * 0x85EBCA77) >> 3
        begin = mixed % POOL_SIZE
        if self.is_poison(number):
            begin %= POOL_SIZE - POISON_BYTES
            return self.pool[begin : begin + POISON_BYTES]
        return self.pool[begin : begin + self.filler_min + mixed % 64]

    def is_poison(self, number):
        return self.poison != 0 and number % self.poison == 0

    def make(self, device, number, now):
        filler = self.filler(device, number)
        head = HEAD.pack(MAGIC, self.run, device, number, now, len(filler))
        return head + CRC.pack(zlib.crc32(filler, zlib.crc32(head))) + filler

    def recognise(self, payload):
        """The event that these bytes are; Damaged."""
        if len(payload) < HEAD.size + CRC.size or payload[:4] != MAGIC:
            raise Damaged("no event of a ledger")
        _, run, device, number, sent, length = HEAD.unpack_from(payload)
        filler = payload[HEAD.size + CRC.size :]
        crc = zlib.crc32(filler, zlib.crc32(payload[: HEAD.size]))
        if crc != CRC.unpack_from(payload, HEAD.size)[0] or length != len(filler):
            raise Damaged(f"device {device}, event {number}: its CRC does not agree")
        if run != self.run:
            raise Damaged(f"device {device}, event {number}: of run {run}")
        if filler != self.filler(device, number):
            raise Damaged(f"device {device}, event {number}: its filler is another's")
        return Event(device, number, sent)


def client_id(run, device):
    return f"led-{run}-{device}"


def topic(run, device):
    return f"led/{run}/{device}"
