"""limits - behind an outage, beyond the peak, with many connections, on a large backlog."""

import contextlib
import json
import os
import signal
import subprocess
import time

from latency import RATE, Latency
from loads import LOADS, PAYLOAD_BYTES
from process import Failed, peak_memory_bytes, process

BACKLOG_EVENTS = 4_000_000  # of 100 bytes: more than two seconds' worth
CALM_SECONDS = 5
OVERLOAD_SECONDS = 3
SCALE_RATE = 50_000
SCALE_SECONDS = 3
LARGE_BYTES = 16_000  # an event of a large backlog, so that making it takes seconds
LIVE_DEVICE = 500_000  # the first device of a second generator


class Limits(Latency):
    # ---- Kafka is not there for a while ----

    def run_catchup_rdkafka(self):
        return self.run_rdkafka("va", self.scaled(BACKLOG_EVENTS))

    def fill(self, port, ledger):
        """Kafka hears nothing (SIGSTOP) while so many events are acknowledged; it stays so."""
        if self.kafka_pid is None:
            raise Failed("only a Kafka of our own can be stopped")
        os.kill(self.kafka_pid, signal.SIGSTOP)
        count = self.scaled(BACKLOG_EVENTS)
        shape = LOADS["a"]
        self.tool("load", "--port", port, "--count", count, "--bytes", PAYLOAD_BYTES,
                  "--connections", shape["connections"], "--burst", shape["burst"],
                  "--window", shape["window"], "--ledger", ledger)
        return count

    def go_on(self):
        os.kill(self.kafka_pid, signal.SIGCONT)

    @staticmethod
    def caught_up(end):
        """Events/s from the first that arrived to the last."""
        seconds = (end["end_wall_ns"] - end["first_wall_ns"]) / 1e9
        return (end["grown"] - end["first_grown"]) / max(seconds, 1e-3)

    def run_catchup(self):
        """How fast a backlog goes into Kafka when nothing else happens."""
        topic, end, ledger = self.new_topic(), {}, self.work / "ledger"
        with self.gateway(topic) as (server, port):
            try:
                with self.watcher(topic, self.scaled(BACKLOG_EVENTS), end):
                    self.fill(port, ledger)
                    self.go_on()
            finally:
                self.go_on()
        self.verify(topic, ledger)
        return dict(end_to_end=self.caught_up(end))

    @contextlib.contextmanager
    def second_load(self, server, port, ledger):
        """A generator that is connected, and begins when it is told."""
        with process([self.build / "bench_load", *self.open_loop(
                port, server.pid, RATE, "--count", 10**11, "--device-first", LIVE_DEVICE,
                "--ledger", ledger, "--wait")],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True) as live:
            self.await_line(live, "connected")
            yield live

    def run_catchup_live(self):
        """The same under a steady load, whose acknowledgements are measured before and in it."""
        topic, end = self.new_topic(), {}
        ledgers = [self.work / f"ledger-{name}" for name in ("backlog", "calm", "live")]
        with self.gateway(topic) as (server, port):
            count = self.scaled(CALM_SECONDS * RATE)
            calm = self.tool("load", *self.open_loop(
                port, server.pid, RATE, "--count", count, "--device-first", LIVE_DEVICE // 2,
                "--ledger", ledgers[1]))
            with self.second_load(server, port, ledgers[2]) as live:
                try:
                    with self.watcher(topic, self.scaled(BACKLOG_EVENTS), end):
                        self.fill(port, ledgers[0])
                        live.stdin.write("begin\n")
                        live.stdin.flush()
                        self.go_on()
                finally:
                    self.go_on()
                time.sleep(0.1)  # sleep: a short backlog may be gone before anything was published
                live.send_signal(signal.SIGTERM)
                said = json.loads(live.communicate()[0])
        ledger = self.work / "ledger"
        ledger.write_text("".join(one.read_text() for one in ledgers))
        self.verify(topic, ledger)
        return dict(end_to_end=self.caught_up(end), calm_p99=calm["puback_us_p99"],
                    late_share=max(calm["late_share"], said["late_share"]),
                    live_p50=said["puback_us_p50"], live_p99=said["puback_us_p99"])

    # ---- more than it can take ----

    def run_overload(self, factor):
        """(a) for a few seconds: as fast as acknowledgements allow, or so many times that."""
        shape = LOADS["a"]
        seconds = max(round(OVERLOAD_SECONDS * self.args.scale), 1)
        rate = int(self.peak * factor) if factor else 0
        result = self.carry(lambda port, pid, ledger: [
            "--port", port, "--server-pid", pid, "--count", 10**11, "--seconds", seconds,
            "--rate", rate, "--bytes", PAYLOAD_BYTES, "--ledger", ledger,
            "--connections", shape["connections"], "--burst", shape["burst"],
            "--window", shape["window"]])
        if factor:
            # Late it is, by intent: what counts is how much was offered.
            result.pop("late_share")
            result["offered_share"] = result.pop("due") / seconds / rate
        else:
            self.peak = result["events_per_s"]
            result["taken_p50"], result["taken_p99"] = result["puback_p50"], result["puback_p99"]
        return result

    peak = 1_000_000.0  # events/s, once run_overload(None) has measured it

    # ---- few connections and many ----

    def run_scale(self, subject, connections):
        """The same rate from so many connections: what a connection more costs an event."""
        server_of = self.floor() if subject == "floor" else self.gateway(None)
        with server_of as (server, port):
            said = self.tool("load", "--port", port, "--server-pid", server.pid, "--rate",
                             SCALE_RATE, "--count", self.scaled(SCALE_SECONDS * SCALE_RATE),
                             "--connections", connections, "--burst", 1, "--window", 1000,
                             "--bytes", PAYLOAD_BYTES, "--realtime")
        spent = said["server_cpu_end_ns"] - said["server_cpu_begin_ns"]
        return dict(cpu_ns=spent / said["acked"], **self.said_of(said))

    # ---- an empty journal and a full one ----

    def run_backlog(self):
        """(a) before and behind so many bytes that no target takes; in one process."""
        with self.gateway("nowhere", journal="max_size: 64GiB",
                          bridge=dict(servers='"127.0.0.1:9"')) as (server, port):
            empty = self.backlog_step(server, port, 0)
            began = time.monotonic()
            self.tool("load", "--port", port, "--count", self.args.backlog // LARGE_BYTES,
                      "--bytes", LARGE_BYTES, "--connections", 20, "--burst", 10, "--window", 100,
                      "--device-first", 1000)
            filled = time.monotonic() - began
            behind = self.backlog_step(server, port, 2000)
            memory = peak_memory_bytes(server.pid)
        return dict(empty_cpu_ns=empty, cpu_ns=behind, bytes=self.args.backlog,
                    fill_bytes_per_s=self.args.backlog / filled, memory=memory)

    def backlog_step(self, server, port, first):
        said = self.tool("load", *self.load_options(
            "a", port, server.pid, self.count("a", "journal"), self.work / "ledger"),
            "--device-first", first)
        return (said["server_cpu_end_ns"] - said["server_cpu_begin_ns"]) / said["acked"]
