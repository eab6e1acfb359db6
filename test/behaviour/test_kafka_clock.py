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
    def test_ahead(self):
        """By a year, and right again; with either delivery."""
        both = {"kafka": "ahead_once", "least": "ahead_least"}
        for topic in both.values():
            kafka().create_topic(topic, partitions=1)
        least = config(both["least"], OURS).replace("exactly_once", "at_least_once")
        least = least.replace("bridges:\n  kafka:\n", "  least:\n    type: kafka\n")
        clock = Clock(config(both["kafka"], OURS) + least)
        with clock.gateway as gateway:
            send(gateway, range(50))
            for name in both:
                gateway.wait_drained(name)
            clock.set(YEAR)
            send(gateway, range(50, 100))
            for topic in ("ahead_least", "(ahead_once|millrace.positions)"):
                gateway.wait_log(rf"topic '{topic}' refuses the time of a record.* set its clock")
            clock.set(-YEAR)
            send(gateway, range(100, 150))
            for name, topic in both.items():
                gateway.wait_drained(name)
                self.assertEqual(values(topic, 150), list(range(150)))
            self.assertEqual(gateway.metric("millrace_sink_dead_letters_total"), 0)

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
