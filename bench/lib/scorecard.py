"""scorecard - the marks, each held against what was measured beside it in the same run.

A row takes the results of one repetition, {name: figures}, and makes one number of them.  The
table has the median of all repetitions, its 95 % interval, and a verdict:

    met        the whole interval is on the right side of the mark (with fewer than three
               repetitions there is no interval; then all values have to be)
    not met    it is not
    void       no repetition counts: a run failed, was disturbed, or an acknowledgement came
               before its flush
"""

from dataclasses import dataclass
from typing import Callable

from stats import interval, mean, median

DISK = "disk"  # acknowledged once fdatasync has returned
NONE = "not asked"
DISK_KAFKA = "disk, Kafka acks=all"


class Asked(dict):
    """Remembers which runs a row is made of."""

    def __init__(self):
        super().__init__()
        self.asked = set()

    def __getitem__(self, name):
        self.asked.add(name)
        return super().__getitem__(name)


@dataclass
class Row:
    mark_id: str  # of issue and scorecard: 1 to 6 are the marks, M1 to M18 the scorecard's
    metric: str
    reference: str
    sense: str  # "<=", ">=", or "" where there is no mark
    mark: float
    group: str  # all its runs are of one group, so they were interleaved
    value: Callable
    form: str = "{:.2f}"
    durability: str = DISK_KAFKA

    def values(self, results, failed):
        """One per repetition that has all of its runs; none if one of them was wrong."""
        repetitions = {}
        for name, found in results.items():
            for rep in {figures["rep"] for figures in found}:
                same = [figures for figures in found if figures["rep"] == rep]
                repetitions.setdefault(rep, Asked())[name] = mean(same)
        out = []
        for _, runs in sorted(repetitions.items()):
            try:
                out.append(self.value(runs))
            except KeyError:
                pass
            if runs.asked & failed:
                return []
        return out

    def holds(self, number):
        return number <= self.mark if self.sense == "<=" else number >= self.mark

    def verdict(self, values):
        if not values:
            return "void"
        if not self.sense:
            return ""
        return "met" if all(map(self.holds, interval(values) or values)) else "**not met**"

    def cells(self, values):
        shown = self.form.format(median(values)) if values else ""
        sure = interval(values) if values else None
        if sure:
            shown += f" ({self.form.format(sure[0])} to {self.form.format(sure[1])})"
        sign = {"<=": "≤ ", ">=": "≥ ", "": ""}[self.sense]
        mark = sign + self.form.format(self.mark) if self.sense else "none"
        return [self.mark_id, self.metric, self.reference, self.durability, mark, shown,
                str(len(values)), self.verdict(values)]


def over(above, below, key):
    """A figure of one run over the same figure of another."""
    return lambda runs: runs[above][key] / runs[below][key]


def one(name, key, scale=1.0):
    return lambda runs: runs[name][key] * scale


def steepness(subject):
    """CPU per event of 15,000 connections over that of 10."""
    return lambda runs: (runs[f"scale/{subject}_15000"]["cpu_ns"]
                         / runs[f"scale/{subject}_10"]["cpu_ns"])


RATE = "{:,.0f}"

ROWS = [
    Row("1", "events/s into Kafka, pipelined, a short run", "2,000,000", ">=", 2e6, "a",
        one("a/kafka", "end_to_end"), RATE),
    Row("1", "the same", "librdkafka alone, from memory", "", 0, "a",
        over("a/kafka", "a/rdkafka", "end_to_end")),
    Row("1", "the same", "Kafka alone: prebuilt requests, resent", "", 0, "a",
        over("a/kafka", "a/blast", "end_to_end")),
    Row("1", "generator alone, events/s", "2,000,000", "", 0, "a",
        one("a/floor", "events_per_s"), RATE, NONE),
    Row("1", "generator, CPU ns/event", "150", "<=", 150, "a",
        one("a/kafka", "generator_cpu_ns"), RATE, NONE),
    Row("1", "exactly_once, events/s into Kafka", "at_least_once", ">=", 0.7, "cost",
        over("cost/exactly", "cost/raw", "end_to_end")),
    Row("1", "events/s into Kafka, sustained, read back", "2,000,000", ">=", 2e6, "sustained",
        one("sustained/at_least", "end_to_end"), RATE),
    Row("1", "exactly_once, sustained", "at_least_once", ">=", 0.7, "sustained",
        over("sustained/exactly", "sustained/at_least", "end_to_end")),
    Row("2", "own tax: CPU ns/event − (floor + librdkafka alone)", "60", "<=", 60, "a",
        lambda runs: runs["a/kafka"]["cpu_ns"] - runs["a/floor"]["cpu_ns"]
        - runs["a/rdkafka"]["cpu_ns"], RATE),
    Row("2", "CPU ns/event, whole way, pipelined", "550", "<=", 550, "a",
        one("a/kafka", "cpu_ns"), RATE),
    Row("M4", "an encoder of our own with LZ4, CPU/record", "librdkafka alone", "<=", 0.1,
        "encoder", over("encoder/own", "encoder/rdkafka", "cpu_ns"), durability=NONE),
    Row("M4", "the same, with one header", "librdkafka alone, with one", "<=", 0.1, "encoder",
        over("encoder/own_headers", "encoder/rdkafka_headers", "cpu_ns"), durability=NONE),
    Row("M2", "CPU, journal only, pipelined", "floor server", "<=", 2.5, "a",
        over("a/journal", "a/floor", "cpu_ns"), durability=DISK),
    Row("3", "CPU, 1,000 connections, one in flight, journal only", "floor server", "<=", 1.0,
        "b", over("b/journal", "b/floor", "cpu_ns"), durability=DISK),
    Row("3", "the same by epoll alone", "floor server", "<=", 1.15, "b",
        over("b/journal_epoll", "b/floor", "cpu_ns"), durability=DISK),
    Row("3", "the same, the loop that is chosen here", "by epoll alone", "", 0, "b",
        over("b/journal", "b/journal_epoll", "cpu_ns"), durability=DISK),
    Row("3", "CPU, 1,000 connections, one in flight, into Kafka", "floor server", "<=", 1.0, "b",
        over("b/kafka", "b/floor", "cpu_ns")),
    Row("3", "the same by epoll alone", "floor server", "<=", 1.15, "b",
        over("b/kafka_epoll", "b/floor", "cpu_ns")),
    Row("3", "the same, the loop that is chosen here", "by epoll alone", "", 0, "b",
        over("b/kafka", "b/kafka_epoll", "cpu_ns")),
    Row("3", "CPU, 15,000 connections, one in flight, journal only", "floor server", "<=", 1.0,
        "c", over("c/journal", "c/floor", "cpu_ns"), durability=DISK),
    Row("3", "the same by epoll alone", "floor server", "<=", 1.15, "c",
        over("c/journal_epoll", "c/floor", "cpu_ns"), durability=DISK),
    Row("3", "the same into Kafka", "floor server", "<=", 1.0, "c",
        over("c/kafka", "c/floor", "cpu_ns")),
    Row("4", "(PUBACK p99 − 0.5 ms) at 20,000/s", "p99 of its own commits, repeated alone", "<=",
        2.2, "latency",
        lambda runs: (runs["latency/kafka"]["puback_p99"] - 500)
        / runs["latency/rawfs"]["commit_p99"]),
    Row("4", "publish to consumer, p99, at 20,000/s", "librdkafka to consumer", "<=", 1.3,
        "latency", over("latency/kafka", "latency/rdkafka", "consumer_p99")),
    Row("4", "catch-up behind an outage, events/s", "librdkafka alone, from memory", ">=", 0.8,
        "catchup", over("catchup/gateway", "catchup/rdkafka", "end_to_end")),
    Row("4", "PUBACK p99 at 20,000/s while it catches up", "the same without", "<=", 1.5,
        "catchup", lambda runs: runs["catchup/live"]["live_p99"]
        / runs["catchup/live"]["calm_p99"]),
    Row("5", "idle connection, bytes (beside the kernel's 3,965)", "512", "<=", 512, "idle",
        one("idle/gateway", "bytes_per_connection"), RATE, NONE),
    Row("5", "idle TLS connection, bytes", "OpenSSL echo server", "<=", 1.2, "idle_tls",
        over("idle_tls/gateway", "idle_tls/floor", "bytes_per_connection"), durability=NONE),
    Row("5", "CPU while 15,000 connections are idle, ms/s", "1", "<=", 1.0, "idle",
        one("idle/gateway", "idle_cpu_ms"), durability=NONE),
    Row("5", "journal bytes per payload byte, 10,000/s of 100 bytes", "1.25", "<=", 1.25, "bytes",
        one("bytes/journal", "bytes_per_payload_byte"), durability=DISK),
    Row("M14", "the same in whole pages, as it is written", "1", "", 0, "bytes",
        one("bytes/journal", "pages_per_payload_byte"), durability=DISK),
    Row("6", "goodput at 150 % of the peak", "the peak", ">=", 0.95, "overload",
        over("overload/x150", "overload/peak", "end_to_end")),
    Row("6", "goodput at 300 % of the peak", "the peak", ">=", 0.95, "overload",
        over("overload/x300", "overload/peak", "end_to_end")),
    Row("6", "PUBACK p99 of what is accepted, at 300 %", "at the peak", "", 0, "overload",
        over("overload/x300", "overload/peak", "taken_p99")),
    Row("6", "most memory, at 300 %", "at the peak", "<=", 1.25, "overload",
        over("overload/x300", "overload/peak", "memory")),
    Row("6", "events/s into Kafka, pipelined, two shards", "one shard", "", 0, "shards",
        over("shards/a_2", "shards/a_1", "end_to_end")),
    Row("6", "CPU per event at 50,000/s, 15,000 connections over 10", "the same of the floor", "<=",
        1.15, "scale", lambda runs: steepness("journal")(runs) / steepness("floor")(runs),
        durability=DISK),
    Row("6", "CPU per event, pipelined, behind a large backlog", "on an empty journal", "<=", 1.15,
        "backlog", lambda runs: runs["backlog/gateway"]["cpu_ns"]
        / runs["backlog/gateway"]["empty_cpu_ns"], durability=DISK),
    Row("M15", "CONNECT to CONNACK, a second", "floor server", ">=", 0.7, "connect",
        over("connect/gateway", "connect/floor", "visits_per_s"), durability=NONE),
    Row("M17", "a journal verified, bytes/s", "the same files read with CRC32C", ">=", 0.7,
        "recovery", lambda runs: runs["recovery/journal"]["verify_per_s"]
        / runs["recovery/journal"]["read_per_s"], durability=DISK),
    Row("M17", "start behind a kill, journal bytes/s to the first CONNACK", "the same", ">=", 0.7,
        "recovery", lambda runs: runs["recovery/journal"]["start_per_s"]
        / runs["recovery/journal"]["read_per_s"], durability=DISK),
    Row("M18", "TLS handshakes/s of a core (TLS 1.3, P-256, X25519)", "`openssl speed`", ">=",
        0.75, "tls", lambda runs: runs["tls/openssl"]["handshake_ns"]
        / runs["tls/gateway"]["handshake_ns"], durability=NONE),
    Row("M18", "the same, with the visit", "OpenSSL echo server", "", 0, "tls",
        lambda runs: runs["tls/floor"]["cpu_ns"] / runs["tls/gateway"]["cpu_ns"],
        durability=NONE),
]


def scorecard(groups):
    """Rows of text for the groups that were measured: {name: what was saved of it}."""
    early = "order" in groups and groups["order"]["failed"]
    rows = []
    for row in ROWS:
        group = groups.get(row.group)
        if group is not None:
            failed = {line.split(":")[0] for line in group["failed"]}
            rows.append(row.cells([] if early else row.values(group["results"], failed)))
    return rows
