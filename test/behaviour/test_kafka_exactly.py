"""`delivery: exactly_once`: a reader at read_committed finds every event once, in order.

A real Kafka; the reader is confluent-kafka at its default, isolation.level=read_committed.
"""

import json
import unittest

import harness
from harness import Gateway, kafka, millrace, mosquitto_pub, until

setUpModule = harness.kafka_up
tearDownModule = harness.kafka_down

POSITIONS = "millrace.positions"


def config(topic, keys="", create=True):
    return f"""\
bridges:
  kafka:
    servers: "{kafka().bootstrap}"
    topic: {topic}
    value_encoder: raw
    delivery: exactly_once
    auto_create: {{ enable: {str(create).lower()} }}
    {keys}
"""


def send(gateway, numbers, client="d"):
    lines = "".join(f"{number}\n" for number in numbers).encode()
    mosquitto_pub(gateway.mqtt_port, "-i", client, "-q", "1", "-t", "t/1", "-l", payload=lines)


def values(topic, count=None):
    return [int(record.value()) for record in kafka().records(topic, count)]


def positions(gateway):
    """Of this gateway's journal: [(lane, {...})], newest last."""
    status = json.loads(gateway.http("/api/v1/status")[1])
    journal = status["journal"]["id"]
    found = [(record.key().decode().split("/"), json.loads(record.value()))
             for record in kafka().records(POSITIONS)]
    return [(int(key[2]), value) for key, value in found if key[0] == journal]


class Once(unittest.TestCase):
    def setUp(self):
        kafka().start()

    def test_across_restarts_and_crashes_nothing_is_doubled(self):
        kafka().create_topic("once", partitions=1)
        with Gateway(config("once")) as gateway:
            send(gateway, range(500))
            gateway.wait_drained("kafka")
            gateway.restart()
            gateway.wait_log(r"goes on behind record 500 \(position record in millrace.positions\)")
            send(gateway, range(500, 1000))
            gateway.kill()  # some of them are under way, whatever the moment
            gateway.start()
            send(gateway, range(1000, 1200))
            gateway.wait_drained("kafka")
            self.assertEqual(values("once", 1200), list(range(1200)))
            self.assertGreater(gateway.metric("millrace_sink_transactions_committed_total"), 0)
            self.assertEqual(gateway.metric("millrace_sink_position_seq"), 1200)


if __name__ == "__main__":
    unittest.main()
