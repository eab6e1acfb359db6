"""Who is admitted, by the server's own rules (3.1.4, 3.2.2.2, 4.12)."""

import unittest

import packets as mq
from harness import Temp, millrace
from kit import Suite, shows, start
from kit import stop as stop_gateway

temp = None


def setUpModule():
    global temp
    temp = Temp("conformance")
    users = temp.path / "users"
    millrace("passwd", "-b", "-c", users, "press", "secret")
    start(f"auth: {{ password_file: {users} }}\n")


def tearDownModule():
    stop_gateway()
    temp.remove()


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
