"""report - the verdict of a run: one line, a JSON file, the first offenders, an exit code.

    0  every promise was kept      1  a promise was broken      2  the run itself did not come about
"""

import json
import pathlib
import shutil
import subprocess

import books
import journal
from checker import FAULTS, REPORTED
from tally import tally

KEPT, BROKEN, DID_NOT_RUN = 0, 1, 2
ROOT = pathlib.Path(__file__).resolve().parents[2]


def build_of(root=ROOT):
    """What of the source was tested: the commit, and whether it was changed."""
    if shutil.which("git") is None:  # an archive was unpacked, or a bare machine
        return "unknown"
    done = subprocess.run(["git", "-C", root, "describe", "--always", "--dirty"],
                          capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def during(windows, when):
    """The faults in force at a time, or within two seconds before."""
    names = [one["fault"] for one in windows if when is not None
             and one["begin"] <= when <= (one["end"] or when) + 2]
    return ", ".join(names) or "none"


def explain(offences, path, windows):
    """Add to each offence when it was sent and acknowledged, and which fault was in force."""
    times = books.times_of(path, {(one.device, one.number) for one in offences})
    for one in offences:
        one.sent, one.acked = times.get((one.device, one.number), (None, None))
        one.during = during(windows, one.acked or one.sent)
    return offences


class Report:
    """`checkers`: by the name of their reader; `windows`: of the nemesis."""

    def __init__(self, name, seed, counts, checkers, windows, more=None):
        self.name, self.seed, self.windows = name, seed, windows
        self.counts, self.checkers = counts, checkers
        self.more = more or {}

    @property
    def broken(self):
        return any(one.is_broken() for one in self.checkers.values())

    def exit_code(self):
        return BROKEN if self.broken else KEPT

    def sums(self):
        sums = dict.fromkeys(FAULTS + REPORTED, 0)
        for one in self.checkers.values():
            for fault in sums:
                sums[fault] += one.counts[fault]
        return sums

    def line(self):
        sums, counts = self.sums(), self.counts
        found = ", ".join(f"{fault.lower()} {sums[fault]}" for fault in FAULTS)
        seen = ", ".join(f"{one.records:,} at {name}" for name, one in self.checkers.items())
        return (f"ledger {self.name}: {'BROKEN' if self.broken else 'kept'}; seed {self.seed}, "
                f"build {build_of()}; {counts[journal.SENT]:,} sent, "
                f"{counts[journal.RESENT]:,} again, {counts[journal.ACKED]:,} acknowledged, "
                f"{counts[journal.UNKNOWN]:,} unknown for a while; {seen}; {found}; "
                f"allowed copies: {self.copies()}; "
                f"{self.gone()}"
                f"{len(self.windows)} faults made")

    def tally(self):
        sums = self.sums()
        tally(self.name, len(self.windows), self.counts[journal.SENT],
              sum(sums[fault] for fault in FAULTS))

    def gone(self):
        gone = self.sums()["GONE"]
        return f"{gone:,} gone with a deleted topic; " if gone else ""

    def copies(self):
        return ", ".join(f"{name} {one.counts['DUP_CLIENT']:,} by devices and "
                         f"{one.counts['REPLAY']:,} by the gateway"
                         for name, one in self.checkers.items())

    def offenders(self, path):
        """Lines for people: the first offences of each reader."""
        for name, one in self.checkers.items():
            for bad in explain(one.offences, path, self.windows):
                acked = f"acked {bad.acked:.3f}" if bad.acked else "not acked"
                yield (f"  {bad.fault} at {name}: device {bad.device}, event {bad.number}, "
                       f"{acked}, at {bad.where}: {bad.what} (fault in force: {bad.during})")

    def write(self, path, journal_path):
        said = {
            "name": self.name, "seed": self.seed, "build": build_of(), "broken": self.broken,
            "sent": self.counts[journal.SENT], "resent": self.counts[journal.RESENT],
            "acked": self.counts[journal.ACKED], "unknown": self.counts[journal.UNKNOWN],
            "readers": {name: {"records": one.records, **one.counts,
                               "offenders": [vars(bad) for bad in
                                             explain(one.offences, journal_path, self.windows)]}
                        for name, one in self.checkers.items()},
            "faults": self.windows, **self.more,
        }
        pathlib.Path(path).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
