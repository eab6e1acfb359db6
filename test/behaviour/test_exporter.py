"""A Prometheus exporter that others wrote, on our $SYS/broker and on a real Mosquitto's.

mqtt-exporter of test/requirements.txt makes a metric of each number below $SYS, as sites do that
watch Mosquitto so: what it exports from there it has to export from here.
"""

import os
import re
import subprocess
import sys
import unittest
import urllib.error
import urllib.request

import ports
from harness import PATIENCE, Gateway, Lines, mosquitto_pub, popen, until
from mosquitto import Mosquitto

SAMPLE = re.compile(r"^(mqtt_\w+)\{([^}]*)\} (\S+)$", re.M)
RECEIVED = ("mqtt_received", 'topic="$sys_broker_publish_messages"')


class Exporter:
    """The exporter, subscribed to $SYS/# of the broker on `port`."""

    def __init__(self, port):
        self.port = ports.take()
        env = dict(os.environ, MQTT_ADDRESS="127.0.0.1", MQTT_PORT=str(port), MQTT_TOPIC="$SYS/#",
                   KEEP_FULL_TOPIC="true", PROMETHEUS_ADDRESS="127.0.0.1",
                   PROMETHEUS_PORT=str(self.port))
        self.process = popen([sys.executable, "-m", "mqtt_exporter"], env=env, text=True,
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE)
        self.log = Lines(self.process.stderr)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.log.thread.join(PATIENCE)

    def samples(self):
        """{(metric, labels): value} of what it made of messages; empty before it listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
                text = answer.read().decode()
        except urllib.error.URLError:
            return {}
        return {(name, labels): float(value) for name, labels, value in SAMPLE.findall(text)
                if not name.endswith("_created")}


class BesideMosquitto(unittest.TestCase):
    def exported(self, port):
        """What there is once it has seen five messages more."""
        with Exporter(port) as exporter:
            until(lambda: RECEIVED in exporter.samples(), "the first values")
            before = exporter.samples()[RECEIVED]
            for _ in range(5):
                mosquitto_pub(port, "-q", "1", "-t", "exporter/test", "-m", "x")
            until(lambda: exporter.samples()[RECEIVED] >= before + 5, "five messages more")
            load = ("mqtt_15min", 'topic="$sys_broker_load_publish_received"')
            until(lambda: exporter.samples().get(load, 0) > 0, "a load")
            return set(exporter.samples())

    def test_every_metric_that_mosquitto_gives_is_given_here(self):
        with Mosquitto("sys_interval 1\n") as theirs:
            them = self.exported(theirs.port)
        self.assertGreater(len(them), 50)
        with Gateway("mqtt: { sys_interval: 250ms }\n") as gateway:
            us = self.exported(gateway.mqtt_port)
        self.assertEqual(them - us, set())


if __name__ == "__main__":
    unittest.main()
