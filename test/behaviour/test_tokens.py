"""Signed tokens (JWT) instead of passwords, made by PyJWT."""

import hashlib
import hmac
import json
import os
import signal
import struct
import threading
import time
import unittest
from base64 import urlsafe_b64encode

import jwt
import wire
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from harness import Gateway, Temp, millrace, mosquitto_pub, until
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from test_login import connect, login

SECRET = "0123456789abcdef0123456789abcdef"
DENIED = 0x86


def public_pem(key):
    return key.public_key().public_bytes(serialization.Encoding.PEM,
                                         serialization.PublicFormat.SubjectPublicKeyInfo)


def jwk(algorithm, key, kid):
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid, "use": "sig"}


def setUpModule():
    global temp, rsa_key, ec_key, ed_key, other_key, config, gateway
    temp = Temp("tokens")
    rsa_key = rsa.generate_private_key(65537, 2048)
    ec_key = ec.generate_private_key(ec.SECP256R1())
    ed_key = ed25519.Ed25519PrivateKey.generate()
    other_key = ec.generate_private_key(ec.SECP256R1())
    (temp.path / "secret").write_text(SECRET + "\n", encoding="utf-8")
    (temp.path / "keys.pem").write_bytes(public_pem(rsa_key) + public_pem(ec_key))
    jwks_write(jwk(OKPAlgorithm, ed_key, "ed"), jwk(RSAAlgorithm, rsa_key, "rsa"))
    millrace("passwd", "-c", "-b", temp.path / "users", "ours", "s3cret", check=True)
    config = f"""
auth:
  password_file: {temp.path}/users
  jwt:
    secret_file: {temp.path}/secret
    public_key_file: {temp.path}/keys.pem
    jwks_file: {temp.path}/keys.jwks
    audience: mqtt
    leeway: 0
"""
    gateway = Gateway(config).start()


def tearDownModule():
    with gateway:
        pass
    temp.remove()


def jwks_write(*keys):
    (temp.path / "keys.jwks").write_text(json.dumps({"keys": keys}), encoding="utf-8")


def token(key=SECRET, algorithm="HS256", headers=None, **claims):
    """A good one, but for what is said."""
    whole = {"aud": "mqtt", "sub": "press-7", "exp": int(time.time()) + 600, **claims}
    return jwt.encode({name: value for name, value in whole.items() if value is not None}, key,
                      algorithm, headers)


class Tokens(unittest.TestCase):
    def code(self, password, user="any", **options):
        return login(gateway.mqtt_port, user, password, 5, **options)

    def test_every_kind_of_key_lets_in_and_others_do_not(self):
        for algorithm, key, headers in (
                ("HS256", SECRET, None), ("HS512", SECRET, None), ("RS256", rsa_key, None),
                ("RS512", rsa_key, {"kid": "rsa"}), ("PS256", rsa_key, None),
                ("ES256", ec_key, None), ("EdDSA", ed_key, {"kid": "ed"})):
            with self.subTest(algorithm):
                good = token(key, algorithm, headers)
                self.assertEqual(self.code(good), 0)
                self.assertEqual(self.code(good[:-2]), DENIED)
        for key, algorithm in ((SECRET + "x", "HS256"), (other_key, "ES256")):
            self.assertEqual(self.code(token(key, algorithm)), DENIED)
        self.assertEqual(self.code(token(ed_key, "EdDSA", {"kid": "rsa"})), DENIED)

    def test_none_and_a_public_key_as_secret_are_refused(self):
        self.assertEqual(self.code(jwt.encode({"aud": "mqtt"}, None, "none")), DENIED)
        head, body, _ = token().split(".")
        self.assertEqual(self.code(f"{head}.{body}."), DENIED)
        signed = f"{head}.{body}".encode()
        for pem in (public_pem(rsa_key), (temp.path / "keys.pem").read_bytes(),
                    (temp.path / "keys.jwks").read_bytes(), b""):
            mac = urlsafe_b64encode(hmac.digest(pem, signed, hashlib.sha256)).rstrip(b"=")
            self.assertEqual(self.code(signed + b"." + mac), DENIED)

    def test_times_audience_and_size_are_checked(self):
        now = int(time.time())
        for claims in ({"exp": now - 1}, {"exp": "never"}, {"nbf": now + 60}, {"iat": now + 60},
                       {"aud": "http"}, {"aud": None}, {"long": "x" * 16384}):
            with self.subTest(claims.keys()):
                self.assertEqual(self.code(token(**claims)), DENIED)
        for claims in ({"exp": None}, {"nbf": now - 1}, {"aud": ["http", "mqtt"]}):
            with self.subTest(claims):
                self.assertEqual(self.code(token(**claims)), 0)
        for claims, line in (({"exp": now - 1}, "it has expired"),
                             ({"aud": "http"}, "its `aud` is not `audience`")):
            line = f"its token is refused: {line}, as 'any'"  # a line a second at most
            until(lambda: self.code(token(**claims)) == DENIED and gateway.log.find(line), line)

    def test_the_claim_is_who_it_is_whatever_connect_says(self):
        for claims, name in (({}, "press-7"), ({"sub": "drück"}, "drück"), ({"sub": None}, None),
                             ({"sub": 7}, None)):
            with self.subTest(claims):
                topic = f"tokens/{len(str(claims))}"
                mosquitto_pub(gateway.mqtt_port, "-u", "somebody-else", "-P", token(**claims),
                              "-q", "1", "-t", topic, "-m", "1")
                shown = millrace("journal", "cat", "--json", "--data", gateway.data).stdout
                events = [json.loads(line) for line in shown.splitlines()]
                self.assertEqual([one.get("username") or None for one in events
                                  if one.get("topic") == topic], [name])
        self.assertEqual(self.code(token(sub="a\0b")), DENIED)

    def test_a_token_needs_no_user_name(self):
        with wire.Wire(gateway.mqtt_port) as peer:
            packet = wire.connect("alone", 5, flags=0x42)
            at = 2 if packet[1] < 128 else 3
            peer.send(wire.packet(wire.CONNECT, 0, packet[at:] + wire.text(token())))
            self.assertEqual(peer.read()[1][1], 0)

    def test_what_is_no_token_is_a_password(self):
        self.assertEqual(self.code("s3cret", "ours"), 0)
        self.assertEqual(self.code("a.b.c", "ours"), DENIED)
        self.assertEqual(self.code("wrong", "ours"), DENIED)
        self.assertEqual(self.code(token(), "ours"), 0)

    def test_a_connection_ends_when_its_token_does(self):
        with wire.Wire(gateway.mqtt_port) as peer:
            peer.send(connect("ends", "any", token(exp=int(time.time()) + 2), 5))
            self.assertEqual(peer.read()[1][1], 0)
            self.assertEqual([(kind >> 4, body[0]) for kind, body in peer.read_until_closed()],
                             [(wire.DISCONNECT, 0x87)])
        gateway.wait_log("its login has expired")

    def test_no_connection_ends_before_its_token_does(self):
        until(lambda: time.time() % 1 > 0.9, "a second to be nearly over")
        second = int(time.time()) + 1
        peers = []
        while time.time() < second + 0.03:  # so some come as it begins
            peer = wire.Wire(gateway.mqtt_port)
            self.addCleanup(peer.sock.close)
            exp = int(time.time()) + 2
            peer.send(connect(f"not-before-{len(peers)}", "any", token(exp=exp), 5))
            self.assertEqual(peer.read()[1][1], 0)
            peers.append((peer, exp))
        ended = {}

        def read(peer):
            peer.read_until_closed()
            ended[peer] = time.time()

        readers = [threading.Thread(target=read, args=(peer,)) for peer, _ in peers]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        early = [exp - ended[peer] for peer, exp in peers if ended[peer] < exp]
        self.assertEqual(early, [])

    def test_a_token_that_holds_for_years_lets_its_client_stay(self):
        year = 31557600
        peers = []
        for years in (2, 3, 4, 6, 8, 20, 7000):
            peer = wire.Wire(gateway.mqtt_port)
            self.addCleanup(peer.sock.close)
            exp = int(time.time()) + years * year
            peer.send(connect(f"years-{years}", "any", token(exp=exp), 5))
            self.assertEqual(peer.read()[1][1], 0)
            peers.append((years, peer))
        self.test_a_connection_ends_when_its_token_does()  # by then the others would have, too
        for years, peer in peers:
            with self.subTest(years):
                peer.send(wire.packet(wire.PINGREQ, 0, b""))
                self.assertEqual(peer.read()[0] >> 4, wire.PINGRESP)

    def test_a_connection_that_waits_for_its_rate_ends_as_well(self):
        with Gateway(config + "mqtt: { messages_rate: 10 }\n") as other:
            with wire.Wire(other.mqtt_port) as peer:
                peer.send(connect("fast", "any", token(exp=int(time.time()) + 2), 5))
                self.assertEqual(peer.read()[1][1], 0)
                peer.send(wire.publish("fast", b"1", version=5) * 3000)  # five minutes of them
                self.assertEqual([(kind >> 4, body[0]) for kind, body in peer.read_until_closed()],
                                 [(wire.DISCONNECT, 0x87)])


class Rules(unittest.TestCase):
    """The claim `acl`, beside an ACL file that allows something else."""

    @classmethod
    def setUpClass(cls):
        rules = temp.path / "rules.acl"
        rules.write_text("pattern readwrite file/#\n", encoding="utf-8")
        cls.gateway = Gateway(config.replace("  jwt:", f"  acl_file: {rules}\n  jwt:")).start()

    @classmethod
    def tearDownClass(cls):
        with cls.gateway:
            pass

    def join(self, will=None, client="c1", **claims):
        peer = wire.Wire(self.gateway.mqtt_port)
        self.addCleanup(peer.sock.close)
        packet = wire.connect(client, 5, flags=0xC2, will=will)
        at = 2 if packet[1] < 128 else 3
        peer.send(wire.packet(wire.CONNECT, 0, packet[at:] + wire.text("any")
                              + wire.text(token(**claims))))
        return peer, peer.read()[1][1]

    def rights(self, topics, **claims):
        """The topics it may publish to, and the filters it may subscribe to."""
        peer, code = self.join(**claims)
        self.assertEqual(code, 0)
        may = set(), set()
        for topic in topics:
            peer.send(wire.publish(topic, b"1", 1, 7, version=5))
            kind, body = peer.read()
            self.assertEqual(kind >> 4, wire.PUBACK)
            if len(body) == 2 or body[2] in (0, 0x10):
                may[0].add(topic)
        for topic in topics:
            peer.send(wire.subscribe([topic], version=5, qos=0))
            kind, body = peer.read()
            while kind >> 4 != wire.SUBACK:
                kind, body = peer.read()
            if body[-1] < 0x80:
                may[1].add(topic)
        return may

    def test_lists_allow_what_they_say_and_the_file_nothing_more(self):
        acl = {"pub": ["home/%c/x"], "sub": ["orders/${username}"], "all": ["chat"]}
        topics = ("home/c1/x", "home/c2/x", "orders/press-7", "orders/x", "chat", "file/x")
        self.assertEqual(self.rights(topics, acl=acl),
                         ({"home/c1/x", "chat"}, {"orders/press-7", "chat"}))
        self.assertEqual(self.rights(topics, acl={}), (set(), set()))
        self.assertEqual(self.rights(topics, acl={}, is_superuser=True),
                         (set(topics), set(topics)))
        self.assertEqual(self.rights(topics), ({"file/x"}, {"file/x"}))

    def test_rules_leave_the_rest_to_the_file(self):
        acl = [{"permission": "deny", "action": "all", "topic": "file/secret"},
               {"permission": "allow", "action": "publish", "topic": "home/#"}]
        self.assertEqual(self.rights(("file/secret", "file/x", "home/y", "z"), acl=acl),
                         ({"file/x", "home/y"}, {"file/x"}))

    def test_each_message_is_judged_where_a_filter_is_too_wide(self):
        acl = [{"permission": "deny", "action": "subscribe", "topic": "home/secret/#"},
               {"permission": "allow", "action": "all", "topic": "home/#"}]
        reader, _ = self.join(client="reader", acl=acl)
        reader.send(wire.subscribe(["home/#"], version=5, qos=0))
        self.assertEqual(reader.read()[1][-1], 0)
        writer, _ = self.join(client="writer", is_superuser=True)
        for topic in ("home/secret/x", "home/open"):
            writer.send(wire.publish(topic, b"1", 1, 1, version=5))
            self.assertEqual(writer.read()[0] >> 4, wire.PUBACK)
        self.assertIn(b"home/open", reader.read()[1])

    def test_what_comes_while_a_client_is_away_is_judged_by_the_login_it_has_then(self):
        def back(present, acl):
            peer = wire.Wire(self.gateway.mqtt_port)
            self.addCleanup(peer.sock.close)
            packet = wire.connect("away", 5, flags=0xC0,
                                  properties=b"\x11" + struct.pack(">I", 600))
            at = 2 if packet[1] < 128 else 3
            peer.send(wire.packet(wire.CONNECT, 0, packet[at:] + wire.text("any")
                                  + wire.text(token(acl=acl))))
            self.assertEqual(peer.read()[1][:2], bytes([present, 0]))
            return peer

        def leave(peer):
            peer.send(wire.packet(wire.DISCONNECT, 0, b""))
            self.assertEqual(peer.read_until_closed(), [])

        peer = back(0, {"sub": ["home/#"]})
        peer.send(wire.subscribe(["home/#"], version=5, qos=1))
        self.assertEqual(peer.read()[1][-1], 1)
        writer, _ = self.join(client="writer", is_superuser=True)
        leave(peer)
        for acl, comes in (({"sub": ["home/#"]}, True), ({"sub": ["else"]}, False)):
            writer.send(wire.publish("home/away", b"1", 1, 1, version=5))
            self.assertEqual(writer.read()[0] >> 4, wire.PUBACK)
            peer = back(1, acl)
            if comes:
                kind, body = peer.read()
                self.assertIn(b"home/away", body)
                peer.send(wire.packet(wire.PUBACK, 0, body[11:13]))
            peer.send(wire.packet(wire.PINGREQ, 0, b""))
            self.assertEqual(peer.read()[0] >> 4, wire.PINGRESP)
            leave(peer)

    def test_wills_are_judged_and_rules_have_to_be_understood(self):
        acl = {"pub": ["home/will"]}
        self.assertEqual(self.join(will=("home/will", "x", 0), acl=acl)[1], 0)
        self.assertEqual(self.join(will=("file/will", "x", 0), acl=acl)[1], 0x87)
        for bad in ("all", {"pub": "home"}, [{"permission": "allow"}], {"pub": ["a/#/b"]}):
            with self.subTest(bad):
                self.assertEqual(self.join(acl=bad)[1], 0x87)


class Configured(unittest.TestCase):
    def test_options_of_emqx(self):
        text = f"""
auth:
  jwt:
    secret_file: {temp.path}/secret
    from: username
    issuer: plant
    username_claim: name
    clientid_claim: cid
    disconnect_after_expire: false
"""
        with Gateway(text) as other:
            def code(**claims):
                claims = {"iss": "plant", "cid": "login", "name": "press-7", **claims}
                return login(other.mqtt_port, token(aud=None, **claims), None, 5)

            self.assertEqual(code(), 0)
            self.assertEqual(code(iss="plants"), DENIED)
            self.assertEqual(code(cid="other"), DENIED)
            secret = token(exp=int(time.time()) - 100, iss="plant", cid="login")
            self.assertEqual(login(other.mqtt_port, secret, None, 5), DENIED)
            with wire.Wire(other.mqtt_port) as peer:  # stays beyond its time
                good = token(exp=int(time.time()) + 6, iss="plant", cid="stays", name="x")
                peer.send(connect("stays", good, None, 5))
                self.assertEqual(peer.read()[1][1], 0)
                shown = millrace("clients", "ls", "--data", other.data).stdout
            until(lambda: other.log.find("connected: MQTT 5.0, user 'press-7'"), "its name")
            for secret in (secret, good):
                self.assertNotIn(secret, other.log.text() + shown)
                self.assertNotIn(secret.split(".")[2], other.log.text() + shown)

    def test_keys_are_read_again_and_bad_ones_change_nothing(self):
        before = (temp.path / "keys.jwks").read_text(encoding="utf-8")
        self.addCleanup((temp.path / "keys.jwks").write_text, before, encoding="utf-8")
        with Gateway(config) as other:
            def code(key, kid):
                return login(other.mqtt_port, "any", token(key, "ES256", {"kid": kid}), 5)

            def reload(line):
                seen = len(other.log.text())
                os.kill(other.pid(), signal.SIGHUP)
                until(lambda: line in other.log.text()[seen:], line)

            self.assertEqual(code(other_key, "new"), DENIED)
            jwks_write(jwk(ECAlgorithm, other_key, "new"))
            reload("reload")
            until(lambda: code(other_key, "new") == 0, "the new key")
            (temp.path / "keys.jwks").write_text("{", encoding="utf-8")
            reload("keys.jwks")
            self.assertEqual(code(other_key, "new"), 0)

    def test_mistakes_are_told_by_check_with_their_place(self):
        (temp.path / "short").write_text("emqxsecret\n", encoding="utf-8")
        for lines, words in ((f"public_key_file: {temp.path}/secret", "BEGIN PUBLIC KEY"),
                             (f"jwks_file: {temp.path}/none", "none: no such file"),
                             ("leeway: 2h", "leeway")):
            path = temp.path / "bad.yaml"
            path.write_text(f"auth:\n  jwt:\n    secret_file: {temp.path}/secret\n    {lines}\n",
                            encoding="utf-8")
            with self.subTest(lines):
                done = millrace("check", "-c", path, check=False)
                self.assertEqual(done.returncode, 78, done.stderr)
                self.assertIn(words, done.stderr)
        short = f"jwt: {{ secret_file: {temp.path}/short }}"
        path.write_text(f"auth: {{ {short}, order: [jwt, ldap] }}\n",
                        encoding="utf-8")
        self.assertIn("'ldap' is nobody to be asked",
                      millrace("check", "-c", path, check=False).stderr)
        path.write_text(f"auth: {{ jwt: {{ secret_file: {temp.path}/short }} }}\n",
                        encoding="utf-8")
        self.assertIn("a secret of 10 bytes can be guessed", millrace("check", "-c", path).stderr)


if __name__ == "__main__":
    unittest.main()
