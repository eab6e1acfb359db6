"""TLS with several certificates on a listener, and what attackers try with it."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import unittest

import wire
from certs import Pki
from harness import PATIENCE, Gateway, Lines, Temp, mosquitto_pub, popen, program, until
from ws import Ws, frame


def setUpModule():
    global temp, pki, gateway, ports
    temp = Temp("names")
    pki = Pki(temp.path / "pki")
    pki.issue("server", "localhost")
    pki.issue("plant", "plant", names=["mqtt.plant.example", "*.line.example"])
    pki.issue("rsa", "rsa", names=["old.example"],
              key=("-newkey", "rsa:2048", "-nodes"))
    pki.issue("press", "press-7")
    pki.issue("gone", "press-8")
    pki.issue("late", "press-9", expired=True)
    tls = ("tls: { certfile: pki/server.crt, keyfile: pki/server.key, "
           "certificates: { pki/plant.crt: pki/plant.key, pki/rsa.crt: pki/rsa.key }")
    mutual = f", cacertfile: pki/ca.crt, require_certificate: true, crlfile: {pki.revoke('gone')}"
    config = temp.path / "millrace.yaml"
    gateway = Gateway("")
    gateway.config = config  # so that paths are relative to it
    config.write_text(
        "listeners:\n"
        f'  mqtts: {{ bind: "127.0.0.1:0", {tls} }} }}\n'
        f'  wss: {{ bind: "127.0.0.1:0", websocket: /mqtt, {tls}{mutual} }} }}\n'
        '  behind: { bind: "127.0.0.1:0", proxy_protocol: true, '
        "tls: { use_identity_as_username: true } }\n", encoding="ascii")
    gateway.start()
    ports = {name: int(gateway.wait_log(rf"listening on \S*:(\d+) \({name}\)")[1])
             for name in ("mqtt", "mqtts", "wss", "behind")}


def tearDownModule():
    with gateway:
        pass
    temp.remove()


def context(client=None):
    made = ssl.create_default_context(cafile=pki.ca)
    if client:
        made.load_cert_chain(pki.folder / f"{client}.crt", pki.folder / f"{client}.key")
    return made


def subject(server_name):
    """The common name of the certificate that a client gets who asks for this name."""
    asked = context()
    asked.check_hostname = False
    with socket.create_connection(("127.0.0.1", ports["mqtts"]), PATIENCE) as plain, \
            asked.wrap_socket(plain, server_hostname=server_name) as made:
        return dict(part[0] for part in made.getpeercert()["subject"])["commonName"]


class Names(unittest.TestCase):
    def test_each_name_gets_the_certificate_that_is_made_for_it(self):
        for asked, name in (("localhost", "localhost"), ("mqtt.plant.example", "plant"),
                            ("MQTT.Plant.Example", "plant"), ("seven.line.example", "plant"),
                            ("a.b.line.example", "localhost"), ("old.example", "rsa"),
                            ("stranger.example", "localhost"), (None, "localhost")):
            with self.subTest(asked):
                self.assertEqual(subject(asked), name)

    def test_they_are_read_again_together_and_a_bad_one_changes_nothing(self):
        with Ws(ports["wss"], context("press")).join("stays") as before:
            key = (pki.folder / "plant.key").read_bytes()
            (pki.folder / "plant.key").write_bytes(b"nonsense")
            start = len(gateway.log.all)
            os.kill(gateway.pid(), signal.SIGHUP)
            gateway.wait_log("tls.certificates .*plant.key", start=start)
            self.assertEqual(subject("mqtt.plant.example"), "plant")
            (pki.folder / "plant.key").write_bytes(key)
            pki.issue("plant", "plant-2", names=["mqtt.plant.example"])
            os.kill(gateway.pid(), signal.SIGHUP)
            until(lambda: subject("mqtt.plant.example") == "plant-2", "the new certificate")
            before.send(frame(wire.publish("still", b"here", 1, 5)))
            self.assertEqual(before.packet()[0] >> 4, wire.PUBACK)


class Proofs(unittest.TestCase):
    def test_secure_websocket_with_a_client_certificate(self):
        with Ws(ports["wss"], context("press")).join("mutual"):
            pass
        for client in ("gone", "late", None):
            with self.subTest(client):
                with self.assertRaises((OSError, AssertionError)):
                    Ws(ports["wss"], context(client)).join("never")
        self.assertIsNone(gateway.log.find("client 'never'"))

    def test_a_name_that_the_proxy_has_verified_is_the_user(self):
        cn = b"\x22\x00\x07press-7"
        tlv = b"\x20" + (5 + len(cn)).to_bytes(2, "big") + b"\x07\0\0\0\0" + cn
        rest = bytes([192, 0, 2, 7, 10, 0, 0, 1, 0, 7, 0, 8]) + tlv
        head = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11" + len(rest).to_bytes(2, "big") + rest
        with wire.Wire(ports["behind"]) as made:
            made.send(head + wire.connect("behind"))
            self.assertEqual(made.read()[1], b"\x00\x00")
        gateway.wait_log(r"client 'behind' \(192.0.2.7:7\) connected: .*user 'press-7'")
        with wire.Wire(ports["behind"]) as made:
            made.send(b"PROXY TCP4 192.0.2.7 10.0.0.1 7 8\r\n" + wire.connect("nameless"))
            self.assertNotEqual(made.read()[1][1], 0)


class Openssl(unittest.TestCase):
    """openssl's own client, driven through its standard input."""

    def talk(self, *args):
        process = popen([program("openssl"), "s_client", "-connect",
                         f"127.0.0.1:{ports['mqtts']}", "-servername", "localhost", "-CAfile",
                         pki.ca, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT, text=True, errors="replace")
        self.addCleanup(process.wait, PATIENCE)
        self.addCleanup(process.kill)
        return process, Lines(process.stdout)

    def test_a_session_is_resumed_by_its_ticket(self):
        for version, ready in (("-tls1_2", "Verify return code"),
                               ("-tls1_3", "Post-Handshake New Session Ticket arrived")):
            with self.subTest(version):
                saved = temp.path / f"session{version}"
                process, lines = self.talk(version, "-sess_out", saved)
                lines.wait("^New, ")
                lines.wait(ready)
                with contextlib.suppress(BrokenPipeError):  # it may have ended before we ask
                    process.stdin.write("Q\n")
                    process.stdin.close()
                process.wait(PATIENCE)
                process, lines = self.talk(version, "-sess_in", saved)
                lines.wait("^Reused, ")

    def test_renegotiation_is_refused(self):
        process, lines = self.talk("-tls1_2")
        lines.wait("Verify return code")
        process.stdin.write("R\n")
        process.stdin.flush()
        lines.wait("no renegotiation")
        mosquitto_pub(ports["mqtt"], "-q", "1", "-t", "others", "-m", "are served")


class Records(unittest.TestCase):
    def ended(self, data):
        with socket.create_connection(("127.0.0.1", ports["mqtts"]), PATIENCE) as sock:
            sock.sendall(data)
            try:
                while sock.recv(4096):
                    pass
            except ConnectionResetError:
                pass

    def test_records_without_a_byte_end_the_handshake(self):
        for record in (b"\x16\x03\x01\x00\x00", b"\x17\x03\x03\x00\x00"):
            with self.subTest(record):
                self.ended(record * 200)

    def test_a_record_without_a_byte_ends_an_encrypted_connection(self):
        with socket.create_connection(("127.0.0.1", ports["mqtts"]), PATIENCE) as sock:
            received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context().wrap_bio(received, sent, server_hostname="localhost")
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    sock.sendall(sent.read())
                    received.write(sock.recv(65536))
            tls.write(wire.connect("empty"))
            sock.sendall(sent.read() + b"\x17\x03\x03\x00\x00")
            try:
                while sock.recv(65536):
                    pass
            except ConnectionResetError:
                pass
        gateway.wait_log(r"client 'empty' .* disconnected .*TLS failed")


if __name__ == "__main__":
    unittest.main()
