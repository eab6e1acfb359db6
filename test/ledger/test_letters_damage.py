"""A retry of dead letters that a crash cuts short, and a damaged place in front of what it left.

What tells the next start of the retry, or of what it had done, stands behind a batch that does not
read any more: in the newest segment of the dead letters, or of the journal.
"""

import json
import unittest

import failpoint
import harness
from harness import RELEASE, Gateway, millrace, published

# Events of one level are dead letters of the bridge, now and whenever they are retried.
CONFIG = """\
gateway: { shards: 1 }
bridges:
  kafka: { servers: "127.0.0.1:1", topic: "level_${topic[1]}" }
"""
TAKEN_OUT = "*/dead-letters/*/cursors"


def letters(gateway):
    done = millrace("dlq", "show", "kafka", "--json", "--data", gateway.data, check=False)
    return [json.loads(line) for line in done.stdout.splitlines()]


def damage_second_batch(lane):
    """Of its newest segment, of three batches or more."""
    segment = max(lane.glob("[0-9]*.seg"))
    content = bytearray(segment.read_bytes())
    second = content.index(b"MRB1", content.index(b"MRB1") + 1)
    content.index(b"MRB1", second + 1)
    content[second + 50] ^= 0x40
    segment.write_bytes(content)


class Retry(unittest.TestCase):
    def cut_short(self, folder):
        """A gateway behind a retry of the first of three letters, and behind damage in `folder`."""
        gateway = Gateway(CONFIG, binary=RELEASE / "millrace").start()
        self.addCleanup(gateway.temp.remove)
        self.addCleanup(gateway.kill)
        self.publish(gateway, "first")
        gateway.stop()
        said = gateway.temp.path / "said"
        gateway.prefix = failpoint.prefix(said, "pwritev", TAKEN_OUT, "before", 2)
        gateway.start()
        self.publish(gateway, "second")
        self.publish(gateway, "third")
        millrace("dlq", "retry", "kafka", "1", "--yes", "--data", gateway.data, check=False)
        harness.until(lambda: gateway.process.poll() is not None, "the end in front of taking out")
        self.assertTrue(failpoint.reached(said))
        gateway.kill()
        damage_second_batch(gateway.data / folder / "lane-00")
        gateway.prefix = []
        return gateway

    def publish(self, gateway, payload):
        published(gateway, "flat", [payload])
        gateway.wait_drained("kafka")

    def test_damage_in_front_of_the_note_of_it(self):
        gateway = self.cut_short("dead-letters/kafka")
        self.assert_left(gateway, ["first", "second"])

    def test_damage_in_front_of_the_copies(self):
        gateway = self.cut_short("journal")
        self.assert_left(gateway, ["first", "second", "third"])

    def assert_left(self, gateway, payloads):
        gateway.start()
        gateway.wait_drained("kafka")
        left = letters(gateway)
        self.assertEqual(sorted(one["payload"] for one in left), payloads, "each of them once")
        (first,) = (one for one in left if one["payload"] == "first")
        self.assertGreater(first["from_seq"], 1)
        gateway.stop()


if __name__ == "__main__":
    unittest.main()
