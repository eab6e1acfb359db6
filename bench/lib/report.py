"""report - from figures to the tables of docs/BENCHMARKS.md."""

import os
import pathlib
import platform
import re
import statistics

from alternatives import COMMIT_LABELS, COMMITS, SOCKET_LABELS
from beside import SHAPES
from groups import SCALE_CONNECTIONS
from latency import RATE
from limits import BACKLOG_EVENTS, SCALE_RATE
from scorecard import scorecard
from subjects import ROOT

NAMES = {
    "floor": "floor server (no disk, no Kafka)",
    "rdkafka": "librdkafka alone, with timestamps",
    "rdkafka_batch": "librdkafka alone, produce_batch",
    "blast": "Kafka alone: prebuilt requests, sent again and again",
    "journal": "millrace, journal only",
    "journal_epoll": "millrace, journal only, epoll alone",
    "kafka": "millrace into Kafka",
    "kafka_epoll": "millrace into Kafka, epoll alone",
}


def spread(results, name, key, scale=1.0, digits=0):
    """'median (min to max)' of one figure, or an empty string."""
    values = [r[key] * scale for r in results.get(name, []) if key in r]
    if not values:
        return ""
    middle = f"{statistics.median(values):,.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def median(results, name, key):
    values = [r[key] for r in results.get(name, []) if key in r]
    return statistics.median(values) if values else None


def ratio(results, above, below, key="cpu_ns"):
    x, y = median(results, above, key), median(results, below, key)
    return f"{x / y:.2f}" if x and y else ""


def both(results, name, low, high):
    """p50 / p99 in milliseconds."""
    p50 = spread(results, name, low, 1e-3, 2)
    return f"{p50} / {spread(results, name, high, 1e-3, 2)}" if p50 else ""


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def machine():
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())
    name = cpu.group(1) if cpu else platform.machine()
    return (f"{len(os.sched_getaffinity(0))} cores ({name}), "
            f"{int(memory.group(1)) / 2**20:.0f} GiB, Linux {platform.release().split('-')[0]}")


# ---- the tables of one group each; each takes its results ----

def rates(results, load, subjects):
    rows = []
    for subject, label in subjects.items():
        name = f"{load}/{subject}"
        rows.append([label, spread(results, name, "events_per_s"),
                     spread(results, name, "end_to_end"), spread(results, name, "cpu_ns"),
                     ratio(results, name, f"{load}/floor"),
                     both(results, name, "puback_p50", "puback_p99"),
                     spread(results, name, "kafka_cpu_ns"),
                     spread(results, name, "generator_cpu_ns")])
    return table(["", "acknowledged, events/s", "in Kafka, events/s", "CPU ns/event", "× floor",
                  "PUBACK p50 / p99, ms", "Kafka CPU ns/event", "generator CPU ns/event"], rows)


def latency_table(results):
    rows = [[NAMES[s], spread(results, f"latency/{s}", "puback_p50", 1e-3, 2),
             spread(results, f"latency/{s}", "puback_p99", 1e-3, 2),
             spread(results, f"latency/{s}", "consumer_p50", 1e-3, 1),
             spread(results, f"latency/{s}", "consumer_p99", 1e-3, 1),
             spread(results, f"latency/{s}", "late_p99", 1e-3, 2),
             spread(results, f"latency/{s}", "cpu_ns")] for s in ("rdkafka", "kafka")]
    return table(["", "PUBACK p50, ms", "PUBACK p99, ms", "publish to consumer p50, ms",
                  "publish to consumer p99, ms", "generator late p99, ms", "CPU ns/event"], rows)


def disk_table(results):
    rows = [[label, spread(results, name, "commit_bytes"),
             spread(results, name, "commit_p50", 1e-3, 3),
             spread(results, name, "commit_p99", 1e-3, 3)]
            for name, label in (("latency/disk_4k", "one size, one after the other"),
                                ("latency/rawfs", "the gateway's own commits, at their times"))]
    return table(["pwrite + fdatasync, preallocated", "bytes", "p50, ms", "p99, ms"], rows)


def cost_table(results):
    labels = {"raw": "raw value, time received, no headers", "json": "`value_encoder: json`",
              "time": "`timestamp: ${payload.t}`", "headers": "`headers: id`",
              "exactly": "`delivery: exactly_once`"}
    rows = [[label, spread(results, f"cost/{name}", "end_to_end"),
             ratio(results, f"cost/{name}", "cost/raw", "end_to_end"),
             spread(results, f"cost/{name}", "cpu_ns"),
             ratio(results, f"cost/{name}", "cost/raw"),
             spread(results, f"cost/{name}", "kafka_cpu_ns")] for name, label in labels.items()]
    return table(["load (a) into Kafka", "in Kafka, events/s", "× raw", "CPU ns/event", "× raw",
                  "Kafka CPU ns/event"], rows)


def encoder_table(results):
    rows = [[label, spread(results, f"encoder/{name}", "cpu_ns")]
            for name, label in (("rdkafka", "librdkafka, to the last delivery report"),
                                ("rdkafka_headers", "librdkafka, with a header of 24 bytes"),
                                ("own_plain", "our encoder, no compression"),
                                ("own", "our encoder, LZ4"),
                                ("own_headers", "our encoder, LZ4, with a header of 24 bytes"))]
    return table(["", "CPU ns/record"], rows)


def shards_table(results):
    rows = [[f"({load}), {word}", spread(results, name, "end_to_end"),
             spread(results, name, "cpu_ns"), ratio(results, name, f"shards/{load}_1"),
             both(results, name, "puback_p50", "puback_p99")]
            for load in "ab" for count, word in ((1, "one shard"), (2, "two shards"))
            for name in [f"shards/{load}_{count}"]]
    return table(["into Kafka", "in Kafka, events/s", "CPU ns/event", "× one shard",
                  "PUBACK p50 / p99, ms"], rows)


def followed_table(results):
    rows = [[f"({load}) {NAMES[s]}", spread(results, name, "events_per_s"),
             spread(results, name, "puback_p50", 1e-3, 2),
             spread(results, name, "puback_p99", 1e-3, 2),
             spread(results, name, "consumer_p50", 1e-3, 1),
             spread(results, name, "consumer_p99", 1e-3, 1)]
            for load in "ab" for s in ("rdkafka", "kafka") for name in [f"followed/{load}_{s}"]]
    return table(["with a consumer beside it", "acknowledged, events/s", "PUBACK p50, ms",
                  "PUBACK p99, ms", "publish to consumer p50, ms", "publish to consumer p99, ms"],
                 rows)


def sustained_table(results):
    rows = [[label, spread(results, name, "seconds"), spread(results, name, "events"),
             spread(results, name, "end_to_end"), spread(results, name, "slowest_per_s"),
             spread(results, name, "cpu_ns"), spread(results, name, "generator_cpu_ns"),
             both(results, name, "puback_p50", "puback_p99"),
             spread(results, name, "memory", 2**-20)]
            for name, label in (("sustained/at_least", "at least once"),
                                ("sustained/exactly", "exactly once"))]
    return table(["load (a) into Kafka", "s", "events", "in Kafka, events/s",
                  "in the slowest 5 s", "CPU ns/event", "generator CPU ns/event",
                  "PUBACK p50 / p99, ms", "memory at most, MiB"], rows)


def catchup_table(results):
    rows = [[label, spread(results, name, "end_to_end"),
             spread(results, name, "calm_p99", 1e-3, 2), spread(results, name, "live_p99", 1e-3, 2)]
            for name, label in (("catchup/rdkafka", "librdkafka alone, from memory"),
                                ("catchup/gateway", "millrace"),
                                ("catchup/live", f"millrace, {RATE:,} events/s more all the time"))]
    return table(["", "in Kafka, events/s", "PUBACK p99 before, ms", "PUBACK p99 meanwhile, ms"],
                 rows)


def overload_table(results):
    rows = [[label, spread(results, name, "events_per_s"), spread(results, name, "end_to_end"),
             both(results, name, "taken_p50", "taken_p99"), spread(results, name, "cpu_ns"),
             spread(results, name, "memory", 2**-20)]
            for name, label in (("overload/peak", "as acknowledgements allow"),
                                ("overload/x150", "150 % offered"),
                                ("overload/x300", "300 % offered"))]
    return table(["", "acknowledged, events/s", "in Kafka, events/s",
                  "PUBACK p50 / p99 of what was accepted, ms", "CPU ns/event",
                  "memory at most, MiB"], rows)


def scale_table(results):
    rows = [[f"{count:,}", spread(results, f"scale/floor_{count}", "cpu_ns"),
             spread(results, f"scale/journal_{count}", "cpu_ns"),
             ratio(results, f"scale/journal_{count}", f"scale/floor_{count}")]
            for count in SCALE_CONNECTIONS]
    return table(["connections", "floor server, CPU ns/event", "millrace, journal only",
                  "× floor"], rows)


def idle_table(results):
    rows = [[label, spread(results, f"idle/{name}", "bytes_per_connection"),
             spread(results, f"idle/{name}", "idle_cpu_ms", 1, 2)]
            for name, label in (("floor", "floor server"), ("gateway", "millrace"))]
    return table(["slope between 2,000 and 15,000 connections", "bytes a connection",
                  "CPU with 15,000, ms/s"], rows)


def idle_tls_table(results):
    rows = [[label, spread(results, name, "bytes_per_connection"),
             ratio(results, name, "idle_tls/floor", "bytes_per_connection")]
            for name, label in (("idle_tls/floor", "OpenSSL echo server"),
                                ("idle_tls/gateway", "millrace, TLS"))]
    return table(["slope between 2,000 and 15,000 connections", "bytes a connection", "×"], rows)


def connect_table(results):
    rows = [[label, spread(results, name, "visits_per_s"), spread(results, name, "cpu_ns", 1e-3, 1),
             spread(results, name, "visit_p99", 1e-3, 2)]
            for name, label in (("connect/floor", "floor server"), ("connect/gateway", "millrace"))]
    return table(["connect, CONNECT, CONNACK, close", "visits/s", "CPU µs/visit", "p99, ms"], rows)


def tls_table(results):
    rows = [[label, spread(results, name, "handshake_ns", 1e-3, 0),
             spread(results, name, "cpu_ns", 1e-3, 0)]
            for name, label in (("tls/openssl", "`openssl speed`: a signature, twice X25519"),
                                ("tls/floor", "OpenSSL echo server"),
                                ("tls/gateway", "millrace"))]
    return table(["", "handshake, CPU µs", "whole visit, CPU µs"], rows)


def facts(results, *rows):
    """One line each: label, run, key, scale, digits."""
    return table(["", ""], [[label, spread(results, name, key, scale, digits)]
                            for label, name, key, scale, digits in rows])


def times(results, name, key):
    """millrace's figure over Mosquitto's."""
    return ratio(results, f"{name}/millrace", f"{name}/mosquitto", key)


def beside_tables(results):
    def rows(name, columns):
        """Both subjects, then the ratio of each column."""
        out = [[subject, *[spread(results, f"{name}/{subject}", key, scale, digits)
                           for key, scale, digits in columns]]
               for subject in ("millrace", "mosquitto")]
        return [*out, ["ratio", *[times(results, name, key) for key, _, _ in columns]]]

    copies = [("copies_per_s", 1, 0), ("cpu_ns", 1, 0), ("copy_p50", 1e-3, 2),
              ("copy_p99", 1e-3, 2)]
    head = ["", "copies/s", "CPU ns/copy", "p50, ms", "p99, ms"]
    parts = []
    for shape in SHAPES:
        parts += [f"### Fan-out, {shape.replace('_', ' ')}",
                  table(head, rows(f"beside/fanout/{shape}", copies))]
    parts += ["### 1,000,000 filters with wildcards, each publish meets one",
              table([*head, "subscribing all, s", "bytes/filter"],
                    rows("beside/filters", [*copies, ("subscribe_s", 1, 2),
                                            ("bytes_per_filter", 1, 0)])),
              "### 15,000 persistent sessions",
              table(["", "made, s", "all back at once, s", "p99 to CONNACK, ms"],
                    rows("beside/storm", [("made_s", 1, 2), ("back_s", 1, 2),
                                          ("back_p99", 1e-3, 0)])),
              "### 1,000,000 retained messages of 100 bytes",
              table(["", "made/s", "bytes/message", "wildcard subscription, s", "first one, s"],
                    rows("beside/retained", [("made_per_s", 1, 0), ("bytes_per_message", 1, 0),
                                             ("subscribe_s", 1, 2), ("first_s", 1, 3)])),
              "### The subscription tree alone, 1,000,000 filters",
              table(["", "topics/s", "ns/topic", "ns to add a filter", "bytes/filter"],
                    [[label, *[spread(results, f"beside/subtree/{kind}", key, 1, 0) for key in
                               ("matches_per_s", "match_ns", "add_ns", "bytes_per_filter")]]
                     for kind, label in (("own", "one branch"), ("spread", "a `+` beside each"))])]
    return "\n\n".join(parts)


# ---- what stands in the document, group by group, in this order ----

def commit_table(results):
    rows = [[f"{label}, {size:,} bytes", spread(results, name, "event_cpu_ns"),
             ratio(results, name, f"commit/thread_{size}", "event_cpu_ns"),
             both(results, name, "commit_p50", "commit_p99"),
             spread(results, name, "switches", 1, 1)]
            for size in COMMITS["sizes"] for way, label in COMMIT_LABELS.items()
            for name in [f"commit/{way}_{size}"]]
    return table(["a commit", "CPU ns/event", "× the gateway's way", "p50 / p99, ms",
                  "context switches"], rows)


def sockets_table(results):
    rows = [[label, spread(results, f"sockets/{way}", "cpu_ns"),
             both(results, f"sockets/{way}", "puback_p50", "puback_p99")]
            for way, label in SOCKET_LABELS.items()]
    return table(["PUBACKs at 20,000 events/s", "CPU ns/event", "p50 / p99, ms"], rows)


SECTIONS = {
    "a": ("(a) 100 connections, 50 publishes a write, QoS 1, 100 bytes",
          lambda r: rates(r, "a", {s: label for s, label in NAMES.items()
                                 if not s.endswith("_epoll")})),
    "sustained": ("(a) for long, and everything read back", sustained_table),
    "cost": ("What value, time, headers and transactions cost", cost_table),
    "b": ("(b) 1,000 connections, one publish in flight each", lambda r: rates(
        r, "b", {s: NAMES[s] for s in ("floor", "journal", "journal_epoll", "kafka",
                                        "kafka_epoll")})),
    "c": ("(c) 15,000 connections, one publish in flight each", lambda r: rates(
        r, "c", {s: NAMES[s] for s in ("floor", "journal", "journal_epoll", "kafka")})),
    "latency": (f"Latency at {RATE:,} events/s from 1,000 connections, open loop",
                lambda r: latency_table(r) + "\n\n" + disk_table(r)),
    "followed": ("As fast as possible, with a consumer beside it", followed_table),
    "encoder": ("A producer of our own?", encoder_table),
    "shards": ("One shard and two", shards_table),
    "catchup": (f"Behind an outage: {BACKLOG_EVENTS:,} events, then Kafka again", catchup_table),
    "overload": ("Beyond the peak, load (a), open loop", overload_table),
    "scale": (f"From few connections to many, {SCALE_RATE:,} events/s in all", scale_table),
    "backlog": ("On a journal that is empty, and behind a backlog", lambda r: facts(
        r, ("backlog, bytes", "backlog/gateway", "bytes", 1, 0),
        ("journal bytes/s while it was made (events of 16,000 bytes)", "backlog/gateway",
         "fill_bytes_per_s", 1, 0),
        ("CPU ns/event of (a), empty", "backlog/gateway", "empty_cpu_ns", 1, 0),
        ("CPU ns/event of (a), behind it", "backlog/gateway", "cpu_ns", 1, 0),
        ("memory at most, MiB", "backlog/gateway", "memory", 2**-20, 0))),
    "bytes": ("Journal", lambda r: facts(
        r, ("journal bytes per payload byte, 100-byte events at 10,000/s", "bytes/journal",
            "bytes_per_payload_byte", 1, 2),
        ("the same as it is written, in whole pages", "bytes/journal", "pages_per_payload_byte",
         1, 2),
        ("events a commit there", "bytes/journal", "events_per_commit", 1, 1))),
    "commit": ("Ways to commit", commit_table),
    "sockets": ("Ways to answer", sockets_table),
    "recovery": ("Start behind a kill", lambda r: facts(
        r, ("journal at the kill, bytes", "recovery/journal", "journal_bytes", 1, 0),
        ("from start to the first CONNACK behind it, ms (caches dropped)", "recovery/journal",
         "recovery_ms", 1, 0),
        ("its segments read with CRC32C, MB/s", "recovery/journal", "read_per_s", 1e-6, 0),
        ("`millrace journal verify`, MB/s", "recovery/journal", "verify_per_s", 1e-6, 0))),
    "connect": ("Connections that come and go, 100 at a time", connect_table),
    "tls": ("TLS handshakes (TLS 1.3, P-256, X25519)", tls_table),
    "sessions": ("Sessions", lambda r: facts(
        r, ("persistent sessions, each with a subscription", "sessions/gateway", "sessions", 1, 0),
        ("made, s", "sessions/gateway", "made_s", 1, 2),
        ("all back at once, s", "sessions/gateway", "back_s", 1, 2),
        ("after kill -9: start to the first CONNACK, ms", "sessions/gateway", "restart_ms", 1, 0),
        ("then all back at once, s", "sessions/gateway", "again_s", 1, 2))),
    "idle": ("An idle connection", idle_table),
    "idle_tls": ("An idle connection with TLS", idle_tls_table),
}


def measured_line(group):
    text = (f"Measured {group['measured']} on {group['machine']}; {group['reps']} "
            f"repetition{'' if group['reps'] == 1 else 's'}, median (lowest to highest).")
    for word, what in (("Failed, and does not count", "failed"),
                       ("Disturbed, and does not count", "void")):
        if group[what]:
            text += f" **{word}:** " + "; ".join(x.splitlines()[0] for x in group[what]) + "."
    return text


def scorecard_text(measured):
    rows = scorecard(measured)
    if not rows:
        return []
    order = measured.get("order")
    if order is None:
        said = "The order of flushes and acknowledgements was not checked in this run."
    elif order["failed"]:
        said = "**Acknowledgements came before their flush; nothing counts:** " + "; ".join(
            line.splitlines()[0] for line in order["failed"])
    else:
        count = sum(r["acked"] for runs in order["results"].values() for r in runs)
        said = (f"{count:,} acknowledgements were held against the flushes that had returned: "
                "none was early.")
    return ["### Scorecard", said, table(
        ["mark", "metric", "against", "acknowledged from", "to reach",
         "measured (95 % interval of the median)", "repetitions", ""], rows)]


def markdown(measured):
    """The tables of these groups: {name: what was saved of it}."""
    parts = scorecard_text(measured)
    for name, (title, tables) in SECTIONS.items():
        if name in measured:
            parts += [f"### {title}", measured_line(measured[name]),
                      tables(measured[name]["results"])]
    if "beside" in measured:
        parts += [measured_line(measured["beside"]), beside_tables(measured["beside"]["results"])]
    return "\n\n".join(parts) + "\n"


def write_between(text, word, inside):
    begin, end = f"<!-- {word} -->\n", f"<!-- end of {word} -->"
    head, rest = text.split(begin, 1)
    return head + begin + "\n" + inside + "\n" + end + rest.split(end, 1)[1]


def write_document(measured):
    path = ROOT / "docs/BENCHMARKS.md"
    text = path.read_text()
    beside = {name: group for name, group in measured.items() if name == "beside"}
    results = {name: group for name, group in measured.items() if name != "beside"}
    for word, groups in (("results", results), ("beside", beside)):
        if groups:
            text = write_between(text, word, markdown(groups))
    path.write_text(text)
