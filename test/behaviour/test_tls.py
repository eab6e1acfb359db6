"""TLS for devices: mosquitto, paho and hand-made records against real certificates."""

import json
import os
import random
import socket
import ssl
import struct
import subprocess
import threading
import time
import unittest

import paho.mqtt.client as paho

import wire
from certs import Pki
from harness import PATIENCE, Gateway, Lines, Temp, millrace, mosquitto_pub, popen, program

VERSIONS = {"tlsv1.2": ssl.TLSVersion.TLSv1_2, "tlsv1.3": ssl.TLSVersion.TLSv1_3}


def listener(name, tls, more=""):
    rows = "".join(f", {key}: {value}" for key, value in tls.items())
    return f'  {name}: {{ bind: "127.0.0.1:0"{more}, tls: {{{rows[1:]} }} }}\n'


def setUpModule():
    global temp, pki, stranger, gateway, ports
    temp = Temp("tls")
    pki = Pki(temp.path / "pki")
    stranger = Pki(temp.path / "stranger", "some other CA")
    cert, key = pki.issue("server", "localhost")
    old_cert, old_key = pki.issue("old", "localhost", expired=True)
    pki.issue("press", "press-7")
    pki.issue("lost", "press-8")
    stranger.issue("press", "press-7")
    ours = {"certfile": cert, "keyfile": key}
    mutual = {**ours, "cacertfile": pki.ca, "require_certificate": "true"}
    gateway = Gateway(
        "mqtt: { connect_timeout: 1s, max_packet_size: 4MiB }\nlisteners:\n"
        + listener("mqtts", ours) + listener("modern", {**ours, "tls_version": "tlsv1.3"})
        + listener("expired", {"certfile": old_cert, "keyfile": old_key})
        + listener("mutual", {**mutual, "use_identity_as_username": "true",
                              "crlfile": pki.revoke("lost")})
        + listener("certified", mutual)).start()
    ports = {name: int(gateway.wait_log(rf"listening on \S*:(\d+) \({name}\)")[1])
             for name in ("mqtt", "mqtts", "modern", "expired", "mutual", "certified")}


def tearDownModule():
    with gateway:
        pass
    temp.remove()


def context(version=None, client=None, ca=None):
    made = ssl.create_default_context(cafile=ca or pki.ca)
    made.verify_flags |= ssl.VERIFY_X509_STRICT  # as newer ones are by default
    if version is not None:
        made.minimum_version = made.maximum_version = version
    if client is not None:
        made.load_cert_chain(*client)
    return made


def read_exactly(sock, count):
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise AssertionError(f"closed after {data!r}")
        data += more
    return data


class Tls(wire.Wire):
    """A Wire whose bytes are encrypted."""

    def __init__(self, name, version=None, client=None, session=None):
        super().__init__(ports[name])
        self.sock = context(version, client).wrap_socket(
            self.sock, server_hostname="localhost", session=session)

    def join(self, client):
        self.send(wire.connect(client))
        kind, body = self.read()
        assert (kind >> 4, body[1]) == (wire.CONNACK, 0), (kind, body)
        return self

    def publish(self, topic, payload, packet_id):
        self.send(wire.publish(topic, payload, 1, packet_id))
        assert self.read() == (wire.PUBACK << 4, struct.pack(">H", packet_id))


class Half:
    """TLS by hand, so that the test decides when which byte of a record leaves."""

    def __init__(self, name, version=None):
        self.sock = socket.create_connection(("127.0.0.1", ports[name]), PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.inside, self.outside = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context(version).wrap_bio(self.inside, self.outside,
                                             server_hostname="localhost")

    def drive(self, step, piece=None):
        """Run step() to its end, sending what it makes in pieces."""
        while True:
            try:
                done = step()
                self.leave(piece)
                return done
            except ssl.SSLWantReadError:
                self.leave(piece)
                more = self.sock.recv(65536)
                if not more:
                    raise AssertionError("the gateway has closed the connection") from None
                self.inside.write(more)

    def leave(self, piece):
        data = self.outside.read()
        for at in range(0, len(data), piece or len(data) or 1):
            self.sock.sendall(data[at : at + (piece or len(data))])

    def packet(self, piece=None):
        head = self.drive(lambda: self.tls.read(2), piece)
        return head[0], self.drive(lambda: self.tls.read(head[1]), piece) if head[1] else b""


def until_logged(action, line):
    """Do it until the log says `line`: refusals are told once a second, not each time."""
    start = len(gateway.log.all)
    deadline = time.monotonic() + PATIENCE
    while True:
        action()
        try:
            return gateway.wait_log(line, patience=1.1, start=start)
        except AssertionError:
            if time.monotonic() > deadline:
                raise


def subscriber(*args):
    process = popen(
        ["stdbuf", "-oL", program("mosquitto_sub"), "-h", "localhost", "-F", "%t %p", "-d", *args],
        stdout=subprocess.PIPE, text=True)
    lines = Lines(process.stdout)
    lines.wait("SUBACK")
    return process, lines


class Clients(unittest.TestCase):
    def test_mosquitto_publishes_and_subscribes_over_both_versions(self):
        for version in VERSIONS:
            with self.subTest(version):
                ours = ("-p", str(ports["mqtts"]), "--cafile", pki.ca, "--tls-version", version)
                process, lines = subscriber(*ours, "-q", "1", "-t", f"hall/{version}")
                done = subprocess.run(
                    [program("mosquitto_pub"), "-h", "localhost", *ours, "-q", "1", "-t",
                     f"hall/{version}", "-m", "21.5"], capture_output=True, check=False)
                self.assertEqual(done.returncode, 0, done.stderr)
                lines.wait(f"^hall/{version} 21.5$")
                process.kill()
                process.wait()

    def test_paho_carries_large_payloads_both_ways(self):
        for name, version in VERSIONS.items():
            with self.subTest(name):
                self.carry(f"big/{name}", version)

    def carry(self, topic, version):
        sizes = [1, 16383, 16384, 16385, 70000, 1000000, 3000000, 10]
        got, all_there, joined = [], threading.Event(), threading.Event()
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, f"big-{version}")
        client.tls_set_context(context(version))

        def on_message(_client, _user, message):
            got.append(message.payload)
            if len(got) == len(sizes):
                all_there.set()

        client.on_message = on_message
        client.on_subscribe = lambda *_: joined.set()
        client.connect("localhost", ports["mqtts"])
        client.loop_start()
        client.subscribe(topic, 1)
        self.assertTrue(joined.wait(PATIENCE))
        sent = [os.urandom(size) for size in sizes]
        for payload in sent:
            client.publish(topic, payload, 1).wait_for_publish(PATIENCE)
        self.assertTrue(all_there.wait(PATIENCE))
        self.assertTrue(got == sent, [len(one) for one in got])
        client.disconnect()
        client.loop_stop()

    def test_the_oldest_version_is_what_tls_version_says(self):
        until_logged(lambda: self.assertRaises(ssl.SSLError, Tls, "modern",
                                               ssl.TLSVersion.TLSv1_2),
                     "too old for `tls_version`")
        with Tls("modern") as client:
            self.assertEqual(client.sock.version(), "TLSv1.3")

    def test_reconnects_resume_their_session(self):
        for version in VERSIONS.values():
            with self.subTest(version), Tls("mqtts", version) as first:
                first.join("resume")
                with socket.create_connection(("127.0.0.1", ports["mqtts"]), PATIENCE) as raw, \
                        first.sock.context.wrap_socket(raw, server_hostname="localhost",
                                                       session=first.sock.session) as second:
                    self.assertTrue(second.session_reused)
                    second.sendall(wire.connect("resume-2"))
                    self.assertEqual(second.recv(4)[:1], b"\x20")

    def test_many_come_and_go(self):
        for number in range(100):
            with Tls("mqtts") as client:
                client.join(f"often-{number % 3}").publish("often", b"x", 1)
                if number % 2:  # half of them just hang up
                    client.send(wire.packet(wire.DISCONNECT, 0, b""))
                    client.sock.unwrap()

    def test_a_connection_that_moves_to_another_shard_takes_its_tls_along(self):
        cert, key = pki.issue("moved", "localhost")
        rows = "listeners:\n" + listener("mqtts", {"certfile": cert, "keyfile": key})
        with Gateway(rows, sets=["gateway.shards=3"]) as moving:
            port = int(moving.wait_log(r"listening on \S*:(\d+) \(mqtts\)")[1])
            for number in range(12):  # 4 of them are at home where they arrive, more or less
                version = list(VERSIONS.values())[number % 2]
                with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain, \
                     context(version).wrap_socket(plain, server_hostname="localhost") as sock:
                    # CONNECT and what follows it in one record: the rest moves unread.
                    sock.sendall(wire.connect(f"mover-{number}")
                                 + wire.publish("moved/1", b"x" * 5000, 1, 7))
                    self.assertEqual(read_exactly(sock, 8), b"\x20\x02\0\0\x40\x02\0\x07")
                    sock.sendall(wire.publish("moved/2", b"y" * 300_000, 1, 8))
                    self.assertEqual(read_exactly(sock, 4), b"\x40\x02\0\x08")
            self.assertEqual(sum(value for name, value in moving.metrics().items() if
                                 name.startswith("millrace_mqtt_publish_received_total")), 24)

    def test_a_burst_in_one_go_is_answered_completely(self):
        for version in VERSIONS.values():
            with self.subTest(version), Tls("mqtts", version) as client:
                client.join("burst")
                client.send(b"".join(wire.publish("burst", b"v" * (number % 700), 1, number)
                                     for number in range(1, 1001)))
                for number in range(1, 1001):
                    self.assertEqual(client.read()[1], struct.pack(">H", number))


class Records(unittest.TestCase):
    def test_records_that_arrive_byte_by_byte_are_put_together(self):
        for version in VERSIONS.values():
            with self.subTest(version):
                half = Half("mqtts", version)
                half.drive(half.tls.do_handshake, piece=7)
                half.drive(lambda: half.tls.write(wire.connect("half")), piece=1)
                self.assertEqual(half.packet(), (wire.CONNACK << 4, b"\x00\x00"))
                half.drive(lambda: half.tls.write(wire.publish("half", b"1", 1, 5)), piece=1)
                self.assertEqual(half.packet(), (wire.PUBACK << 4, b"\x00\x05"))
                half.sock.close()

    def test_a_packet_may_be_many_records_and_a_record_many_packets(self):
        half = Half("mqtts")
        half.drive(half.tls.do_handshake)
        for byte in wire.connect("split"):
            half.drive(lambda byte=byte: half.tls.write(bytes([byte])))
        self.assertEqual(half.packet()[0], wire.CONNACK << 4)
        several = b"".join(wire.publish("split", b"1", 1, number) for number in (1, 2, 3))
        half.drive(lambda: half.tls.write(several + several[:4]))
        for number in (1, 2, 3):
            self.assertEqual(half.packet(), (wire.PUBACK << 4, struct.pack(">H", number)))
        half.drive(lambda: half.tls.write(several[4:]))
        self.assertEqual(half.packet(), (wire.PUBACK << 4, b"\x00\x01"))
        half.sock.close()

    def test_a_damaged_record_ends_the_connection(self):
        def damage():
            half = Half("mqtts")
            half.drive(half.tls.do_handshake)
            half.drive(lambda: half.tls.write(wire.connect("damaged")))
            half.packet()
            half.tls.write(wire.publish("damaged", b"evil", 1, 1))
            record = bytearray(half.outside.read())
            record[-1] ^= 1
            half.sock.sendall(record)
            while half.sock.recv(4096):
                pass
            half.sock.close()

        until_logged(damage, "client 'damaged'.*TLS failed: .*bad record mac")


    def test_noise_ends_its_own_connection_only(self):
        rng = random.Random(7)
        with Tls("mqtts") as bystander:
            bystander.join("bystander")
            for number in range(200):
                noise = rng.randbytes(rng.randrange(1, 600))
                if number % 2:  # as a handshake record begins
                    noise = b"\x16\x03\x01" + struct.pack(">H", len(noise)) + noise
                with wire.Wire(ports["mqtts"]) as visitor:
                    visitor.send(noise)
            bystander.publish("bystander", b"1", 1)


class Refused(unittest.TestCase):
    def test_a_client_that_does_not_know_the_ca_is_told_apart(self):
        def publish():
            done = mosquitto_pub(ports["mqtts"], "--cafile", stranger.ca, "-t", "t", "-m", "1",
                                 check=False)
            self.assertNotEqual(done.returncode, 0)

        until_logged(publish, "the client does not trust this gateway's certificate")

    def test_an_expired_certificate_is_warned_of_and_refused_by_clients(self):
        gateway.wait_log("level=warn.*'expired'.*has expired")
        with self.assertRaisesRegex(ssl.SSLError, "expired"):
            Tls("expired")

    def test_a_listener_that_requires_a_certificate_admits_no_one_without(self):
        for name in ("mutual", "certified"):
            self.assertRefused(name, None, "`require_certificate` is true and the client has none")

    def test_certificates_of_another_ca_and_revoked_ones_are_refused(self):
        folder = stranger.folder
        self.assertRefused("mutual", (folder / "press.crt", folder / "press.key"),
                           "the client's certificate is refused: .*(issuer|signature)")
        folder = pki.folder
        self.assertRefused("mutual", (folder / "lost.crt", folder / "lost.key"),
                           "the client's certificate is refused: certificate revoked")

    def assertRefused(self, name, client, line):
        def attempt():  # 1.3: the client learns of it after its own handshake
            for version in VERSIONS.values():
                with self.assertRaises(ssl.SSLError), Tls(name, version, client) as refused:
                    refused.send(wire.connect("x"))
                    refused.read()

        until_logged(attempt, line)

    def test_mosquitto_comes_in_with_its_certificate(self):
        folder = pki.folder
        ours = ("--cafile", pki.ca, "-q", "1", "-t", "certified", "-m", "1")
        client = ("--cert", folder / "press.crt", "--key", folder / "press.key")
        for name in ("mutual", "certified"):
            mosquitto_pub(ports[name], *ours, *client)
            self.assertNotEqual(mosquitto_pub(ports[name], *ours, check=False).returncode, 0)

    def test_the_common_name_is_the_user_name_without_a_password(self):
        folder = pki.folder
        with Tls("mutual", None, (folder / "press.crt", folder / "press.key")) as client:
            client.join("who").publish("identity/topic", b"1", 1)
        shown = millrace("journal", "cat", "--json", "--data", gateway.data).stdout
        events = [json.loads(line) for line in shown.splitlines()]
        users = {one.get("username") for one in events if one.get("topic") == "identity/topic"}
        self.assertEqual(users, {"press-7"}, shown[-2000:])

    def test_plain_text_at_the_tls_port_is_named_and_closed_at_once(self):
        def speak():
            with wire.Wire(ports["mqtts"]) as client:
                client.send(wire.connect("plain"))
                client.read_until_closed()

        until_logged(speak, r"speaks plain text .first byte 0x10. and this listener TLS")

    def test_tls_at_the_plain_port_is_named_and_closed_at_once(self):
        until_logged(lambda: self.assertRaises(OSError, Tls, "mqtt"),
                     "it speaks TLS and this listener plain text")

    def test_a_handshake_has_no_more_time_than_a_connect(self):
        for begin in (b"", b"\x16\x03\x01\x02\x00\x01"):
            with self.subTest(begin), wire.Wire(ports["mqtts"]) as silent:
                silent.send(begin)
                silent.patience(10)
                self.assertEqual(silent.read_until_closed(), [])
        half = Half("mqtts")
        half.drive(half.tls.do_handshake)  # and then no CONNECT
        half.sock.settimeout(10)
        while half.sock.recv(4096):
            pass
        half.sock.close()

    def test_a_tls_block_without_a_certificate_never_opens_in_plain(self):
        broken = Gateway('listeners:\n  mqtts: { bind: "127.0.0.1:0", tls: {} }\n')
        self.addCleanup(broken.temp.remove)
        broken.spawn()
        broken.wait_exit(78)
        self.assertIsNotNone(broken.log.find("tls needs `certfile` and `keyfile`"))


class Check(unittest.TestCase):
    def check(self, tls):
        path = temp.path / "check.yaml"
        path.write_text("listeners:\n" + listener("mqtts", tls), encoding="utf-8")
        return millrace("check", "-c", path, check=False)

    def test_check_names_file_cause_and_next_step(self):
        folder = pki.folder
        broken = folder / "broken.pem"
        broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n", encoding="ascii")
        good = {"certfile": folder / "server.crt", "keyfile": folder / "server.key"}
        cases = [
            ({"keyfile": folder / "press.key"}, "the key does not match the certificate"),
            ({"keyfile": folder / "nowhere.key"}, "nowhere.key: no such file"),
            ({"certfile": broken}, "broken.pem: .*must be PEM"),
            ({"cacertfile": broken}, "cacertfile .*broken.pem"),
            ({"crlfile": folder / "server.crt"}, "crlfile .*revocation list"),
            ({"require_certificate": "true"}, "needs `cacertfile`"),
            ({"use_identity_as_username": "true"}, "needs `require_certificate"),
            ({"ciphers": "NONSENSE"}, "names no cipher"),
            ({"certfle": "x"}, "did you mean 'certfile'"),
        ]
        for change, line in cases:
            with self.subTest(change):
                done = self.check({**good, **change})
                self.assertEqual(done.returncode, 78, done.stderr)
                self.assertRegex(done.stderr, line)

    def test_check_warns_of_a_key_that_others_may_read_and_of_an_expired_certificate(self):
        folder = pki.folder
        (folder / "old.key").chmod(0o644)
        done = self.check({"certfile": folder / "old.crt", "keyfile": folder / "old.key"})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stderr, "every user of this machine may read .*chmod 600")
        self.assertRegex(done.stderr, "has expired")

    def test_check_warns_of_an_expired_revocation_list(self):
        folder = pki.folder
        tls = {"certfile": folder / "server.crt", "keyfile": folder / "server.key",
               "cacertfile": pki.ca, "require_certificate": "true", "crlfile": pki.expired_list()}
        done = self.check(tls)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stderr, "revocation list in .*old-crl.pem has expired")
        self.assertNotIn("has expired", self.check({**tls, "crlfile": folder / "crl.pem"}).stderr)

    def test_a_key_with_a_passphrase_asks_nobody(self):
        pki.openssl("pkey", "-in", "server.key", "-aes256", "-passout", "pass:secret", "-out",
                    "locked.key")
        done = self.check({"certfile": pki.folder / "server.crt",
                           "keyfile": pki.folder / "locked.key"})
        self.assertEqual(done.returncode, 78)
        self.assertRegex(done.stderr, "locked.key: .*without a passphrase")


if __name__ == "__main__":
    unittest.main()
