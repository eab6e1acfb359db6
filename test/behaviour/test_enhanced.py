"""Enhanced authentication: SCRAM-SHA-256 in AUTH packets (MQTT 5, section 4.12)."""

import base64
import hashlib
import hmac
import json
import os
import shutil
import signal
import struct
import subprocess
import unittest

import ports
import wire
from harness import Gateway, Lines, Temp, millrace, popen, program, until
from test_login import MOSQUITTO, login

AUTH = 15
METHOD, DATA = 0x15, 0x16
SUCCESS, CONTINUE, AGAIN = 0x00, 0x18, 0x19


def setUpModule():
    global temp, users, gateway
    temp = Temp("enhanced")
    users = temp.path / "users"
    millrace("passwd", "--scram", "-c", "-b", users, "press", "pencil", check=True)
    millrace("passwd", "--scram", "-b", users, "drill", "d,r=ill", check=True)
    millrace("passwd", "-b", users, "plain", "s3cret", check=True)
    gateway = Gateway(f"auth: {{ password_file: {users} }}\n").start()


def tearDownModule():
    with gateway:
        pass
    temp.remove()


def properties(*pairs):
    return b"".join(bytes([kind]) + wire.text(value) for kind, value in pairs)


def auth(reason, data, method="SCRAM-SHA-256"):
    props = properties((METHOD, method), (DATA, data))
    return wire.packet(AUTH, 0, bytes([reason]) + wire.varint(len(props)) + props)


def parse(props):
    """The properties that we look at, from a section without its length."""
    found = {}
    sizes = {0x11: 4, 0x13: 2, 0x21: 2, 0x22: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1,
             0x2A: 1}
    while props:
        kind = props[0]
        size = sizes.get(kind)
        if size is None:
            size = struct.unpack(">H", props[1:3])[0]
            found[kind] = props[3 : 3 + size]
            props = props[3 + size :]
        else:
            props = props[1 + size :]
    return found


class Scram:
    """The client's side of RFC 5802, by hand."""

    def __init__(self, user, password):
        self.password = password.encode()
        self.user = user.replace("=", "=3D").replace(",", "=2C")
        self.nonce = base64.b64encode(os.urandom(12)).decode()
        self.bare = f"n={self.user},r={self.nonce}"
        self.first = "n,," + self.bare
        self.server_signature = None

    def final(self, challenge):
        challenge = challenge.decode()
        parts = dict(one.split("=", 1) for one in challenge.split(","))
        assert parts["r"].startswith(self.nonce) and len(parts["r"]) > len(self.nonce) + 16
        salted = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(parts["s"]),
                                     int(parts["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without = f"c=biws,r={parts['r']}"
        said = f"{self.bare},{challenge},{without}".encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), said, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        self.server_signature = (
            b"v=" + base64.b64encode(hmac.digest(server_key, said, "sha256")))
        return without + ",p=" + base64.b64encode(proof).decode()


def connect(scram, client="enhanced", method="SCRAM-SHA-256", more=b"", **options):
    return wire.connect(client, 5, properties=properties((METHOD, method), (DATA, scram.first))
                        + more, **options)


def behind(packet, *texts):
    """A CONNECT with user name, password behind what it has."""
    body = packet[2 if packet[1] < 128 else 3 :]
    return wire.packet(wire.CONNECT, 0, body + b"".join(wire.text(one) for one in texts))


def begin(peer, scram, **options):
    """CONNECT with client-first; the challenge."""
    peer.send(connect(scram, **options))
    return expect_auth(peer, CONTINUE)


def expect_auth(peer, reason):
    kind, body = peer.read()
    assert kind == AUTH << 4 and body[0] == reason, (kind, body)
    found = parse(body[2:])
    assert found[METHOD] == b"SCRAM-SHA-256", found
    return found[DATA]


def join(peer, user="press", password="pencil", **options):
    """The properties of CONNACK."""
    scram = Scram(user, password)
    peer.send(auth(CONTINUE, scram.final(begin(peer, scram, **options))))
    kind, body = peer.read()
    assert kind == wire.CONNACK << 4 and body[1] == 0, (kind, body)
    found = parse(body[3:])
    assert found[DATA] == scram.server_signature, found
    return found


class Revoked(unittest.TestCase):
    def test_who_is_half_way_in_when_the_file_is_read_again_does_not_come_in(self):
        own = temp.path / "revoked"
        for user in ("gone", "other", "stays"):
            millrace("passwd", "--scram", *(["-c"] if user == "gone" else []), "-b", own, user,
                     "pencil", check=True)
        with Gateway(f"auth: {{ password_file: {own} }}\n") as mine:
            waiting = []
            for user in ("gone", "other", "stays"):
                peer, scram = wire.Wire(mine.mqtt_port), Scram(user, "pencil")
                self.addCleanup(peer.sock.close)
                waiting.append((peer, scram, begin(peer, scram, client=user)))
            millrace("passwd", "-D", own, "gone", check=True)
            millrace("passwd", "--scram", "-b", own, "other", "another", check=True)
            os.kill(mine.pid(), signal.SIGHUP)
            mine.wait_log("reload: done")
            codes = []
            for peer, scram, challenge in waiting:
                peer.send(auth(CONTINUE, scram.final(challenge)))
                codes.append(peer.read()[1][1])
            self.assertEqual(codes, [0x87, 0x87, 0])

    def test_a_reload_that_takes_the_file_away_leaves_nobody_to_ask(self):
        """Half-way in: refused.  In: it stays where everybody may, and cannot do it again."""
        with Gateway(f"auth: {{ password_file: {users} }}\n") as mine, \
                wire.Wire(mine.mqtt_port) as half, wire.Wire(mine.mqtt_port) as there:
            join(there, client="there")
            scram = Scram("press", "pencil")
            challenge = begin(half, scram, client="half")
            mine.config.write_text("", encoding="utf-8")
            os.kill(mine.pid(), signal.SIGHUP)
            mine.wait_log("reload: done")
            half.send(auth(CONTINUE, scram.final(challenge)))
            self.assertEqual(half.read()[1][1], 0x8C)
            there.send(wire.publish("enhanced/still", b"1", 1, 7, version=5))
            self.assertEqual(there.read()[0] >> 4, wire.PUBACK)
            there.send(auth(AGAIN, Scram("press", "pencil").first))
            kind, body = there.read()
            self.assertEqual((kind >> 4, body[0]), (wire.DISCONNECT, 0x87))


class Connecting(unittest.TestCase):
    def refused(self, peer, code):
        self.assertEqual([(kind >> 4, body[1]) for kind, body in peer.read_until_closed()],
                         [(wire.CONNACK, code)])

    def test_both_sides_prove_that_they_know_the_password(self):
        for user, password in (("press", "pencil"), ("drill", "d,r=ill")):
            with self.subTest(user), wire.Wire(gateway.mqtt_port) as peer:
                found = join(peer, user, password)
                self.assertEqual(found[METHOD], b"SCRAM-SHA-256")  # [MQTT-4.12.0-5]
                peer.send(wire.publish("enhanced", b"1", 1, 7, version=5))
                self.assertEqual(peer.read()[0] >> 4, wire.PUBACK)
        shown = millrace("journal", "cat", "--json", "--data", gateway.data).stdout
        events = [json.loads(line) for line in shown.splitlines()]
        self.assertEqual({one["username"] for one in events if one.get("topic") == "enhanced"},
                         {"press", "drill"})

    def test_persistent_sessions_and_what_came_with_connect_are_kept(self):
        expiry = b"\x11" + struct.pack(">I", 60)
        for present in (0, 1):
            with wire.Wire(gateway.mqtt_port) as peer:
                scram = Scram("press", "pencil")
                challenge = begin(peer, scram, client="kept", more=expiry,
                                  flags=0x00 if present else 0x02,
                                  will=("enhanced/will", "gone", 1))
                peer.send(auth(CONTINUE, scram.final(challenge)))
                kind, body = peer.read()
                self.assertEqual((kind >> 4, body[0], body[1]), (wire.CONNACK, present, 0))

    def test_a_wrong_password_is_told_at_the_end_and_in_the_same_words(self):
        for user, password in (("press", "wrong"), ("nobody", "pencil"), ("plain", "s3cret")):
            with self.subTest(user), wire.Wire(gateway.mqtt_port) as peer:
                scram = Scram(user, password)
                peer.send(auth(CONTINUE, scram.final(begin(peer, scram))))
                self.refused(peer, 0x87)  # [MQTT-4.12.0-4]

    def test_names_are_not_told_by_their_salts(self):
        shapes = set()
        salts = {}
        for user in ("press", "nobody", "nobody", "plain", "press"):
            with wire.Wire(gateway.mqtt_port) as peer:
                challenge = begin(peer, Scram(user, "x")).decode()
                nonce, salt, iterations = challenge.split(",")
                shapes.add((len(nonce), len(salt), iterations))
                self.assertEqual(salts.setdefault(user, salt), salt)
        self.assertEqual(len(shapes), 1, shapes)
        self.assertEqual(len(set(salts.values())), 3)

    def test_another_method_is_bad_4_12_0_1(self):
        for method in ("SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "GS2-KRB5", ""):
            with self.subTest(method), wire.Wire(gateway.mqtt_port) as peer:
                peer.send(connect(Scram("press", "pencil"), method=method))
                self.refused(peer, 0x8C)

    def test_without_users_of_it_the_method_is_not_offered(self):
        with Gateway() as other, wire.Wire(other.mqtt_port) as peer:
            peer.send(connect(Scram("press", "pencil")))
            self.refused(peer, 0x8C)

    def test_a_name_beside_the_proven_one_must_be_the_same(self):
        for name, code in (("press", 0), ("drill", 0x87)):
            with self.subTest(name), wire.Wire(gateway.mqtt_port) as peer:
                scram = Scram("press", "pencil")
                peer.send(behind(connect(scram, flags=0x82), name))
                peer.send(auth(CONTINUE, scram.final(expect_auth(peer, CONTINUE))))
                self.assertEqual(peer.read()[1][1], code)

    def test_messages_that_are_no_scram_are_refused(self):
        for data in ("", "n,,n=press", "p=tls-unique,,n=press,r=0123456789",
                     "n,a=root,n=press,r=0123456789"):
            with self.subTest(data), wire.Wire(gateway.mqtt_port) as peer:
                scram = Scram("press", "pencil")
                scram.first = data
                peer.send(connect(scram))
                self.refused(peer, 0x87)

    def test_only_auth_and_disconnect_before_connack_3_1_2_30(self):
        for packet in (wire.publish("t", b"1", version=5), wire.packet(wire.PINGREQ, 0, b""),
                       wire.subscribe(["t"], version=5)):
            with self.subTest(packet), wire.Wire(gateway.mqtt_port) as peer:
                begin(peer, Scram("press", "pencil"))
                peer.send(packet)
                self.refused(peer, 0x82)
        with wire.Wire(gateway.mqtt_port) as peer:
            begin(peer, Scram("press", "pencil"))
            peer.send(connect(Scram("press", "pencil")))
            self.assertEqual(peer.read_until_closed(), [])  # a second CONNECT
        with wire.Wire(gateway.mqtt_port) as peer:
            begin(peer, Scram("press", "pencil"))
            peer.send(wire.packet(wire.DISCONNECT, 0, b""))
            self.assertEqual(peer.read_until_closed(), [])

    def test_what_goes_on_must_be_0x18_of_the_same_method_4_12_0_3(self):
        for reason, method in ((AGAIN, "SCRAM-SHA-256"), (SUCCESS, "SCRAM-SHA-256"),
                               (CONTINUE, "SCRAM-SHA-1")):
            with self.subTest(reason=reason, method=method), \
                    wire.Wire(gateway.mqtt_port) as peer:
                scram = Scram("press", "pencil")
                peer.send(auth(reason, scram.final(begin(peer, scram)), method))
                self.refused(peer, 0x82)

    def test_auth_before_connect_and_auth_that_nobody_began(self):
        with wire.Wire(gateway.mqtt_port) as peer:
            peer.send(auth(CONTINUE, b"x"))
            self.assertEqual(peer.read_until_closed(), [])
        for reason in (CONTINUE, AGAIN):  # [MQTT-4.12.0-7]
            with wire.Wire(gateway.mqtt_port) as peer:
                self.assertEqual(self.plain(peer), 0)
                peer.send(auth(reason, b"x"))
                self.assertEqual([(kind >> 4, body[0])
                                  for kind, body in peer.read_until_closed()],
                                 [(wire.DISCONNECT, 0x82)])

    def plain(self, peer):
        peer.send(behind(wire.connect("plain", 5, flags=0xC2), "plain", "s3cret"))
        kind, body = peer.read()
        self.assertNotIn(METHOD, parse(body[3:]))  # [MQTT-4.12.0-6]
        return body[1]

    def test_who_does_not_go_on_is_sent_away(self):
        text = f"auth: {{ password_file: {users} }}\nmqtt: {{ connect_timeout: 1s }}\n"
        with Gateway(text) as other, wire.Wire(other.mqtt_port) as peer:
            begin(peer, Scram("press", "pencil"))
            self.refused(peer, 0x87)

    def test_a_challenge_too_large_for_the_client_is_not_sent_3_1_2_24(self):
        with wire.Wire(gateway.mqtt_port) as peer:
            peer.send(connect(Scram("press", "pencil"), more=b"\x27" + struct.pack(">I", 60)))
            self.refused(peer, 0x87)

    def test_lines_of_scram_open_no_other_door(self):
        self.assertEqual(login(gateway.mqtt_port, "press", "pencil"), 4)
        lines = users.read_text(encoding="utf-8").splitlines()
        stored = next(one for one in lines if one.startswith("#scram-sha-256:press:"))
        for secret in (stored, *stored.split(":")):
            self.assertEqual(login(gateway.mqtt_port, "press", secret), 4)


class Again(unittest.TestCase):
    def test_it_goes_on_publishing_while_it_proves_itself_again(self):
        with wire.Wire(gateway.mqtt_port) as peer:
            join(peer)
            for _ in range(3):
                scram = Scram("press", "pencil")
                peer.send(auth(AGAIN, scram.first) + wire.publish("enhanced", b"1", 1, 1, 5))
                challenge = expect_auth(peer, CONTINUE)
                self.assertEqual(peer.read()[0] >> 4, wire.PUBACK)
                peer.send(wire.publish("enhanced", b"2", 1, 2, 5))
                self.assertEqual(peer.read()[0] >> 4, wire.PUBACK)
                peer.send(auth(CONTINUE, scram.final(challenge)))
                self.assertEqual(expect_auth(peer, SUCCESS), scram.server_signature)

    def disconnected(self, peer, reason):
        self.assertEqual([(kind >> 4, body[0]) for kind, body in peer.read_until_closed()],
                         [(wire.DISCONNECT, reason)])  # [MQTT-4.12.1-2]

    def test_a_wrong_password_or_another_user_ends_the_connection(self):
        before = gateway.metric("millrace_mqtt_disconnects_total", 'reason="auth"')
        with wire.Wire(gateway.mqtt_port) as peer:
            join(peer)
            scram = Scram("press", "wrong")
            peer.send(auth(AGAIN, scram.first))
            peer.send(auth(CONTINUE, scram.final(expect_auth(peer, CONTINUE))))
            self.disconnected(peer, 0x87)
        with wire.Wire(gateway.mqtt_port) as peer:
            join(peer)
            scram = Scram("drill", "d,r=ill")
            peer.send(auth(AGAIN, scram.first))
            self.assertEqual([kind >> 4 for kind, _ in peer.read_until_closed()][-1],
                             wire.DISCONNECT)
        self.assertEqual(
            gateway.metric("millrace_mqtt_disconnects_total", 'reason="auth"') - before, 2)

    def test_what_is_out_of_turn_breaks_the_protocol(self):
        scram = Scram("press", "pencil")
        for packets in ([auth(CONTINUE, b"x")],
                        [auth(AGAIN, scram.first, "SCRAM-SHA-1")],  # [MQTT-4.12.1-1]
                        [wire.packet(AUTH, 0, b"")]):
            with self.subTest(packets), wire.Wire(gateway.mqtt_port) as peer:
                join(peer)
                for packet in packets:
                    peer.send(packet)
                self.disconnected(peer, 0x82)
        with wire.Wire(gateway.mqtt_port) as peer:
            join(peer)
            peer.send(auth(AGAIN, scram.first))
            expect_auth(peer, CONTINUE)
            peer.send(auth(AGAIN, scram.first))
            self.disconnected(peer, 0x82)

    def test_a_client_that_goes_away_half_way_leaves_nothing(self):
        before = gateway.metric("millrace_mqtt_connections")
        for again in (False, True):
            with wire.Wire(gateway.mqtt_port) as peer:
                if again:
                    join(peer)
                    peer.send(auth(AGAIN, Scram("press", "pencil").first))
                    expect_auth(peer, CONTINUE)
                else:
                    begin(peer, Scram("press", "pencil"))
        until(lambda: gateway.metric("millrace_mqtt_connections") == before, "them to be gone")


class Guessing(unittest.TestCase):
    def test_who_guesses_waits_before_the_challenge(self):
        with Gateway(f"auth: {{ password_file: {users} }}\n") as other:
            for number in range(22):
                with wire.Wire(other.mqtt_port) as peer:
                    scram = Scram("press", f"guess-{number}")
                    peer.send(auth(CONTINUE, scram.final(begin(peer, scram))))
                    self.assertEqual(peer.read()[1][1], 0x87)
            crowd = [wire.Wire(other.mqtt_port) for _ in range(60)]
            for peer in crowd:
                peer.send(connect(Scram("press", "guess")))
            kinds = [peer.read() for peer in crowd]
            for peer in crowd:
                peer.sock.close()
            self.assertEqual({(kind >> 4, body[1] if kind >> 4 == wire.CONNACK else 0)
                              for kind, body in kinds}, {(AUTH, 0), (wire.CONNACK, 0x89)})
            with wire.Wire(other.mqtt_port) as peer:
                join(peer)  # late, but it comes in


    def test_exchanges_begun_at_once_are_no_way_around_the_wait(self):
        with Gateway(f"auth: {{ password_file: {users} }}\n") as other:
            crowd = []
            for number in range(40):
                peer, scram = wire.Wire(other.mqtt_port), Scram("press", f"guess-{number}")
                self.addCleanup(peer.sock.close)
                crowd.append((peer, scram.final(begin(peer, scram, client=f"crowd-{number}"))))
            codes = []
            for peer, final in crowd:
                peer.send(auth(CONTINUE, final))
                codes.append(peer.read()[1][1])
            self.assertLess(codes.count(0x87), 30)
            self.assertEqual(set(codes), {0x87, 0x89})
            with wire.Wire(other.mqtt_port) as peer:
                join(peer)  # late, but it comes in


class Files(unittest.TestCase):
    def test_mosquitto_and_its_program_do_not_mind_the_lines(self):
        theirs = temp.path / "theirs"
        shutil.copy(users, theirs)
        theirs.chmod(0o644)  # mosquitto changes its user
        subprocess.run([program("mosquitto_passwd"), "-b", theirs, "more", "4"], check=True)
        lines = theirs.read_text(encoding="utf-8").splitlines()
        for line in users.read_text(encoding="utf-8").splitlines():
            self.assertIn(line, lines)
        port = ports.take()
        conf = temp.path / "mosquitto.conf"
        conf.write_text(f"listener {port} 127.0.0.1\npassword_file {theirs}\nuser root\n",
                        encoding="utf-8")
        process = popen([MOSQUITTO or program("mosquitto"), "-c", conf],
                        stderr=subprocess.PIPE, text=True)
        try:
            Lines(process.stderr).wait("running")
            self.assertEqual(login(port, "plain", "s3cret"), 0)
            self.assertEqual(login(port, "more", "4"), 0)
            self.assertNotEqual(login(port, "press", "pencil"), 0)
        finally:
            process.kill()
            process.wait()

    def test_too_few_iterations_are_refused(self):
        done = millrace("passwd", "--scram", "-b", "-I", "100", users, "x", "y", check=False)
        self.assertEqual(done.returncode, 64, done.stderr)
        self.assertIn("4096", done.stderr)


if __name__ == "__main__":
    unittest.main()
