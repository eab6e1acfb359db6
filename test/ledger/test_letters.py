"""A retry of dead letters that a crash cuts short: each of them arrives once.

The gateway ends in front of each write to the dead letters, of each batch of the journal, and of
what takes the letter out, while an operator retries; behind an ordinary start the operator tries
again what is left.
"""

import random
import unittest

import failpoint
import harness
from harness import RELEASE, Gateway, kafka, kafka_bridge, millrace, published

LETTERS, JOURNAL = "*/dead-letters/*.seg", "*/journal/lane-*/*.seg"
TAKEN_OUT = "*/dead-letters/*/cursors"
BIG = "".join(random.Random(5).choices("0123456789abcdef", k=5000))  # hard to compress
SMALL, LARGE = 2000, 100_000

setUpModule = harness.kafka_up
tearDownModule = harness.kafka_down


def dlq(gateway, *args, check=True):
    return millrace("dlq", *args, "--data", gateway.data, binary=gateway.binary, check=check)


def letters(gateway):
    return dlq(gateway, "show", "kafka", "--json", check=False).stdout.splitlines()


def limit(topic, size):
    from confluent_kafka.admin import ConfigResource

    wanted = ConfigResource("topic", topic, set_config={"max.message.bytes": str(size)})
    for done in kafka().admin.alter_configs([wanted]).values():
        done.result(harness.PATIENCE)


class Retry(unittest.TestCase):
    def test_a_crash_in_the_middle_doubles_nothing_and_loses_nothing(self):
        kafka().create_topic("once_more", partitions=1, max_message_bytes=SMALL)
        keys = ("delivery: exactly_once", "auto_create: { enable: true }")
        cut_short = resumed = 0
        with Gateway(kafka_bridge("once_more", *keys), binary=RELEASE / "millrace") as gateway:
            said, expected = gateway.temp.path / "said", []
            for subject, hit in [(LETTERS, n) for n in range(1, 4)] + [(JOURNAL, 2), (JOURNAL, 3),
                                                                       (TAKEN_OUT, 2)]:
                event = f"{subject}{hit}{BIG}"
                limit("once_more", SMALL)
                published(gateway, "t/1", [event])
                gateway.wait_drained("kafka")
                self.assertEqual(len(letters(gateway)), 1)
                limit("once_more", LARGE)
                gateway.stop()
                self.retry_cut_short(gateway, said, subject, hit)
                cut_short += failpoint.reached(said)
                gateway.start()
                resumed += gateway.log.find("had been retried when the last run ended") is not None
                if letters(gateway):
                    dlq(gateway, "retry", "kafka", "--yes")
                gateway.wait_drained("kafka")
                self.assertEqual(letters(gateway), [])
                expected.append(event)
                arrived = [one.value().decode() for one in kafka().records("once_more")]
                self.assertEqual(arrived, expected, f"{subject} {hit}")
        self.assertGreaterEqual(cut_short, 3)
        self.assertGreaterEqual(resumed, 1)

    def retry_cut_short(self, gateway, said, subject, hit):
        said.unlink(missing_ok=True)
        gateway.prefix = failpoint.prefix(said, "pwritev", subject, "before", hit)
        gateway.spawn()
        harness.until(lambda: gateway.process.poll() is not None
                      or gateway.log.find('component=gateway .*msg="ready"'), "the start")
        dlq(gateway, "retry", "kafka", "--yes", check=False)
        gateway.kill()
        gateway.prefix = []


if __name__ == "__main__":
    unittest.main()
