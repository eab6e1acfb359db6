"""Shared subscriptions by clients we did not write, through kill -9, in two shards."""

import subprocess
import threading
import unittest

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from harness import PATIENCE, Gateway, Lines, mosquitto_pub, popen, program, until

FILTER = "$share/workers/job/#"
CONFIG = "mqtt: {}\ngateway: { shards: 2 }\n"


class Worker:
    """A paho 5.0 client with a persistent session, a member of the group."""

    def __init__(self, gateway, name, subscribe=True):
        self.got = []
        self.ready = threading.Event()
        self.paho = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=name,
                                protocol=paho.MQTTv5)
        self.paho.on_message = lambda _c, _u, message: self.got.append(message.payload)
        self.paho.on_subscribe = lambda *_: self.ready.set()
        self.paho.on_connect = lambda *_: None if subscribe else self.ready.set()
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600
        self.paho.connect("127.0.0.1", gateway.mqtt_port, 60, clean_start=False,
                          properties=properties)
        self.paho.loop_start()
        if subscribe:
            self.paho.subscribe(FILTER, 2)
        assert self.ready.wait(PATIENCE)

    def close(self):
        self.paho.disconnect()
        self.paho.loop_stop()


def publish(gateway, first, end):
    mosquitto_pub(gateway.mqtt_port, "-q", "2", "-t", "job/1", "-l", "-i", "boss", "-V", "5",
                  payload="".join(f"{n}\n" for n in range(first, end)).encode())


class Share(unittest.TestCase):
    def test_mosquitto_clients_of_both_versions_share_one_group(self):
        with Gateway(CONFIG) as gateway:
            members = []
            for number, version in enumerate(("311", "5", "5")):
                sub = popen(["stdbuf", "-oL", program("mosquitto_sub"), "-h", "127.0.0.1", "-p",
                             gateway.mqtt_port, "-V", version, "-q", "1", "-t", FILTER,
                             "-i", f"m-{number}", "-d"], stdout=subprocess.PIPE, text=True)
                members.append((sub, Lines(sub.stdout)))
            for _, lines in members:
                lines.wait("Subscribed")
            publish(gateway, 100, 160)
            counts = lambda: [lines.text().count("received PUBLISH") for _, lines in members]
            until(lambda: sum(counts()) >= 60, "60 messages in the group")
            for sub, _ in members:
                sub.terminate()
                sub.wait(PATIENCE)
            self.assertEqual(sum(counts()), 60)
            self.assertGreaterEqual(min(counts()), 10)

    def test_nothing_is_lost_or_doubled_through_kill_9(self):
        with Gateway(CONFIG) as gateway:
            for name in ("w-1", "w-2", "w-3"):
                Worker(gateway, name).close()
            publish(gateway, 0, 30)
            gateway.kill()
            gateway.start()
            publish(gateway, 30, 60)
            workers = [Worker(gateway, name, subscribe=False) for name in ("w-1", "w-2")]
            got = lambda: sorted(int(one) for worker in workers for one in worker.got)
            until(lambda: len(got()) >= 60, "60 messages, those of the third worker too")
            for worker in workers:
                worker.close()
            self.assertEqual(got(), list(range(60)))


if __name__ == "__main__":
    unittest.main()
