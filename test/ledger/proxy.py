"""proxy - the network between a gateway and a broker, which a fault can cut, silence or narrow.

    proxy = Proxy(port of the broker)
    proxy.rule = Cut(...)      from now on, for the connections there are and those to come
    proxy.cut()                the connections there are
    proxy.heal()               an ordinary network again

A thread for each direction of each connection: what blocks one side holds up nothing else.
"""

import contextlib
import socket
import struct
import threading
import time

import ports

CHUNK = 65536
TO_KAFKA, TO_GATEWAY = "requests", "answers"


class Cutting(Exception):
    """This connection is over; `data` still goes through."""

    def __init__(self, data):
        super().__init__("cut")
        self.data = data


class Rule:
    """An ordinary network."""

    def pass_on(self, pair, way, data):
        """What goes on in place of `data`; Cutting."""
        return data

    def healed(self, pair):
        """Whether a connection that lived through it can go on."""
        return True


class Cut(Rule):
    """Each connection ends in the middle: behind so many bytes of one direction."""

    def __init__(self, rng, way, within):
        self.rng, self.way, self.within = rng, way, within
        self.left = {}

    def pass_on(self, pair, way, data):
        if way != self.way:
            return data
        left = self.left.setdefault(pair, self.rng.randrange(self.within)) - len(data)
        self.left[pair] = left
        if left < 0:
            raise Cutting(data[:left])
        return data


class Silent(Rule):
    """What goes these ways is taken and never arrives; nobody is told.  A connection that lost
    something so stays silent for good, as behind a firewall that has forgotten it.
    """

    def __init__(self, ways=(TO_KAFKA, TO_GATEWAY)):
        self.ways, self.lost = ways, set()

    def pass_on(self, pair, way, data):
        if way not in self.ways:
            return data
        self.lost.add(pair)
        return b""

    def healed(self, pair):
        return pair not in self.lost


class Frozen(Rule):
    """Nothing moves for a while, and then all of it: packets are lost, TCP sends them again."""

    def __init__(self):
        self.over = threading.Event()

    def pass_on(self, pair, way, data):
        self.over.wait()
        return data


class Narrow(Rule):
    """One wire of so many bytes a second for everybody."""

    def __init__(self, per_second):
        self.per_second, self.wire = per_second, threading.Lock()

    def pass_on(self, pair, way, data):
        with self.wire:
            time.sleep(len(data) / self.per_second)  # sleep: the fault itself
        return data


class Pair:
    """A connection of the gateway's, and ours to the broker."""

    def __init__(self, proxy, gateway, kafka):
        self.proxy = proxy
        self.sockets = {TO_KAFKA: (gateway, kafka), TO_GATEWAY: (kafka, gateway)}
        self.dead = False

    def begin(self):
        for way in self.sockets:
            threading.Thread(target=self.run, args=(way,), daemon=True).start()

    def run(self, way):
        source, sink = self.sockets[way]
        reset = True
        try:
            while data := source.recv(CHUNK):
                data = b"" if self.dead else self.proxy.rule.pass_on(self, way, data)
                if data:
                    sink.sendall(data)
            reset = False
        except Cutting as cut:
            with contextlib.suppress(OSError):
                sink.sendall(cut.data)
        except OSError:
            pass  # the other direction's thread, or the other side, has ended it
        self.close(reset)

    def close(self, reset=False):
        for sock, _ in self.sockets.values():
            with contextlib.suppress(OSError):
                if reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        self.proxy.pairs.discard(self)


class Proxy:
    def __init__(self, port):
        self.target = port
        self.rule = Rule()
        self.pairs = set()
        self.listener = socket.create_server(("127.0.0.1", ports.take()), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                gateway, _ = self.listener.accept()
                try:
                    kafka = socket.create_connection(("127.0.0.1", self.target), 5)
                except OSError:
                    gateway.close()
                    continue
                for sock in (gateway, kafka):
                    sock.settimeout(None)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                pair = Pair(self, gateway, kafka)
                self.pairs.add(pair)
                pair.begin()

    def heal(self):
        rule, self.rule = self.rule, Rule()
        for pair in list(self.pairs):
            pair.dead = pair.dead or not rule.healed(pair)
        if isinstance(rule, Frozen):
            rule.over.set()

    def cut(self):
        """Each connection there is."""
        for pair in list(self.pairs):
            pair.close()

    def close(self):
        self.heal()
        self.listener.close()
        self.cut()
