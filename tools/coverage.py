#!/usr/bin/env python3
"""coverage - ./dev coverage: which lines and branches of src/ the tests have reached, by folder.

    tools/coverage.py BUILD [--missed FOLDER]

BUILD was built with --coverage, and its tests were run.  Branches that only an assertion has are
left out: their other side ends the process.  --missed names the lines of a folder that were not
reached.  Needs gcov of the compiler's version, and nothing else.
"""

import argparse
import collections
import gzip
import json
import os
import pathlib
import re
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
ASSERTS = re.compile(r"\bmr_assert\(")
# docs/RELIABILITY.md: what the gates are about.
PARTS = (
    ("decoder", r"src/codec/(mqtt_|topic)"),
    ("log", r"src/journal/"),
    ("session", r"src/broker/(session|keep|kept|queue|inbound|rows|restore|rehome|clock|handle_|"
                r"merge|share)"),
)


def reports(build):
    """What gcov says of each object of the sources."""
    files = sorted(build.rglob("*.gcda"))
    with tempfile.TemporaryDirectory() as work:
        for at in range(0, len(files), 50):
            chunk = [str(file.resolve()) for file in files[at : at + 50]]
            subprocess.run(["gcov", "--json-format", "--branch-probabilities", *chunk], cwd=work,
                           check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for path in pathlib.Path(work).glob("*.gcov.json.gz"):
            with gzip.open(path) as file:
                said = json.load(file)
            yield from ((said["current_working_directory"], one) for one in said["files"])


def merged(build):
    """{source: {line: (count, [branch counts])}}, the best of all objects."""
    found = collections.defaultdict(dict)
    for base, one in reports(build):
        path = pathlib.Path(os.path.normpath(os.path.join(base, one["file"])))
        if not path.is_relative_to(ROOT / "src"):
            continue
        lines = found[str(path.relative_to(ROOT))]
        for line in one["lines"]:
            number = line["line_number"]
            count, branches = lines.get(number, (0, []))
            new = [branch["count"] for branch in line["branches"]]
            if len(new) == len(branches):
                new = [a + b for a, b in zip(branches, new, strict=True)]
            elif len(branches) > len(new):
                new = branches
            lines[number] = (count + line["count"], new)
    return found


class Sum:
    def __init__(self):
        self.lines = self.lines_hit = self.branches = self.branches_hit = 0

    def add(self, source, lines):
        text = (ROOT / source).read_text(encoding="utf-8").splitlines()
        for number, (count, branches) in lines.items():
            self.lines += 1
            self.lines_hit += count > 0
            if not ASSERTS.search(text[number - 1]):
                self.branches += len(branches)
                self.branches_hit += sum(1 for branch in branches if branch > 0)

    def row(self, name):
        return (f"| {name} | {100 * self.lines_hit / max(1, self.lines):.1f} % of {self.lines:,} | "
                f"{100 * self.branches_hit / max(1, self.branches):.1f} % of {self.branches:,} |")


def say_missed(found, folder):
    for source in sorted(found):
        if source.startswith(folder):
            text = (ROOT / source).read_text(encoding="utf-8").splitlines()
            for number, (count, branches) in sorted(found[source].items()):
                untaken = sum(1 for branch in branches if branch == 0)
                if count == 0 or (untaken and not ASSERTS.search(text[number - 1])):
                    mark = "line" if count == 0 else f"{untaken} of {len(branches)}"
                    print(f"{source}:{number}: {mark}: {text[number - 1].strip()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--missed", metavar="FOLDER", help="lines that were not reached, in full")
    given = parser.parse_args()
    found = merged(given.build)
    if given.missed:
        say_missed(found, given.missed)
        return
    sums = collections.defaultdict(Sum)
    for source, lines in found.items():
        if not lines:
            continue
        for name, pattern in PARTS:
            if re.match(pattern, source):
                sums[f"**{name}**"].add(source, lines)
        sums[f"`{os.path.dirname(source)}/`"].add(source, lines)
    print("| part | lines | branches |\n|---|---|---|")
    for name in sorted(sums):
        print(sums[name].row(name))


if __name__ == "__main__":
    main()
