"""Listeners of every kind at once: v4, v6, Unix sockets, and behind a proxy."""

import os
import re
import socket
import stat
import struct
import subprocess
import unittest

import wire
from certs import Pki
from harness import PATIENCE, Gateway, Temp, mosquitto_pub, popen, program, until
from ports import take as free_port

V2 = b"\r\n\r\n\x00\r\nQUIT\n"


def setUpModule():
    global temp, pki, gateway, ports, path
    temp = Temp("listeners")
    pki = Pki(temp.path / "pki")
    cert, key = pki.issue("server", "localhost")
    path = temp.path / "mqtt.sock"
    tls = f"tls: {{ certfile: {cert}, keyfile: {key} }}"
    gateway = Gateway(
        "gateway: { shards: 2 }\nlisteners:\n"
        f'  unix: {{ bind: "unix:{path}", unix_mode: user }}\n'
        '  six: { bind: "[::1]:0" }\n  both: { bind: "[::]:0", allow_anonymous: true }\n'
        '  proxied: { bind: "127.0.0.1:0", proxy_protocol: true, tcp_keepalive: 77s }\n'
        f'  proxied_tls: {{ bind: "127.0.0.1:0", proxy_protocol: true, {tls} }}\n'
        + "".join(f'  more{at}: {{ bind: "127.0.0.1:0" }}\n' for at in range(20))).start()
    ports = {name: int(gateway.wait_log(rf"listening on \S*:(\d+) \({name}\)")[1])
             for name in ("mqtt", "six", "both", "proxied", "proxied_tls", "more19")}


def tearDownModule():
    with gateway:
        pass
    assert not path.exists(), "a socket's file outlives the gateway that was stopped"
    temp.remove()


def peer_of(client):
    """The peer of a client that connected, as the log has it."""
    return gateway.wait_log(rf"client '{client}' \((\S+)\) connected")[1]


def over(address, family=socket.AF_INET):
    """A Wire over any kind of socket."""
    made = wire.Wire.__new__(wire.Wire)
    made.sock = socket.socket(family)
    made.sock.settimeout(PATIENCE)
    made.sock.connect(address)
    made.buffer = b""
    return made


def join(made, client):
    made.send(wire.connect(client))
    kind, body = made.read()
    assert kind >> 4 == wire.CONNACK and body[1] == 0, (kind, body)
    return made


class Kinds(unittest.TestCase):
    def test_a_unix_socket_serves_mosquitto_and_knows_who_calls(self):
        done = subprocess.run(
            [program("mosquitto_pub"), "--unix", path, "-i", "local", "-q", "1", "-t", "u", "-m",
             "x"], capture_output=True, check=False, timeout=PATIENCE)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(peer_of("local"), rf"^unix/{os.getuid()}:\d+$")
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        # Both shards accept: many clients at once are all served.
        many = [join(over(str(path), socket.AF_UNIX), f"local-{at}") for at in range(8)]
        for one in many:
            one.sock.close()

    def test_v6_and_v4_on_one_listener(self):
        join(over(("::1", ports["six"]), socket.AF_INET6), "six").sock.close()
        self.assertRegex(peer_of("six"), r"^\[::1\]:\d+$")
        join(over(("::1", ports["both"]), socket.AF_INET6), "both-6").sock.close()
        join(over(("127.0.0.1", ports["both"])), "both-4").sock.close()
        self.assertRegex(peer_of("both-4"), r"^127\.0\.0\.1:\d+$")
        with self.assertRaises(ConnectionRefusedError):
            over(("127.0.0.1", ports["six"]))

    def test_twenty_more(self):
        mosquitto_pub(ports["more19"], "-q", "1", "-t", "m", "-m", "x")

    def test_the_kernel_looks_after_silent_peers(self):
        with wire.Wire(ports["proxied"]) as held:
            held.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 7 8\r\n" + wire.connect("kept"))
            held.read()
            port = held.sock.getsockname()[1]
            rows = subprocess.run([program("ss"), "-tnoH", f"dport = :{port}"], text=True,
                                  capture_output=True, check=True).stdout
            self.assertRegex(rows, r"timer:\(keepalive,1min1[0-9]")


class Proxied(unittest.TestCase):
    def test_the_client_is_known_by_its_own_address(self):
        headers = {
            "v1": b"PROXY TCP4 192.0.2.7 10.0.0.1 51812 1883\r\n",
            "v1-6": b"PROXY TCP6 2001:db8::7 ::1 51812 1883\r\n",
            "v2": V2 + b"\x21\x11" + struct.pack(">H", 12) + bytes(
                [192, 0, 2, 7, 10, 0, 0, 1]) + struct.pack(">HH", 51812, 1883),
        }
        for client, header in headers.items():
            with self.subTest(client), wire.Wire(ports["proxied"]) as made:
                made.send(header + wire.connect(client))
                self.assertEqual(made.read()[1], b"\x00\x00")
                self.assertIn(peer_of(client), ("192.0.2.7:51812", "[2001:db8::7]:51812"))

    def test_a_health_check_speaks_for_itself(self):
        with wire.Wire(ports["proxied"]) as made:
            made.send(V2 + b"\x20\x00\x00\x00" + wire.connect("health"))
            self.assertEqual(made.read()[1], b"\x00\x00")
            self.assertRegex(peer_of("health"), r"^127\.0\.0\.1:\d+$")

    def test_without_a_header_nobody_comes_in_and_the_log_says_why(self):
        for data in (wire.connect("direct"), b"PROXY TCP4 nonsense\r\n", V2 + b"\x21\x12\x00\x00"):
            with self.subTest(data), wire.Wire(ports["proxied"]) as made:
                made.send(data)
                self.assertEqual(made.read_until_closed(), [])

        def told():  # again and again: such lines come once a second
            with wire.Wire(ports["proxied"]) as made:
                made.send(wire.connect("direct"))
                made.read_until_closed()
            return gateway.log.find("no valid PROXY header: there is none, and listener 'proxied'")

        until(told, "a line in the log")
        self.assertGreaterEqual(
            gateway.metric("millrace_mqtt_disconnects_total", 'reason="proxy"'), 3)

    def test_silence_ends_after_three_seconds(self):
        with wire.Wire(ports["proxied"]) as silent, wire.Wire(ports["proxied"]) as half:
            half.send(b"PROXY TCP4 192.0.2")
            silent.patience(10)
            self.assertEqual(silent.read_until_closed(), [])
            self.assertEqual(half.read_until_closed(), [])

    def test_a_spoofed_header_on_another_listener_is_refused(self):
        for header in (b"PROXY TCP4 192.0.2.7 10.0.0.1 51812 1883\r\n",
                       V2 + b"\x21\x11\x00\x0c" + bytes(12)):
            with self.subTest(header), wire.Wire(ports["mqtt"]) as made:
                made.send(header + wire.connect("spoofed" * 6))
                self.assertEqual(made.read_until_closed(), [])
        gateway.wait_log("it sends a PROXY header and this listener takes none")

    def test_haproxy(self):
        """Both versions, TLS passed through behind the header, and a client's certificate."""
        front = {name: free_port() for name in ("v1", "v2", "tls")}
        config = temp.path / "haproxy.cfg"
        config.write_text(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n"
            "  timeout server 60s\n" + "".join(
                f"listen {name}\n  bind 127.0.0.1:{port}\n  server one 127.0.0.1:{to} {how}\n"
                for name, port, to, how in (
                    ("v1", front["v1"], ports["proxied"], "send-proxy"),
                    ("v2", front["v2"], ports["proxied"], "send-proxy-v2 check-send-proxy check "
                     "inter 200ms proxy-v2-options crc32c"),
                    ("tls", front["tls"], ports["proxied_tls"], "send-proxy-v2"))),
            encoding="ascii")
        process = popen([_haproxy(), "-db", "-f", config], stdout=subprocess.DEVNULL,
                        stderr=subprocess.PIPE, text=True)
        try:
            for name, port in front.items():
                more = ("--cafile", str(pki.ca)) if name == "tls" else ()
                host = "localhost" if name == "tls" else "127.0.0.1"
                until(lambda p=port, m=more, h=host, n=name: subprocess.run(
                    [program("mosquitto_pub"), "-h", h, "-p", str(p), *m, "-i", f"ha-{n}", "-q",
                     "1", "-t", "ha", "-m", "x"], capture_output=True, check=False,
                    timeout=PATIENCE).returncode == 0, f"a publish through haproxy ({name})")
                # haproxy's own connection is known too, so the port tells whose this is.
                self.assertRegex(peer_of(f"ha-{name}"), r"^127\.0\.0\.1:\d+$")
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _haproxy():
    return "/usr/sbin/haproxy" if os.path.exists("/usr/sbin/haproxy") else program("haproxy")


class Files(unittest.TestCase):
    def start(self, bind):
        made = Gateway(f'listeners:\n  files: {{ bind: "{bind}" }}\n')
        self.addCleanup(made.temp.remove)
        return made

    def test_a_stale_socket_is_replaced_and_a_live_one_is_not(self):
        where = temp.path / "stale.sock"
        first = self.start(f"unix:{where}").start()
        second = self.start(f"unix:{where}").spawn()
        second.wait_exit(78)
        self.assertTrue(second.log.find("cannot listen on unix:.*something else has this name"))
        join(over(str(where), socket.AF_UNIX), "still").sock.close()
        first.kill()
        self.assertTrue(where.exists())
        with self.start(f"unix:{where}"):
            join(over(str(where), socket.AF_UNIX), "again").sock.close()
        self.assertFalse(where.exists())

    def test_what_cannot_be_bound_is_explained(self):
        plain = temp.path / "file"
        plain.write_text("precious", encoding="ascii")
        cases = {
            f"unix:{plain}": "something else has this name",
            f"unix:{temp.path}/nowhere/x": "make the folder first",
            "unix:" + "x" * 200: "1 to 107 characters",
            "::1:1883": "is no address",
            f"127.0.0.1:{ports['mqtt']}": "is another broker running",
            "192.0.2.1:1883": "no such address",
        }
        for bind, words in cases.items():
            with self.subTest(bind):
                broken = self.start(bind).spawn()
                broken.wait_exit(78)
                self.assertTrue(broken.log.find(re.escape(words)), broken.log.text())
        self.assertEqual(plain.read_text(encoding="ascii"), "precious")


class Descriptors(unittest.TestCase):
    def test_a_flood_of_connections_leaves_descriptors_for_the_journal(self):
        limit = 256
        with Gateway(prefix=["prlimit", f"--nofile={limit}:{limit}"]) as small:
            held = []
            try:
                for _ in range(limit + 50):
                    one = socket.create_connection(("127.0.0.1", small.mqtt_port), PATIENCE)
                    held.append(one)
                until(lambda: small.metric("millrace_mqtt_connections_refused_total") > 0
                      or small.log.find("descriptors"), "the gateway to stop accepting")
                open_now = len(os.listdir(f"/proc/{small.pid()}/fd"))
                self.assertLessEqual(open_now, limit - 32)
                self.assertEqual(small.http("/healthz")[0], 200)
            finally:
                for one in held:
                    one.close()
            until(lambda: mosquitto_pub(small.mqtt_port, "-q", "1", "-t", "d", "-m", "x",
                                        check=False).returncode == 0, "a place for a device")


if __name__ == "__main__":
    unittest.main()
