"""A byte of the journal changes on the disk, while the gateway runs or between two of its lives.

Events wait for their bridge; one byte of one segment is changed, anywhere; then they are delivered.
What Kafka does not get is exactly what the gateway says is lost, by the seqs in its log and by its
books; everything else is there, unchanged, once and in order.

    MR_LEDGER_SEED  repeat a run (printed at the start)
    MR_ROTS         how many bytes, one after the other (default 4; ./dev soak rot: 200)
"""

import os
import random
import re
import unittest

import harness
from harness import RELEASE, Gateway, kafka, millrace
from tally import tally
from wire import Wire, publish

SEED = int(os.environ.get("MR_LEDGER_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
ROTS = int(os.environ.get("MR_ROTS", "4"))
DEVICES, EVENTS, PAYLOAD = 8, 120, 600  # events of each device for each byte
WINDOW = 20
NAMED = r"(?:records?|events?) (\d+) (?:to (\d+) )?of lane 0"

setUpModule = harness.kafka_up
tearDownModule = harness.kafka_down


def config():
    return f"""\
mqtt: {{ max_packet_size: 16KiB }}
journal: {{ max_size: 64MiB, segment_size: 256KiB }}
bridges:
  kafka:
    servers: "{kafka().bootstrap}"
    topic: rot
    value_encoder: raw
    headers: id
    delivery: exactly_once
    auto_create: {{ enable: true }}
"""


def payload(device, number):
    head = b"%d %d " % (device, number)
    return head + random.Random(f"{device} {number}").randbytes(PAYLOAD).hex().encode()


def end_of(path):
    """Where what was written ends."""
    return len(path.read_bytes().rstrip(b"\0"))


def change(path, at, bit):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))


class Rot(unittest.TestCase):
    def setUp(self):
        self.rng = random.Random(SEED)
        kafka().create_topic("rot", partitions=1)
        self.gateway = Gateway(config(), binary=RELEASE / "millrace")
        self.addCleanup(self.gateway.temp.remove)
        self.addCleanup(self.gateway.kill)
        self.published = 0  # by each device
        self.lost = set()  # seqs

    def bridge(self, verb):
        millrace("bridge", verb, "kafka", "--data", self.gateway.data, binary=self.gateway.binary)

    def publish(self):
        """All acknowledged; the devices take turns."""
        wires = [Wire(self.gateway.mqtt_port, f"device-{n}") for n in range(DEVICES)]
        for begin in range(self.published, self.published + EVENTS, WINDOW):
            for device, wire in enumerate(wires):
                wire.send(b"".join(publish(f"rot/{device}", payload(device, begin + n), 1, n + 1)
                                   for n in range(WINDOW)))
            for wire in wires:
                for _ in range(WINDOW):
                    self.assertEqual(wire.read()[0], 0x40)
        for wire in wires:
            wire.sock.close()
        self.published += EVENTS

    def segment(self, done, how):
        """A segment with events that wait, and how far it is written.

        The newest only behind a stop: of the last commit before a kill nobody can tell whether it
        was torn or has changed since.
        """
        named = sorted((self.gateway.data / "journal" / "lane-00").glob("[0-9]*.seg"))
        waiting = [path for path, after in zip(named, named[1:], strict=False)
                   if int(after.stem) > done + 1]
        path = self.rng.choice(waiting + (named[-1:] if how == "stopped" else []))
        return path, end_of(path)

    def one(self, round_number):
        self.bridge("pause")
        done = self.published * DEVICES
        self.publish()
        how = self.rng.choice(("running", "stopped", "killed"))
        if how == "running":  # and its memory has nothing of it
            self.gateway.kill()
            self.gateway.start()
        elif how == "stopped":
            self.gateway.stop()
        elif how == "killed":
            self.gateway.kill()
        path, end = self.segment(done, how)
        at, bit = self.rng.randrange(end), self.rng.randrange(8)
        said = f"{round_number}: {how}, {path.name} byte {at} of {end}, bit {bit}, seed {SEED}"
        before = len(self.gateway.log.all) if how == "running" else 0
        change(path, at, bit)
        if how != "running":
            self.gateway.start()
        self.bridge("resume")
        self.gateway.wait_drained("kafka", 60)
        self.judge(said, before)

    def judge(self, said, before):
        seen, newest = set(), {}
        for record in kafka().records("rot"):
            seq = int(dict(record.headers())["millrace_id"].decode().rsplit("-", 1)[1])
            self.assertNotIn(seq, seen, said)
            seen.add(seq)
            device, number = (int(word) for word in record.value().split()[:2])
            self.assertEqual(record.value(), payload(device, number), said)
            self.assertEqual(record.key(), b"device-%d" % device, said)
            self.assertLess(newest.get(device, -1), number, said)
            newest[device] = number
        total = self.published * DEVICES
        missing = set(range(1, total + 1)) - seen - self.lost
        named = set()
        for line in self.gateway.log.all[before:]:
            if "level=error" in line:
                for first, last in re.findall(NAMED, line):
                    named.update(range(int(first), int(last or first) + 1))
        print(f"  {said}: {len(missing)} lost, {len(named)} named", flush=True)
        self.assertLessEqual(missing, named, f"{said}\n{self.gateway.log.text()}")
        self.lost |= missing
        tally("rot", 1, DEVICES * EVENTS, 0)
        done = millrace("audit", "-c", self.gateway.config, "--data", self.gateway.data, "--kafka",
                        "--json", binary=self.gateway.binary, check=False)
        self.assertEqual(done.returncode, 0, f"{said}\n{done.stdout}{done.stderr}")
        self.assertEqual(self.gateway.metric("millrace_ledger_records_total", 'column="lost"'),
                         len(self.lost), said)

    def test_what_is_lost_is_said_and_nothing_else_is(self):
        self.gateway.start()
        for number in range(ROTS):
            self.one(number)


if __name__ == "__main__":
    unittest.main()
