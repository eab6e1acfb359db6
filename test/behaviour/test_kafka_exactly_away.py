"""`delivery: exactly_once` while Kafka or the gateway fails in the middle of transactions."""

import os
import signal
import unittest

import harness
from harness import Gateway, kafka, until
from test_kafka_exactly import config, send, values

setUpModule = harness.kafka_up
tearDownModule = harness.kafka_down

# A transaction that stays open until something happens.
OPEN = "commit_interval: 1s"


class Away(unittest.TestCase):
    def setUp(self):
        kafka().start()

    def wait_aborted(self, topic, count):
        """A record of nobody's is seen only when the transaction in front of it is over."""
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": kafka().bootstrap})
        producer.produce(topic, b"-1", partition=0)
        self.assertEqual(producer.flush(harness.PATIENCE), 0)
        kafka().records(topic, count + 1)

    def test_killed_in_the_middle_of_a_transaction(self):
        kafka().create_topic("killed", partitions=1)
        with Gateway(config("killed", OPEN)) as gateway:
            send(gateway, range(300))
            until(lambda: gateway.metric("millrace_sink_inflight_records") == 300, "a transaction")
            kafka().kill()
            send(gateway, range(300, 600))
            gateway.kill()  # and the next life begins while Kafka is away
            gateway.start()
            send(gateway, range(600, 900))
            kafka().start()
            gateway.wait_drained("kafka", 90)
            self.assertEqual(values("killed", 900), list(range(900)))

    def test_paused_in_the_middle_of_transactions(self):
        kafka().create_topic("paused", partitions=1)
        with Gateway(config("paused")) as gateway:
            send(gateway, range(100))
            gateway.wait_drained("kafka")
            for begin in range(100, 700, 200):
                send(gateway, range(begin, begin + 100))
                kafka().pause()
                try:
                    send(gateway, range(begin + 100, begin + 200))
                finally:
                    kafka().resume()
            gateway.wait_drained("kafka", 90)
            self.assertEqual(values("paused", 700), list(range(700)))

    def test_asleep_for_longer_than_a_transaction_may_last(self):
        """Kafka gives the transaction up.  Where the machine was too slow to have all of it at
        Kafka before the gateway fell asleep, or had it committed, it falls asleep once more."""
        kafka().create_topic("asleep", partitions=1)
        keys = f'{OPEN}\n    kafka_options: {{ transaction.timeout.ms: "2000" }}'
        given_up = r"level=warn .*gave up a transaction that was open for too long"
        with Gateway(config("asleep", keys)) as gateway:
            send(gateway, range(50))
            gateway.wait_drained("kafka")  # the first one is committed, the next stays open
            for slept in range(10):
                begin = 50 + 100 * slept
                self.fall_asleep(gateway, begin, slept)
                gateway.wait_drained("kafka", 90)
                if gateway.log.find(given_up):
                    break
            gateway.wait_log(given_up)
            found = values("asleep", begin + 100 + slept + 1)
        self.assertEqual([n for n in found if n >= 0], list(range(begin + 100)))
        self.assertEqual(found[begin + slept], -1)  # the last one: in front of what came again

    def fall_asleep(self, gateway, begin, slept):
        send(gateway, range(begin, begin + 50))
        until(lambda: gateway.metric("millrace_sink_inflight_records") == 50
              or gateway.bridge("kafka")["lag_records"] == 0, "a transaction")
        os.kill(gateway.pid(), signal.SIGSTOP)
        try:
            self.wait_aborted("asleep", begin + slept)
        finally:
            os.kill(gateway.pid(), signal.SIGCONT)
        send(gateway, range(begin + 50, begin + 100))


class Lanes(unittest.TestCase):
    DEVICES = 8

    def setUp(self):
        kafka().start()

    def send_all(self, gateway, numbers):
        for device in range(self.DEVICES):
            send(gateway, numbers, f"device-{device}")

    def test_lanes_that_change_their_number(self):
        kafka().create_topic("lanes", partitions=3)
        gateway = Gateway(config("lanes"), sets=["gateway.shards=2"])
        with gateway:
            self.send_all(gateway, range(20))
            for end, shards in ((40, 3), (60, 1)):
                gateway.kill()
                gateway.sets = [f"gateway.shards={shards}"]
                gateway.start()
                self.send_all(gateway, range(end - 20, end))
            gateway.wait_drained("kafka", 90)
            records = kafka().records("lanes", 60 * self.DEVICES)
        by_device = {}
        for record in records:
            by_device.setdefault(record.key(), []).append(int(record.value()))
        self.assertEqual(len(by_device), self.DEVICES)
        for numbers in by_device.values():
            self.assertEqual(numbers, list(range(60)))


if __name__ == "__main__":
    unittest.main()
