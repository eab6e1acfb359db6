"""report - from figures to the tables of docs/BENCHMARKS.md."""

import datetime
import os
import pathlib
import platform
import re
import statistics

from beside import SHAPES
from runs import LATENCY_RATE
from subjects import ROOT


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


def ratio(results, above, below):
    x, y = median(results, above, "cpu_ns"), median(results, below, "cpu_ns")
    return f"{x / y:.2f}" if x and y else ""


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


def markdown(results, args):
    names = {
        "floor": "floor server (no disk, no Kafka)",
        "rdkafka": "librdkafka alone, with timestamps",
        "rdkafka_batch": "librdkafka alone, produce_batch",
        "journal": "millrace, journal only",
        "kafka": "millrace into Kafka",
        "journal_2": "millrace, journal only, two shards",
        "kafka_2": "millrace into Kafka, two shards",
    }

    def rates(load, subjects):
        header = ["", "acknowledged, events/s", "in Kafka, events/s", "CPU ns/event",
                  "× floor", "PUBACK p50 / p99, ms", "Kafka CPU ns/event"]
        rows = []
        for subject in subjects:
            name = f"{load}/{subject}"
            p50 = spread(results, name, "puback_p50", 1e-3, 2)
            p99 = spread(results, name, "puback_p99", 1e-3, 2)
            rows.append([names[subject], spread(results, name, "events_per_s"),
                         spread(results, name, "end_to_end"), spread(results, name, "cpu_ns"),
                         ratio(results, name, f"{load}/floor") if "rdkafka" not in name else "",
                         f"{p50} / {p99}" if p50 else "",
                         spread(results, name, "kafka_cpu_ns")])
        return table(header, rows)

    def beside_a_consumer(load):
        rows = []
        for subject, label in (("followed_rdkafka", names["rdkafka"]),
                               ("followed", names["kafka"])):
            name = f"{load}/{subject}"
            rows.append([label, spread(results, name, "events_per_s"),
                         spread(results, name, "puback_p50", 1e-3, 2),
                         spread(results, name, "puback_p99", 1e-3, 2),
                         spread(results, name, "consumer_p50", 1e-3, 1),
                         spread(results, name, "consumer_p99", 1e-3, 1)])
        return table(["with a consumer beside it", "acknowledged, events/s", "PUBACK p50, ms",
                      "PUBACK p99, ms", "publish to consumer p50, ms",
                      "publish to consumer p99, ms"], rows)

    latency_rows = [
        [names[s], spread(results, f"latency/{s}", "puback_p50", 1e-3, 2),
         spread(results, f"latency/{s}", "puback_p99", 1e-3, 2),
         spread(results, f"latency/{s}", "consumer_p50", 1e-3, 1),
         spread(results, f"latency/{s}", "consumer_p99", 1e-3, 1),
         spread(results, f"latency/{s}", "cpu_ns")]
        for s in ("rdkafka", "kafka")]
    disk_rows = [[spread(results, n, "commit_bytes"), spread(results, n, "commit_p50", 1e-3, 3),
                  spread(results, n, "commit_p99", 1e-3, 3)] for n in ("disk/4k", "disk/commit")
                 if n in results]
    journal_rows = [
        ["journal bytes per payload byte, 100-byte events at 10,000/s",
         spread(results, "bytes/journal", "bytes_per_payload_byte", 1, 2)],
        ["journal at the kill, bytes", spread(results, "recovery/journal", "journal_bytes")],
        ["from start to the first CONNACK behind it, ms (caches dropped)",
         spread(results, "recovery/journal", "recovery_ms")],
    ]
    session_rows = [
        ["persistent sessions, each with a subscription",
         spread(results, "sessions/gateway", "sessions")],
        ["made, s", spread(results, "sessions/gateway", "made_s", 1, 2)],
        ["all back at once, s", spread(results, "sessions/gateway", "back_s", 1, 2)],
        ["after kill -9: start to the first CONNACK, ms",
         spread(results, "sessions/gateway", "restart_ms")],
        ["then all back at once, s", spread(results, "sessions/gateway", "again_s", 1, 2)],
    ]
    idle_rows = [[label, spread(results, f"idle/{s}", "bytes_per_connection")]
                 for s, label in (("floor", "floor server"), ("gateway", "millrace"))]
    parts = [
        f"Measured {datetime.date.today().isoformat()} on {machine()}; {args.reps} repetitions, "
        "median (lowest to highest). Every acknowledged event was read back from Kafka once, in "
        "order.",
        "### (a) 100 connections, 50 publishes a write, QoS 1, 100 bytes",
        rates("a", ("floor", "rdkafka", "rdkafka_batch", "journal", "kafka", "journal_2",
                    "kafka_2")),
        beside_a_consumer("a"),
        "### (b) 1,000 connections, one publish in flight each",
        rates("b", ("floor", "journal", "kafka", "journal_2", "kafka_2")),
        beside_a_consumer("b"),
        "### (c) 15,000 connections, one publish in flight each",
        rates("c", ("floor", "journal", "kafka")),
        f"### Latency at {LATENCY_RATE:,} events/s from 1,000 connections, open loop",
        table(["", "PUBACK p50, ms", "PUBACK p99, ms", "publish to consumer p50, ms",
               "publish to consumer p99, ms", "CPU ns/event"], latency_rows),
        "### One durable write, pwrite + fdatasync, preallocated file",
        table(["bytes", "p50, ms", "p99, ms"], disk_rows),
        "### Journal",
        table(["", ""], journal_rows),
        "### Sessions",
        table(["", ""], session_rows),
        "### Memory of one idle connection (slope between 2,000 and 15,000)",
        table(["", "bytes"], idle_rows),
    ]
    if "failed" in results:
        parts.insert(1, "**Runs that failed and do not count:** " + "; ".join(
            line.splitlines()[0] for line in results["failed"]))
    return "\n\n".join(parts) + "\n"


def times(results, name, key):
    """millrace's figure over Mosquitto's."""
    ours, theirs = (median(results, f"{name}/{s}", key) for s in ("millrace", "mosquitto"))
    return f"{ours / theirs:.2f}" if ours and theirs else ""


def markdown_beside(results, args):
    def rows(name, columns):
        """Both subjects, then the ratio of each column."""
        out = [[subject, *[spread(results, f"{name}/{subject}", key, scale, digits)
                           for key, scale, digits in columns]]
               for subject in ("millrace", "mosquitto")]
        return [*out, ["ratio", *[times(results, name, key) for key, _, _ in columns]]]

    copies = [("copies_per_s", 1, 0), ("cpu_ns", 1, 0), ("copy_p50", 1e-3, 2),
              ("copy_p99", 1e-3, 2)]
    head = ["", "copies/s", "CPU ns/copy", "p50, ms", "p99, ms"]
    parts = [f"Measured {datetime.date.today().isoformat()} on {machine()}; {args.reps} "
             "repetitions, median (lowest to highest)."]
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
    if "failed" in results:
        parts.insert(1, "**Runs that failed and do not count:** " + "; ".join(
            line.splitlines()[0] for line in results["failed"]))
    return "\n\n".join(parts) + "\n"


def write_document(text):
    path = ROOT / "docs/BENCHMARKS.md"
    old = path.read_text()
    begin, end = "<!-- results -->\n", "<!-- end of results -->"
    head, rest = old.split(begin, 1)
    path.write_text(head + begin + "\n" + text + "\n" + end + rest.split(end, 1)[1])
