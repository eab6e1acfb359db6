"""The block that EMQX users know, word for word, against a real Kafka with TLS."""

import json
import unittest

import harness
from harness import Gateway, kafka, mosquitto_pub

# Only the two values in capitals are a matter of this machine.
BLOCK = """\
bridges:
  kafka:
    servers: "SERVERS"
    topic: sensor_data
    message_key: "${clientid}"
    value_encoder: json
    ssl:
      enable: true
      cacertfile: CA_FILE
"""


def setUpModule():
    harness.kafka_up(tls=True)


tearDownModule = harness.kafka_down


def block(ca_file, servers=None):
    return BLOCK.replace("SERVERS", servers or kafka().tls_bootstrap).replace("CA_FILE", ca_file)


class Tls(unittest.TestCase):
    def test_the_block_alone_carries_events_into_kafka(self):
        with Gateway(block(kafka().ca_file)) as gateway:
            mosquitto_pub(gateway.mqtt_port, "-i", "press-4", "-q", "1", "-t", "hall/temp",
                          "-m", '{"v":21.5}')
            (record,) = kafka().records("sensor_data", 1)
        event = json.loads(record.value())
        self.assertEqual(record.key(), b"press-4")
        self.assertEqual((event["client"], event["topic"], event["payload"]),
                         ("press-4", "hall/temp", {"v": 21.5}))

    def test_a_kafka_whose_ca_is_not_the_given_one_gets_nothing_and_the_log_says_why(self):
        wrong = kafka().ca_file.replace("ca.crt", "other.crt")
        with Gateway(block(wrong), sets=["gateway.drain=100ms"]) as gateway:
            mosquitto_pub(gateway.mqtt_port, "-q", "1", "-t", "hall/temp", "-m", "1")
            gateway.wait_log("(?i)certificate")
            self.assertEqual(gateway.bridge("kafka"), {"up": False, "lag_records": 1})

    def test_a_ca_file_that_is_not_there_is_a_mistake_in_the_configuration(self):
        broken = Gateway(block("/nowhere/ca.crt"))
        self.addCleanup(broken.temp.remove)
        broken.spawn()
        broken.wait_exit(78)
        self.assertIsNotNone(broken.log.find("/nowhere/ca.crt"))


if __name__ == "__main__":
    unittest.main()
