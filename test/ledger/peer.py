"""peer - many MQTT connections in one epoll loop, each coming back after every loss.

    Loop ──ready sockets──▶ Peer.receive ──packets──▶ take(kind, body)   of the peer at hand
         ◀──say(bytes)── ...                          ready(present)     behind CONNACK

A peer has a persistent session in either version of the protocol and never begins a new one: when
the gateway has forgotten a session that it has confirmed before, the peer notes it as a fault.
Bytes to send are gathered and go out once per turn of the loop.
"""

import heapq
import select
import socket
import struct
import time

import wire

RETRY_S = 0.05
EXPIRY_NEVER = b"\x11\xff\xff\xff\xff"  # session expiry interval: the session outlives everything
RECEIVE_MAXIMUM = b"\x21\xff\xff"
CHUNK = 65536
DISCONNECTED = wire.DISCONNECT << 4
# Malformed, protocol error, not authorized, Receive Maximum, alias, too large.
OUR_FAULT = (0x81, 0x82, 0x87, 0x93, 0x94, 0x95)


class Lost(ConnectionError):
    """The other side has closed, or was never there."""


class Peer:
    def __init__(self, name, port, version):
        self.name, self.port, self.version = name, port, version
        self.sock = None
        self.joined = False  # CONNACK has come on this connection
        self.known = False  # the gateway has confirmed the session before
        self.received, self.pending = b"", []
        self.connections = 0
        self.faults = []

    # ---- what a kind of peer does ----

    def ready(self):
        """The session is there: send again what is owed."""

    def take(self, kind, body):
        """A packet behind CONNACK: its first byte, and its body."""
        raise NotImplementedError

    def lost(self):
        """The connection is gone."""

    # ---- the connection ----

    def open(self):
        self.sock = socket.create_connection(("127.0.0.1", self.port), 10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.received, self.pending, self.joined = b"", [], False
        self.say(wire.connect(self.name, self.version, keep_alive=0, flags=0,
                              properties=EXPIRY_NEVER + RECEIVE_MAXIMUM))

    def close(self):
        if self.sock is not None:
            self.sock.close()
            self.sock = None
            self.joined = False
            self.lost()

    def say(self, packet):
        self.pending.append(packet)

    def flush(self):
        """True when all has gone out."""
        if not self.pending:
            return True
        data = self.pending[0] if len(self.pending) == 1 else b"".join(self.pending)
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as why:
            raise Lost(str(why)) from None
        self.pending = [data[sent:]] if sent < len(data) else []
        return not self.pending

    def receive(self):
        try:
            data = self.sock.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError as why:
            raise Lost(str(why)) from None
        if not data:
            raise Lost("closed")
        self.received = self.cut(self.received + data if self.received else data)

    def cut(self, data):
        """Take the whole packets of `data`; what is left of it."""
        at, end = 0, len(data)
        while end - at >= 2:
            length, body = data[at + 1], at + 2
            if length >= 128:
                length, body = long_length(data, at)
                if body == 0:
                    break
            if body + length > end:
                break
            kind = data[at]
            at, body = body + length, data[body : body + length]
            if kind == DISCONNECTED:
                self.told_to_go(body)
            elif self.joined:
                self.take(kind, body)
            else:
                self.join(kind, body)
        return data[at:]

    def told_to_go(self, body):
        """A 5.0 gateway says why; that we broke the protocol is never true."""
        if body and body[0] in OUR_FAULT:
            self.faults.append(f"{self.name}: DISCONNECT with reason {body[0]:#x}")
        raise Lost("told to go")

    def join(self, kind, body):
        if kind != 0x20 or body[1] != 0:
            self.faults.append(f"{self.name}: instead of a CONNACK: {kind:#x} {body.hex()}")
            raise Lost("refused")
        if self.known and body[0] != 1:
            self.faults.append(f"{self.name}: the gateway has forgotten its session")
        self.known = self.joined = True
        self.connections += 1
        self.ready()


def long_length(data, at):
    """(length, where the body begins) of a packet of 128 bytes or more; begins 0: not all here."""
    length = shift = 0
    for begin in range(at + 1, min(at + 5, len(data))):
        length |= (data[begin] & 127) << shift
        shift += 7
        if data[begin] < 128:
            return length, begin + 1
    return 0, 0


def reason_of(body):
    """The reason code of an acknowledgement; 3.1.1 and a short 5.0 packet mean success."""
    return body[2] if len(body) > 2 else 0


PACKET_ID = struct.Struct(">H")


class Loop:
    """Turns until told otherwise; a lost peer comes back a moment later."""

    def __init__(self, peers):
        self.epoll = select.epoll()
        self.peers = {}  # by descriptor
        self.away = [(0.0, n, peer) for n, peer in enumerate(peers)]  # a heap: when to try again
        self.order = len(peers)

    def watch(self, descriptor):
        """One more descriptor, such as stdin, that ends a turn."""
        self.epoll.register(descriptor, select.EPOLLIN)

    def turn(self, timeout):
        """One turn; the watched descriptors that are ready."""
        now, others = time.monotonic(), []
        while self.away and self.away[0][0] <= now:
            self.bring_back(heapq.heappop(self.away)[2])
        for descriptor, events in self.epoll.poll(timeout):
            peer = self.peers.get(descriptor)
            if peer is None:
                others.append(descriptor)
            elif events & ~select.EPOLLOUT:
                self.guarded(peer, peer.receive)
        return others

    def flush(self):
        for descriptor, peer in list(self.peers.items()):
            if peer.pending:
                self.guarded(peer, lambda peer=peer, fd=descriptor: self.flush_one(peer, fd))

    def flush_one(self, peer, descriptor):
        wanted = select.EPOLLIN if peer.flush() else select.EPOLLIN | select.EPOLLOUT
        self.epoll.modify(descriptor, wanted)

    def guarded(self, peer, step):
        try:
            step()
        except Lost:
            self.drop(peer)

    def bring_back(self, peer):
        try:
            peer.open()
        except OSError:
            self.later(peer)
            return
        self.peers[peer.sock.fileno()] = peer
        self.epoll.register(peer.sock, select.EPOLLIN)

    def drop(self, peer):
        del self.peers[peer.sock.fileno()]
        peer.close()
        self.later(peer)

    def later(self, peer):
        self.order += 1
        heapq.heappush(self.away, (time.monotonic() + RETRY_S, self.order, peer))

    def close(self):
        for peer in self.peers.values():
            peer.sock.close()
        self.epoll.close()
