"""Who is admitted: passwords and enhanced authentication (3.1.4, 3.15, 4.12)."""

import base64
import hashlib
import hmac
import unittest

import packets as mq
from harness import Temp, millrace
from kit import Suite, fresh, shows, start
from kit import stop as stop_gateway

temp = None


def setUpModule():
    global temp
    temp = Temp("conformance")
    users = temp.path / "users"
    millrace("passwd", "-b", "-c", users, "press", "secret")
    millrace("passwd", "--scram", "-b", users, "drill", "pencil")
    start(f"auth: {{ password_file: {users} }}\n")


def tearDownModule():
    stop_gateway()
    temp.remove()


METHOD = "SCRAM-SHA-256"


class Scram:
    """A client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677)."""

    def __init__(self, user, password):
        self.password = password
        self.bare = f"n={user},r=rOprNGfwEbeRWgbNEkqO"
        self.first = f"n,,{self.bare}".encode()

    def final(self, challenge):
        parts = dict(one.split("=", 1) for one in challenge.decode().split(","))
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(),
                                     base64.b64decode(parts["s"]), int(parts["i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = f"c=biws,r={parts['r']}"
        said = f"{self.bare},{challenge.decode()},{without_proof}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), said, "sha256")
        proof = bytes(one ^ other for one, other in zip(key, signature))
        self.verifier = base64.b64encode(
            hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), said, "sha256")).decode()
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()


def data(method, content):
    return mq.props(auth_method=method, auth_data=content)


class Enhanced(Suite):
    def begin(self, version, scram):
        """A peer that has its challenge."""
        peer = self.stranger(version)
        peer.send(mq.connect(fresh(), version, properties=data(METHOD, scram.first)))
        return peer, self.challenged(peer)

    def challenged(self, peer):
        asked = peer.expect(mq.AUTH, code=0x18)
        self.assertEqual(asked.props["auth_method"], METHOD)
        self.assertNotIn("reason_string", asked.props)
        self.assertEqual(asked.props["user"], [])
        return asked.props["auth_data"]

    def admitted(self, version):
        scram = Scram("drill", "pencil")
        peer, challenge = self.begin(version, scram)
        peer.send(mq.auth(0x18, data(METHOD, scram.final(challenge))))
        connack = peer.expect(mq.CONNACK, code=0)
        self.assertEqual(connack.props["auth_method"], METHOD)
        self.assertEqual(connack.props["auth_data"].decode(), f"v={scram.verifier}")
        return peer

    @shows(v5="4.12.0-2 4.12.0-5 3.15.2-1 3.15.2-2 3.15.2-3 3.2.0-1")
    def test_4_12_0_2_the_server_asks_with_auth_and_names_the_method(self, version):
        self.admitted(version).alive()

    @shows(v5="4.12.0-4 3.1.4-2")
    def test_4_12_0_4_a_wrong_proof_is_refused(self, version):
        for user, password in (("drill", "wrong"), ("nobody", "pencil"), ("press", "secret")):
            scram = Scram(user, password)
            peer, challenge = self.begin(version, scram)
            peer.send(mq.auth(0x18, data(METHOD, scram.final(challenge))))
            self.assertIn(peer.expect(mq.CONNACK).code, (0x86, 0x87))
            peer.closed()

    @shows(v5="4.12.0-3 3.15.2-1 3.15.1-1 3.14.0-1")
    def test_4_12_0_3_other_answers_than_continue_are_refused(self, version):
        scram = Scram("drill", "pencil")
        for wrong in (lambda final: mq.auth(0x19, data(METHOD, final)),
                      lambda final: mq.auth(0x00, data(METHOD, final)),
                      lambda final: mq.auth(0x18, data("PLAIN", final)),
                      lambda final: mq.auth(0x18, data(METHOD, final), flags=2),
                      lambda final: mq.auth(0x18)):
            peer, challenge = self.begin(version, scram)
            peer.send(wrong(scram.final(challenge)))
            answer = peer.packet()
            if answer is not None:
                self.assertEqual(answer.kind, mq.CONNACK)
                self.assertGreaterEqual(answer.code, 0x80)
                peer.closed()

    @shows(v5="3.1.2-30 3.1.4-6 3.14.0-1")
    def test_3_1_2_30_nothing_but_auth_before_connack(self, version):
        for raw in (mq.publish("t", b"x", version, 1), mq.subscribe([("t", 0)], version),
                    mq.packet(mq.PINGREQ, 0, b"")):
            peer, _ = self.begin(version, Scram("drill", "pencil"))
            peer.send(raw)
            answer = peer.packet()
            if answer is not None:
                self.assertEqual((answer.kind, answer.code), (mq.CONNACK, 0x82))
                peer.closed()

    @shows(v5="4.12.1-1 4.12.0-5 4.12.0-2")
    def test_4_12_1_1_authentication_again_by_the_same_method(self, version):
        peer = self.admitted(version)
        scram = Scram("drill", "pencil")
        peer.send(mq.auth(0x19, data(METHOD, scram.first)))
        challenge = self.challenged(peer)
        peer.alive()
        peer.send(mq.auth(0x18, data(METHOD, scram.final(challenge))))
        done = peer.expect(mq.AUTH, code=0)
        self.assertEqual(done.props["auth_method"], METHOD)
        peer.alive()
        peer.send(mq.auth(0x19, data("PLAIN", b"x")))
        peer.refused(0x82, 0x87, 0x8C)

    @shows(v5="4.12.1-2")
    def test_4_12_1_2_if_it_fails_the_connection_ends(self, version):
        peer = self.admitted(version)
        scram = Scram("drill", "wrong")
        peer.send(mq.auth(0x19, data(METHOD, scram.first)))
        peer.send(mq.auth(0x18, data(METHOD, scram.final(self.challenged(peer)))))
        peer.refused(0x87)


class Auth(Suite):
    @shows(v5="3.1.4-2 3.1.4-5 3.1.4-6 3.2.2-6 3.2.2-7 3.2.2-8",
           v3="3.2.2-4 3.2.2-5 3.1.4-4 3.1.4-5")
    def test_3_1_4_2_only_who_knows_the_password_comes_in(self, version):
        wrong, nobody = (0x86, 0x87) if version == 5 else (4, 5)
        self.refused_connect(version, nobody)
        self.refused_connect(version, wrong, username="press", password="wrong")
        self.refused_connect(version, wrong, username="pres", password="secret")
        self.refused_connect(version, wrong, nobody, username="press")
        self.peer(version, username="press", password="secret").alive()

    @shows(v5="3.1.4-6 3.1.4-3", v3="3.1.4-5")
    def test_3_1_4_6_who_is_refused_disturbs_nobody(self, version):
        peer = self.peer(version, username="press", password="secret")
        stranger = self.stranger(version)
        stranger.send(mq.connect(peer.client, version, username="press", password="no")
                      + mq.publish("t", b"x", version))
        self.assertNotEqual(stranger.expect(mq.CONNACK).code, 0)
        stranger.closed()
        peer.alive()

    @shows(v5="4.12.0-1 4.12.0-4")
    def test_4_12_0_1_a_method_that_nobody_knows_is_refused(self, version):
        self.refused_connect(version, 0x8C, 0x87, username="press", password="secret",
                             properties=mq.props(auth_method="NOBODYS"))


if __name__ == "__main__":
    unittest.main()
