"""Kafka is away at the start, in the middle, for a while, and comes back.

What was acknowledged is on the gateway's disk meanwhile: nothing is lost, order per
device is kept, memory stays bounded, and the log says it once.
"""

import unittest

import harness
from harness import RELEASE, Gateway, kafka, published, until

setUpModule = harness.kafka_up
tearDownModule = harness.kafka_down


def config(topic):
    return f"""\
bridges:
  kafka:
    servers: "{kafka().bootstrap}"
    topic: {topic}
    value_encoder: raw
"""


def send(gateway, numbers, client="d", width=0):
    published(gateway, "t/1", (f"{number:0{width}d}" for number in numbers), client)


def first_seen(records):
    """Values in order of their first appearance: a repeat after a failure is allowed."""
    return list(dict.fromkeys(int(record.value()) for record in records))


class Away(unittest.TestCase):
    def setUp(self):
        kafka().start()

    def arrived(self, topic, count):
        """The records, once all of 0 .. count-1 are there."""

        def all_there():
            records = kafka().records(topic)
            return records if len({record.value() for record in records}) >= count else None

        return until(all_there, f"{count} different records in {topic}", 90)

    def test_away_at_the_start(self):
        kafka().create_topic("away_start", partitions=2)
        kafka().stop()
        with Gateway(config("away_start")) as gateway:
            self.assertEqual(gateway.http("/readyz")[0], 200, "a device can be served")
            send(gateway, range(500))
            kafka().start()
            self.assertEqual(first_seen(self.arrived("away_start", 500)), list(range(500)))

    def test_away_across_a_restart_of_the_gateway(self):
        kafka().create_topic("away_restart", partitions=2)
        kafka().stop()
        with Gateway(config("away_restart"), sets=["gateway.drain=100ms"]) as gateway:
            send(gateway, range(100))
            gateway.restart()
            send(gateway, range(100, 200))
            gateway.kill()
            gateway.start()
            kafka().start()
            self.assertEqual(first_seen(self.arrived("away_restart", 200)), list(range(200)))

    def test_stopped_and_back_in_the_middle(self):
        kafka().create_topic("away_middle", partitions=2)
        with Gateway(config("away_middle")) as gateway:
            send(gateway, range(300))
            kafka().kill()
            send(gateway, range(300, 600))
            kafka().start()
            send(gateway, range(600, 900))
            records = self.arrived("away_middle", 900)
            self.assertEqual(first_seen(records), list(range(900)))

    def test_paused_so_that_sockets_stay_but_nobody_answers(self):
        kafka().create_topic("away_paused", partitions=2)
        with Gateway(config("away_paused")) as gateway:
            send(gateway, range(100))
            gateway.wait_drained("kafka")
            kafka().pause()
            try:
                send(gateway, range(100, 2000))
                self.assertGreater(gateway.bridge("kafka")["lag_records"], 0)
            finally:
                kafka().resume()
            self.assertEqual(first_seen(self.arrived("away_paused", 2000)), list(range(2000)))

    def test_the_log_says_once_that_it_is_away_and_once_that_it_is_back(self):
        kafka().create_topic("away_log", partitions=2)
        with Gateway(config("away_log")) as gateway:
            send(gateway, range(10))
            gateway.wait_drained("kafka")
            start = len(gateway.log.all)
            kafka().stop()
            send(gateway, range(10, 20))
            gateway.wait_log(r"level=warn component=(bridge|sink|kafka)", start=start)
            kafka().start()
            gateway.wait_drained("kafka", 90)
            gateway.stop()
            said = [line for line in gateway.log.all[start:] if "level=warn" in line
                    or "level=error" in line]
            self.assertLessEqual(len(said), 3, "\n".join(said))
            gateway.start()

    def test_memory_stays_bounded_while_the_backlog_grows(self):
        kafka().create_topic("away_memory", partitions=2)
        kafka().stop()
        # The release program: a sanitizer keeps freed memory and would hide the figure.
        with Gateway(config("away_memory"), binary=RELEASE / "millrace",
                     sets=["gateway.drain=100ms"]) as gateway:
            send(gateway, range(30_000), width=1000)  # 30 MB: windows and blocks are filled
            before = gateway.resident_kib()
            send(gateway, range(30_000, 90_000), width=1000)  # 60 MB more
            grown = gateway.resident_kib() - before
            self.assertLess(grown, 8 * 1024, f"{grown} KiB for 60,000 KiB of backlog")
            kafka().start()
            gateway.wait_drained("kafka", 90)
            self.assertEqual(first_seen(kafka().records("away_memory", 90_000)),
                             list(range(90_000)))


if __name__ == "__main__":
    unittest.main()
