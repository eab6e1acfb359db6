"""latency - how long an acknowledgement and a record take, beside what bounds them."""

from loads import LOADS, PAYLOAD_BYTES, Loads
from process import cpu_ns

RATE = 20_000
SECONDS = 6


class Latency(Loads):
    """Each run_* is one measurement; latencies count from when an event was due."""

    @staticmethod
    def latencies(followed):
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
        return dict(cpu_ns=spent / said["acked"], threads=threads, **self.said_of(said),
                    **self.latencies(followed), **self.commits(metrics))

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

    # ---- open loop ----

    @staticmethod
    def open_loop(port, pid, rate, *more):
        """1,000 connections that publish when an event is due, whatever the server does."""
        return ["--port", port, "--server-pid", pid, "--rate", rate, "--connections", 1000,
                "--burst", 1, "--window", 1000, "--bytes", PAYLOAD_BYTES, "--realtime", *more]

    def run_latency_rdkafka(self):
        return self.follow_rdkafka(1000, 1, RATE, self.scaled(SECONDS * RATE))

    def run_latency_kafka(self):
        """The commits of this run are kept: run_rawfs() repeats them."""
        count = self.scaled(SECONDS * RATE)
        self.trace().unlink(missing_ok=True)
        with self.traced(BENCH_TRACE=self.trace()):
            return self.follow_gateway(count, lambda port, pid, ledger: self.open_loop(
                port, pid, RATE, "--count", count, "--ledger", ledger))

    def trace(self):
        return self.work / "commits"

    def run_rawfs(self):
        """The gateway's own commits, at their times and with their sizes, without it."""
        if not self.trace().exists():
            self.run_latency_kafka()
        said = self.tool("disk", "--path", self.work / "disk.tmp", "--trace", self.trace())
        return dict(commit_p50=said["commit_us_p50"], commit_p99=said["commit_us_p99"],
                    commit_bytes=said["bytes_mean"])

    def run_disk(self, size):
        said = self.tool("disk", "--path", self.work / "disk.tmp", "--bytes", size, "--count",
                         max(int(2000 * self.args.scale), 300))
        return dict(commit_p50=said["commit_us_p50"], commit_p99=said["commit_us_p99"],
                    commit_bytes=size)
