"""night - ./dev soak without a word: all of the long variants, in the order of their worth.

Each part is a command of ./dev and goes on behind one that failed.  Its output is in
build/soak/NUMBER-NAME.log.  At the end, or when it is interrupted, a table says of each part
how many rounds and events there were and how many faults were found; exit code 1 if there were any.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "soak"
PARTS = (
    ("kills", ["soak", "1000"]),
    ("power", ["soak", "power"]),
    ("kafka", ["soak", "kafka"]),
    ("points", ["soak", "points"]),
    ("mixed", ["soak", "mixed"]),
    ("trouble", ["soak", "trouble"]),
    ("rot", ["soak", "rot"]),
    ("images", ["soak", "images"]),
    ("calls", ["soak", "calls"]),
    ("memory", ["soak", "memory"]),
    ("recovery", ["soak", "recovery"]),
    ("liar", ["soak", "liar"]),
    ("attacks", ["soak", "attacks"]),
    ("backlog", ["soak", "backlog"]),
    ("away", ["soak", "away"]),
    ("fuzz", ["fuzz", "360"]),
    ("replays", ["soak", "replays"]),
    ("simulator", ["sim", "--seeds", "1..1000000", "--jobs", str(os.cpu_count())]),
)
SKIPPED = 77  # some want root; the log says so
COUNTED = re.compile(r"^(\d+) images$|^seed \d+, \d+ files, (\d+) mutations", re.M)
SIMULATED = re.compile(r"^sim: (\d+) seeds, (\d+) failed,.*?(\d+) events sent", re.M)


def say(text):
    print(text, flush=True)


class Part:
    def __init__(self, number, name, words):
        self.name, self.words = name, words
        self.log = OUT / f"{number:02}-{name}.log"
        self.counted = self.log.with_suffix(".tally")
        self.minutes, self.code = 0.0, None  # None: it was interrupted

    def run(self):
        self.counted.unlink(missing_ok=True)
        began = time.monotonic()
        with self.log.open("w", encoding="utf-8") as log:
            process = subprocess.Popen([ROOT / "dev", *self.words], stdout=log, stderr=log,
                                       stdin=subprocess.DEVNULL, start_new_session=True,
                                       env=dict(os.environ, MR_TALLY=str(self.counted)))
            try:
                self.code = process.wait()
            finally:
                self.minutes = (time.monotonic() - began) / 60
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGTERM)
                    process.wait()

    def sums(self):
        """(rounds, events, faults found)"""
        said = self.log.read_text(encoding="utf-8", errors="replace")
        simulated = SIMULATED.search(said)
        if simulated:
            rounds, found, events = map(int, simulated.groups())
            return rounds, events, found
        rows = self.counted.read_text(encoding="utf-8") if self.counted.exists() else ""
        rows = [json.loads(row) for row in rows.splitlines()]
        rows += [{"rounds": int(images or mutations), "events": 0, "found": 0}
                 for images, mutations in COUNTED.findall(said)]
        return tuple(sum(row[key] for row in rows) for key in ("rounds", "events", "found"))

    def verdict(self):
        if self.code is None:
            return "interrupted"
        told = f"see {self.log.relative_to(ROOT)}"
        return {0: "kept", SKIPPED: f"skipped, {told}"}.get(self.code, f"FAILED, {told}")


def table(parts):
    yield f"{'part':<10} {'minutes':>7} {'rounds':>9} {'events':>13} {'faults':>6}"
    for part in parts:
        rounds, events, found = part.sums()
        yield (f"{part.name:<10} {part.minutes:7.1f} {rounds:9,} {events:13,} {found:6,}  "
               f"{part.verdict()}")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    done = []
    try:
        for number, (name, words) in enumerate(PARTS, 1):
            done.append(Part(number, name, words))
            say(f"./dev {' '.join(words)} (log: {done[-1].log.relative_to(ROOT)})")
            done[-1].run()
            say(f"  {done[-1].verdict()}, {done[-1].minutes:.1f} minutes")
    except KeyboardInterrupt:
        say("interrupted")
    say("\n" + "\n".join(table(done)))
    return 0 if all(part.code in (0, SKIPPED) for part in done) and len(done) == len(PARTS) else 1


if __name__ == "__main__":
    sys.exit(main())
