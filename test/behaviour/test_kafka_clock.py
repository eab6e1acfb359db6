"""A wall clock that is set while events go to Kafka, which refuses what claims to be of the future.

The gateway has no other clock, so events wait until it is right again; none of them is taken for
one that no target accepts, and all arrive, once and in order.
"""

import unittest

import harness
import test_clock
from harness import kafka
from test_clock import HOUR, YEAR, Clock
from test_kafka_exactly import config, send, values



def setUpModule():
    test_clock.setUpModule()
    harness.kafka_up()


def tearDownModule():
    harness.kafka_down()
    test_clock.tearDownModule()


OURS = 'from: ["t/#"]'  # not what wakes the gateway when its clock is set


class Steps(unittest.TestCase):
    def ahead(self, topic, delivery):
        kafka().create_topic(topic, partitions=1)
        clock = Clock(config(topic, OURS).replace("exactly_once", delivery))
        with clock.gateway as gateway:
            send(gateway, range(50))
            gateway.wait_drained("kafka")
            clock.set(YEAR)
            send(gateway, range(50, 100))
            gateway.wait_log(rf"topic '{topic}' refuses the time of a record.* set its clock")
            clock.set(-YEAR)
            send(gateway, range(100, 150))
            gateway.wait_drained("kafka")
            self.assertEqual(values(topic, 150), list(range(150)))
            self.assertEqual(gateway.metric("millrace_sink_dead_letters_total"), 0)

    def test_ahead_exactly_once(self):
        self.ahead("ahead_once", "exactly_once")

    def test_ahead_at_least_once(self):
        self.ahead("ahead_least", "at_least_once")

    def test_steps_that_kafka_takes(self):
        """Back by a year, and an hour to and fro, and a start in between."""
        kafka().create_topic("back", partitions=1)
        clock = Clock(config("back", OURS))
        with clock.gateway as gateway:
            for number, step in enumerate((-YEAR, HOUR, -HOUR, YEAR, -HOUR, HOUR)):
                send(gateway, range(number * 20, number * 20 + 20))
                clock.set(step)
                if number % 2:
                    gateway.kill()
                    gateway.start()
            send(gateway, range(120, 140))
            gateway.wait_drained("kafka")
            self.assertEqual(values("back", 140), list(range(140)))


if __name__ == "__main__":
    unittest.main()
