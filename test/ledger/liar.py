"""liar - a proxy between devices and gateway that spoils one event of QoS 1 in so many.

A process of its own:  liar.py OPTIONS (JSON).  On stdout its port, and how often it lied when a
line on stdin ends it.

    drop    the event goes nowhere, and the device gets a PUBACK all the same
    double  the event goes twice, and the device gets one PUBACK
    swap    the event goes behind the next one of its device
    alter   one bit of the payload is another

Everything else passes as it came.  A lie that needs a second event at hand waits for one.
"""

import dataclasses
import json
import pathlib
import random
import selectors
import socket
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "behaviour"))
import wire  # noqa: E402
from peer import PACKET_ID, long_length  # noqa: E402

CHUNK = 65536


@dataclasses.dataclass
class Options:
    port: int  # of the gateway
    lie: str
    every: int  # one event in so many
    seed: int = 1


def packets(data):
    """The whole packets at the beginning of `data`, and what is left of it."""
    found, at = [], 0
    while len(data) - at >= 2:
        length, body = data[at + 1], at + 2
        if length >= 128:
            length, body = long_length(data, at)
        if body == 0 or body + length > len(data):
            break
        found.append(data[at : body + length])
        at = body + length
    return found, data[at:]


def packet_id_of(publish):
    """Of a PUBLISH of QoS 1 or 2: the two bytes behind its topic."""
    body = 2
    while publish[body - 1] >= 128:
        body += 1
    at = body + 2 + PACKET_ID.unpack_from(publish, body)[0]
    return publish[at : at + 2]


class Liar:
    """Which events are spoilt: one in `every`, at a random place of each such stretch."""

    def __init__(self, options):
        self.lie, self.every = options.lie, options.every
        self.rng = random.Random(options.seed)
        self.events, self.lies = 0, 0
        self.next = self.rng.randrange(1, self.every + 1)

    def is_due(self):
        self.events += 1
        return self.events >= self.next

    def told(self):
        self.lies += 1
        self.next = self.events + self.rng.randrange(1, 2 * self.every)


class Pair:
    """A device and its connection to the gateway."""

    def __init__(self, device, port, liar):
        self.liar = liar
        self.device = device
        self.gateway = socket.create_connection(("127.0.0.1", port), 10)
        self.rest = {self.device: b"", self.gateway: b""}
        self.swallow = []  # packet ids whose second PUBACK is not passed on
        self.acked = []  # packet ids whose first PUBACK has passed

    def pass_on(self, source):
        """False at the end of either side."""
        try:
            data = source.recv(CHUNK)
            if not data:
                return False
            found, self.rest[source] = packets(self.rest[source] + data)
            if source is self.device:
                self.gateway.sendall(b"".join(self.from_device(found)))
            else:
                self.device.sendall(b"".join(filter(self.is_passed, found)))
        except OSError:
            return False
        return True

    def from_device(self, found):
        out = []
        for at, packet in enumerate(found):
            if packet[0] & 0xF6 != 0x32 or not self.liar.is_due():  # QoS 1, with DUP or without
                out.append(packet)
            elif self.liar.lie == "swap":
                self.swap(found, at, out)
            else:
                self.liar.told()
                out += getattr(self, self.liar.lie)(packet)
        return out

    def swap(self, found, at, out):
        """Give the next event of this read first; without one, the lie waits."""
        after = found[at + 1] if at + 1 < len(found) else b"\0"
        if after[0] & 0xF6 != 0x32:
            out.append(found[at])
            return
        self.liar.told()
        found[at], found[at + 1] = after, found[at]
        out.append(after)

    def drop(self, packet):
        self.device.sendall(wire.packet(wire.PUBACK, 0, packet_id_of(packet)))
        return []

    def double(self, packet):
        self.swallow.append(packet_id_of(packet))
        return [packet, packet]

    def alter(self, packet):
        changed = bytearray(packet)
        changed[-1] ^= 0x10
        return [bytes(changed)]

    def is_passed(self, packet):
        if packet[0] != 0x40 or packet[2:4] not in self.swallow:
            return True
        packet_id = packet[2:4]
        if packet_id in self.acked:
            self.acked.remove(packet_id)
            self.swallow.remove(packet_id)
            return False
        self.acked.append(packet_id)
        return True

    def close(self):
        self.device.close()
        self.gateway.close()


def main():
    options = Options(**json.loads(sys.argv[1]))
    liar, watch = Liar(options), selectors.DefaultSelector()
    server = socket.create_server(("127.0.0.1", 0), backlog=1000)
    watch.register(server, selectors.EVENT_READ)
    watch.register(sys.stdin, selectors.EVENT_READ)
    print(json.dumps({"port": server.getsockname()[1]}), flush=True)
    while True:
        for key, _ in watch.select():
            if key.fileobj is sys.stdin:
                print(json.dumps({"events": liar.events, "lies": liar.lies}), flush=True)
                return
            if key.fileobj is server:
                pair = Pair(server.accept()[0], options.port, liar)
                watch.register(pair.device, selectors.EVENT_READ, pair)
                watch.register(pair.gateway, selectors.EVENT_READ, pair)
            elif key.data.device.fileno() >= 0 and not key.data.pass_on(key.fileobj):
                watch.unregister(key.data.device)
                watch.unregister(key.data.gateway)
                key.data.close()


if __name__ == "__main__":
    main()
