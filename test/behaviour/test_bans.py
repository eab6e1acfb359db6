"""Whoever guesses passwords or comes and leaves again and again stays outside for a while."""

import json
import unittest

from harness import Gateway, millrace, until
from wire import CONNACK, Wire, connect

GUESSER, SITE = "127.0.0.9", "127.0.0.8"

CONFIG = """
auth: {{ password_file: {users} }}
mqtt:
  ban: {{ max_failures: 10, time: 5s, max_time: 600s, loopback: true }}
  flapping_detect: {{ enable: true, max_count: 4, window_time: 10m, ban_time: 10m }}
"""


def setUpModule():
    global gateway
    gateway = Gateway()
    users = gateway.temp.path / "users"
    for user in ("known", "other"):
        more = [] if user != "known" else ["-c"]
        millrace("passwd", *more, "-b", "-I", "101", users, user, "right")
    gateway.config.write_text(CONFIG.format(users=users), encoding="utf-8")
    gateway.start()


def tearDownModule():
    try:
        gateway.stop()
    finally:
        gateway.__exit__(None)


def attempt(client, source, login=("known", "right"), version=5):
    """The reason of the CONNACK; None: closed without."""
    with Wire(gateway.mqtt_port, source=source) as wire:
        try:
            wire.send(connect(client, version, login=login))
            got = wire.read()
        except ConnectionError:
            return None
        if got is None:
            return None
        assert got[0] >> 4 == CONNACK
        return got[1][1]


def bans():
    return json.loads(gateway.http("/api/v1/bans")[1])["bans"]


def command(*words):
    return millrace("bans", *words, "--data", gateway.data, "-c", gateway.config)


class Listeners(unittest.TestCase):
    def test_a_user_name_that_nobody_checks_is_no_way_around_a_ban(self):
        users = gateway.temp.path / "users"
        with Gateway(f"""
listeners:
  closed: {{ bind: "127.0.0.1:0", auth: {{ password_file: {users} }} }}
  open: {{ bind: "127.0.0.1:0", allow_anonymous: true }}
mqtt: {{ ban: {{ max_failures: 5, time: 600s, max_time: 600s, loopback: true }} }}
""") as other:
            ports = [int(other.wait_log(rf"listening on \S*:(\d+) \({name}\)")[1])
                     for name in ("closed", "open")]

            def code(port, client, *login):
                with Wire(port, source=GUESSER) as wire:
                    wire.send(connect(client, 5, login=login or None))
                    return wire.read()[1][1]

            self.assertEqual(code(ports[1], "before", "any", "thing"), 0)
            until(lambda: code(ports[0], "guess", "known", "wrong") == 0x8A, "the ban")
            self.assertEqual(code(ports[1], "plain"), 0x8A)
            self.assertEqual(code(ports[1], "named", "any", "thing"), 0x8A)
            self.assertEqual(code(ports[0], "known", "known", "right"), 0x8A)  # not remembered


def guess_until_banned():
    codes = [attempt(f"guess-{n}", GUESSER, ("known", f"wrong-{n}")) for n in range(14)]
    assert codes[0] == 0x86 and codes[-1] == 0x8A, codes
    return codes


class Addresses(unittest.TestCase):
    def test_a_guesser_is_banned_and_nobody_else(self):
        self.assertEqual(attempt("device", GUESSER), 0)  # so its password is remembered
        self.assertEqual(guess_until_banned().count(0x86), 10)
        self.assertEqual(attempt("guess", GUESSER, version=4, login=("other", "x")), 5)
        self.assertEqual(attempt("device-2", SITE, ("other", "right")), 0)
        self.assertEqual(attempt("device", GUESSER), 0, "a device that is known")
        ban, = bans()
        self.assertEqual((ban["kind"], ban["who"], ban["times"]), ("address", GUESSER, 1))
        gateway.wait_log(f"the address of {GUESSER}:[0-9]+ is banned for 5 s")
        self.assertEqual(json.loads(gateway.http("/api/v1/status")[1])["bans"], 1)
        until(lambda: not bans(), "the ban to end")
        guess_until_banned()
        self.assertEqual(bans()[0]["times"], 2)
        gateway.wait_log(f"the address of {GUESSER}:[0-9]+ is banned for 10 s")
        self.assertIn(GUESSER, command("ls").stdout)
        self.assertIn("1 may come in", command("clear", GUESSER).stderr)
        self.assertEqual(attempt("guess", GUESSER, ("known", "wrong")), 0x86)
        self.assertEqual(bans(), [])
        self.assertIn("nobody is banned", command("ls").stderr)

    def test_a_port_scanner_is_banned(self):
        for _ in range(12):
            with Wire(gateway.mqtt_port, source="127.0.0.6") as wire:
                wire.send(b"GET / HTTP/1.1\r\n\r\n")
                self.assertEqual(wire.read_until_closed(), [])
        self.assertEqual(attempt("scan", "127.0.0.6", ("other", "x")), 0x8A)
        command("clear")


class Clients(unittest.TestCase):
    def test_a_flapping_client_is_banned(self):
        for _ in range(4):
            self.assertEqual(attempt("flaps", SITE), 0)
        until(lambda: bans(), "the ban")
        self.assertEqual(attempt("flaps", SITE), 0x8A)
        self.assertEqual(attempt("flaps", SITE, version=4), 5)
        self.assertEqual(attempt("is-calm", SITE), 0)
        ban, = bans()
        self.assertEqual((ban["kind"], ban["who"]), ("client", "flaps"))
        self.assertIn("flaps", command("ls", "--json").stdout)
        command("clear", "flaps")
        self.assertEqual(attempt("flaps", SITE), 0)

    def test_what_nobody_is_called_cannot_be_cleared(self):
        with self.assertRaisesRegex(AssertionError, "nobody of that name is banned"):
            command("clear", "nobody")


if __name__ == "__main__":
    unittest.main()
