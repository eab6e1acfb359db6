"""The same ACL files and the same questions, here and to Mosquitto: the same answers.

Random files of rules, the seed printed.  What a client may write is told by the PUBACK; what it
may read, by what it gets of a subscription to everything.  Names with '/' are left out: they
satisfy a pattern of Mosquitto's, and none of ours (docs/SECURITY.md).
"""

import os
import random
import struct
import subprocess
import unittest

import wire
from harness import PATIENCE, Gateway, Temp, program
from mosquitto import Mosquitto
from test_acl import connect

FILES = 4
WHO = (("c1", "ann"), ("c2", "bob"), ("ann", "eve"), ("c1", None), ("p+q", "ann"), ("b", "u#"))
LEVELS = ("a", "b", "ann", "c1", "bob", "x-c1", "", "a b")
RIGHTS = ("", "read ", "write ", "readwrite ", "deny ")


def random_topic(rng, rule=False, pattern=False):
    levels = [rng.choice(LEVELS) for _ in range(rng.randint(1, 3))]
    for at in range(len(levels)):
        if rule and rng.random() < 0.25:
            levels[at] = "+"
        elif pattern and rng.random() < 0.4:
            levels[at] = rng.choice(("%c", "%u", "x-%c", "%u%u"))
    if rule and rng.random() < 0.25:
        levels[-1] = "#"
    return "/".join(levels) or "a"


def random_rules(rng):
    lines = []
    for _ in range(rng.randint(4, 16)):
        kind = rng.random()
        if kind < 0.25:
            lines.append(f"user {rng.choice(('ann', 'bob', 'eve'))}")
        else:
            word = "pattern" if kind < 0.6 else "topic"
            topic = random_topic(rng, True, word == "pattern")
            rights = rng.choice(RIGHTS) or ("" if " " not in topic else "readwrite ")
            lines.append(f"{word} {rights}{topic}")
    return "\n".join([*lines, "user root", "topic readwrite #", ""])


class Peer(wire.Wire):
    def __init__(self, port, client, user):
        super().__init__(port)
        self.patience(PATIENCE)
        self.send(connect(client, user, version=5))
        kind, body = self.read()
        assert (kind >> 4, body[1]) == (wire.CONNACK, 0), (kind, body)

    def may_write(self, topics):
        for number, topic in enumerate(topics, 1):
            self.send(wire.publish(topic, b"w", 1, number, 5))
        allowed = {}
        while len(allowed) < len(topics):
            kind, body = self.read()
            if kind >> 4 == wire.PUBACK:
                code = body[2] if len(body) > 2 else 0
                allowed[struct.unpack(">H", body[:2])[0]] = code < 0x80
        return {topic for number, topic in enumerate(topics, 1) if allowed[number]}

    def gets(self):
        """Topics of what has come up to a PINGRESP."""
        self.send(wire.packet(wire.PINGREQ, 0, b""))
        topics = set()
        while True:
            kind, body = self.read()
            if kind >> 4 == wire.PINGRESP:
                return topics
            if kind >> 4 == wire.PUBLISH:
                end = 2 + struct.unpack(">H", body[:2])[0]
                topics.add(body[2:end].decode())


def answers(port, client, user, topics):
    """What the client may write, and may read."""
    with Peer(port, client, user) as peer, Peer(port, "root", "root") as root:
        write = peer.may_write(topics)
        peer.send(wire.subscribe(["#"], 1, 5, 0))
        peer.gets()
        assert root.may_write(topics) == set(topics)
        return write, peer.gets()


class Same(unittest.TestCase):
    def test_decisions_are_those_of_mosquitto(self):
        seed = int(os.environ.get("MR_SEED", random.randrange(2**32)))
        print(f"seed {seed}")
        rng = random.Random(seed)
        temp = Temp("acl-same")
        self.addCleanup(temp.remove)
        users = temp.path / "users"
        for number, user in enumerate(("root", "ann", "bob", "eve", "u#")):
            subprocess.run([program("mosquitto_passwd"), *(["-c"] if number == 0 else []), "-b",
                            users, user, "pw"], check=True)
        count = 0
        for _ in range(FILES):
            rules = random_rules(rng)
            (temp.path / "acl").write_text(rules, encoding="utf-8")
            topics = sorted({random_topic(rng) for _ in range(40)})
            config = ("gateway: { shards: 1 }\n"
                      f"auth: {{ password_file: {users}, acl_file: {temp.path}/acl }}\n")
            allow = "listeners.mqtt.allow_anonymous=true"
            theirs = f"user root\npassword_file {users}\nacl_file {temp.path}/acl\n"
            with Gateway(config, sets=[allow]) as gateway, Mosquitto(theirs) as mosquitto:
                for client, user in WHO:
                    with self.subTest(client=client, user=user, rules=rules):
                        self.assertEqual(answers(gateway.mqtt_port, client, user, topics),
                                         answers(mosquitto.port, client, user, topics))
                    count += 2 * len(topics)
        print(f"{count} decisions")


if __name__ == "__main__":
    unittest.main()
