"""How old fresh events are when they can be read, behind an outage and over a line that carries
three times what devices send: `drain: ordered` against `drain: live_first`.

    ./dev soak live [SECONDS]

Both runs are judged by the ledger as any other.

    MR_LIVE_AWAY_S     how long Kafka cannot be reached (default 60)
"""

import os
import random
import time
import unittest

import faults
import proxy
from cluster import Cluster
from harness import RELEASE
from latency import percentile
from nemesis import Step
from tally import tally
from test_live import Latency
from world import Plan, World, say

AWAY_S = float(os.environ.get("MR_LIVE_AWAY_S", "60"))
RATE, SIZE, FIRST_S = 1000, 900, 10
LINE = 3 * RATE * (SIZE + 100)  # bytes a second, both ways together
KEYS = """\
    drain: {drain}
    live_after: 10s
    retry_max: 1s
"""


class Unreachable(faults.Fault):
    """No connection to Kafka lasts; then the line is there again, as narrow as it is."""

    name = "unreachable"
    default = False

    def begin(self, world):
        for node in world.kafka.nodes:
            node.proxy.rule = proxy.Cut(self.rng, proxy.TO_KAFKA, 1)

    def end(self, world):
        for node in world.kafka.nodes:
            node.proxy.rule = proxy.Narrow(LINE)
        world.back_at = time.time()


class Rest(faults.Fault):
    """Nothing, for a while."""

    name = "rest"
    default = False

    def begin(self, world):
        pass


class Late(unittest.TestCase):
    def setUp(self):
        self.kafka = Cluster(1, proxied=True)
        self.addCleanup(self.kafka.remove)

    def run_with(self, drain, delivery):
        plan = Plan(seed=1, name=f"late-{drain}-{delivery}", delivery=delivery, replays=True,
                    rate=RATE, size=SIZE, churn=0, faults=(), config=KEYS.format(drain=drain),
                    binary=RELEASE / "millrace")
        away = Unreachable(random.Random(1))
        with World(plan, self.kafka) as world:
            reader = Latency(world)
            reader.start()
            rest = Rest(away.rng)
            report = world.run([Step(2.0, True, away), Step(AWAY_S, False, away),
                                Step(AWAY_S * 1.5, True, rest), Step(0, False, rest)])
            reader.end()
            ages = reader.behind(world.back_at, world.back_at + FIRST_S)
            waiting = [age for _, age, marked in reader.ages if marked]
            say(f"  {drain}, {delivery}: {len(ages):,} events sent in the first {FIRST_S} s behind "
                f"{AWAY_S:.0f} s without Kafka: half of them could be read within "
                f"{percentile(ages, 50):,.0f} ms, 90 % within {percentile(ages, 90):,.0f} ms, 99 % "
                f"within {percentile(ages, 99):,.0f} ms; {len(waiting):,} of the whole run were "
                "marked")
            world.assert_kept(self, report)
        tally(f"live {drain}", 1, len(reader.ages), 0)
        return percentile(ages, 50)

    def test_fresh_events_do_not_wait(self):
        for delivery in ("at_least_once", "exactly_once"):
            ordered = self.run_with("ordered", delivery)
            live = self.run_with("live_first", delivery)
            self.assertLess(live * 3, ordered)


if __name__ == "__main__":
    unittest.main()
