"""Attacks on a TLS listener while a healthy pair goes on beside it (attack.py)."""

import socket
import ssl
import subprocess
import unittest

import attack
from certs import Pki
from harness import PATIENCE, program
from wire import CONNACK, connect, publish


class Tls(attack.Attacked):
    @classmethod
    def prepare(cls):
        cls.pki = Pki(cls.gateway.temp.path / "pki")
        cert, key = cls.pki.issue("server", "localhost")
        cls.gateway.config.write_text(
            attack.CONFIG + "mqtt: { connect_timeout: 1s, packet_timeout: 1s }\nlisteners:\n"
            "  mqtt: { bind: \"127.0.0.1:0\" }\n  mqtts: { bind: \"127.0.0.1:0\", "
            f"tls: {{ certfile: {cert}, keyfile: {key} }} }}\n", encoding="utf-8")

    def port(self):
        return int(self.gateway.wait_log(r"listening on \S*?:(\d+) \(mqtts\)")[1])

    def plain(self):
        return socket.create_connection(("127.0.0.1", self.port()), PATIENCE)

    def secure(self, version=None):
        made = ssl.create_default_context(cafile=self.pki.ca)
        if version:
            made.minimum_version = made.maximum_version = version
        return made.wrap_socket(self.plain(), server_hostname="localhost")

    def hello(self):
        """What a client says first."""
        there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = ssl.create_default_context(cafile=self.pki.ca).wrap_bio(
            back, there, server_hostname="localhost")
        with self.assertRaises(ssl.SSLWantReadError):
            client.do_handshake()
        return there.read()

    def gone(self, sock):
        """The gateway ends it."""
        try:
            while sock.recv(65536):
                pass
        except OSError:
            pass
        sock.close()

    def test_handshakes_that_stop_in_the_midst(self):
        hello = self.hello()
        for _ in self.rounds():
            socks = [self.plain() for _ in range(90)]
            for n, sock in enumerate(socks):
                sock.sendall(hello[:5] if n % 3 == 0 else hello[:-1] if n % 3 == 1 else hello)
            for sock in socks:
                self.gone(sock)

    def test_a_flood_of_handshakes(self):
        for _ in self.rounds():
            for _ in range(40):
                self.secure().close()

    def test_plain_text_and_noise(self):
        noise = (connect("plain", 5), b"\x00" * 100, b"\xff" * 100,
                 b"\x16\x03\x01\xff\xff" + b"x" * 200, b"\x15\x03\x01\x00\x02\x02\x28",
                 b"\x16\x03\x00\x00\x00", b"GET / HTTP/1.1\r\n\r\n")
        for _ in self.rounds():
            for data in noise:
                sock = self.plain()
                sock.sendall(data)
                self.gone(sock)

    def test_records_without_content(self):
        hello = self.hello()
        for _ in self.rounds():
            sock = self.plain()
            try:
                for _ in range(200):
                    sock.sendall(b"\x16\x03\x01\x00\x00" * 50)
                sock.sendall(hello)
            except OSError:
                pass
            self.gone(sock)

    def test_old_versions_and_renegotiation_are_refused(self):
        for _ in self.rounds():
            for version in ("-tls1", "-tls1_1"):
                self.assertNotEqual(self.s_client(version, b"").returncode, 0, version)
            said = self.s_client("-tls1_2", b"R\n")
            self.assertRegex(said.stdout + said.stderr, b"no renegotiation|alert|RENEGOTIATING")
            self.assertNotIn(b"verify return:0", said.stderr)

    def s_client(self, version, typed):
        return subprocess.run(
            [program("openssl"), "s_client", "-connect", f"127.0.0.1:{self.port()}", version,
             "-cipher", "ALL:@SECLEVEL=0", "-CAfile", self.pki.ca], input=typed,
            capture_output=True, timeout=PATIENCE, check=False)

    def test_a_large_packet_in_single_byte_records(self):
        whole = connect("bytes", 5) + publish("t/b", b"x" * 300, 1, 1, 5)
        for _ in self.rounds():
            with self.secure() as sock:
                for at in range(len(whole)):
                    sock.sendall(whole[at:at + 1])
                self.assertEqual(sock.recv(1)[0] >> 4, CONNACK)


if __name__ == "__main__":
    unittest.main()
