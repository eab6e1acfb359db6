#!/usr/bin/env python3
"""What an event costs in instructions, function by function, against what is recorded.

    cost.py              exit 1 if an event costs more than is recorded, and who has grown
    cost.py --record     write what it costs now to recorded.json
    cost.py --table      the stages, as docs/BENCHMARKS.md shows them

cost.c runs the gateway's own parts in the simulated machine, so a count of its instructions is
exact: the same on every run, however busy the machine is.  Two runs of different length are
compared, which leaves out the start.  cost_kafka.c has librdkafka's real threads, so of it only
what the sink does for each record is counted.

Counted is what stands in src/, as the compiler has made it: so a record is kept for each compiler,
and one that has none is compared with the nearest, generously.  Not counted are libc and isa-l,
which choose their code by the CPU, and the simulated machine (src/os/sim).
"""

import collections
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RELEASE = pathlib.Path(os.environ.get("MR_RELEASE", ROOT / "build" / "release"))
RECORDED = HERE / "recorded.json"

# Programs, and how long their two runs are; of which functions the count is taken (None: of all).
PROGRAMS = [
    ("cost", (2, 12), None),
    ("cost_kafka", (5000, 45000), {"kafka_submit", "kafka_produce", "on_report"}),
]
TOLERANCE = 0.02
TOLERANCE_OTHER_COMPILER = 0.25
SHOWN = 0.5  # instructions an event: what costs less is not recorded by name
SKIPPED = 77

# Which part of an event's way a function belongs to: the first row whose pattern its file, or the
# file and the function, match.
STAGES = [
    ("receive", r"^net/|^os/"),
    ("ack gate", r"^broker/(ackgate|gates|send_)"),
    ("parse", r"^codec/|^base/utf8"),
    ("read back", r"^journal/(reader|block)|^journal/format\.c:mr_record_get|"
                  r"^journal/names\.c:mr_names_|^journal/scan|^journal/view"),
    ("append", r"^broker/append|^journal/(append|names|format)"),
    ("commit", r"^journal/|^base/hash"),
    ("check and route", r"^broker/"),
    ("fill and settle", r"^pipeline/"),
    ("sink", r"^sink/"),
    ("other", r""),
]


def fail(text):
    print(text)
    sys.exit(1)


def build():
    """The programs of the release build, made anew if something has changed."""
    if not (RELEASE / "CMakeCache.txt").exists():
        subprocess.run(["cmake", "-S", ROOT, "-B", RELEASE, "-G", "Ninja",
                        "-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DMR_TESTS=OFF"],
                       check=True, stdout=subprocess.DEVNULL)
    targets = [program for program, _, _ in PROGRAMS]
    made = subprocess.run(["cmake", "--build", RELEASE, "--target", *targets, "--", "--quiet"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if made.returncode != 0:
        fail(f"the release build failed:\n{made.stdout}")


def compiler():
    """Its name and main version: what the same source becomes depends on both."""
    found = next(RELEASE.glob("CMakeFiles/*/CMakeCCompiler.cmake")).read_text()
    name = re.search(r'CMAKE_C_COMPILER_ID "(\w+)"', found)[1]
    version = re.search(r'CMAKE_C_COMPILER_VERSION "(\d+)', found)[1]
    return f"{name} {version}"


def counts(path):
    """Instructions by (file, function) of one cachegrind file."""
    found = collections.Counter()
    file = function = ""
    for line in path.read_text().splitlines():
        if line.startswith("fl="):
            file = line[3:]
        elif line.startswith("fn="):
            function = line[3:]
        elif line[:1].isdigit():
            found[file, function] += int(line.split()[1])
    return found


def of_source(file):
    """The path below src/, or nothing if it is not ours."""
    return file.rpartition("/src/")[2] if "/src/" in file else ""


def is_ours(file):
    return file != "" and not file.startswith("os/sim/")


def run(program, length, folder):
    out = folder / f"{program}.{length}"
    process = subprocess.Popen(
        ["valgrind", "-q", "--tool=cachegrind", "--cache-sim=no",
         f"--cachegrind-out-file={out}", RELEASE / program, str(length)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return out, process


def difference(program, lengths, folder):
    """Per event: instructions by function and file, {function: {path below src/: count}}."""
    runs = [run(program, length, folder) for length in lengths]
    events = []
    for _, process in runs:
        out, err = process.communicate(timeout=240)
        if process.returncode != 0:
            fail(f"{program} ended with {process.returncode}:\n{err}")
        events.append(int(out))
    few, many = (counts(out) for out, _ in runs)
    found = collections.defaultdict(collections.Counter)
    for file, function in many.keys() | few.keys():
        more = many[file, function] - few[file, function]
        found[function][of_source(file)] += more / (events[1] - events[0])
    return found


def measure():
    """Per event: instructions of each of our functions, and of all else together."""
    ours, others = {}, 0.0
    with tempfile.TemporaryDirectory(prefix="millrace-cost-") as folder:
        found = [(difference(program, lengths, pathlib.Path(folder)), wanted)
                 for program, lengths, wanted in PROGRAMS]
    for by_function, wanted in found:
        for function, files in by_function.items():
            per_event = sum(files.values())
            # What headers and the compiler have put into a function is that function's.
            homes = [f for f in files if f.endswith(".c") and is_ours(f)] or \
                    [f for f in files if is_ours(f)]
            if homes and (wanted is None or function in wanted):
                home = max(homes, key=lambda f: files[f])
                ours[f"{home}:{function}"] = round(per_event, 2)
            elif wanted is None:
                others += per_event
    return ours, others


def stage_of(function):
    return next(stage for stage, pattern in STAGES if re.search(pattern, function))


def stages(ours):
    by_stage = collections.Counter()
    for function, per_event in ours.items():
        by_stage[stage_of(function)] += per_event
    return by_stage


def say_table(ours, others):
    print("| stage | instructions an event | most of it in |\n|---|---|---|")
    by_stage = stages(ours)
    for stage, _ in STAGES:
        if by_stage[stage] >= 1:
            inside = sorted((f for f in ours if stage_of(f) == stage), key=lambda f: -ours[f])
            most = ", ".join(f"`{f.split(':')[1]}` {ours[f]:.0f}" for f in inside[:3])
            print(f"| {stage} | {by_stage[stage]:.0f} | {most} |")
    print(f"| all of ours | {sum(ours.values()):.0f} | |")
    print(f"| libc, isa-l, and the simulated machine in place of the kernel | {others:.0f} | |")


def record(ours, name):
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    named = {f: n for f, n in sorted(ours.items(), key=lambda item: -item[1]) if n >= SHOWN}
    recorded[name] = {"instructions_per_event": round(sum(ours.values()), 1), "functions": named}
    RECORDED.write_text(json.dumps(dict(sorted(recorded.items())), indent=2) + "\n")
    print(f"recorded for {name}: {sum(ours.values()):.1f} instructions an event")


def say_grown(ours, was):
    before = was["functions"]
    grown = sorted(((ours.get(f, 0) - before.get(f, 0), f) for f in ours.keys() | before.keys()),
                   key=lambda row: -abs(row[0]))
    print("What has changed, instructions an event:")
    for change, function in grown[:15]:
        if abs(change) >= SHOWN:
            print(f"  {change:+8.1f}  {function}  ({before.get(function, 0):.1f} before)")


def compare(ours, name):
    recorded = json.loads(RECORDED.read_text())
    known = name in recorded
    was = recorded[name] if known else recorded[max(recorded)]
    tolerance = TOLERANCE if known else TOLERANCE_OTHER_COMPILER
    now, before = sum(ours.values()), was["instructions_per_event"]
    print(f"{now:.1f} instructions an event, recorded are {before:.1f}"
          + ("" if known else f" (of {max(recorded)}; there is no record for {name})"))
    if now > before * (1 + tolerance):
        say_grown(ours, was)
        fail(f"An event costs {100 * (now / before - 1):.1f} % more than is recorded; "
             f"{100 * tolerance:.0f} % is allowed.\n"
             "If that is worth it, record the new value and say why in the commit: "
             "test/cost/cost.py --record")
    if now < before * (1 - tolerance):
        say_grown(ours, was)
        print("It has become cheaper: keep that with test/cost/cost.py --record")


def main():
    if shutil.which("valgrind") is None:
        print("valgrind is missing (tools/packages/test)")
        sys.exit(1 if os.environ.get("CI") == "true" else SKIPPED)
    build()
    ours, others = measure()
    if "--record" in sys.argv[1:]:
        record(ours, compiler())
    elif "--table" in sys.argv[1:]:
        say_table(ours, others)
    else:
        compare(ours, compiler())


if __name__ == "__main__":
    main()
