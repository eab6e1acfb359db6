"""check_retain_source: a retained message goes with its publisher's right to write it.

Planted before the right was revoked, it is not shown to whoever subscribes later: neither by a
reload nor after a restart, by the store or by the journal alone.  Two shards, so that publisher
and reader are at home in different ones.
"""

import os
import shutil
import signal
import time
import unittest

import paho.mqtt.client as paho

from harness import PATIENCE, Gateway, Temp, millrace, mosquitto_pub, until

BEFORE = "user ann\ntopic readwrite a/#\nuser bob\ntopic readwrite #\npattern write own/%u/%c\n"
AFTER = "user ann\ntopic read a/#\ntopic write a/two\nuser bob\ntopic readwrite #\n"
ALL = ["a/one", "a/two", "b/bob", "own/ann/planter"]
KEPT = ["a/two", "b/bob"]


class RetainSource(unittest.TestCase):
    def setUp(self):
        self.temp = Temp("source")
        self.addCleanup(self.temp.remove)
        self.acl = self.temp.path / "acl"
        self.acl.write_text(BEFORE)
        for number, user in enumerate(("ann", "bob")):
            millrace("passwd", *(["-c"] if number == 0 else []), "-b", "-I", 10,
                     self.temp.path / "users", user, "pw")

    def gateway(self, more=""):
        gateway = Gateway(f"""
gateway: {{ shards: 2 }}
auth: {{ password_file: {self.temp.path}/users, acl_file: {self.acl} }}
{more}""").start()
        self.addCleanup(gateway.__exit__, None)
        return gateway

    def plant(self, gateway):
        for user, topics in (("ann", ("a/one", "a/two", "own/ann/planter")), ("bob", ("b/bob",))):
            for topic in topics:
                mosquitto_pub(gateway.mqtt_port, "-i", "planter" if user == "ann" else "digger",
                              "-u", user, "-P", "pw", "-q", "1", "-r", "-t", topic, "-m", "x")
        for qos in (0, 1):  # two readers, one in each shard or both in one
            self.wait_seen(gateway, ALL, qos=qos)

    def revoke(self, gateway, rules=AFTER):
        self.acl.write_text(rules)
        start = len(gateway.log.all)
        os.kill(gateway.pid(), signal.SIGHUP)
        gateway.wait_log("reload: done", start=start)

    def seen(self, gateway, qos=1, version=paho.MQTTv5, keep=False):
        """Which retained messages come to a client of paho that subscribes to all of them now."""
        got = []
        keeps = {"clean_session": not keep} if version != paho.MQTTv5 else {}
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, f"reader-{qos}-{keep}",
                             protocol=version, **keeps)
        client.username_pw_set("bob", "pw")
        client.on_message = lambda *args: got.append((args[2].topic, args[2].retain))
        client.on_connect = lambda *_: client.subscribe([("+/+", qos), ("own/#", qos)])
        client.on_subscribe = lambda *_: client.publish("z/end", b"", 1)
        client.connect("127.0.0.1", gateway.mqtt_port)
        deadline = time.monotonic() + PATIENCE
        while ("z/end", False) not in got:
            client.loop(0.1)
            self.assertLess(time.monotonic(), deadline, got)
        client.disconnect()
        return sorted(topic for topic, retain in got if retain)

    def wait_seen(self, gateway, expected, **how):
        """Retained messages reach the other shards a little later."""
        until(lambda: self.seen(gateway, **how) == expected, f"{expected} to be retained")

    def test_a_reload_takes_what_was_planted_and_gives_it_back(self):
        gateway = self.gateway()
        self.plant(gateway)
        self.revoke(gateway)
        for qos in (0, 1, 2):
            self.assertEqual(self.seen(gateway, qos), KEPT, f"QoS {qos}")
        for keep in (False, True):
            self.assertEqual(self.seen(gateway, version=paho.MQTTv311, keep=keep), KEPT)
        mosquitto_pub(gateway.mqtt_port, "-u", "bob", "-P", "pw", "-q", "1", "-r", "-t", "a/one",
                      "-m", "bobs")  # whoever may write it makes it seen
        self.wait_seen(gateway, ["a/one", *KEPT])
        self.revoke(gateway, BEFORE)
        self.assertEqual(self.seen(gateway), ALL)

    def test_a_restart_knows_who_planted_it(self):
        gateway = self.gateway()
        self.plant(gateway)
        self.acl.write_text(AFTER)
        gateway.restart()  # out of the store
        self.assertEqual(self.seen(gateway), KEPT)
        gateway.kill()
        gateway.start()
        self.assertEqual(self.seen(gateway), KEPT)
        gateway.stop()
        shutil.rmtree(gateway.data / "sessions")  # out of the journal
        gateway.start()
        self.assertEqual(self.seen(gateway), KEPT)

    def test_another_number_of_shards_knows_it_too(self):
        gateway = self.gateway()
        self.plant(gateway)
        self.acl.write_text(AFTER)
        gateway.stop()
        gateway.sets.append("gateway.shards=3")
        gateway.start()
        self.assertEqual(self.seen(gateway), KEPT)

    def test_it_can_be_switched_off(self):
        gateway = self.gateway()
        gateway.config.write_text(gateway.config.read_text().replace(
            "acl_file:", "check_retain_source: false, acl_file:"))
        gateway.restart()
        self.plant(gateway)
        self.revoke(gateway)
        self.assertEqual(self.seen(gateway), ALL)

    def test_who_may_still_write_it_by_another_listener_shows_it(self):
        """A listener without rules: there everybody may."""
        (self.temp.path / "all.acl").write_text("topic readwrite #\npattern readwrite #\n")
        gateway = self.gateway('listeners:\n  open: { bind: "127.0.0.1:0", auth: { acl_file: '
                               f'{self.temp.path}/all.acl }} }}')
        self.plant(gateway)
        self.revoke(gateway)
        self.assertEqual(self.seen(gateway), ALL)


if __name__ == "__main__":
    unittest.main()
