"""Attacks on a WebSocket listener while a healthy pair goes on beside it (attack.py)."""

import struct
import time
import unittest

import attack
from wire import CONNACK, DISCONNECT, PINGRESP, PUBACK, connect, publish
from ws import BINARY, CLOSE, CONT, PING, TEXT, Ws, frame, request


class WebSocket(attack.Attacked):
    config = """mqtt: { connect_timeout: 1s, packet_timeout: 1s, max_packet_size: 256KiB }
listeners:
  mqtt: { bind: "127.0.0.1:0" }
  ws: { bind: "127.0.0.1:0", websocket: /mqtt }
"""

    def port(self):
        return int(self.gateway.wait_log(r"listening on \S*?:(\d+) \(ws\)")[1])

    def code(self, data, joined=False):
        with Ws(self.port()) as ws:
            if joined:
                ws.join("attacker")
            try:
                ws.send(data)
            except OSError:
                pass
            return ws.closed_with()

    def test_frames_that_break_the_rules(self):
        whole = connect("x", 5)
        cases = ((frame(whole, mask=b""), 1002), (frame(whole, TEXT), 1003), (frame(b"x", 3), 1002),
                 (frame(b"x", CONT), 1002), (frame(b"x", PING, fin=False), 1002),
                 (frame(b"x" * 126, PING), 1002), (b"\xc2" + frame(whole)[1:], 1002))
        for _ in self.rounds():
            for data, code in cases:
                for joined in (False, True):
                    self.assertEqual(self.code(data, joined), code, data[:8])

    def test_frames_that_stop_half_way(self):
        """Without a keep alive: within a header, behind it, within a ping, behind a packet."""
        ping = b"\xc0\x00"
        halves = (b"\x82", b"\x82\xfe\x01", frame(ping * 2)[:6], frame(ping * 2)[:8],
                  frame(b"x" * 100, PING)[:20])
        for half in halves:
            with Ws(self.port()) as ws:
                ws.send(frame(connect("half", 5, keep_alive=0)))
                self.assertEqual(ws.packet()[0] >> 4, CONNACK)
                ws.send(half)
                kind, body = ws.packet()
                while kind >> 4 == PINGRESP:
                    kind, body = ws.packet()
                self.assertEqual((kind >> 4, body[0]), (DISCONNECT, 0x8D), half)

    def test_a_frame_goes_on_as_long_as_packets_come(self):
        ping = b"\xc0\x00"
        whole = frame(ping * 4)
        with Ws(self.port()) as ws:
            ws.send(frame(connect("slowly", 5, keep_alive=0)))
            self.assertEqual(ws.packet()[0] >> 4, CONNACK)
            for end in (8, 10, 12, 14):
                ws.send(whole[0 if end == 8 else end - 2:end])
                self.assertEqual(ws.packet()[0] >> 4, PINGRESP)
                time.sleep(0.6)  # sleep: the whole frame takes longer than packet_timeout

    def test_frames_that_claim_more_than_there_is_memory(self):
        before = self.resident()
        for _ in self.rounds():
            for claim in (1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1, 1 << 63):
                data = b"\x82\xff" + struct.pack(">Q", claim) + b"mask\x10"
                self.assertIn(self.code(data), (1002, 1009))
                self.assertIn(self.code(data, True), (1002, 1009))
        self.assertLess(self.resident() - before, 16384)

    def test_cve_2026_25627_lengths_that_do_not_agree(self):
        """Packets larger than their frame, frames larger than their packet, in all ways."""
        whole = connect("lengths", 5) + publish("w/l", b"x" * 300, 1, 1, 5)
        for _ in self.rounds():
            for size in (1, 2, 3, 7, 100, len(whole)):
                with Ws(self.port()) as ws:
                    ws.send(b"".join(frame(whole[at:at + size])
                                     for at in range(0, len(whole), size)))
                    self.assertEqual(ws.packet()[0] >> 4, CONNACK)
                    self.assertEqual(ws.packet()[0] >> 4, PUBACK)
            with Ws(self.port()) as ws:  # a packet that claims to go on beyond all frames
                ws.send(frame(b"\x10\x7f" + whole[2:60]))
                ws.send(frame(b"", CLOSE))
                ws.closed_with()

    def test_fragments_without_end(self):
        before = self.resident()
        for _ in self.rounds():
            with Ws(self.port()) as ws:
                ws.join("fragments")
                try:
                    ws.send(frame(b"", BINARY, fin=False))
                    for _ in range(200):
                        ws.send(frame(b"", CONT, fin=False) * 200)
                except OSError:
                    pass
        self.assertLess(self.resident() - before, 16384)

    def test_a_flood_of_pings(self):
        for n in self.rounds():
            with Ws(self.port()) as ws:
                ws.join(f"pings-{n}")
                ws.sock.settimeout(5)
                try:
                    for _ in range(20):
                        ws.send(frame(b"p" * 100, PING) * 200)
                except OSError:
                    pass  # its answers are not read, so it is not read either

    def test_upgrades_that_stop_or_are_none(self):
        for _ in self.rounds():
            held = [Ws(self.port(), upgrade=False) for _ in range(60)]
            for n, ws in enumerate(held):
                ws.send((b"", request()[:-1], b"GET /mqtt HTTP/1.1\r\nX: y\r\n" * 3)[n % 3])
            for ws in held:
                ws.answer()
                ws.sock.close()
            for data in (request(protocol="chat"), request(path="/../mqtt"),
                         b"\x16\x03\x01\x00\x05", connect("x", 5),
                         b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5000 + b"\r\n"):
                with Ws(self.port(), upgrade=False) as ws:
                    ws.send(data)
                    self.assertNotIn(ws.answer()[0], (101, 200))

    def test_half_a_frame_and_half_a_packet(self):
        whole = frame(publish("w/h", b"x" * 1000, 1, 1, 5))
        for _ in self.rounds():
            for half in (whole[:500], frame(publish("w/h", b"x", 1, 1)[:5])):
                with Ws(self.port()) as ws:
                    ws.join("half", keep_alive=0)
                    ws.send(half)
                    ws.closed_with()


if __name__ == "__main__":
    unittest.main()
