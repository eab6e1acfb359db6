"""ACL files: who may publish and subscribe to what, on which listener, and from when on.

Two shards, so that much of what is delivered comes from another one.
"""

import os
import queue
import shutil
import signal
import struct
import subprocess
import unittest

import paho.mqtt.client as paho
from paho.mqtt.subscribeoptions import SubscribeOptions

import wire
from harness import PATIENCE, Gateway, Temp, millrace, mosquitto_pub, program, until

RULES = """\
# devices without a name
topic read public/#

user ann
topic readwrite plant/#
topic deny plant/vault/#
topic subscribe plant/vault/door
topic read two words/x y

user bob
topic read plant/#
topic write plant/will
topic read plant/vault/door

user carl
topic read plant/#
topic read $SYS/broker/version

pattern readwrite own/%u/%c/#
"""


def setUpModule():
    global temp, gateway, ports
    temp = Temp("acl")
    for name in ("users", "staff"):
        millrace("passwd", "-c", "-b", "-I", 10, temp.path / name, f"only-{name}", "pw")
        for user in ("ann", "bob", "carl", "a+b"):
            millrace("passwd", "-b", "-I", 10, temp.path / name, user, "pw")
    (temp.path / "acl").write_text(RULES)
    (temp.path / "own.acl").write_text("topic readwrite #\n")
    gateway = Gateway(f"""
gateway: {{ shards: 2 }}
auth: {{ password_file: {temp.path}/users, acl_file: {temp.path}/acl }}
listeners:
  open: {{ bind: "127.0.0.1:0", allow_anonymous: true }}
  own: {{ bind: "127.0.0.1:0", allow_anonymous: true, auth: {{ acl_file: {temp.path}/own.acl }} }}
  staff: {{ bind: "127.0.0.1:0", auth: {{ password_file: {temp.path}/staff }} }}
""").start()
    ports = {name: int(gateway.wait_log(rf"listening on \S*:(\d+) \({name}\)")[1])
             for name in ("open", "own", "staff")}
    ports["mqtt"] = gateway.mqtt_port


def tearDownModule():
    with gateway:
        pass
    temp.remove()


def connect(client, user=None, password="pw", version=4, clean=True, will=None, properties=b""):
    flags = 0x02 if clean else 0
    tail = b""
    if user is not None:
        flags |= 0xC0
        tail = wire.text(user) + wire.text(password)
    packet = wire.connect(client, version, flags=flags, will=will, properties=properties)
    body = packet[2:] if packet[1] < 128 else packet[3:]
    if version == 3:
        body = wire.text("MQIsdp") + body[6:]
    return wire.packet(wire.CONNECT, 0, body + tail)


class Peer(wire.Wire):
    """One connected client; what comes is told apart by packet."""

    def __init__(self, client, user=None, version=4, port=None, expect=0, **how):
        super().__init__(port or gateway.mqtt_port)
        self.version = version
        self.send(connect(client, user, version=version, **how))
        kind, body = self.read()
        assert kind >> 4 == wire.CONNACK, kind
        assert body[1] == expect, f"CONNACK {body[1]:#x}"
        self.patience(PATIENCE)

    def subscribe(self, *filters, qos=1):
        """The codes of the SUBACK; what was retained comes behind it."""
        self.send(wire.subscribe(filters, 1, self.version, qos))
        while True:
            kind, body = self.read()
            if kind >> 4 == wire.SUBACK:
                return list(body[-len(filters):])

    def publish(self, topic, payload=b"x", qos=1, retain=False):
        """The reason of the answer."""
        self.send(wire.publish(topic, payload, qos, 7, self.version, retain=retain))
        kind, body = self.read()
        assert kind >> 4 == (wire.PUBACK if qos == 1 else wire.PUBREC), kind
        assert body[:2] == b"\x00\x07"
        return body[2] if len(body) > 2 else 0

    def until_ping(self):
        """Topics that came, up to the answer to a PINGREQ."""
        self.send(wire.packet(wire.PINGREQ, 0, b""))
        topics = set()
        while True:
            kind, body = self.read()
            if kind >> 4 == wire.PINGRESP:
                return topics
            topics.add(body[2:2 + struct.unpack(">H", body[:2])[0]].decode())

    def messages(self, last):
        """Topics that came, up to the one that is `last`; QoS 1 is acknowledged."""
        topics = []
        while not topics or topics[-1] != last:
            kind, body = self.read()
            if kind >> 4 != wire.PUBLISH:
                continue
            end = 2 + struct.unpack(">H", body[:2])[0]
            topics.append(body[2:end].decode())
            if kind & 6:
                self.send(wire.packet(wire.PUBACK, 0, body[end:end + 2]))
        return topics


def publish(topic, user="ann"):
    mosquitto_pub(gateway.mqtt_port, "-u", user, "-P", "pw", "-q", "1", "-t", topic, "-m", "x")


def journal_topics():
    shown = millrace("journal", "cat", "--data", gateway.data).stdout
    return shown


class Publish(unittest.TestCase):
    def test_a_publish_without_right_is_answered_0x87_and_is_no_event(self):
        with Peer("p5", "carl", 5) as peer, Peer("p4", "carl", 4) as old, \
                Peer("p3", "carl", 3) as oldest, Peer("ps", "bob") as reader:
            self.assertEqual(reader.subscribe("plant/#"), [1])
            before = gateway.metric("millrace_mqtt_acl_denied_total", "publish")
            self.assertEqual(peer.publish("plant/no", qos=1), 0x87)
            self.assertEqual(peer.publish("plant/no", qos=2), 0x87)
            self.assertEqual(peer.publish("plant/no", qos=1, retain=True), 0x87)
            for one in (old, oldest): # acknowledged and dropped, as by Mosquitto
                self.assertEqual(one.publish("plant/no", qos=1), 0)
                self.assertEqual(one.publish("plant/no", qos=2), 0)
            self.assertEqual(gateway.metric("millrace_mqtt_acl_denied_total", "publish"),
                             before + 7)
            publish("plant/yes")
            self.assertEqual(reader.messages("plant/yes"), ["plant/yes"])
            with Peer("late", "bob") as late:
                late.subscribe("plant/no", "plant/yes")
                publish("plant/yes")
                self.assertEqual(late.messages("plant/yes"), ["plant/yes"])
        self.assertNotIn("plant/no", journal_topics())
        gateway.wait_log(r"client '.*, may not publish to '") # once in 10 s

    def test_a_topic_with_spaces_and_a_denied_branch(self):
        with Peer("sp", "ann", 5) as peer:
            self.assertEqual(peer.subscribe("two words/x y", "two words/x"), [1, 0x87])
            self.assertEqual(peer.publish("plant/vault/gold"), 0x87)
            self.assertEqual(peer.publish("plant/vault"), 0x87)
            self.assertEqual(peer.publish("plant/vaults"), 0)

    def test_patterns_put_in_the_client_id_and_the_user(self):
        with Peer("d7", "carl", 5) as peer:
            self.assertEqual(peer.publish("own/carl/d7/t"), 0)
            self.assertEqual(peer.publish("own/carl/d8/t"), 0x87)
            self.assertEqual(peer.publish("own/ann/d7/t"), 0x87)

    def test_wildcards_in_names_satisfy_no_pattern(self): # CVE-2017-7650
        for client, user in (("#", "carl"), ("+", "carl"), ("d/x", "carl"), ("d", "a+b")):
            with self.subTest(client=client, user=user), Peer(client, user, 5) as peer:
                for topic in (f"own/{user}/d/t", "own/carl/d/x/t", "own/carl/d7/t"):
                    if not set("+#") & set(topic):
                        self.assertEqual(peer.publish(topic), 0x87)
                self.assertEqual(peer.subscribe("own/#", "own/+/+/t"), [0x87, 0x87])

    def test_anonymous_clients_have_the_rules_before_any_user(self):
        with Peer("anon", version=5, port=ports["open"]) as peer:
            self.assertEqual(peer.subscribe("public/x", "plant/#", "own/#"), [1, 0x87, 0x87])
            self.assertEqual(peer.publish("public/x"), 0x87)
        with Peer("annb", "ann", 5, port=ports["open"]) as peer:
            self.assertEqual(peer.subscribe("public/x"), [0x87])

    def test_mosquittos_and_pahos_clients_are_told(self):
        done = mosquitto_pub(gateway.mqtt_port, "-u", "carl", "-P", "pw", "-V", "5", "-q", "1",
                             "-t", "plant/no", "-m", "x", check=False)
        self.assertIn("Not authorized", (done.stdout + done.stderr).decode())
        mosquitto_pub(gateway.mqtt_port, "-u", "carl", "-P", "pw", "-q", "1", "-t", "plant/no",
                      "-m", "x")
        done = subprocess.run(
            [program("mosquitto_sub"), "-p", str(gateway.mqtt_port), "-u", "carl", "-P", "pw",
             "-t", "secret/#", "-W", "20"], capture_output=True, text=True, check=False)
        self.assertIn("denied", done.stdout + done.stderr)
        for protocol in (paho.MQTTv311, paho.MQTTv5):
            self.assertEqual(paho_codes(protocol, "secret/#", "plant/#"), [True, False])


def paho_codes(protocol, *filters):
    """Whether each was refused."""
    said = queue.Queue()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, f"paho{protocol}", protocol=protocol)
    client.username_pw_set("carl", "pw")
    client.on_connect = lambda *_: client.subscribe([(one, _option(protocol)) for one in filters])
    client.on_subscribe = lambda _c, _u, _m, codes, _p: said.put([one.is_failure for one in codes])
    client.connect("127.0.0.1", gateway.mqtt_port)
    client.loop_start()
    try:
        return said.get(timeout=PATIENCE)
    finally:
        client.disconnect()
        client.loop_stop()


def _option(protocol):
    return 1 if protocol == paho.MQTTv311 else SubscribeOptions(qos=1)


class Subscribe(unittest.TestCase):
    def test_what_could_bring_nothing_is_refused(self):
        filters = ("secret/#", "plant/vault/#", "$share/g/secret", "$SYS/#", "plant/+/x", "plant/#")
        codes = [0x87, 0x87, 0x87, 0x87, 1, 1]
        with Peer("s5", "ann", 5) as peer:
            self.assertEqual(peer.subscribe(*filters), codes)
        with Peer("s4", "ann", 4) as peer:
            self.assertEqual(peer.subscribe(*filters), [0x80 if one > 2 else one for one in codes])
        with Peer("s3", "ann", 3) as peer: # 3.1 cannot be told
            self.assertEqual(peer.subscribe("secret/#", "plant/#"), [0, 1])
        self.assertGreaterEqual(gateway.metric("millrace_mqtt_acl_denied_total", "subscribe"), 9)
        gateway.wait_log(r"client '.*, may not subscribe to '")

    def test_a_wildcard_over_a_denied_branch_brings_the_rest(self):
        with Peer("w5", "ann", 5) as peer, Peer("w0", "ann", 4) as qos0:
            self.assertEqual(peer.subscribe("#"), [1])
            self.assertEqual(qos0.subscribe("plant/#", qos=0), [0])
            for topic in ("plant/vault/gold", "other/x", "plant/a", "plant/vault/door", "plant/b"):
                open_publish(topic)
            self.assertEqual(peer.messages("plant/b"), ["plant/a", "plant/b"])
            self.assertEqual(qos0.messages("plant/b"), ["plant/a", "plant/b"])

    def test_subscribe_alone_grants_the_subscribe_and_brings_nothing(self):
        with Peer("door", "ann", 5) as peer:
            self.assertEqual(peer.subscribe("plant/vault/door"), [0x87]) # deny wins

    def test_retained_messages_are_checked_for_the_reader(self):
        for topic in ("plant/vault/kept", "plant/kept"):
            open_publish(topic, "-r")
        with Peer("r5", "ann", 5) as peer:
            peer.subscribe("plant/#")
            open_publish("plant/end")
            self.assertEqual([one for one in peer.messages("plant/end") if "kept" in one],
                             ["plant/kept"])
        with Peer("r6", "ann", 5, clean=False, properties=b"\x11\0\0\0\x3c") as peer:
            peer.subscribe("plant/#")
            open_publish("plant/end")
            self.assertEqual([one for one in peer.messages("plant/end") if "kept" in one],
                             ["plant/kept"])

    def test_a_shared_subscription_brings_no_more_than_another(self):
        with Peer("shared", "ann", 5) as peer:
            if peer.subscribe("$share/g/plant/#") == [0x9E]:
                return # not offered
            for topic in ("plant/vault/s", "plant/s", "plant/vault/t", "plant/end"):
                open_publish(topic)
            self.assertEqual(peer.messages("plant/end"), ["plant/s", "plant/end"])

    def test_a_member_that_may_not_read_a_message_is_not_chosen_for_it(self):
        """Else its share of them would be lost to the group."""
        topics = [f"plant/{'vault' if n % 2 else 'open'}/{n}" for n in range(12)]
        keep = {"clean": False, "properties": b"\x11\0\0\0\x3c"}
        for qos in (1, 0):
            for more in ({}, keep) if qos else ({},):
                with Peer(f"ga{qos}", "ann", 5, **more) as ann, \
                        Peer(f"gc{qos}", "carl", 5, **more) as carl:
                    for peer in (ann, carl):
                        self.assertEqual(peer.subscribe("$share/part/plant/#", qos=qos), [qos])
                    for topic in topics:
                        open_publish(topic)
                    got = {peer: set() for peer in (ann, carl)}
                    until(lambda: self.gathered(got) == set(topics), "all of them to come")
                    self.assertTrue(all("vault" not in topic for topic in got[ann]), got[ann])

    @staticmethod
    def gathered(got):
        for peer, topics in got.items():
            topics |= peer.until_ping()
        return set().union(*got.values())

    def test_of_sys_only_what_may_be_read(self):
        with Peer("sys", "carl", 5) as peer:
            self.assertEqual(peer.subscribe("$SYS/#"), [1])
            self.assertEqual(peer.until_ping(), {"$SYS/broker/version"})

    def test_queued_messages_are_checked_too(self):
        keep = {"clean": False, "properties": b"\x11\0\0\0\x3c"}
        with Peer("q5", "ann", 5, **keep) as peer:
            peer.subscribe("#")
        for topic in ("plant/vault/1", "plant/1", "elsewhere", "plant/last"):
            open_publish(topic)
        with Peer("q5", "ann", 5, **keep) as peer:
            self.assertEqual(peer.messages("plant/last"), ["plant/1", "plant/last"])


def open_publish(topic, *more):
    """By somebody who may everything: an anonymous client of the listener with its own rules."""
    mosquitto_pub(ports["own"], "-q", "1", "-t", topic, "-m", "x", *more)


class Wills(unittest.TestCase):
    def test_a_will_without_right_is_refused_at_connect(self): # Moquette 689, mochi 503
        for version, code in ((5, 0x87), (4, 5), (3, 5)):
            Peer("will", "bob", version, expect=code, will=("plant/no", "x", 1)).sock.close()

    def test_a_will_that_may_be_written_is_published(self):
        with Peer("wr", "ann") as reader:
            reader.subscribe("plant/will")
            Peer("will", "bob", will=("plant/will", "x", 1)).sock.close()
            self.assertEqual(reader.messages("plant/will"), ["plant/will"])


class Listeners(unittest.TestCase):
    def test_rules_for_all_hold_where_a_listener_has_users_of_its_own(self): # CVE-2018-20145
        with Peer("l1", "ann", 5, port=ports["staff"]) as peer:
            self.assertEqual(peer.publish("plant/vault/x"), 0x87)
            self.assertEqual(peer.publish("plant/x"), 0)
        Peer("l2", "only-users", port=ports["staff"], expect=4).sock.close()
        with Peer("l2", "only-staff", 5, port=ports["staff"]) as peer:
            self.assertEqual(peer.publish("plant/x"), 0x87)
        Peer("l3", "only-staff", port=ports["mqtt"], expect=4).sock.close()

    def test_a_listener_with_rules_of_its_own_has_only_these(self):
        with Peer("l4", version=5, port=ports["own"]) as peer:
            self.assertEqual(peer.publish("plant/vault/x"), 0)
        with Peer("l5", "ann", 5, port=ports["own"]) as peer: # they grant a user nothing
            self.assertEqual(peer.publish("plant/x"), 0x87)
            self.assertEqual(peer.publish("own/ann/l5/x"), 0x87)

    def test_config_show_tells_where_a_setting_comes_from(self):
        shown = millrace("config", "show", "-c", gateway.config, "--changed").stdout
        rows = {line.split()[0]: line for line in shown.splitlines()}
        self.assertIn("staff", rows["listeners.staff.auth.password_file"])
        self.assertIn("millrace.yaml:3", rows["listeners.staff.auth.acl_file"])
        self.assertIn("own.acl", rows["listeners.own.auth.acl_file"])


class ClientIds(unittest.TestCase):
    def test_a_session_is_its_users(self):
        keep = {"clean": False, "properties": b"\x11\0\0\0\x3c"}
        with Peer("mine", "ann", 5, **keep) as peer:
            peer.subscribe("plant/mine")
            for version, code in ((5, 0x87), (4, 5)): # takeover theft
                Peer("mine", "carl", version, expect=code).sock.close()
            self.assertEqual(peer.publish("plant/still-here"), 0)
        publish("plant/mine")
        Peer("mine", "carl", 5, expect=0x87, **keep).sock.close()
        Peer("mine", "carl", 5, expect=0x87).sock.close() # nor may it be ended by clean start
        Peer("mine", port=ports["open"], expect=5).sock.close()
        with Peer("mine", "ann", 5, **keep) as peer:
            self.assertEqual(peer.messages("plant/mine"), ["plant/mine"])

    def test_the_rightful_user_takes_over(self):
        with Peer("twice", "ann", 5) as first, Peer("twice", "ann", 5):
            self.assertEqual(first.read_until_closed()[-1][1][:1], b"\x8e")

    def test_the_user_name_can_be_the_client_id(self):
        with Gateway(f"auth: {{ password_file: {temp.path}/users, use_username_as_clientid: true }}"
                     "\nlisteners: { open: { bind: \"127.0.0.1:0\", allow_anonymous: true } }\n") \
                as other:
            with Peer("x", "ann", 5, port=other.mqtt_port) as first, \
                    Peer("y", "ann", 5, port=other.mqtt_port):
                self.assertEqual(first.read_until_closed()[-1][1][:1], b"\x8e")
            open_port = int(other.wait_log(r"listening on \S*:(\d+) \(open\)")[1])
            Peer("x", version=5, port=open_port, expect=0x87).sock.close()

    def test_a_pattern_can_be_a_prefix_for_everybody(self):
        with Gateway("auth: { client_id_pattern: \"plant-*\" }\n") as other:
            for client, code in (("plant-1", 0), ("plant", 0x87), ("x-plant-1", 0x87), ("", 0)):
                Peer(client, None, 5, port=other.mqtt_port, expect=code).sock.close()

    def test_a_pattern_binds_client_ids_to_users(self):
        with Gateway(f"auth: {{ password_file: {temp.path}/users, "
                     "client_id_pattern: \"%u-*\" }\n") as other:
            for client, code in (("ann-1", 0), ("ann-x-y", 0), ("ann-", 0), ("ann", 0x87),
                                 ("bob-1", 0x87), ("x-ann-1", 0x87)):
                Peer(client, "ann", 5, port=other.mqtt_port, expect=code).sock.close()


class Check(unittest.TestCase):
    def test_check_finds_all_faults_with_file_and_line(self):
        acl = temp.path / "bad.acl"
        acl.write_text("topic raed a\nuser\ntopic read a/#\npattern write %c/#/x\n")
        config = temp.path / "bad.yaml"
        config.write_text(f"auth: {{ acl_file: {acl} }}\n")
        done = millrace("check", "-c", config, check=False)
        self.assertEqual(done.returncode, 78)
        for said in ("bad.yaml:1:", "bad.acl, line 1: 'raed' is no right; write read",
                     "bad.acl, line 2: no user name", "bad.acl, line 4: '%c/#/x' is no topic"):
            self.assertIn(said, done.stderr)
        acl.write_text("user ann\ntopic a\n")
        done = millrace("check", "-c", config)
        self.assertIn("nothing checks who clients are", done.stderr)
        config.write_text("auth: { acl_file: /nowhere/acl }\n")
        done = millrace("check", "-c", config, check=False)
        self.assertIn("acl file /nowhere/acl: ", done.stderr)


class Reload(unittest.TestCase):
    def setUp(self):
        self.acl = temp.path / "live.acl"
        self.users = temp.path / "live.users"
        shutil.copy(temp.path / "users", self.users)
        self.acl.write_text("user ann\ntopic readwrite a/#\ntopic readwrite b/#\n"
                            "user bob\ntopic readwrite #\n")
        self.gateway = Gateway("gateway: { shards: 2 }\n"
                               f"auth: {{ password_file: {self.users}, acl_file: {self.acl} }}\n")
        self.gateway.start()
        self.addCleanup(self.leave)

    def leave(self):
        with self.gateway:
            pass

    def peer(self, client, user, version=5, **how):
        return Peer(client, user, version, port=self.gateway.mqtt_port, **how)

    def reload(self, ends="done"):
        start = len(self.gateway.log.all)
        os.kill(self.gateway.pid(), signal.SIGHUP)
        self.gateway.wait_log(f"reload: {ends}", start=start)

    def publish(self, *topics):
        for topic in topics:
            mosquitto_pub(self.gateway.mqtt_port, "-u", "bob", "-P", "pw", "-q", "1", "-t", topic,
                          "-m", "x")

    def test_new_rules_hold_at_once_for_those_who_are_there(self): # CVE-2021-34434
        keep = {"clean": False, "properties": b"\x11\0\0\0\x3c"}
        with self.peer("away", "ann", **keep) as away:
            away.subscribe("a/#", "b/#")
        self.publish("a/old", "b/old")
        with self.peer("live", "ann") as live, self.peer("kept", "ann", **keep) as kept, \
                self.peer("will", "ann", will=("a/will", "x", 1)) as will, \
                self.peer("see", "bob") as see:
            see.subscribe("a/will", "b/end")
            for one in (live, kept):
                self.assertEqual(one.subscribe("a/#", "b/#", "#"), [1, 1, 1])
            self.assertEqual(live.publish("a/0"), 0)
            for one in (live, kept):
                self.assertEqual(one.messages("a/0"), ["a/0"])
                self.assertEqual(one.messages("a/0"), ["a/0"]) # by # as well
            self.acl.write_text("user ann\ntopic readwrite b/#\ntopic write c\n"
                                "user bob\ntopic readwrite #\n")
            self.reload()
            self.assertEqual(live.publish("a/0"), 0x87)
            self.assertEqual(live.publish("c"), 0)
            self.publish("a/1", "c", "b/1", "b/end")
            for one in (live, kept):
                self.assertEqual(one.messages("b/end")[::2], ["b/1", "b/end"][:2])
            self.assertEqual(live.subscribe("a/#"), [0x87])
            will.sock.close()
            self.gateway.wait_log("the will of client 'will' is not published: its user may not")
            self.publish("b/end")
            self.assertEqual(see.messages("b/end"), ["b/end"])
        with self.peer("away", "ann", **keep) as away:
            self.assertEqual(away.messages("b/end"), ["b/old", "b/1", "b/end"])
            self.acl.write_text("user ann\ntopic readwrite a/#\nuser bob\ntopic readwrite #\n")
            self.reload() # and back
            self.publish("b/2", "a/2")
            self.assertEqual(away.messages("a/2")[-1:], ["a/2"])

    def test_what_was_allowed_before_a_crash_is_asked_again(self):
        keep = {"clean": False, "properties": b"\x11\0\0\0\x3c"}
        with self.peer("back", "ann", **keep) as back:
            self.assertEqual(back.subscribe("a/#", "b/#"), [1, 1])
        self.publish("a/1", "b/1", "b/end")
        with self.peer("dies", "ann", will=("a/will", "x", 1), **keep):
            self.gateway.kill()
        self.acl.write_text("user ann\ntopic readwrite b/#\nuser bob\ntopic readwrite #\n")
        self.gateway.start()
        self.gateway.wait_log("the will of client 'dies' is not published: its user may not")
        with self.peer("back", "ann", **keep) as back:
            self.assertEqual(back.messages("b/end"), ["b/1", "b/end"])
            self.publish("a/2", "b/end")
            self.assertEqual(back.messages("b/end"), ["b/end"])

    def test_a_bad_file_keeps_the_old_rules(self):
        with self.peer("bad", "ann") as peer:
            self.acl.write_text("topic raed x\nuser\n")
            self.reload("the configuration has 2 faults")
            self.assertEqual(peer.publish("a/1"), 0)
            self.assertEqual(peer.publish("x/1"), 0x87)
        self.assertIsNotNone(self.gateway.log.find("live.acl, line 1: 'raed' is no right"))
        self.assertIsNotNone(self.gateway.log.find("live.acl, line 2: no user name"))

    def test_a_user_that_is_gone_is_sent_away(self):
        with self.peer("gone5", "carl") as five, self.peer("gone4", "carl", 4) as four, \
                self.peer("stays", "ann") as stays:
            millrace("passwd", "-D", self.users, "carl")
            self.reload()
            kind, body = five.read()
            self.assertEqual((kind >> 4, body[0]), (wire.DISCONNECT, 0x87))
            self.assertIsNone(five.read())
            self.assertIsNone(four.read())
            self.assertEqual(stays.publish("a/1"), 0)


if __name__ == "__main__":
    unittest.main()
