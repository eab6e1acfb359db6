"""SIGHUP while clients are there: who may come in, what they may do and how much, all of it or
nothing; who would not be let in any more leaves."""

import json
import os
import signal
import struct
import threading
import time
import unittest

import jwt
import paho.mqtt.client as paho
import wire
from cryptography.hazmat.primitives.asymmetric import ed25519
from harness import PATIENCE, Gateway, Temp, millrace, mosquitto_pub, until
from jwt.algorithms import OKPAlgorithm
from test_acl import Peer
from test_callback import Service
from test_login import login

GONE = 0x87


class Live(unittest.TestCase):
    def setUp(self):
        self.temp = Temp("reload")
        self.addCleanup(self.temp.remove)
        self.gateway = None

    def start(self, text, **sets):
        self.gateway = Gateway(text, **sets).start()
        self.addCleanup(self.gateway.__exit__, None)

    def reload(self, text=None, *lines, ends="reload: done"):
        start = len(self.gateway.log.all)
        if text is not None:
            self.gateway.config.write_text(text, encoding="utf-8")
        os.kill(self.gateway.pid(), signal.SIGHUP)
        self.gateway.wait_log(ends, start=start)
        for line in lines:
            self.gateway.wait_log(line, start=start)
        return start

    def peer(self, client, user=None, port=None, version=5, **how):
        return Peer(client, user, version, port=port or self.gateway.mqtt_port, **how)

    def port(self, name):
        return int(self.gateway.wait_log(rf"listening on \S*:(\d+) \({name}\)")[1])

    def code(self, user, password, **options):
        return login(self.gateway.mqtt_port, user, password, 5, **options)

    def assert_gone(self, peer, reason=GONE):
        kind, body = peer.read()
        self.assertEqual((kind >> 4, body[0]), (wire.DISCONNECT, reason))
        self.assertIsNone(peer.read())

    def users(self, *names):
        for number, name in enumerate(names):
            millrace("passwd", *(["-c"] if number == 0 else []), "-b", "-I", 10,
                     self.temp.path / "users", name, "pw")
        return self.temp.path / "users"


class Start(Live):
    def test_signals_that_come_while_it_starts_are_obeyed_when_it_has(self):
        """A service manager may send them as soon as there is a process."""
        self.gateway = Gateway()
        self.addCleanup(self.gateway.__exit__, None)
        self.gateway.config.unlink()
        os.mkfifo(self.gateway.config)
        self.gateway.spawn()
        for signals in ([signal.SIGHUP, signal.SIGUSR1], []):
            with open(self.gateway.config, "w", encoding="utf-8") as config:  # it reads now
                for number in signals:
                    os.kill(self.gateway.pid(), number)
                config.write("mqtt: { max_topic_length: 50 }\n")
            self.gateway.wait_log("msg=.ready" if signals else "reload: done")
        self.gateway.wait_log("lane 0: seq ")


class Rules(Live):
    def test_an_acl_file_where_there_was_none_and_none_again(self):
        acl = self.temp.path / "acl"
        acl.write_text("user ann\ntopic readwrite a/#\n")
        self.start("gateway: { shards: 2 }\n")
        got = []
        reader = paho.Client(paho.CallbackAPIVersion.VERSION2, "r", protocol=paho.MQTTv311)
        reader.username_pw_set("ann", "pw")
        reader.on_message = lambda *args: got.append(args[2].topic)
        reader.on_connect = lambda *_: reader.subscribe("#", 1)
        ready = threading.Event()
        reader.on_subscribe = lambda *_: ready.set()
        reader.connect("127.0.0.1", self.gateway.mqtt_port)
        reader.loop_start()
        self.addCleanup(reader.loop_stop)
        self.assertTrue(ready.wait(PATIENCE))

        def publish(*topics):
            for topic in topics:
                mosquitto_pub(self.gateway.mqtt_port, "-i", "w", "-u", "bob", "-q", "1", "-t",
                              topic, "-m", "x")
            until(lambda: topics[-1] in got, f"{topics[-1]} to come")

        with self.peer("p", "ann") as ann:
            self.assertEqual((ann.publish("a/1"), ann.publish("b/1")), (0, 0))
            publish("b/2", "a/2")
            until(lambda: len(got) == 4, "all of it to come")
            acl.write_text("user ann\ntopic readwrite a/#\nuser bob\ntopic write #\n")
            self.reload(f"gateway: {{ shards: 2 }}\nauth: {{ acl_file: {acl} }}\n",
                        "reload: auth.acl_file: none, now ")
            got.clear()
            self.assertEqual((ann.publish("a/3"), ann.publish("b/3")), (0, GONE))
            self.assertEqual(ann.subscribe("b/#"), [GONE])
            publish("b/4", "a/4")
            self.assertEqual(sorted(got), ["a/3", "a/4"])
            self.reload("gateway: { shards: 2 }\n")
            got.clear()
            self.assertEqual(ann.publish("b/5"), 0)
            publish("b/6", "a/6")
            until(lambda: len(got) == 3, "all of it to come again")

    def test_a_group_learns_who_may_still_read(self):
        """Also of a member that is away: what it may not read goes to the others."""
        acl, users = self.temp.path / "acl", self.users("ann", "bob")
        acl.write_text("user ann\ntopic readwrite #\nuser bob\ntopic readwrite #\n")
        self.start("gateway: { shards: 2 }\n"
                   f"auth: {{ password_file: {users}, acl_file: {acl} }}\n")
        keep = {"clean": False, "properties": b"\x11\0\0\0\x3c"}
        with self.peer("away", "ann", **keep) as away:
            away.subscribe("$share/g/a/#")
        with self.peer("ann", "ann") as ann, self.peer("bob", "bob", **keep) as bob:
            for peer in (ann, bob):
                peer.subscribe("$share/g/a/#")
            acl.write_text("user ann\ntopic read a/open/#\nuser bob\ntopic readwrite #\n")
            self.reload()
            topics = {f"a/vault/{n}" for n in range(9)}
            for topic in topics:
                mosquitto_pub(self.gateway.mqtt_port, "-u", "bob", "-P", "pw", "-q", "1", "-t",
                              topic, "-m", "x")
            got = set()
            until(lambda: got.update(bob.until_ping()) or got == topics, "all to come to bob")

    def test_rules_of_one_listener(self):
        (self.temp.path / "acl").write_text("topic read #\n")
        listeners = 'listeners:\n  other: {{ bind: "127.0.0.1:0", allow_anonymous: true{} }}\n'
        self.start(listeners.format(""))
        with self.peer("a") as here, self.peer("b", port=self.port("other")) as there:
            self.assertEqual((here.publish("t"), there.publish("t")), (0, 0))
            self.reload(listeners.format(f", auth: {{ acl_file: {self.temp.path}/acl }}"))
            self.assertEqual((here.publish("t"), there.publish("t")), (0, GONE))

    def test_one_bad_file_leaves_everything_as_it_was(self):
        """Also what is right in the same configuration."""
        users, acl = self.users("ann"), self.temp.path / "acl"
        before = f"auth: {{ password_file: {users} }}\nmqtt: {{ max_topic_length: 50 }}\n"
        self.start(before)
        acl.write_text("user ann\ntopic read #\n")
        (self.temp.path / "keys").write_text("{")
        after = (f"auth: {{ password_file: {users}, acl_file: {acl}, jwt: {{ jwks_file: "
                 f"{self.temp.path}/keys }} }}\nmqtt: {{ max_topic_length: 5 }}\n")
        with self.peer("p", "ann") as peer:
            start = self.reload(after, ends="has 1 faults and is not put in force")
            self.assertIsNotNone(self.gateway.log.find(r"millrace.yaml:1:.*keys, key 0: no JWK set",
                                                       start))
            self.assertEqual(peer.publish("longer/than/five"), 0)
            self.assertEqual(self.gateway.metric("millrace_config_last_reload_successful"), 0)
            self.reload(after.replace(f", jwt: {{ jwks_file: {self.temp.path}/keys }}", ""))
            self.assertEqual(peer.publish("longer/than/five"), 0x90)
            self.assertEqual(peer.publish("t"), GONE)

    def test_what_needs_a_restart_is_named_each_time(self):
        listeners = 'listeners:\n  other: { bind: "127.0.0.1:0" }\n'
        self.start(listeners)
        for _ in range(2):
            self.reload('gateway: { shards: 2 }\nmqtt: { max_packet_size: 5KiB }\nlisteners:\n'
                        '  new: { bind: "127.0.0.1:0" }\n',
                        "reload: gateway.shards: .*, now 2; needs a restart",
                        "reload: mqtt.max_packet_size: 1MiB, now 5KiB; needs a restart",
                        "reload: listeners.other: it is there, now gone; needs a restart",
                        "reload: listeners.new: none, now a new one; needs a restart")
            self.peer("p", port=self.port("other")).sock.close()
        self.reload(listeners.replace("other: {", "other: { websocket: /mqtt,"),
                    "reload: listeners.other.websocket: none, now .*mqtt.*; needs a restart")


class Logins(Live):
    def test_a_password_file_where_there_was_none_and_none_again(self):
        users = self.users("ann")
        self.start("")
        with self.peer("nobody") as nobody, self.peer("ann", "ann") as ann:
            self.reload(f"auth: {{ password_file: {users} }}\n")
            self.assert_gone(nobody)
            self.assert_gone(ann)  # nobody had asked for its password
        self.assertEqual((self.code("ann", "pw"), self.code("ann", "no")), (0, 0x86))
        with self.peer("ann", "ann") as ann:
            self.reload("")
            self.assertEqual(ann.publish("t"), 0)
            self.peer("nobody").sock.close()

    def jwks(self, **keys):
        path = self.temp.path / "keys.jwks"
        path.write_text(json.dumps({"keys": [
            {**json.loads(OKPAlgorithm.to_jwk(key.public_key())), "kid": kid, "use": "sig"}
            for kid, key in keys.items()]}), encoding="utf-8")
        return path

    @staticmethod
    def token(key, kid, **claims):
        return jwt.encode({"sub": kid, "exp": int(time.time()) + 600, **claims}, key, "EdDSA",
                          {"kid": kid})

    def test_a_key_that_is_gone_ends_what_came_in_by_it(self):
        one, two = (ed25519.Ed25519PrivateKey.generate() for _ in range(2))
        config = f"auth: {{ jwt: {{ jwks_file: {self.jwks(one=one, two=two)}, %s }} }}\n"
        self.start(config % "leeway: 5s")
        with self.peer("c1", "x", password=self.token(one, "one")) as first, \
                self.peer("c2", "x", password=self.token(two, "two", aud="mqtt")) as second, \
                self.peer("c4", "x", version=4, password=self.token(one, "one")) as old:
            self.reload()  # the same keys
            self.assertEqual(first.publish("t"), 0)
            self.jwks(two=two)
            self.reload()
            self.assert_gone(first)
            self.assertIsNone(old.read())
            self.gateway.wait_log("client 'c1' .*the key of its token is not among those")
            self.assertEqual(self.code("x", self.token(one, "one")), 0x86)
            self.reload(config % "leeway: 1s")  # an option that says nothing of who it is
            self.assertEqual(second.publish("t"), 0)
            self.reload(config % "audience: mqtt")
            self.assert_gone(second)  # and comes again
        self.assertEqual(self.code("x", self.token(two, "two")), 0x86)
        self.assertEqual(self.code("x", self.token(two, "two", aud="mqtt")), 0)

    def test_tokens_and_a_service_where_there_were_none(self):
        key = ed25519.Ed25519PrivateKey.generate()
        with Service() as service:
            service.say("from-service", result="allow")
            self.start(f"auth: {{ password_file: {self.users('ann')} }}\n")
            self.assertEqual(self.code("from-service", "pw"), 0x86)
            with self.peer("ann", "ann") as ann:
                self.reload(f"auth: {{ password_file: {self.temp.path}/users, "
                            f"jwt: {{ jwks_file: {self.jwks(one=key)} }}, "
                            f"http: {{ url: \"http://127.0.0.1:{service.port}/\" }} }}\n")
                self.assertEqual(ann.publish("t"), 0)
            self.assertEqual(self.code("from-service", "pw"), 0)
            self.assertEqual(self.code("any", self.token(key, "one")), 0)
            with self.peer("of-service", "from-service") as peer:
                self.reload(f"auth: {{ password_file: {self.temp.path}/users }}\n")
                self.assert_gone(peer)
            self.assertEqual(self.code("from-service", "pw"), 0x86)

    def test_who_waits_for_a_service_is_asked_for_at_the_new_one(self):
        """Not refused, although the old one never answers."""
        with Service() as old, Service() as new:
            old.gate.clear()
            new.say("ann", result="allow")
            config = 'auth: {{ http: {{ url: "http://127.0.0.1:{}/", request_timeout: 60s }} }}\n'
            self.start("gateway: { shards: 2 }\n" + config.format(old.port))
            codes = []
            waiting = [threading.Thread(target=lambda n=n: codes.append(
                self.code("ann", "pw", client=f"w{n}"))) for n in range(8)]
            for thread in waiting:
                thread.start()
            until(lambda: len(old.asked) == 8, "the old service to be asked")
            self.reload("gateway: { shards: 2 }\n" + config.format(new.port))
            for thread in waiting:
                thread.join(PATIENCE)
            self.assertEqual(codes, [0] * 8)

    def test_nobody_is_lost_between_reloads(self):
        """Users who stay log in again and again while realms come and go."""
        with Service() as service:
            service.say("ann", result="ignore")
            users = self.users("ann", "bob")
            (self.temp.path / "acl").write_text("topic read #\nuser ann\ntopic readwrite #\n")
            texts = [f"gateway: {{ shards: 2 }}\nauth: {{ password_file: {users}{more} }}\n"
                     for more in ("", f", acl_file: {self.temp.path}/acl",
                                  f", order: [http, password_file], http: {{ url: "
                                  f"\"http://127.0.0.1:{service.port}/\", cache_ttl: 0 }}")]
            self.start(texts[0])
            ended = threading.Event()
            codes = []

            def logins(number):
                while not ended.is_set():
                    codes.append(self.code("ann", "pw", client=f"l{number}"))

            threads = [threading.Thread(target=logins, args=(n,)) for n in range(4)]
            with self.peer("stays", "ann") as stays:
                for thread in threads:
                    thread.start()
                for turn in range(12):
                    self.reload(texts[turn % 3])
                    self.assertEqual(stays.publish("t"), 0)
                ended.set()
                for thread in threads:
                    thread.join(PATIENCE)
            self.assertEqual(set(codes), {0})
            self.assertGreater(len(codes), 12)


class Limits(Live):
    def test_limits_of_a_listener_hold_at_once(self):
        listeners = 'listeners:\n  one: {{ bind: "127.0.0.1:0", {} }}\n'
        self.start(listeners.format("max_topic_levels: 9"))
        port = self.port("one")
        with self.peer("a", port=port) as peer:
            self.assertEqual(peer.publish("a/b/c/d"), 0)
            self.reload(listeners.format("max_topic_levels: 3, max_subscriptions: 1, "
                                         "max_connections: 1, max_topic_length: 10"),
                        "reload: listeners.one.max_topic_levels: 9, now 3")
            self.assertEqual(peer.publish("a/b/c/d"), 0x90)
            self.assertEqual(peer.publish("a/longer/b"), 0)
            self.assertEqual(peer.publish("a/longer/bc"), 0x90)
            self.assertEqual(peer.subscribe("x", "y"), [1, 0x97])
            self.peer("b", port=port, expect=0x97).sock.close()
            self.reload(listeners.format("messages_rate: 2, messages_burst: 1"))
            begun = time.monotonic()
            for _ in range(4):
                self.assertEqual(peer.publish("a/b/c/d"), 0)
            self.assertGreater(time.monotonic() - begun, 1.2)  # 3 intervals of 0.5 s, less a tick
            self.peer("b", port=port).sock.close()

    def test_what_a_client_was_told_holds_for_it(self):
        """Topic aliases, Receive Maximum and packet size: the new ones are for those who come."""
        listeners = ('mqtt: {{ receive_maximum: {} }}\nlisteners:\n  one: {{ bind: "127.0.0.1:0", '
                     'topic_alias_maximum: {}, max_packet_size: {} }}\n')
        self.start(listeners.format(10, 5, "4KiB"))

        def told(peer):
            kind, body = peer.read()
            self.assertEqual(kind >> 4, wire.CONNACK)
            return tuple(struct.unpack(form, body[body.index(mark) + 1:][:size])[0]
                         for mark, form, size in ((b"\x21", ">H", 2), (b"\x22", ">H", 2),
                                                  (b"\x27", ">I", 4)))

        def alias(peer, number, size):
            body = wire.text("t") + struct.pack(">HBBH", 7, 3, 0x23, number) + b"x" * size
            peer.send(wire.packet(wire.PUBLISH, 2, body))
            kind, body = peer.read()
            return body[2] if kind >> 4 == wire.PUBACK and len(body) > 2 else \
                0 if kind >> 4 == wire.PUBACK else body[0]

        with wire.Wire(self.port("one")) as before, wire.Wire(self.port("one")) as after:
            before.send(wire.connect("before", 5))
            self.assertEqual(told(before), (10, 5, 4096))
            self.reload(listeners.format(3, 2, "1KiB"))
            self.assertEqual(alias(before, 5, 2000), 0)
            after.send(wire.connect("after", 5))
            self.assertEqual(told(after), (3, 2, 1024))
            self.assertEqual(alias(after, 2, 900), 0)
            self.assertEqual(alias(after, 1, 1100), 0x95)
            with wire.Wire(self.port("one")) as third:
                third.send(wire.connect("third", 5))
                told(third)
                self.assertEqual(alias(third, 3, 1), 0x94)


if __name__ == "__main__":
    unittest.main()
