"""loads - the three loads, on each subject: what an event costs, and that all arrived."""

import contextlib
import os
import time

from process import Failed, cpu_ns, peak_memory_bytes
from subjects import PARTITIONS, Subjects

PAYLOAD_BYTES = 100

# (a) few connections, many publishes a write; (b) and (c) many, one in flight each.
LOADS = {
    "a": dict(connections=100, burst=50, window=1000),
    "b": dict(connections=1000, burst=1, window=1),
    "c": dict(connections=15_000, burst=1, window=1),
}
COUNTS = {  # events a run, before --scale
    ("a", "floor"): 6_000_000,
    ("a", "rdkafka"): 3_000_000,
    ("a", "journal"): 4_000_000,
    ("a", "kafka"): 3_000_000,
    ("b", "floor"): 200_000,
    ("b", "journal"): 200_000,
    ("b", "kafka"): 200_000,
    ("c", "floor"): 200_000,
    ("c", "journal"): 200_000,
    ("c", "kafka"): 200_000,
    ("a", "cost"): 5_000_000,
    ("a", "followed"): 3_000_000,
    ("b", "followed"): 400_000,
}
# What `millrace simulate --profile` offers (src/app/load/profile.h).
PROFILES = ("mixed", "meters", "trains", "tolling", "vibration")
PROFILE_EVENTS = 1_000_000
# What the value, the time and the headers of a record may be beside raw, received and none.
VARIANTS = {
    "raw": {},
    "json": dict(value_encoder="json"),
    "time": dict(timestamp='"${payload.t}"', timestamp_unit="ns"),
    "headers": dict(headers="id"),
    "exactly": dict(delivery="exactly_once"),
}
FLUSH_US = 3000  # how much longer flushes last while the order of acknowledgements is checked


class Loads(Subjects):
    """Each run_* starts its own servers and verifies what came out."""

    def count(self, load, subject):
        """Events of this run: at least a few full windows."""
        return self.scaled(COUNTS[load, subject])

    def scaled(self, count):
        return max(int(count * self.args.scale), 20_000)

    def load_options(self, load, port, pid, count, ledger):
        shape = LOADS[load]
        return ["--port", port, "--server-pid", pid, "--count", count, "--bytes", PAYLOAD_BYTES,
                "--connections", shape["connections"], "--burst", shape["burst"],
                "--window", shape["window"], "--ledger", ledger]

    @staticmethod
    def said_of(said):
        """What every run of the generator tells."""
        figures = dict(events_per_s=said["events_per_s"], puback_p50=said["puback_us_p50"],
                       puback_p99=said["puback_us_p99"], puback_p999=said["puback_us_p999"],
                       generator_cpu_ns=said["own_cpu_ns_per_event"],
                       generator_share=said["own_cpu_share"])
        if "late_share" in said:
            figures.update(due=said["due"], late_share=said["late_share"],
                           late_p99=said["late_us_p99"], taken_p50=said["taken_us_p50"],
                           taken_p99=said["taken_us_p99"])
        return figures

    # ---- subjects under one of the loads ----

    def run_floor(self, load):
        with self.floor() as (server, port):
            count = self.count(load, "floor")
            said = self.tool("load", *self.load_options(load, port, server.pid, count,
                                                        self.work / "ledger"))
            spent = said["server_cpu_end_ns"] - said["server_cpu_begin_ns"]
            return dict(cpu_ns=spent / said["acked"], **self.said_of(said))

    def run_rdkafka(self, api, count, *options):
        topic = self.new_topic()
        ledger = self.work / "ledger"
        kafka_before = self.kafka_cpu_ns()
        said = self.tool("rdkafka", "--servers", self.servers, "--topic", topic, "--api", api,
                         "--count", count, "--bytes", PAYLOAD_BYTES,
                         "--ledger", ledger, *options)
        kafka_after = self.kafka_cpu_ns()
        self.verify(topic, ledger)
        result = dict(cpu_ns=said["cpu_ns_per_event"], end_to_end=said["events_per_s"])
        if kafka_before is not None:
            result["kafka_cpu_ns"] = (kafka_after - kafka_before) / count
        return result

    def run_blast(self):
        """Kafka alone: produce requests that are already there."""
        topic = self.new_topic()
        self.offsets(topic)  # asks until each partition's leader knows that it is
        before = self.kafka_cpu_ns()
        said = self.tool("blast", "--servers", self.servers, "--topic", topic, "--partitions",
                         PARTITIONS, "--count", self.count("a", "rdkafka"), "--bytes",
                         PAYLOAD_BYTES)
        after = self.kafka_cpu_ns()
        there = self.offsets(topic)
        if there != said["events"]:
            raise Failed(f"Kafka has {there} events, {said['events']} were answered")
        result = dict(cpu_ns=said["cpu_ns_per_event"], end_to_end=said["events_per_s"])
        if before is not None:
            result["kafka_cpu_ns"] = (after - before) / said["events"]
        return result

    def offsets(self, topic):
        """How many records it has had."""
        ends = self.tool("topic", "--servers", self.servers, "--topic", topic, "--offsets")
        return sum(int(end.split(":")[1]) for end in ends.split(","))

    def run_encoder(self, *options):
        """A producer of our own as far as its batches are ready to send."""
        said = self.tool("encoder", "--dry", "--devices", 100, "--bytes", PAYLOAD_BYTES,
                         "--count", self.scaled(5_000_000), *options)
        return dict(cpu_ns=said["cpu_ns_per_event"])

    def run_journal(self, load, shards=1, loop="auto"):
        """The gateway without any bridge: durable, and no further."""
        with self.gateway(None, shards, loop=loop) as (server, port):
            count = self.count(load, "journal")
            said = self.tool("load", *self.load_options(load, port, server.pid, count,
                                                        self.work / "ledger"))
            spent = said["server_cpu_end_ns"] - said["server_cpu_begin_ns"]
            return dict(cpu_ns=spent / said["acked"], memory=peak_memory_bytes(server.pid),
                        threads=self.threads(server, count),
                        **self.said_of(said), **self.commits(self.metrics(server)))

    def run_kafka(self, load, shards=1, bridge=None, loop="auto"):
        """The gateway as it is used: acknowledged from disk, carried into Kafka."""
        count = self.count(load, "kafka")
        return self.carry(
            lambda port, pid, ledger: self.load_options(load, port, pid, count, ledger),
            shards, bridge, loop)

    def carry(self, load_options, shards=1, bridge=None, loop="auto", delete=False):
        """Any load of the generator, until all that was acknowledged is in Kafka, and verified.

        `load_options(port, pid, ledger)`; its ledger says how much that is.
        """
        topic, end = self.new_topic(), {}
        ledger = self.work / "ledger"
        ledger.unlink(missing_ok=True)
        with self.gateway(topic, shards, bridge=bridge, loop=loop) as (server, port):
            kafka_before = self.kafka_cpu_ns()
            with self.watcher(topic, ledger, end):
                said = self.tool("load", *load_options(port, server.pid, ledger))
            time.sleep(0.3)  # sleep: the last delivery reports and the cursor belong to it
            spent = cpu_ns(server.pid) - said["server_cpu_begin_ns"]
            kafka_after = self.kafka_cpu_ns()
            result = dict(cpu_ns=spent / said["acked"], events=said["acked"],
                          memory=peak_memory_bytes(server.pid),
                          threads=self.threads(server, said["acked"]),
                          **self.said_of(said), **self.commits(self.metrics(server)))
        self.verify(topic, ledger)
        if delete:
            self.tool("topic", "--servers", self.servers, "--topic", topic, "--delete")
        result["seconds"] = (end["end_wall_ns"] - said["begin_wall_ns"]) / 1e9
        result["end_to_end"] = said["acked"] / result["seconds"]
        result["slowest_per_s"] = end["slowest_per_s"]
        if kafka_before is not None:
            result["kafka_cpu_ns"] = (kafka_after - kafka_before) / said["acked"]
        return result

    def run_variant(self, variant):
        """(a) with another value, time or header of the records, or with transactions.

        Longer than (a) itself: what the last transaction waits for is not to weigh much.
        """
        count = self.count("a", "cost")
        return self.carry(
            lambda port, pid, ledger: self.load_options("a", port, pid, count, ledger),
            bridge=VARIANTS[variant])

    def run_sustained(self, delivery):
        """(a) for --seconds; then everything is read back."""
        shape = LOADS["a"]
        return self.carry(
            lambda port, pid, ledger: [
                "--port", port, "--server-pid", pid, "--count", 10**11, "--seconds",
                self.args.seconds, "--bytes", PAYLOAD_BYTES, "--ledger", ledger,
                "--connections", shape["connections"], "--burst", shape["burst"],
                "--window", shape["window"]],
            bridge=dict(delivery=delivery), delete=True)

    # ---- does an acknowledgement wait for its flush? ----

    def run_order(self, load):
        """Every PUBACK is held against what the flushes that have returned cover.

        Flushes are made longer, so one that is not waited for cannot hide.  bench_trace.so, which
        is preloaded, finds the events in what is written; the generator compares.
        """
        table = self.work / "durable"
        table.unlink(missing_ok=True)
        with open(table, "wb") as file:
            os.truncate(file.fileno(), 8_000_000)
        with self.traced(BENCH_DURABLE=table, BENCH_FLUSH_US=FLUSH_US):
            with self.gateway(None) as (server, port):
                said = self.tool("load", *self.load_options(
                    load, port, server.pid, self.scaled(50_000), self.work / "ledger"),
                    "--durable", table, may_fail=True)
        if said["early"] or said["acked"] != said["sent"]:
            raise Failed(f"{said['early']} acknowledgements came before their flush: {said}")
        return dict(acked=said["acked"], early=said["early"])

    @contextlib.contextmanager
    def traced(self, **variables):
        """Gateways that are started in the block have bench_trace.so in them."""
        # A sanitizer wants to be the first library, and is content without.
        self.preload = dict(LD_PRELOAD=str(self.build / "bench_trace.so"),
                            ASAN_OPTIONS="verify_asan_link_order=0",
                            **{name: str(value) for name, value in variables.items()})
        try:
            yield
        finally:
            self.preload = {}

    # ---- loads like the real thing ----

    def run_profile(self, profile):
        """Under `millrace simulate`: topics, sizes and devices as a site has them.

        A tenth of the devices drop their connection now and then.  All of it arrives in Kafka.
        """
        topic = self.new_topic()
        count = self.scaled(PROFILE_EVENTS)
        end = {}
        with self.gateway(topic) as (server, port):
            before = cpu_ns(server.pid)
            with self.watcher(topic, count, end):
                said = self.simulate("--port", port, "--profile", profile, "--sensors", 2000,
                                     "--connections", 500, "--rate", 0, "--count", count,
                                     "--disconnect", 10, "--disconnect-every", "2s")
            spent = cpu_ns(server.pid) - before
            metrics = self.metrics(server)
        if said["acked"] != count:
            raise Failed(f"not everything was acknowledged: {said}")
        return dict(cpu_ns=spent / count, events_per_s=count / said["seconds"],
                    puback_p50=said["puback_us_p50"], puback_p99=said["puback_us_p99"],
                    dropped=said["dropped"], **self.commits(metrics))
