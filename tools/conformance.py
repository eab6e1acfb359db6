#!/usr/bin/env python3
"""conformance - docs/CONFORMANCE.md and the tests say the same.  No output: they do.

The page has a row for each normative statement.  Its numbers, the short text and
the reason why something is not there yet are written by hand; the last two columns
follow from the tests, which say what they show:

    @shows(v5="3.1.0-1 3.1.0-2", v3="3.1.0-1")           a test in Python
    /* Shows 5.0: 3.1.0-1, 3.1.0-2; 3.1.1: 3.1.0-1. */    above a test in C

    tools/conformance.py [ROOT]            compare
    tools/conformance.py --write [ROOT]    bring the two columns and the sums up to date
"""
import ast
import pathlib
import re
import sys

PAGE = "docs/CONFORMANCE.md"
# How many statements appendix B of each specification lists.
COUNTS = {"5.0": 251, "3.1.1": 141}
NUMBER = r"\d+\.\d+\.\d+-\d+"
ROW = re.compile(rf"\| \[MQTT-({NUMBER})\] \| (server|client|both) \| ([^|]+) \| ([^|]*) \| ([^|]*) \|$")
HEADING = re.compile(r"## MQTT (\S+)$")
SUMS = re.compile(r"Of \d+ statements: .*\.$")
C_TAG = re.compile(r"/\* Shows ([^*]+)\. \*/\nstatic void (test_\w+)\(")
NAME_NUMBER = re.compile(r"test_(?:v3_)?(\d+)_(\d+)_(\d+)_(\d+)_")
SHOWN, CLIENTS, NOT_OURS, NOT_YET = "shown", "the client's affair", "does not apply", "not yet"


class Page:
    """The page's lines, and where in them each statement is."""

    def __init__(self, path):
        self.lines = path.read_text(encoding="utf-8").split("\n")
        self.rows = {}  # (version, number): line index
        self.found = []
        version = None
        for index, line in enumerate(self.lines):
            heading = HEADING.match(line)
            version = heading[1] if heading else version
            row = ROW.match(line)
            if row is None and line.startswith("| ["):
                self.found.append(f"{PAGE}:{index + 1}: not a row of five cells")
            if row is None:
                continue
            if (version, row[1]) in self.rows:
                self.found.append(f"{PAGE}:{index + 1}: {version} {row[1]} is there twice")
            self.rows[version, row[1]] = index
        for version, count in COUNTS.items():
            there = sum(1 for known, _ in self.rows if known == version)
            if there != count:
                self.found.append(f"{PAGE}: {there} statements of {version}, not {count}")


def python_tags(path):
    """(version, number, test) of each @shows in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef):
            continue
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "shows":
                for keyword in call.keywords:
                    version = {"v5": "5.0", "v3": "3.1.1"}[keyword.arg]
                    for number in ast.literal_eval(keyword.value).split():
                        yield version, number, node.name


def c_tags(path):
    for tag, test in C_TAG.findall(path.read_text(encoding="utf-8")):
        for part in tag.split(";"):
            version, numbers = part.split(":")
            for number in numbers.split(","):
                yield version.strip(), number.strip(), test


def collect(root):
    """{(version, number): ["file: test"]}, and what is wrong with the tags."""
    shown, found = {}, []
    for path in sorted((root / "test").rglob("test_*")):
        tags = {".py": python_tags, ".c": c_tags}.get(path.suffix)
        names = {}
        for version, number, test in tags(path) if tags else ():
            where = f"[{path.name}](../{path.relative_to(root)}): {test}"
            tests = shown.setdefault((version, number), [])
            if where in tests:
                found.append(f"{path.name}: {test} names {version} {number} twice")
            tests.append(where)
            names.setdefault(test, set()).add(number)
        for test, numbers in names.items():
            named = NAME_NUMBER.match(test)
            if named and "{}.{}.{}-{}".format(*named.groups()) not in numbers:
                found.append(f"{path.name}: {test} does not show the statement of its name")
    return shown, found


def rows_of(version, page):
    return [index for (known, _), index in page.rows.items() if known == version]


def sums(version, page):
    states = [ROW.match(page.lines[index])[4].split(":")[0] for index in rows_of(version, page)]
    count = {state: states.count(state) for state in (SHOWN, CLIENTS, NOT_OURS, NOT_YET)}
    return (f"Of {len(states)} statements: {count[SHOWN]} shown, {count[CLIENTS]} the client's "
            f"affair, {count[NOT_OURS]} that do not apply, {count[NOT_YET]} not yet.")


def renew(page, shown):
    """The page as it should be; what no row can say is returned."""
    found = [f"{', '.join(tests)} shows {version} {number}, which {PAGE} does not have"
             for (version, number), tests in shown.items() if (version, number) not in page.rows]
    for key, index in page.rows.items():
        number, who, text, state, _ = ROW.match(page.lines[index]).groups()
        tests = shown.get(key, [])
        if tests:
            state = SHOWN
        elif who == "client":
            state = CLIENTS
        elif not state.startswith((NOT_YET + ": ", NOT_OURS + ": ")):
            state = NOT_YET + ": no test shows it"
        cells = f"[MQTT-{number}]", who, text, state, "<br>".join(tests)
        page.lines[index] = "| " + " | ".join(cells) + " |"
    version = None
    for index, line in enumerate(page.lines):
        heading = HEADING.match(line)
        version = heading[1] if heading else version
        if SUMS.match(line):
            page.lines[index] = sums(version, page)
    return found


def main(argv):
    write = "--write" in argv
    rest = [one for one in argv[1:] if one != "--write"]
    root = pathlib.Path(rest[0]) if rest else pathlib.Path(__file__).resolve().parent.parent
    page = Page(root / PAGE)
    before = list(page.lines)
    shown, found = collect(root)
    found = page.found + found + renew(page, shown)
    if write:
        (root / PAGE).write_text("\n".join(page.lines), encoding="utf-8")
    else:
        found += [f"{PAGE}:{number}: not what the tests say; run tools/conformance.py --write"
                  for number, (old, new) in enumerate(zip(before, page.lines), 1) if old != new]
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
