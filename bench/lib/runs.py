"""runs - one measurement each; every one returns a dict of figures."""

import time

from beside import Beside
from process import Failed, cpu_ns, drop_caches, mqtt_served, peak_memory_bytes, wait_until
from subjects import Subjects

PAYLOAD_BYTES = 100
LATENCY_RATE = 20_000

# (a) few connections, many publishes a write; (b) and (c) many, one in flight each.
LOADS = {
    "a": dict(connections=100, burst=50, window=1000),
    "b": dict(connections=1000, burst=1, window=1),
    "c": dict(connections=15_000, burst=1, window=1),
}
COUNTS = {  # events a run, before --scale
    ("a", "floor"): 6_000_000,
    ("a", "rdkafka"): 3_000_000,
    ("a", "rdkafka_batch"): 3_000_000,
    ("a", "journal"): 3_000_000,
    ("a", "kafka"): 3_000_000,
    ("b", "floor"): 400_000,
    ("b", "journal"): 400_000,
    ("b", "kafka"): 400_000,
    ("c", "floor"): 400_000,
    ("c", "journal"): 400_000,
    ("c", "kafka"): 400_000,
    ("a", "followed"): 3_000_000,
    ("b", "followed"): 400_000,
    ("latency", "rdkafka"): 10 * LATENCY_RATE,
    ("latency", "kafka"): 10 * LATENCY_RATE,
    ("recovery", "journal"): 8_500_000,  # a gigabyte of journal
    ("trickle", "journal"): 100_000,
}
TRICKLE_RATE = 10_000
# What `millrace simulate --profile` offers (src/app/load/profile.h).
PROFILES = ("mixed", "meters", "trains", "tolling", "vibration")
PROFILE_EVENTS = 1_000_000


class Runs(Beside, Subjects):
    """Each run_* starts its own servers and verifies what came out."""

    delivery = "at_least_once"

    def count(self, load, subject):
        """Events of this run: at least a few full windows."""
        return max(int(COUNTS[load, subject] * self.args.scale), 20_000)

    def load_options(self, load, port, pid, count, ledger):
        shape = LOADS[load]
        return ["--port", port, "--server-pid", pid, "--count", count, "--bytes", PAYLOAD_BYTES,
                "--connections", shape["connections"], "--burst", shape["burst"],
                "--window", shape["window"], "--ledger", ledger]

    def run_floor(self, load):
        with self.floor() as (server, port):
            count = self.count(load, "floor")
            said = self.tool("load", *self.load_options(load, port, server.pid, count,
                                                        self.work / "ledger"))
            spent = said["server_cpu_end_ns"] - said["server_cpu_begin_ns"]
            return dict(cpu_ns=spent / said["acked"], events_per_s=said["events_per_s"],
                        puback_p50=said["puback_us_p50"], puback_p99=said["puback_us_p99"],
                        generator_cpu_ns=said["own_cpu_ns_per_event"])

    def run_rdkafka(self, api, count, rate=0):
        topic = self.new_topic()
        ledger = self.work / "ledger"
        kafka_before = self.kafka_cpu_ns()
        said = self.tool("rdkafka", "--servers", self.servers, "--topic", topic, "--api", api,
                         "--count", count, "--bytes", PAYLOAD_BYTES, "--rate", rate,
                         "--ledger", ledger)
        kafka_after = self.kafka_cpu_ns()
        self.verify(topic, ledger)
        result = dict(cpu_ns=said["cpu_ns_per_event"], end_to_end=said["events_per_s"])
        if kafka_before is not None:
            result["kafka_cpu_ns"] = (kafka_after - kafka_before) / count
        return result

    def run_journal(self, load, shards=1):
        """The gateway without any bridge: durable, and no further."""
        with self.gateway(None, shards) as (server, port):
            count = self.count(load, "journal")
            said = self.tool("load", *self.load_options(load, port, server.pid, count,
                                                        self.work / "ledger"))
            spent = said["server_cpu_end_ns"] - said["server_cpu_begin_ns"]
            metrics = self.metrics(server)
            return dict(cpu_ns=spent / said["acked"], events_per_s=said["events_per_s"],
                        puback_p50=said["puback_us_p50"], puback_p99=said["puback_us_p99"],
                        memory=peak_memory_bytes(server.pid),
                        threads=self.threads(server, count), **self.commits(metrics))

    def run_kafka(self, load, shards=1):
        """The gateway as it is used: acknowledged from disk, carried into Kafka."""
        topic = self.new_topic()
        ledger = self.work / "ledger"
        count = self.count(load, "kafka")
        end = {}
        with self.gateway(topic, shards) as (server, port):
            kafka_before = self.kafka_cpu_ns()
            with self.watcher(topic, count, end):
                said = self.tool("load", *self.load_options(load, port, server.pid, count, ledger))
            time.sleep(0.3)  # sleep: the last delivery reports and the cursor belong to it
            spent = cpu_ns(server.pid) - said["server_cpu_begin_ns"]
            kafka_after = self.kafka_cpu_ns()
            memory = peak_memory_bytes(server.pid)
            threads = self.threads(server, count)
            metrics = self.metrics(server)
        self.verify(topic, ledger)
        seconds = (end["end_wall_ns"] - said["begin_wall_ns"]) / 1e9
        result = dict(cpu_ns=spent / said["acked"], events_per_s=said["events_per_s"],
                      end_to_end=said["acked"] / seconds, memory=memory,
                      puback_p50=said["puback_us_p50"], puback_p99=said["puback_us_p99"],
                      generator_cpu_ns=said["own_cpu_ns_per_event"], threads=threads,
                      **self.commits(metrics))
        if kafka_before is not None:
            result["kafka_cpu_ns"] = (kafka_after - kafka_before) / count
        return result

    def run_exactly(self, function):
        """The same with transactions; the consumers are at read_committed anyway."""
        self.delivery = "exactly_once"
        try:
            return function()
        finally:
            self.delivery = "at_least_once"

    def run_profile(self, profile):
        """The same under `millrace simulate`: topics, sizes and devices as a site has them.

        A tenth of the devices drop their connection now and then.  All of it arrives in Kafka.
        """
        topic = self.new_topic()
        count = max(int(PROFILE_EVENTS * self.args.scale), 20_000)
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

    def latencies(self, followed):
        return dict(consumer_p50=followed["publish_to_consumer_us_p50"],
                    consumer_p99=followed["publish_to_consumer_us_p99"])

    def follow_rdkafka(self, devices, burst, rate, count):
        """librdkafka alone with a consumer beside it."""
        topic, followed = self.new_topic(), {}
        ledger = self.work / "ledger-followed"
        ledger.unlink(missing_ok=True)
        with self.follower(topic, ledger, followed):
            said = self.tool("rdkafka", "--servers", self.servers, "--topic", topic, "--devices",
                             devices, "--burst", burst, "--rate", rate, "--count", count,
                             "--bytes", PAYLOAD_BYTES, "--ledger", ledger)
        return dict(cpu_ns=said["cpu_ns_per_event"], **self.latencies(followed))

    def follow_gateway(self, count, load_options):
        """The gateway with a consumer beside it; `load_options(port, pid, ledger)`."""
        topic, followed = self.new_topic(), {}
        ledger = self.work / "ledger-followed"
        ledger.unlink(missing_ok=True)
        with self.gateway(topic) as (server, port):
            with self.follower(topic, ledger, followed):
                said = self.tool("load", *load_options(port, server.pid, ledger))
                spent = cpu_ns(server.pid) - said["server_cpu_begin_ns"]
            threads = self.threads(server, count)
            metrics = self.metrics(server)
        result = dict(cpu_ns=spent / said["acked"], threads=threads,
                      events_per_s=said["events_per_s"], puback_p50=said["puback_us_p50"],
                      puback_p99=said["puback_us_p99"], puback_p999=said["puback_us_p999"],
                      **self.latencies(followed), **self.commits(metrics))
        if "late_us_p99" in said:
            result["late_p99"] = said["late_us_p99"]
        return result

    def run_followed(self, load):
        """One of the closed loops with a consumer beside it.

        The consumer takes CPU from all others, so only the latencies of this run count.
        """
        count = self.count(load, "followed")
        return self.follow_gateway(
            count, lambda port, pid, ledger: self.load_options(load, port, pid, count, ledger))

    def run_followed_rdkafka(self, load):
        shape = LOADS[load]
        return self.follow_rdkafka(shape["connections"], shape["burst"], 0,
                                   self.count(load, "followed"))

    def run_latency_rdkafka(self):
        return self.follow_rdkafka(1000, 1, LATENCY_RATE, self.count("latency", "rdkafka"))

    def run_latency_kafka(self):
        count = self.count("latency", "kafka")
        return self.follow_gateway(
            count, lambda port, pid, ledger: [
                "--port", port, "--server-pid", pid, "--count", count, "--rate", LATENCY_RATE,
                "--connections", 1000, "--burst", 1, "--window", 1000, "--ledger", ledger])

    def run_bytes(self):
        """Journal bytes per payload byte where commits are small: 10,000 events/s."""
        with self.gateway(None) as (server, port):
            count = self.count("trickle", "journal")
            before = self.metrics(server)["millrace_journal_written_bytes_total"]
            said = self.tool("load", "--port", port, "--count", count, "--rate", TRICKLE_RATE,
                             "--connections", 1000, "--burst", 1, "--window", 1000, "--bytes",
                             PAYLOAD_BYTES)
            written = self.metrics(server)["millrace_journal_written_bytes_total"] - before
            return dict(bytes_per_payload_byte=written / (said["acked"] * PAYLOAD_BYTES))

    def run_recovery(self):
        """kill -9 behind a gigabyte of journal; from the next start to the first CONNACK."""
        with self.folder() as folder:
            with self.gateway_in(folder) as server:
                self.await_ready(server)
                count = self.count("recovery", "journal")
                self.tool("load", *self.load_options("a", server.port, server.pid, count,
                                                     self.work / "ledger"))
                journal = self.metrics(server)["millrace_journal_written_bytes_total"]
                server.kill()
                server.wait()
            cold = drop_caches()
            began = time.monotonic()
            with self.gateway_in(folder) as server:
                wait_until(lambda: mqtt_served(server.port), 120, "the first CONNACK")
                took = time.monotonic() - began
                self.end(server)
        return dict(recovery_ms=took * 1e3, journal_bytes=journal, cold=int(cold))

    def run_sessions(self):
        """15,000 persistent sessions: all come back at once, then once more after kill -9."""
        with self.folder() as folder:
            with self.gateway_in(folder) as server:
                self.await_ready(server)
                made = self.tool("sessions", "--port", server.port, "--prepare")
                back = self.tool("sessions", "--port", server.port, "--return")
                server.kill()
                server.wait()
            began = time.monotonic()
            with self.gateway_in(folder) as server:
                wait_until(lambda: mqtt_served(server.port), 120, "the first CONNACK")
                started = time.monotonic() - began
                again = self.tool("sessions", "--port", server.port, "--return")
                self.end(server)
        return dict(sessions=back["clients"], made_s=made["seconds"], back_s=back["seconds"],
                    back_p99=back["connack_us_p99"], restart_ms=started * 1e3,
                    again_s=again["seconds"])

    def run_disk(self, size):
        said = self.tool("disk", "--path", self.work / "disk.tmp", "--bytes", size, "--count",
                         max(int(3000 * self.args.scale), 300))
        return dict(commit_p50=said["commit_us_p50"], commit_p99=said["commit_us_p99"],
                    commit_bytes=size)

    def run_idle(self, subject):
        server_of = self.floor() if subject == "floor" else self.gateway(None)
        with server_of as (server, port):
            said = self.tool("idle", "--port", port, "--server-pid", server.pid)
            return dict(bytes_per_connection=said["bytes_per_connection"])
