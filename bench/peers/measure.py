"""measure - one peer under one load, what it cost and what came out."""

import contextlib
import json
import os
import subprocess
import time

from peer import machine_busy_ns, process_cpu_ns, running
from process import Failed, process
from loads import LOADS
from subjects import Subjects

COUNTS = {"a": 400_000, "b": 100_000}  # events of a run, times the peer's `fast` and --scale
PAYLOAD_BYTES = 100
WARM_DEVICES = 500_000  # devices of the warm-up begin here
IDLE_S = 2  # so long the machine is watched before the load
IDLE_TRIES = 3  # so often, until it is quiet: a warm-up leaves things to do
STILL_S = 10  # what has not come to Kafka for so long is lost
QUIET = 0.05  # of the machine may be busy before the load, or its figure does not count


class Measure(Subjects):
    """Starts one peer at a time; each run gives a dict of figures."""

    def run_peer(self, peer, load):
        shape = LOADS[load]
        count = max(int(COUNTS[load] * peer.fast * self.args.scale),
                    shape["connections"] * shape["window"])
        topic = self.new_topic() if peer.bridge else None
        ledger = self.work / "ledger"
        with self.folder() as folder, \
             running(peer, folder, self.build, self.servers, topic) as peer_at:
            if peer.bridge:
                self.await_bridge(peer_at, topic)
            self.warm_up_peer(peer_at, load, count // 2, topic)
            begin = self.ends(topic) if peer.bridge else None
            watched = {}
            with contextlib.ExitStack() as stack:
                if peer.bridge:
                    stack.enter_context(self.growth(topic, count, watched))
                result = self.load(peer_at, load, count, ledger, watched, stack)
        if peer.bridge:
            result.update(self.came_out(topic, begin, ledger))
        return result

    # ---- before ----

    def options(self, peer_at, load, count):
        shape = LOADS[load]
        return ["--port", peer_at.port, "--count", count, "--bytes", PAYLOAD_BYTES,
                "--connections", shape["connections"], "--burst", shape["burst"],
                "--window", shape["window"]]

    def ends(self, topic):
        """Of the partitions, as bench_topic writes and bench_consume reads them."""
        return self.tool("topic", "--servers", self.servers, "--topic", topic, "--offsets")

    @staticmethod
    def held(ends):
        return sum(int(part.split(":")[1]) for part in ends.split(","))

    def await_bridge(self, peer_at, topic):
        """Until an event of ours comes through: brokers take what no bridge has asked for yet."""
        deadline = time.monotonic() + 60
        while self.held(self.ends(topic)) == 0:
            peer_at.check()
            if time.monotonic() > deadline:
                raise Failed("nothing came through in 60 s")
            self.tool("load", "--port", peer_at.port, "--connections", 1, "--burst", 1,
                      "--window", 1, "--count", 1, "--device-first", WARM_DEVICES)
            time.sleep(0.3)  # sleep: how long a bridge takes is its own affair

    def warm_up_peer(self, peer_at, load, count, topic):
        """The same load by other devices; then until nothing of it comes any more."""
        self.tool("load", *self.options(peer_at, load, count), "--device-first", WARM_DEVICES,
                  may_fail=True)
        if topic is None:
            return
        still, before = 0, -1
        while still < 4:
            peer_at.check()
            now = self.held(self.ends(topic))
            still = still + 1 if now == before else 0
            before = now
            time.sleep(0.5)  # sleep: what is lost on the way tells nobody

    # ---- the run ----

    @contextlib.contextmanager
    def growth(self, topic, count, result):
        """Watch the topic until it has grown by `count` or stands still; then fill `result`."""
        with process([self.build / "bench_topic", "--servers", self.servers, "--topic", topic,
                      "--watch", count, "--timeout", STILL_S, "--every", 50],
                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
            self.await_line(watch, "watching")
            yield
            out, _ = watch.communicate(timeout=600)
            result.update(json.loads(out))

    def counters(self, peer_at):
        return dict(at=time.monotonic_ns(), peer=peer_at.cpu_ns(), busy=machine_busy_ns(),
                    kafka=process_cpu_ns(self.kafka_pid) if self.kafka_pid else 0)

    def load(self, peer_at, load, count, ledger, watched, stack):
        """`stack` holds the watcher; when it is unwound the events are in Kafka or lost."""
        options = [*self.options(peer_at, load, count), "--ledger", ledger, "--wait"]
        with process([self.build / "bench_load", *options], stdin=subprocess.PIPE,
                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as generator:
            self.await_line(generator, "connected")
            for _ in range(IDLE_TRIES):
                idle = self.counters(peer_at)
                time.sleep(IDLE_S)  # sleep: the machine as it is without this load
                begin = self.counters(peer_at)
                if busy_share(idle, begin) <= QUIET:
                    break
            out, why = generator.communicate("begin\n", timeout=600)
        if not out:
            raise Failed(f"the load did not come through: {why.strip()}")
        said = json.loads(out)
        stack.close()
        end = self.counters(peer_at)
        return figures(said, watched, idle, begin, end)

    # ---- after ----

    def came_out(self, topic, begin, ledger):
        said = self.tool("consume", "--servers", self.servers, "--topic", topic, "--ledger",
                         ledger, "--from", begin, "--timeout", 5, may_fail=True)
        return {key: said[key] for key in ("missing", "twice", "reordered", "moved", "unknown")}


def busy_share(begin, end):
    """Of all processors between two looks."""
    return (end["busy"] - begin["busy"]) / (end["at"] - begin["at"]) / os.cpu_count()


def figures(said, watched, idle, begin, end):
    """Per event, of what was acknowledged."""
    count = max(said["acked"], 1)
    taken = {key: end[key] - begin[key] for key in begin}
    idle_share = busy_share(idle, begin)
    generator = said["own_cpu_ns_per_event"] * said["sent"] / count
    result = dict(acked=said["acked"], sent=said["sent"], events_per_s=said["events_per_s"],
                  cpu_ns=taken["peer"] / count, kafka_cpu_ns=taken["kafka"] / count,
                  generator_cpu_ns=generator, idle_share=idle_share,
                  puback_p50=said["puback_us_p50"], puback_p99=said["puback_us_p99"])
    if result["idle_share"] <= QUIET:
        idle_ns = idle_share * os.cpu_count() * taken["at"]
        result["machine_cpu_ns"] = (taken["busy"] - idle_ns) / count - generator
    if watched:
        seconds = (watched["grown_wall_ns"] - said["begin_wall_ns"]) / 1e9
        result.update(end_to_end=watched["grown"] / seconds)
    return result
