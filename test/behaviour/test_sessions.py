"""Sessions, QoS 2, retained messages and wills by clients we did not write."""

import subprocess
import threading
import unittest

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

import harness
from harness import PATIENCE, Gateway, Lines, millrace, mosquitto_pub, popen, program


def setUpModule():
    global gateway
    gateway = Gateway("mqtt: { max_queued_messages: 50 }\n").start()


def tearDownModule():
    with gateway:
        pass


def kill_and_start():
    gateway.kill()
    gateway.start()


def mosquitto_sub(*args, lines=None):
    """Start it; its output as Lines, once it has subscribed (or resumed)."""
    process = popen(
        ["stdbuf", "-oL", program("mosquitto_sub"), "-h", "127.0.0.1", "-p", gateway.mqtt_port,
         *args],
        stdout=subprocess.PIPE, text=True,
    )
    return process, Lines(process.stdout)


class Mosquitto(unittest.TestCase):
    def subscribe_and_leave(self, name, topic, qos, *more):
        process, _ = mosquitto_sub("-i", name, "-c", "-q", qos, "-t", topic, "-E", *more)
        self.assertEqual(process.wait(PATIENCE), 0)

    def collect(self, name, topic, qos, count, *more):
        process, lines = mosquitto_sub("-i", name, "-c", "-q", qos, "-t", topic, "-C", count,
                                       "-W", int(PATIENCE), *more)
        self.assertEqual(process.wait(PATIENCE), 0)
        lines.thread.join(PATIENCE)
        return lines.all

    def test_messages_wait_for_a_subscriber_through_kill_9_and_restart(self):
        for version in ("mqttv311", "mqttv5"):
            more = ["-V", version] + (["-x", "3600"] if version == "mqttv5" else [])
            for qos in ("1", "2"):
                with self.subTest(version=version, qos=qos):
                    name, topic = f"keeper-{version}-{qos}", f"keep/{version}/{qos}"
                    self.subscribe_and_leave(name, topic, qos, *more)
                    mosquitto_pub(gateway.mqtt_port, "-q", qos, "-t", topic, "-m", "one")
                    kill_and_start()
                    mosquitto_pub(gateway.mqtt_port, "-q", qos, "-t", topic, "-m", "two")
                    gateway.restart()
                    mosquitto_pub(gateway.mqtt_port, "-q", qos, "-t", topic, "-m", "three")
                    self.assertEqual(self.collect(name, topic, qos, "3", *more),
                                     ["one", "two", "three"])

    def test_a_full_queue_drops_the_newest_and_counts_it(self):
        self.subscribe_and_leave("full", "full", "1")
        dropped = ("millrace_mqtt_messages_dropped_total", 'reason="slow_subscriber"')
        before = gateway.metric(*dropped)
        mosquitto_pub(gateway.mqtt_port, "-q", "1", "-t", "full", "-l",
                      payload=b"".join(b"%d\n" % n for n in range(80)))
        self.assertEqual(self.collect("full", "full", "1", "50"), [str(n) for n in range(50)])
        self.assertEqual(gateway.metric(*dropped) - before, 30)

    def test_retained_messages_survive_kill_9_and_go_when_cleared(self):
        port = gateway.mqtt_port
        for number in range(3):
            mosquitto_pub(port, "-q", "1", "-r", "-t", f"state/{number}", "-m", f"on {number}")
        mosquitto_pub(port, "-q", "1", "-r", "-t", "state/1", "-n")
        kill_and_start()
        process, lines = mosquitto_sub("-t", "state/#", "-C", "2", "--retained-only", "-v",
                                       "-W", int(PATIENCE))
        self.assertEqual(process.wait(PATIENCE), 0)
        lines.thread.join(PATIENCE)
        self.assertEqual(lines.all, ["state/0 on 0", "state/2 on 2"])

    def test_qos_2_from_mosquitto_is_journaled_once(self):
        mosquitto_pub(gateway.mqtt_port, "-q", "2", "-t", "twice/not", "-l",
                      payload=b"".join(b"n%d\n" % n for n in range(200)))
        out = millrace("journal", "cat", "--data", gateway.data).stdout
        found = [line.split("\t")[6] for line in out.splitlines() if "\ttwice/not\t" in line]
        self.assertEqual(found, [f"n{n}" for n in range(200)])


class Device:
    """A paho client with a session of its own."""

    def __init__(self, name, version=paho.MQTTv311, will=None, clean=False, expiry=3600):
        options = {"clean_session": clean} if version != paho.MQTTv5 else {}
        self.paho = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=name,
                                protocol=version, **options)
        self.changed = threading.Condition()
        self.messages, self.present, self.granted = [], [], []
        self.paho.on_connect = lambda _c, _u, flags, _r, _p: self.add(
            self.present, flags.session_present)
        self.paho.on_message = lambda _c, _u, message: self.add(self.messages, message)
        self.paho.on_subscribe = lambda _c, _u, _m, codes, _p: self.add(self.granted, codes)
        if will:
            topic, payload, delay = will
            properties = Properties(PacketTypes.WILLMESSAGE)
            properties.WillDelayInterval = delay
            self.paho.will_set(topic, payload, 1, properties=properties)
        more = {}
        if version == paho.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = expiry
            more = {"clean_start": clean, "properties": properties}
        self.paho.reconnect_delay_set(1, 1)
        self.paho.connect("127.0.0.1", gateway.mqtt_port, 60, **more)
        self.paho.loop_start()
        self.wait(lambda: self.present, "CONNACK")

    def add(self, to, value):
        with self.changed:
            to.append(value)
            self.changed.notify_all()

    def wait(self, condition, what):
        with self.changed:
            if not self.changed.wait_for(condition, PATIENCE):
                raise AssertionError(f"waited {PATIENCE:.0f} s for {what}")

    def subscribe(self, topic, qos):
        self.paho.subscribe(topic, qos)
        self.wait(lambda: self.granted, "SUBACK")

    def vanish(self):
        self.paho._sock_close()
        self.paho.loop_stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.paho.disconnect()
        self.paho.loop_stop()


class Paho(unittest.TestCase):
    def test_a_device_hands_over_with_qos_2_through_kill_9(self):
        """The client repeats by itself what was not completed."""
        with Device("watch-2", clean=False) as watch, Device("device-2") as device:
            watch.subscribe("two/#", 2)
            infos = []
            for number in range(60):
                infos.append(device.paho.publish("two/x", str(number), 2))
                if number in (20, 40):
                    kill_and_start()
                    for one in (watch, device):  # while it is away its queue holds but 50
                        one.wait(lambda one=one, n=number: len(one.present) > n // 20,
                                 "a reconnect")
                        self.assertTrue(one.present[-1], "session present")
            for info in infos:
                info.wait_for_publish(PATIENCE)
            watch.wait(lambda: len(watch.messages) >= 60, "60 messages")
            self.assertEqual([int(m.payload) for m in watch.messages], list(range(60)))
        out = millrace("journal", "cat", "--data", gateway.data).stdout
        self.assertEqual(out.count("\ttwo/x\t"), 60)

    def test_session_present_and_the_end_of_a_session(self):
        with Device("s", paho.MQTTv5) as device:
            self.assertEqual(device.present, [False])
            device.subscribe("s/1", 1)
        with Device("s", paho.MQTTv5) as device:
            self.assertEqual(device.present, [True])
        with Device("s", paho.MQTTv5, expiry=0) as device:
            self.assertEqual(device.present, [True])
        with Device("s", paho.MQTTv5) as device:
            self.assertEqual(device.present, [False], "it ended with expiry 0")

    def test_a_will_waits_for_its_delay_and_a_device_that_is_back_has_none(self):
        with Device("will-watch", paho.MQTTv5) as watch:
            watch.subscribe("last/#", 1)
            Device("back", paho.MQTTv5, will=("last/back", b"gone", 2)).vanish()
            Device("away", paho.MQTTv5, will=("last/away", b"gone", 1)).vanish()
            with Device("back", paho.MQTTv5, will=("last/back", b"gone", 2)) as back:
                self.assertEqual(back.present, [True])
                watch.wait(lambda: watch.messages, "the will")
                self.assertEqual([m.topic for m in watch.messages], ["last/away"])

    def test_the_metrics_and_the_log_tell_of_sessions(self):
        with Device("metric") as device:
            device.subscribe("metric/1", 1)
        harness.until(lambda: gateway.metric("millrace_mqtt_sessions") >= 1, "the metric")
        kill_and_start()
        gateway.wait_log(r"component=sessions msg=.\d+ sessions with \d+ queued messages")
        out = millrace("journal", "cursors", "--data", gateway.data).stdout
        self.assertIn("$sessions", out)


if __name__ == "__main__":
    unittest.main()
