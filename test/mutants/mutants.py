"""mutants - ./dev mutants: plant each fault of planted.py and see which test notices.

    ./dev mutants [NAME...] [--all-tests] [--markdown]

A copy of the tree lies in build/mutants; a fault is planted there, what its tests need is built,
and the tests run until one fails: it has caught the fault.  A test that hangs has, too.  Before
that the tests have to pass without any fault.  Exit code 1: a fault was not noticed.  The result
is written to build/mutants/result.json after each fault, and a run without names goes on where it
was.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

from planted import MUTANTS

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOME = ROOT / "build" / "mutants"
TREE, BUILD, RESULT = HOME / "tree", HOME / "build", HOME / "result.json"
COPIED = ("CMakeLists.txt", "src", "test", "bench", "tools", "docs")
TEST_PATIENCE_S = 200
CONFIGURE = ["-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_C_FLAGS_DEBUG=-O1 -g",
             "-DMR_SANITIZE=address,undefined", "-DMR_BENCH=OFF",
             f"-DMR_PYTHON={ROOT}/build/venv/bin/python"]


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(argv, **options):
    return subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=False,
                          **options)


def copy_tree():
    """Files that are the same keep their times, so that nothing is built again for nothing."""
    listed = run(["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", *COPIED]).stdout
    wanted = {name for name in listed.splitlines() if (ROOT / name).is_file()}
    for name in wanted:
        place(name, (ROOT / name).read_bytes())
    for path in list(TREE.rglob("*")):
        if path.is_file() and not path.is_symlink() and str(path.relative_to(TREE)) not in wanted:
            path.unlink()
    for name in ("sanitize", "release"):  # where the tests look for the program
        link = TREE / "build" / name
        link.parent.mkdir(exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(BUILD)


def place(name, content):
    path = TREE / name
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        mode = (ROOT / name).stat().st_mode
        path.chmod(mode)


def build(tests):
    """The compiler's words when it does not build; None when it does."""
    targets = ["millrace"] + sorted({name.removeprefix("unit/") for name in tests
                                     if name.startswith("unit/")})
    done = run(["cmake", "--build", BUILD, "-j", os.environ.get("JOBS", "2"), "--target",
                *targets])
    return None if done.returncode == 0 else done.stdout[-3000:] + done.stderr[-1000:]


def run_test(name):
    """(passed, seconds, its output)"""
    began = time.monotonic()
    done = run(["ctest", "--test-dir", BUILD, "-R", f"^{re.escape(name)}$", "--timeout",
                TEST_PATIENCE_S, "--output-on-failure", "--no-tests=error"],
               env=dict(os.environ, CI="true"))
    return done.returncode == 0, time.monotonic() - began, done.stdout


def reason_of(output):
    """The line that says best why a test failed."""
    for pattern in (r"assertion .*failed.*", r"mr_assert.*", r"ERROR: AddressSanitizer.*",
                    r"runtime error.*", r"AssertionError: .+", r".*\bFAIL(?:ED)?:? .*",
                    r"\*\*\*Timeout.*", r".*:\d+: .*"):
        found = re.search(pattern, output)
        if found:
            return found[0].strip()[:200]
    return "failed"


def hunt(mutant, every_test):
    text = (TREE / mutant.file).read_text(encoding="utf-8")
    place(mutant.file, text.replace(mutant.old, mutant.new).encode())
    try:
        why = build(mutant.tests)
        if why is not None:
            return {"caught": None, "why": f"does not build: {why}"}
        result = {"caught": None, "why": "no test noticed", "by": []}
        for name in mutant.tests:
            passed, seconds, output = run_test(name)
            if not passed:
                result["by"].append(name)
                if result["caught"] is None:
                    result.update(caught=name, seconds=round(seconds, 1), why=reason_of(output))
                if not every_test:
                    break
        return result
    finally:
        place(mutant.file, text.encode())


def prepare(mutants):
    """The tests pass without any fault; else nothing that follows would mean a thing."""
    tests = sorted({name for one in mutants for name in one.tests})
    done = run(["cmake", "-S", TREE, "-B", BUILD, *CONFIGURE])
    why = done.stderr if done.returncode else build(tests)
    if why:
        sys.exit(f"mutants: the tree does not build without a fault:\n{why}")
    for name in tests:
        passed, seconds, output = run_test(name)
        if not passed:
            sys.exit(f"mutants: {name} fails without any fault:\n{output[-3000:]}")
        say(f"  {name} passes without a fault ({seconds:.0f} s)")


def markdown(results):
    rows = ["| fault | where | noticed by |", "|---|---|---|"]
    for one in MUTANTS:
        found = results.get(one.name)
        if found:
            by = f"`{found['caught']}`" if found["caught"] else "**nobody**"
            rows.append(f"| {one.what} | `{one.file}` | {by} |")
    return "\n".join(rows)


def options():
    parser = argparse.ArgumentParser(prog="./dev mutants", description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="only these faults")
    parser.add_argument("--all-tests", action="store_true", help="do not end at the first")
    parser.add_argument("--markdown", action="store_true", help="the last result as a table")
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run found")
    given = parser.parse_args()
    unknown = set(given.names) - {one.name for one in MUTANTS}
    if unknown:
        parser.error(f"no fault is called {sorted(unknown)[0]}; known: "
                     + ", ".join(one.name for one in MUTANTS))
    return given


def main():
    given = options()
    results = json.loads(RESULT.read_text()) if RESULT.exists() and not given.fresh else {}
    if given.markdown:
        print(markdown(results))
        return 0
    chosen = [one for one in MUTANTS if one.name in given.names or not given.names
              and not results.get(one.name, {}).get("caught")]
    if shutil.which("ninja") is None:
        sys.exit("mutants: ninja is missing; ./dev mutants installs it")
    HOME.mkdir(parents=True, exist_ok=True)
    copy_tree()
    prepare(chosen)
    for mutant in chosen:
        found = results[mutant.name] = hunt(mutant, given.all_tests)
        RESULT.write_text(json.dumps(results, indent=1))
        say(f"  {mutant.name}: {found['caught'] or 'NOT NOTICED'} ({found['why']})")
    missed = [one.name for one in MUTANTS if not results.get(one.name, {}).get("caught")]
    print(f"{len(MUTANTS) - len(missed)} of {len(MUTANTS)} planted faults were noticed"
          + (f"; not: {', '.join(missed)}" if missed else ""))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
