"""No secret is seen again: in logs, on the API, in what commands show."""

import os
import pathlib
import signal
import unittest
import urllib.request

import wire
from harness import Gateway, Temp, millrace, until
from test_callback import Service
from test_login import connect, login

SECRETS = {name: f"{name}-Xq7-never-shown" for name in (
    "password", "wrong", "token-secret", "bearer", "scram", "kafka", "environment", "payload")}


class Secrets(unittest.TestCase):
    def setUp(self):
        self.temp = Temp("secrets")
        self.addCleanup(self.temp.remove)

    def config(self, service):
        folder = self.temp.path
        (folder / "token").write_text(SECRETS["token-secret"], encoding="utf-8")
        millrace("passwd", "-c", "-b", folder / "users", "ours", SECRETS["password"], check=True)
        millrace("passwd", "--scram", "-b", folder / "users", "scram", SECRETS["scram"],
                 check=True)
        return f"""
log: {{ level: debug }}
auth:
  password_file: {folder}/users
  jwt: {{ secret_file: {folder}/token, from: username }}
  http: {{ url: "http://127.0.0.1:{service.port}/", authorization: "{SECRETS['bearer']}" }}
bridges:
  kafka:
    servers: "127.0.0.1:1"
    topic: t
    authentication: {{ mechanism: plain, username: u, password: "{SECRETS['kafka']}" }}
"""

    def use(self, gateway):
        """Each secret in each place where somebody might repeat it."""
        port = gateway.mqtt_port
        self.assertEqual(login(port, "ours", SECRETS["password"]), 0)
        self.assertEqual(login(port, "ours", SECRETS["wrong"]), 4)
        for version in (4, 5):
            token = f"eyJhbGciOiJIUzI1NiJ9.{SECRETS['wrong']}.{SECRETS['wrong']}"
            login(port, token, SECRETS["wrong"], version)
            login(port, SECRETS["wrong"], "x", version)  # a token that is none
        with wire.Wire(port) as peer:
            peer.send(connect("shown", "ours", SECRETS["password"], 5))
            self.assertEqual(peer.read()[1][1], 0)
            peer.send(wire.publish("seen", b"1", 1, 1, version=5))
            self.assertEqual(peer.read()[0] >> 4, wire.PUBACK)
            yield peer
            peer.send(b"\xf0\x01" + SECRETS["payload"].encode())  # what is no packet
            peer.read_until_closed()

    def shown(self, gateway, path):
        """What the running gateway and the commands say."""
        for page in ("metrics", "api/v1/status", "api/v1/bridges", "api/v1/clients"):
            with urllib.request.urlopen(f"http://127.0.0.1:{gateway.admin_port}/{page}") as answer:
                yield page, answer.read().decode()
        for args in (("config", "show", "-c", path), ("config", "show", "--json", "-c", path),
                     ("config", "show", "--changed", "-c", path), ("check", "-c", path),
                     ("clients", "ls", "--data", gateway.data),
                     ("bridge", "ls", "--json", "--data", gateway.data),
                     ("journal", "cat", "--json", "--data", gateway.data)):
            done = millrace(*args, check=False)
            yield " ".join(map(str, args)), done.stdout + done.stderr

    def test_no_secret_is_seen_again(self):
        with Service() as service, Gateway(self.config(service)) as gateway:
            seen = {}
            for _ in self.use(gateway):
                seen.update(self.shown(gateway, gateway.config))
                before = len(gateway.log.text())
                os.kill(gateway.pid(), signal.SIGHUP)
                os.kill(gateway.pid(), signal.SIGUSR1)
                until(lambda: "reload" in gateway.log.text()[before:], "the reload")
            service.say(SECRETS["wrong"], 500)
            login(gateway.mqtt_port, SECRETS["wrong"], "x")
            seen["log"] = gateway.log.text()
            # /proc tells what everybody of this machine may see.
            seen["arguments"] = pathlib.Path(f"/proc/{gateway.pid()}/cmdline").read_text(
                encoding="utf-8")
        self.assertIn("***", seen[f"config show -c {gateway.config}"])
        for place, text in seen.items():
            self.assertTrue(text, place)
            for name, secret in SECRETS.items():
                self.assertNotIn(secret, text, f"{name} in {place}")
            self.assertNotIn("$7$", text, place)


if __name__ == "__main__":
    unittest.main()
