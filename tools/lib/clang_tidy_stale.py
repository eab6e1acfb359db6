#!/usr/bin/env python3
"""clang_tidy_stale - which files clang-tidy has not yet found clean as they are now.

A file that passed leaves an empty stamp, named by a digest of everything its verdict
depends on: the file, the headers of ours that it includes (as the last build saw them),
the list of checks.  So a changed header makes only its users stale, and going back to an
older commit none.

    clang_tidy_stale.py STAMPS        prints "FILE STAMP" lines; run it in the repository
"""
import functools
import hashlib
import os
import pathlib
import subprocess
import sys

BUILD = pathlib.Path("build/release")


@functools.cache
def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).digest()


def headers_by_source():
    """What each source included when it was last compiled; paths in the repository."""
    here = str(pathlib.Path.cwd()) + "/"
    text = subprocess.run(["ninja", "-C", BUILD, "-t", "deps"], check=True, text=True,
                          stdout=subprocess.PIPE).stdout
    found = {}
    for block in text.split("\n\n"):
        paths = [line.strip() for line in block.splitlines()[1:]]
        paths = [os.path.normpath(BUILD / path) for path in paths]
        own = [os.path.relpath(path, here) for path in paths if path.startswith(here)]
        for source in own[:1]:
            found[source] = sorted(own[1:])
    return found


def main():
    stamps = pathlib.Path(sys.argv[1])
    included = headers_by_source()
    every_header = sorted(str(path) for path in pathlib.Path("src").rglob("*.h"))
    checks = digest(".clang-tidy") + subprocess.run(
        ["clang-tidy-19", "--version"], check=True, stdout=subprocess.PIPE).stdout
    for source in sorted(pathlib.Path("src").rglob("*.c*")):
        name = str(source)
        key = hashlib.sha256(checks + name.encode())
        for path in [name] + included.get(name, every_header):
            if pathlib.Path(path).exists():
                key.update(path.encode() + digest(path))
        stamp = stamps / f"{name.replace('/', '_')}.{key.hexdigest()[:32]}"
        if not stamp.exists():
            print(name, stamp)


main()
