"""MQTT as devices know it, by clients we did not write: mosquitto and paho."""

import os
import subprocess
import threading
import time
import unittest

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

import harness
from harness import PATIENCE, Gateway, Lines, millrace, mosquitto_pub, popen, program


def setUpModule():
    global gateway
    gateway = Gateway("mqtt: {}\n").start()


def tearDownModule():
    with gateway:
        pass


class Client:
    """A connected paho client whose messages can be waited for."""

    def __init__(self, name, version=paho.MQTTv311, filters=(), will=None, port=None,
                 keep_alive=60):
        self.paho = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id=name, protocol=version,
            **({} if version == paho.MQTTv5 else {"clean_session": True}),
        )
        self.changed = threading.Condition()
        self.messages, self.granted, self.disconnects = [], [], []
        self.connected = None
        self.paho.on_connect = lambda _c, _u, _f, code, _p: self._note("connected", code)
        self.paho.on_subscribe = lambda _c, _u, _m, codes, _p: self._add(self.granted, codes)
        self.paho.on_message = lambda _c, _u, message: self._add(self.messages, message)
        self.paho.on_disconnect = lambda _c, _u, _f, code, _p: self._add(self.disconnects, code)
        if will:
            self.paho.will_set(*will)
        self.paho.connect("127.0.0.1", port or gateway.mqtt_port, keep_alive)
        self.paho.loop_start()
        self.wait(lambda: self.connected is not None, "CONNACK")
        assert not self.connected.is_failure, self.connected
        if filters:
            self.paho.subscribe([(one, 1) for one in filters])
            self.wait(lambda: self.granted, "SUBACK")

    def _note(self, name, value):
        with self.changed:
            setattr(self, name, value)
            self.changed.notify_all()

    def _add(self, to, value):
        with self.changed:
            to.append(value)
            self.changed.notify_all()

    def wait(self, condition, what):
        with self.changed:
            if not self.changed.wait_for(condition, PATIENCE):
                raise AssertionError(f"waited {PATIENCE:.0f} s for {what}")

    def wait_messages(self, count):
        self.wait(lambda: len(self.messages) >= count, f"{count} messages")
        return self.messages

    def publish(self, topic, payload, qos=1, properties=None):
        info = self.paho.publish(topic, payload, qos, properties=properties)
        info.wait_for_publish(PATIENCE)
        assert info.is_published()

    def close(self):
        self.paho.disconnect()
        self.paho.loop_stop()

    def vanish(self):
        """The connection is gone without a DISCONNECT."""
        self.paho._sock_close()
        self.paho.loop_stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Mosquitto(unittest.TestCase):
    def test_a_publish_with_qos_1_reaches_a_subscriber(self):
        subscriber = popen(
            ["stdbuf", "-oL", program("mosquitto_sub"), "-h", "127.0.0.1",
             "-p", gateway.mqtt_port, "-t", "hall/#", "-q", "1", "-v", "-C", "2", "-d"],
            stdout=subprocess.PIPE, text=True,
        )
        lines = Lines(subscriber.stdout)
        lines.wait("SUBACK")
        for _ in range(2):
            mosquitto_pub(gateway.mqtt_port, "-q", "1", "-t", "hall/1/temp", "-m", "21.5")
        self.assertEqual(subscriber.wait(PATIENCE), 0)
        lines.thread.join()
        self.assertEqual(lines.all.count("hall/1/temp 21.5"), 2)

    def test_every_protocol_version_is_served(self):
        for version in ("mqttv31", "mqttv311", "mqttv5"):
            if version == "mqttv31":
                continue  # MQTT 3.1 is older than the standard; refusing it is tested in test_wire
            for qos in ("0", "1"):
                with self.subTest(version=version, qos=qos):
                    mosquitto_pub(
                        gateway.mqtt_port, "-V", version, "-q", qos, "-t", "v/x", "-m", "1"
                    )

    def test_large_payloads_survive(self):
        payload = os.urandom(200_000)
        with Client("large", filters=["large/#"]) as client:
            mosquitto_pub(gateway.mqtt_port, "-q", "1", "-t", "large/1", "-s", payload=payload)
            self.assertEqual(client.wait_messages(1)[0].payload, payload)


VERSIONS = {"v3.1.1": paho.MQTTv311, "v5": paho.MQTTv5}


class Paho(unittest.TestCase):
    def test_messages_arrive_once_and_in_order(self):
        for name, version in VERSIONS.items():
            with self.subTest(name), \
                    Client(f"order-{name}", version, [f"order/{name}/#"]) as client:
                infos = [
                    client.paho.publish(f"order/{name}/{n % 3}", str(n), 1) for n in range(500)
                ]
                for info in infos:
                    info.wait_for_publish(PATIENCE)
                client.wait_messages(500)
                self.assertEqual([int(m.payload) for m in client.messages], list(range(500)))

    def test_wildcards_match_as_the_specification_says(self):
        cases = {
            "sport/tennis/player1/#": ["sport/tennis/player1", "sport/tennis/player1/ranking"],
            "sport/#": ["sport", "sport/", "sport/tennis/player1",
                        "sport/tennis/player1/ranking"],
            "+/tennis/#": ["sport/tennis/player1", "sport/tennis/player1/ranking"],
            "sport/+": ["sport/"],
            "+/+": ["/finance", "sport/"],
            "/+": ["/finance"],
            "+": ["sport", "finance"],
            "#": ["sport", "sport/", "/finance", "finance", "sport/tennis/player1",
                  "sport/tennis/player1/ranking"],
        }
        topics = ["$private/x", *cases["#"]]
        for number, (pattern, expected) in enumerate(cases.items()):
            with self.subTest(filter=pattern), \
                    Client(f"wild-{number}", filters=[pattern]) as client:
                for topic in topics:
                    client.publish(topic, b"x")
                client.publish(f"end/{number}", b"x")
                client.wait_messages(len(expected))
                got = [m.topic for m in client.messages if not m.topic.startswith("end/")]
                self.assertEqual(sorted(got), sorted(expected))

    def test_a_subscription_with_two_matching_filters_or_none_after_unsubscribe(self):
        with Client("unsub", filters=["un/a", "un/b"]) as client:
            done = threading.Event()
            client.paho.on_unsubscribe = lambda *_: done.set()
            client.paho.unsubscribe("un/a")
            self.assertTrue(done.wait(PATIENCE))
            client.publish("un/a", b"no")
            client.publish("un/b", b"yes")
            self.assertEqual([m.payload for m in client.wait_messages(1)], [b"yes"])

    def test_version_5_properties_travel_with_the_message(self):
        properties = Properties(PacketTypes.PUBLISH)
        properties.ContentType = "application/json"
        properties.ResponseTopic = "answers/1"
        properties.CorrelationData = b"\x00\x01"
        properties.UserProperty = [("unit", "C"), ("line", "4")]
        with Client("props", paho.MQTTv5, ["props/#"]) as client:
            client.publish("props/1", b"{}", properties=properties)
            got = client.wait_messages(1)[0].properties
        self.assertEqual(got.ContentType, "application/json")
        self.assertEqual(got.ResponseTopic, "answers/1")
        self.assertEqual(got.CorrelationData, b"\x00\x01")
        self.assertEqual(got.UserProperty, [("unit", "C"), ("line", "4")])

    def test_a_second_connection_with_the_same_id_takes_over(self):
        for name, version in VERSIONS.items():
            first = Client(f"twin-{name}", version)
            first.paho.reconnect_delay_set(60, 60)
            with self.subTest(name), Client(f"twin-{name}", version, ["t/#"]) as second:
                first.wait(lambda one=first: one.disconnects, "the first to be disconnected")
                second.publish("t/1", b"still here")
                second.wait_messages(1)
            first.paho.loop_stop()

    def test_the_will_is_published_when_a_device_vanishes_and_only_then(self):
        for name, version in VERSIONS.items():
            with self.subTest(name), \
                    Client(f"watch-{name}", version, [f"will/{name}"]) as watch:
                will = (f"will/{name}", b"gone", 1)
                Client(f"polite-{name}", version, will=will).close()
                Client(f"dead-{name}", version, will=will).vanish()
                watch.wait_messages(1)
                watch.publish(f"will/{name}", b"end")
                watch.wait_messages(2)
                self.assertEqual([m.payload for m in watch.messages], [b"gone", b"end"])

    def test_a_silent_device_is_given_one_and_a_half_keep_alives(self):
        from wire import Wire, connect

        with Client("keep-watch", filters=["will/keep"]) as watch:
            with Wire(gateway.mqtt_port) as silent:
                silent.send(connect("keep", keep_alive=1, will=("will/keep", "timeout", 1)))
                silent.read()
                began = time.monotonic()
                self.assertEqual(silent.read_until_closed(), [])
                took = time.monotonic() - began
            watch.wait_messages(1)
        self.assertGreater(took, 1.3)
        self.assertLess(took, 5)

    def test_a_device_that_pings_stays(self):
        with Client("pinger", filters=["ping/#"], keep_alive=1) as client:
            time.sleep(3.2)  # sleep: two keep-alive periods must pass
            client.publish("ping/1", b"here")
            client.wait_messages(1)
            self.assertEqual(client.disconnects, [])


class Restart(unittest.TestCase):
    def test_the_wills_of_devices_that_are_there_at_the_end_are_in_the_journal(self):
        with Gateway() as own:
            clients = [Client(f"line-{number}", version, port=own.mqtt_port,
                              will=(f"state/{number}", b"gone", 1))
                       for number, version in enumerate(VERSIONS.values())]
            own.stop()
            for client in clients:
                client.paho.loop_stop()
            out = millrace("journal", "cat", "--data", own.data).stdout
            for number in range(len(clients)):
                self.assertEqual(out.count(f"state/{number}"), 1, out)

    def test_what_was_acknowledged_is_in_the_journal_after_kill_9(self):
        with Gateway() as own:
            with Client("before", port=own.mqtt_port) as client:
                for number in range(100):
                    client.publish("crash/1", str(number))
            own.kill()
            out = millrace("journal", "cat", "--data", own.data).stdout
            self.assertEqual(out.count("crash/1"), 100)
            own.start()
            with Client("after", port=own.mqtt_port) as client:
                client.publish("crash/1", b"again")
            own.stop()
            out = millrace("journal", "cat", "--data", own.data).stdout
            self.assertEqual(out.count("crash/1"), 101)
            millrace("journal", "verify", "--data", own.data)


if __name__ == "__main__":
    unittest.main()
