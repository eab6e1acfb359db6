"""table - from figures to the section "Beside what one would pick instead"."""

import statistics

from measure import COUNTS, QUIET
from peer import CLASSES, PEERS, PRODUCTS
from report import spread, table, write_between
from subjects import ROOT

TITLES = {
    "a": "(a) 100 connections, 50 publishes a write, QoS 1, 100 bytes",
    "b": "(b) 1,000 connections, one publish in flight each",
}


def ratios(results, load, name, own, key="cpu_ns"):
    """How much more CPU an event costs than with millrace, in each repetition that has both."""
    ours = {run["repetition"]: run.get(key) for run in results.get(f"{load}/{own}", [])}
    return [run[key] / ours[run["repetition"]] for run in results.get(f"{load}/{name}", [])
            if ours.get(run["repetition"]) and key in run]


def times(results, load, name, own, key="cpu_ns"):
    found = ratios(results, load, name, own, key)
    return spread({"": [dict(ratio=ratio) for ratio in found]}, "", "ratio", 1, 1)


def came_out(results, name):
    """What the verification found over all repetitions."""
    runs = results.get(name, [])
    found = {key: sum(run.get(key, 0) for run in runs)
             for key in ("missing", "twice", "reordered", "moved", "unknown")}
    acked = sum(run["acked"] for run in runs)
    unacked = sum(run["sent"] - run["acked"] for run in runs)
    words = [f"{found[key]:,} {word}" for key, word in
             (("missing", "lost"), ("twice", "twice"), ("unknown", "unknown")) if found[key]]
    if found["moved"]:
        words.append(f"no key: {found['moved'] / max(acked, 1):.0%} in another partition than the "
                     "device's first")
    if found["reordered"]:
        words.append(f"{found['reordered']:,} out of order")
    if unacked:
        words.append(f"{unacked:,} never acknowledged")
    return "; ".join(words) if words else "every event once, in order"


def bridges(results, load):
    header = ["", "class", "acknowledged, events/s", "in Kafka, events/s", "its CPU, µs/event",
              "× millrace on disk", "× millrace in memory", "machine's CPU, µs/event",
              "machine's, × millrace on disk", "Kafka's CPU, µs/event",
              "generator's CPU, µs/event", "what came out"]
    rows = []
    for peer in PEERS:
        name = f"{load}/{peer.name}"
        if not peer.bridge or name not in results:
            continue
        rows.append([peer.title, peer.durability, spread(results, name, "events_per_s"),
                     spread(results, name, "end_to_end"), spread(results, name, "cpu_ns", 1e-3, 2),
                     times(results, load, peer.name, "millrace_disk"),
                     times(results, load, peer.name, "millrace_memory"),
                     spread(results, name, "machine_cpu_ns", 1e-3, 2),
                     times(results, load, peer.name, "millrace_disk", "machine_cpu_ns"),
                     spread(results, name, "kafka_cpu_ns", 1e-3, 2),
                     spread(results, name, "generator_cpu_ns", 1e-3, 2),
                     came_out(results, name)])
    return table(header, rows) if rows else None


def brokers(results, load):
    header = ["broker alone", "class", "acknowledged, events/s", "its CPU, µs/event",
              "× millrace on disk", "× millrace in memory", "machine's CPU, µs/event",
              "machine's, × millrace on disk", "PUBACK p50 / p99, ms"]
    rows = []
    for peer in PEERS:
        name = f"{load}/{peer.name}"
        if peer.bridge or name not in results:
            continue
        rows.append([peer.title, peer.durability, spread(results, name, "events_per_s"),
                     spread(results, name, "cpu_ns", 1e-3, 2),
                     times(results, load, peer.name, "journal_disk"),
                     times(results, load, peer.name, "journal_memory"),
                     spread(results, name, "machine_cpu_ns", 1e-3, 2),
                     times(results, load, peer.name, "journal_disk", "machine_cpu_ns"),
                     f"{spread(results, name, 'puback_p50', 1e-3, 2)} / "
                     f"{spread(results, name, 'puback_p99', 1e-3, 2)}"])
    return table(header, rows) if rows else None


def best(results):
    """The sentence of the whole section."""
    said = []
    for load in COUNTS:
        found = {name: ratios(results, load, name, "millrace_disk") for name in PRODUCTS}
        found = {name: statistics.median(ratio) for name, ratio in found.items() if ratio}
        if not found:
            continue
        name = min(found, key=found.get)
        title = next(peer.title for peer in PEERS if peer.name == name)
        said.append(f"({load}) {title}, {found[name]:.1f} times the CPU of millrace with "
                    "everything on disk")
        whole = ratios(results, load, name, "millrace_disk", "machine_cpu_ns")
        if whole:
            said[-1] += f" ({statistics.median(whole):.1f} times that of the whole machine)"
    return "The best product among them: in " + "; in ".join(said) + "." if said else ""


def busy(results):
    """What the machine did besides, where it did anything."""
    shares = [run["idle_share"] for runs in results.values() for run in runs
              if isinstance(run, dict) and "idle_share" in run]
    share = statistics.median(shares) if shares else 0
    if share <= QUIET:
        return ""
    return (f"The machine was not idle otherwise: other work had {min(share, 1):.0%} of it before "
            "the load. So rates and latencies are too low and too long, the whole machine has no "
            "figure, and of the CPU times only the ratios count, within their spread.")


def markdown(measured):
    """Of what bench/peers/run leaves in its JSON."""
    results = measured["results"]
    events = ", ".join(f"{int(count * measured['scale']):,} in ({load})"
                       for load, count in COUNTS.items())
    parts = [f"Measured {measured['date']} on {measured['machine']}; {measured['reps']} "
             "repetitions, forwards and backwards, median (lowest to highest); ratios are of one "
             f"repetition each. Events a run: {events}, of the fast ones up to ten times as many. "
             + "; ".join(f"{name}: {what}" for name, what in CLASSES.items()) + ".",
             busy(results), best(results)]
    for load in COUNTS:
        both = [part for part in (bridges(results, load), brokers(results, load)) if part]
        if both:
            parts += [f"### {TITLES[load]}", *both]
    if "failed" in results:
        parts.append("**Runs that failed and do not count:** " + "; ".join(
            line.splitlines()[0] for line in results["failed"]))
    return "\n\n".join(part for part in parts if part) + "\n"


def write_document(text):
    path = ROOT / "docs/BENCHMARKS.md"
    path.write_text(write_between(path.read_text(), "peers", text))
