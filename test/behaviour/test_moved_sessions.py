"""Another number of shards: sessions, queues, retained messages and wills are still there.

By clients we did not write, through clean stops, kill -9 while devices are served and kill -9
in the middle of a start.
"""

import subprocess
import threading
import unittest

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from harness import PATIENCE, Gateway, millrace, mosquitto_pub, program, until

KEEPERS = 8


def shards(count):
    return [f"gateway.shards={count}"]


class Keeper:
    """A subscriber with a session that stays."""

    def __init__(self, gateway, name, filters, will=None):
        self.messages, self.present = [], None
        self.connected, self.subscribed = threading.Event(), threading.Event()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv5)
        self.client.on_connect = self.on_connect
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_message = lambda _c, _u, m: self.messages.append(
            (m.topic, m.payload.decode(), m.qos))
        if will:
            properties = Properties(PacketTypes.WILLMESSAGE)
            properties.WillDelayInterval = will[1]
            self.client.will_set(will[0], b"gone", 1, properties=properties)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600
        self.client.connect("127.0.0.1", gateway.mqtt_port, clean_start=False,
                            properties=properties)
        self.client.loop_start()
        assert self.connected.wait(PATIENCE), f"{name} is not connected"
        if filters and not self.present:
            self.client.subscribe([(one, paho.SubscribeOptions(qos)) for one, qos in filters])
            assert self.subscribed.wait(PATIENCE), f"{name} has not subscribed"

    def on_connect(self, _client, _user, flags, _reason, _properties):
        self.present = flags.session_present
        self.connected.set()

    def leave(self):
        self.client.disconnect()
        self.client.loop_stop()

    def vanish(self):
        self.client._sock_close()
        self.client.loop_stop()

    def take(self, count):
        until(lambda: len(self.messages) >= count, f"{count} messages")
        return self.messages


class Moved(unittest.TestCase):
    def setUp(self):
        self.gateway = Gateway("mqtt: { max_queued_messages: 1000 }", sets=shards(1))
        self.sent = []

    def keep(self, name):
        return Keeper(self.gateway, name, [("move/1/#", 1), ("move/2/#", 2)])

    def publish(self, count):
        for qos in (1, 2):
            numbers = range(len(self.sent), len(self.sent) + count)
            lines = "".join(f"{number}\n" for number in numbers)
            mosquitto_pub(self.gateway.mqtt_port, "-i", "pub", "-q", str(qos), "-t",
                          f"move/{qos}/x", "-l", payload=lines.encode())
            self.sent += [(f"move/{qos}/x", str(number), qos) for number in numbers]

    def change(self, count, hard=False):
        if hard:
            self.gateway.kill()
        else:
            self.gateway.stop()
        self.gateway.sets = shards(count)
        self.gateway.start()

    def retained(self):
        out = subprocess.run(
            [program("mosquitto_sub"), "-h", "127.0.0.1", "-p", str(self.gateway.mqtt_port),
             "-t", "state/#", "-v", "-C", "3", "-W", "30"],
            capture_output=True, text=True, check=True)
        return sorted(out.stdout.splitlines())

    def check(self, name):
        keeper = self.keep(name)
        self.assertTrue(keeper.present, f"{name} has its session")
        got = keeper.take(len(self.sent))
        for qos in (1, 2):  # a handshake of QoS 2 ends later than an older one of QoS 1
            self.assertEqual([m for m in got if m[2] == qos], [m for m in self.sent if m[2] == qos])
        keeper.leave()

    def test_everything_is_there_with_any_number_of_shards(self):
        with self.gateway as gateway:
            for number in range(3):
                mosquitto_pub(gateway.mqtt_port, "-r", "-q", "1", "-t", f"state/{number}", "-m",
                              f"on {number}")
            for number in range(KEEPERS):
                self.keep(f"keeper-{number}").leave()
            Keeper(gateway, "watch", [("last/#", 1)]).leave()
            Keeper(gateway, "willed", [], will=("last/willed", 2)).vanish()
            until(lambda: gateway.metric("millrace_mqtt_connections") == 0, "its end")
            self.publish(20)
            for turn, count in enumerate((3, 2, 1, 3)):
                self.change(count, hard=turn % 2 == 1)
                self.publish(5)
                self.check(f"keeper-{turn}")
                self.assertEqual(self.retained(), [f"state/{n} on {n}" for n in range(3)])
            for number in range(4, KEEPERS):
                self.check(f"keeper-{number}")
            watch = Keeper(gateway, "watch", [])
            self.assertEqual(watch.take(1), [("last/willed", "gone", 1)])
            watch.leave()
            mosquitto_pub(gateway.mqtt_port, "-r", "-q", "1", "-t", "state/0", "-n")
            self.change(1)
            until(lambda: gateway.metric("millrace_mqtt_retained_messages") == 2, "the clear")
            cursors = millrace("journal", "cursors", "--data", gateway.data).stdout
            self.assertEqual(cursors.count("$sessions"), 1, cursors)

    def test_kill_9_while_they_move(self):
        with self.gateway as gateway:
            for number in range(KEEPERS):
                self.keep(f"keeper-{number}").leave()
            self.publish(50)
            gateway.kill()
            for count, line in ((3, "epoch 2 begins"), (2, "epoch 3 begins"),
                                (4, "sessions with .* queued messages moved from"),
                                (1, "epoch 5 begins")):
                gateway.sets = shards(count)
                gateway.spawn()
                gateway.log.wait(line)
                gateway.kill()
            gateway.sets = shards(3)
            gateway.start()
            for number in range(KEEPERS):
                self.check(f"keeper-{number}")


if __name__ == "__main__":
    unittest.main()
