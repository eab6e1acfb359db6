"""What can happen to a Kafka and on the way to it, for longer than the suite has time.

    MR_KAFKA_ROUNDS     faults of each test (default 20)
    MR_LEDGER_SEED      repeat a run (printed at the start)

Each test is a run of the ledger, with both kinds of delivery where that makes a difference.
./dev soak kafka [ROUNDS]; ledger/cluster is the short one.
"""

import os
import random
import time
import unittest

import faults
import harness
from cluster import kafka_for
from faults_topic import permit
from latency import percentile, waits
from nemesis import Nemesis, schedule
from watch import Watch
from world import Plan, World, say

SEED = int(os.environ.get("MR_LEDGER_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
ROUNDS = int(os.environ.get("MR_KAFKA_ROUNDS", "20"))
BROKERS = ("leader-kill", "leader-stop", "leader-pause", "controller-kill", "controller-pause",
           "leaders", "two-away", "in-sync", "rolling")
NETWORK = ("cut", "cut", "frozen", "narrow", "quota", "slow-log")
BOTH = ("exactly_once", "at_least_once")
FOLLOW = ("    partitions: follow\n"
          '    kafka_options: { topic.metadata.refresh.interval.ms: "500" }\n')
QUIET_S = 30
RESIDENT_KIB_MAX = 160 * 1024  # two lanes' worth of docs/MEMORY.md
FASTER = 2  # a backlog goes at least so much faster than new events come


class Soak(unittest.TestCase):
    def kafka(self, names):
        kafka = kafka_for([faults.known()[name] for name in names])
        self.addCleanup(kafka.remove)
        return kafka

    def plan(self, names, delivery, **more):
        more = {"name": f"{names[0]}-{delivery}", "rounds": ROUNDS, "rate": 3000, **more}
        return Plan(seed=SEED, faults=names, delivery=delivery,
                    binary=harness.RELEASE / "millrace", **more)

    def kept(self, kafka, names, delivery, **more):
        with World(self.plan(names, delivery, **more), kafka) as world:
            report = world.run()
            world.assert_kept(self, report)
            if "quota" in [one["fault"] for one in report.windows]:
                self.assertTrue(world.gateway.log.find("throttles us, now by"))
            return report

    def test_single_brokers(self):
        kafka = self.kafka(BROKERS)
        for delivery in BOTH:
            self.kept(kafka, BROKERS, delivery)

    def test_the_network(self):
        kafka = self.kafka(NETWORK)
        for delivery in BOTH:
            self.kept(kafka, NETWORK, delivery)

    def test_half_open_for_minutes(self):
        kafka = self.kafka(("silent",))
        for delivery in BOTH:
            self.kept(kafka, ("silent",), delivery, rounds=max(1, ROUNDS // 10), rate=1000)

    def test_a_topic_that_is_deleted(self):
        kafka = self.kafka(())
        for delivery in BOTH:
            self.kept(kafka, ("topic-deleted",), delivery)

    def test_a_permission_that_is_taken_back(self):
        kafka = harness.Kafka(secure=True)
        self.addCleanup(kafka.remove)
        permit(kafka, "TOPIC", "ledger_", "READ", "DESCRIBE", prefixed=True)
        permit(kafka, "TOPIC", "millrace.positions", "WRITE", "READ")
        permit(kafka, "TRANSACTIONAL_ID", "millrace-", "WRITE", prefixed=True)
        permit(kafka, "BROKER", "kafka-cluster", "CREATE", "IDEMPOTENT_WRITE")
        secure = (f"    ssl: {{ enable: true, cacertfile: {kafka.ca_file} }}\n"
                  "    authentication: { mechanism: plain, username: plain, "
                  'password: "secret-of-plain" }\n    retry_max: 1s\n')
        for delivery in BOTH:
            plan = self.plan(("revoked",), delivery, rounds=max(1, ROUNDS // 2), config=secure)
            kafka.gateway_bootstrap = kafka.sasl_bootstrap
            with World(plan, kafka) as world:
                permit(kafka, "TOPIC", world.topic, "WRITE")
                self.judge(world, world.run())

    def test_more_partitions(self):
        kafka = self.kafka(())
        self.kept(kafka, ("partitions", "kill"), "exactly_once", config=FOLLOW, name="follow")
        report = self.kept(kafka, ("partitions",), "exactly_once", name="keep",
                           rounds=max(1, ROUNDS // 4))
        homes = report.checkers["kafka"].homes.values()
        self.assertEqual({len(one) for one in homes}, {1}, "partitions: keep keeps each device")

    def test_devices_notice_nothing(self):
        """What they wait for an acknowledgement, memory, and how fast a backlog goes."""
        names = ("kafka-pause", "cut", "frozen", "narrow", "silent", "slow-log", "quota")
        kafka = self.kafka(names)
        plan = self.plan(names, "exactly_once", churn=0, name="notice", rate=2000)
        with World(plan, kafka) as world:
            world.start_load()
            world.rest(QUIET_S)
            with Watch(world.gateway) as watch:
                windows = Nemesis(world, schedule(SEED, names, ROUNDS), say).run()
            self.measure_drain(world)
            world.assert_kept(self, world.verdict(windows))
            quiet, faulty = waits(world.journal_path, windows)
        for name, values in (("quiet", quiet), ("with a fault", faulty)):
            say(f"  {name}: p50 {percentile(values, 50):.1f} ms, p99 "
                f"{percentile(values, 99):.1f} ms, of {len(values):,}")
        say(f"  memory at most {max(one.resident_kib for one in watch.looks):,} KiB, second half "
            f"{watch.growth_kib():+,.0f} KiB")
        self.assertLess(max(one.resident_kib for one in watch.looks), RESIDENT_KIB_MAX)

    def measure_drain(self, world):
        """Half a minute without Kafka, and how long that takes to come in while load goes on."""
        world.kafka.pause()
        world.rest(QUIET_S)
        world.kafka.resume()
        begin, acked, lag = time.monotonic(), world.acked(), world.lag()
        harness.until(lambda: world.lag() < world.plan.rate / 5, "the backlog to drain", 300)
        took = time.monotonic() - begin
        rate, came = lag / took, (world.acked() - acked) / took
        say(f"  a backlog of {lag:,} events drained in {took:.1f} s: {rate:,.0f}/s, beside "
            f"{came:,.0f}/s that came")
        self.assertGreater(rate, FASTER * came)


if __name__ == "__main__":
    unittest.main()
