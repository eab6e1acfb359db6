"""$SYS/broker, beside the one of a real Mosquitto."""

import json
import re
import subprocess
import threading
import unittest

import paho.mqtt.client as paho

import wire
from harness import PATIENCE, Gateway, Temp, millrace, mosquitto_pub, program, until
from mosquitto import Mosquitto

ROOT = "$SYS/broker/"
FORMS = {
    "decimal": re.compile(r"\d+"),
    "two decimals": re.compile(r"\d+\.\d\d"),
    "seconds": re.compile(r"\d+ seconds"),
    "version": re.compile(r"[a-z]+ version \d+(\.\d+)+"),
}


def setUpModule():
    global gateway, sharded
    gateway = Gateway("mqtt: { sys_interval: 250ms }\n").start()
    sharded = Gateway("gateway: { shards: 2 }\nmqtt: { sys_interval: 250ms }\n").start()


def tearDownModule():
    with gateway, sharded:
        pass


def form(value):
    """The name of the form that a value has."""
    return next((name for name, one in FORMS.items() if one.fullmatch(value)), value)


class Watcher:
    """Subscribed to `topics`: {topic: value}, those that came with RETAIN, and how often each."""

    def __init__(self, port, *topics, name="", version=paho.MQTTv311, qos=0):
        self.values, self.retained, self.times = {}, {}, {}
        self.subscribed = threading.Event()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, name, protocol=version)
        self.client.on_message = self._message
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.connect("127.0.0.1", port)
        self.client.subscribe([(topic, qos) for topic in topics])
        self.client.loop_start()

    def _message(self, _client, _data, message):
        self.values[message.topic] = message.payload.decode()
        self.times[message.topic] = self.times.get(message.topic, 0) + 1
        if message.retain:
            self.retained[message.topic] = message.payload.decode()

    def __enter__(self):
        assert self.subscribed.wait(PATIENCE)
        return self

    def __exit__(self, *_):
        self.client.disconnect()
        self.client.loop_stop()

    def wait(self, name, condition):
        """The value below $SYS/broker/, once it is as wanted."""
        def there():
            value = self.values.get(ROOT + name)
            return value is not None and condition(value)

        until(there, f"the value of {name} that is wanted")
        return self.values[ROOT + name]

    def number(self, name, at_least):
        return float(self.wait(name, lambda value: float(value) >= at_least))


def exchange(port):
    """A little traffic, so that no number stays 0."""
    with Watcher(port, "sys/test", qos=1):
        for _ in range(5):
            mosquitto_pub(port, "-q", "1", "-t", "sys/test", "-m", "twelve bytes")
        mosquitto_pub(port, "-r", "-q", "1", "-t", "sys/retained", "-m", "here")


class BesideMosquitto(unittest.TestCase):
    def test_the_same_names_formats_and_flags(self):
        with Mosquitto("sys_interval 1\n") as theirs:
            with Watcher(theirs.port, "$SYS/#") as them:
                until(lambda: len(them.values) > 50, "Mosquitto's first update")
                exchange(theirs.port)
                them.number("load/publish/received/1min", 0.01)
        for ours in (gateway, sharded):
            with Watcher(ours.mqtt_port, "$SYS/#") as us:
                until(lambda: len(us.retained) >= 53, "what a new subscriber gets")
                exchange(ours.mqtt_port)
                us.number("load/publish/received/1min", 0.01)
                us.number("load/publish/received/15min", 0.01)
                ages = [us.number(f"load/publish/received/{age}min", 0) for age in (1, 5, 15)]
                self.assertEqual(ages, sorted(ages, reverse=True), "after a burst")
            missing = set(them.values) - set(us.values)
            self.assertFalse({one for one in missing if "/bridge/" not in one})
            self.assertFalse(set(us.values) - set(them.values) - {ROOT + "clients/maximum"})
            for topic, value in us.values.items():
                self.assertEqual(form(value), form(them.values.get(topic, "0")), topic)

    def test_old_clients_of_theirs_read_it(self):
        """As most scripts do: one value, then the end."""
        for topic, shape in (("uptime", "seconds"), ("version", "version"),
                             ("clients/total", "decimal"), ("load/sockets/1min", "two decimals")):
            done = subprocess.run(
                [program("mosquitto_sub"), "-p", str(gateway.mqtt_port), "-h", "127.0.0.1", "-t",
                 ROOT + topic, "-C", "1", "-W", str(int(PATIENCE)), "-F", "%r %p"],
                capture_output=True, text=True, check=True)
            retained, value = done.stdout.strip().split(" ", 1)
            self.assertEqual((retained, form(value)), ("1", shape), topic)


class Numbers(unittest.TestCase):
    def test_they_count_what_happened(self):
        for one in (gateway, sharded):
            port = one.mqtt_port
            with Watcher(port, ROOT + "#") as watcher:
                watcher.number("subscriptions/count", 1)  # its own: newer than it is
                before = {name: watcher.number(name, 0) for name in (
                    "publish/messages/received", "publish/bytes/received", "publish/bytes/sent",
                    "retained messages/count", "clients/total", "messages/sent",
                    "subscriptions/count", "clients/maximum")}
                mosquitto_pub(port, "-q", "1", "-t", "n/t", "-m", "x" * 1000)
                watcher.number("publish/bytes/received", before["publish/bytes/received"] + 1000)
                watcher.number("publish/messages/received",
                               before["publish/messages/received"] + 1)
                with wire.Wire(port, "n-sub") as sub:
                    sub.send(wire.subscribe(["n/1", "n/2", "n/3"]))
                    sub.read()
                    watcher.number("subscriptions/count", before["subscriptions/count"] + 3)
                    sub.send(wire.subscribe(["$share/g/n/4"], 2))
                    sub.read()
                    watcher.number("shared_subscriptions/count", 1)
                    watcher.wait("subscriptions/count",
                                 lambda v: float(v) == before["subscriptions/count"] + 3)
                    watcher.number("clients/total", before["clients/total"] + 1)
                    watcher.number("clients/maximum", before["clients/total"] + 1)
                watcher.wait("clients/total", lambda v: float(v) <= before["clients/total"])
                mosquitto_pub(port, "-q", "1", "-r", "-t", "n/r", "-m", "stays")
                watcher.number("retained messages/count", before["retained messages/count"] + 1)
                mosquitto_pub(port, "-q", "1", "-r", "-t", "n/r", "-n")
                watcher.wait("retained messages/count",
                             lambda v: float(v) == before["retained messages/count"])

    def test_persistent_sessions_are_disconnected_then_expired(self):
        with Watcher(gateway.mqtt_port, ROOT + "#") as watcher:
            gone = watcher.number("clients/expired", 0)
            off = watcher.number("clients/disconnected", 0)
            with wire.Wire(gateway.mqtt_port) as one:
                one.send(wire.connect("n-short", 5, properties=b"\x11\x00\x00\x00\x01"))
                self.assertEqual(one.read()[1][1], 0)
            watcher.number("clients/disconnected", off + 1)
            watcher.number("clients/expired", gone + 1)
            watcher.wait("clients/disconnected", lambda value: float(value) == off)
            self.assertEqual(watcher.values[ROOT + "clients/inactive"],
                             watcher.values[ROOT + "clients/disconnected"])

    def test_only_what_changed_is_sent_again(self):
        with Watcher(gateway.mqtt_port, ROOT + "#") as watcher:
            until(lambda: watcher.times.get(ROOT + "uptime", 0) > 2, "three values of the up time")
            self.assertEqual(watcher.times[ROOT + "version"], 1)
            self.assertEqual(set(watcher.retained), set(watcher.values))


class OutOfTheWay(unittest.TestCase):
    def test_wildcards_do_not_see_it(self):
        """[MQTT-4.7.2-1]"""
        with Watcher(gateway.mqtt_port, "#", "+/broker/uptime", "w/#") as blind, \
                Watcher(gateway.mqtt_port, ROOT + "uptime", "$SYS/+/version") as seeing:
            until(lambda: seeing.times.get(ROOT + "uptime", 0) > 2, "three values of the up time")
            mosquitto_pub(gateway.mqtt_port, "-q", "1", "-t", "w/end", "-m", "1")
            until(lambda: "w/end" in blind.values, "the last message")
            self.assertFalse([topic for topic in blind.values if topic[0] == "$"])
            self.assertIn(ROOT + "version", seeing.values)

    def test_retain_handling_2_brings_nothing_at_once(self):
        """[MQTT-3.3.1-11], for 5.0: only what changes comes."""
        with wire.Wire(gateway.mqtt_port, "handling", version=5) as client:
            client.send(wire.packet(wire.SUBSCRIBE, 2, b"\x00\x01\x00"
                                    + wire.text(ROOT + "uptime") + b"\x20"))
            self.assertEqual(client.read()[0] >> 4, wire.SUBACK)
            first, _ = client.read()
            self.assertEqual(first, wire.PUBLISH << 4, "a change, without RETAIN")

    def test_it_is_not_journaled_and_nobody_may_publish_there(self):
        with wire.Wire(gateway.mqtt_port, "forger", version=5) as client:
            client.send(wire.publish(ROOT + "uptime", b"9", 1, 1, version=5))
            kind, body = client.read()
            self.assertEqual((kind >> 4, body[2]), (wire.PUBACK, 0x87))
        shown = millrace("journal", "cat", "--json", "--data", gateway.data).stdout
        topics = [json.loads(line).get("topic", "") for line in shown.splitlines()]
        self.assertTrue(topics)
        self.assertFalse([topic for topic in topics if topic.startswith("$")])

    def test_a_persistent_session_finds_none_of_it_in_its_queue(self):
        with wire.Wire(gateway.mqtt_port) as one:
            one.send(wire.connect("n-keeps", flags=0) + wire.subscribe([ROOT + "uptime"], qos=1))
            while one.read()[0] >> 4 != wire.PUBLISH:
                pass
            one.send(wire.packet(wire.DISCONNECT, 0, b""))
        with Watcher(gateway.mqtt_port, ROOT + "uptime") as other:
            until(lambda: other.times.get(ROOT + "uptime", 0) > 2, "three values of the up time")
        with wire.Wire(gateway.mqtt_port) as one:
            one.send(wire.connect("n-keeps", flags=0) + wire.packet(wire.PINGREQ, 0, b""))
            kind, body = one.read()
            self.assertEqual((kind >> 4, body), (wire.CONNACK, b"\x01\x00"))
            kind, _ = one.read()
            self.assertIn(kind, (wire.PINGRESP << 4, wire.PUBLISH << 4), "at most one new value")

    def test_an_acl_file_hides_what_it_does_not_grant(self):
        """At once and at each update; what is refused wholly brings nothing."""
        temp = Temp("systree")
        self.addCleanup(temp.remove)
        (temp.path / "acl").write_text("topic read $SYS/broker/uptime\ntopic readwrite end\n",
                                       encoding="utf-8")
        with Gateway(f"auth: {{ acl_file: {temp.path}/acl }}\nmqtt: {{ sys_interval: 250ms }}\n"
                     ) as guarded:
            with Watcher(guarded.mqtt_port, "$SYS/#", ROOT + "uptime", ROOT + "version",
                         "end") as watcher:
                until(lambda: watcher.times.get(ROOT + "uptime", 0) > 2, "three up times")
                mosquitto_pub(guarded.mqtt_port, "-q", "1", "-t", "end", "-m", "1")
                until(lambda: "end" in watcher.values, "the last message")
                self.assertEqual(set(watcher.values), {ROOT + "uptime", "end"})

    def test_interval_0_switches_it_off(self):
        with Gateway("mqtt: { sys_interval: 0 }\n") as quiet:
            with Watcher(quiet.mqtt_port, "$SYS/#", "end") as watcher:
                mosquitto_pub(quiet.mqtt_port, "-q", "1", "-t", "end", "-m", "1")
                until(lambda: "end" in watcher.values, "the last message")
                self.assertEqual(list(watcher.values), ["end"])


if __name__ == "__main__":
    unittest.main()
