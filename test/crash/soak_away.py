"""Kafka is away for an hour, or for MR_AWAY_SECONDS, while 100 devices go on publishing.

They get their acknowledgements throughout; memory stays where it was; the log says once
that Kafka is away and once that it is back; afterwards everything is there, in order.
Too long for the suite: ./dev soak away [SECONDS].
"""

import asyncio
import os
import sys
import time
import unittest

from ledger import Ledger, Publisher, arrival_of, judge

import harness
from harness import RELEASE, Gateway, kafka

SECONDS = float(os.environ.get("MR_AWAY_SECONDS", "3600"))
DEVICES, PER_SECOND = 100, 1000
LOOK_S = 10
# What has a bound (docs/MEMORY.md) fills once: the journal's blocks, 32 MiB a lane, and the
# rings of the bridge, 24 MiB, slowly, because an attempt touches a record or two of them.
# In the second half of the hour nothing may grow any more.
GROWTH_KIB_MAX = 1024
RESIDENT_KIB_MAX = 96 * 1024

setUpModule = harness.kafka_up
tearDownModule = harness.kafka_down

CONFIG = """\
bridges:
  kafka:
    servers: "{servers}"
    topic: away
    value_encoder: raw
journal: {{ max_size: 8GiB }}
"""


def say(text):
    print(text, file=sys.stderr, flush=True)


class Hour:
    def __init__(self, gateway):
        self.gateway = gateway
        self.ledger = Ledger()
        rest_s = DEVICES / PER_SECOND
        self.publishers = [
            Publisher(f"device-{n}", gateway.mqtt_port, self.ledger, 1, rest_s)
            for n in range(DEVICES)
        ]
        self.looks = []  # (seconds since it went, RSS KiB, acknowledged, lag)

    async def run(self):
        tasks = [asyncio.create_task(one.run()) for one in self.publishers]
        await asyncio.sleep(30)  # sleep: first some of it with Kafka
        await asyncio.to_thread(kafka().kill)
        await self.away(time.monotonic(), tasks)
        acknowledged = self.ledger.acknowledged_count()
        await asyncio.to_thread(kafka().start)
        back = time.monotonic()
        await asyncio.to_thread(self.gateway.wait_drained, "kafka", 300)
        say(f"  drained {self.looks[-1][3]:,} records in {time.monotonic() - back:.1f} s while "
            f"{self.ledger.acknowledged_count() - acknowledged:,} more came")
        for one in self.publishers:
            one.quit()
        await asyncio.wait_for(asyncio.gather(*tasks), harness.PATIENCE * 2)

    async def away(self, since, tasks):
        while (gone := time.monotonic() - since) < SECONDS:
            await asyncio.sleep(min(LOOK_S, SECONDS - gone + 0.01))  # sleep: the hour itself
            for task in tasks:
                if task.done():
                    task.result()
            lag = (await asyncio.to_thread(self.gateway.bridge, "kafka"))["lag_records"]
            self.looks.append((time.monotonic() - since, self.gateway.resident_kib(),
                               self.ledger.acknowledged_count(), lag))
            if len(self.looks) % 30 == 1:
                say("  away {:5.0f} s: RSS {:,} KiB, {:,} acknowledged, lag {:,}"
                    .format(*self.looks[-1]))


class Away(unittest.TestCase):
    def test_nothing_is_lost_while_kafka_is_away_for_long(self):
        kafka().create_topic("away", partitions=4)
        config = CONFIG.format(servers=kafka().bootstrap)
        with Gateway(config, binary=RELEASE / "millrace") as gateway:
            hour = Hour(gateway)
            asyncio.run(hour.run())
            gateway.wait_drained("kafka", 120)
            said = [line for line in gateway.log.all
                    if "level=warn" in line or "level=error" in line]
            self.judge(hour, said)

    def judge(self, hour, said):
        arrivals = kafka().each_record("away", arrival_of, patience=300)
        self.assertEqual(judge(hour.ledger, arrivals), [])
        filled = [look[1] for look in hour.looks if look[0] >= SECONDS / 2]
        say(f"  away {hour.looks[-1][0]:.0f} s; {hour.ledger.acknowledged_count():,} acknowledged, "
            f"{len(arrivals):,} records in Kafka; RSS {filled[0]:,} to {filled[-1]:,} KiB; "
            f"warnings: {len(said)}")
        self.assertLess(filled[-1] - filled[0], GROWTH_KIB_MAX, "memory grew without an end")
        self.assertLess(filled[-1], RESIDENT_KIB_MAX)
        self.assertLessEqual(len(said), 3, "\n".join(said))
        for before, after in zip(hour.looks, hour.looks[1:]):
            self.assertGreater(after[2], before[2], "acknowledgements went on all the time")


if __name__ == "__main__":
    unittest.main()
