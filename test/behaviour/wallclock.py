"""wallclock - a wall clock that is set while a program runs (libfaketime).

The monotonic clock runs on, as the kernel's does.
"""

import functools
import glob
import os
import pathlib
import subprocess

from harness import ROOT, cannot

HERE = pathlib.Path(__file__).resolve().parent


@functools.cache
def libraries():
    found = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    faketime = found[0] if found else cannot("no libfaketime (./dev test installs faketime)")
    waits = ROOT / "build" / "wallclock.so"
    mine = waits.with_suffix(f".{os.getpid()}")  # others may be running with theirs
    subprocess.run(["cc", "-std=c17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC",
                    "-o", mine, HERE / "wallclock.c"], check=True)
    mine.replace(waits)
    return f"{waits}:{faketime}"


class WallClock:
    """`prefix`: words in front of the command line of a program that is to have this clock.

    A sanitizer has to be the first library, so it is for release programs.
    """

    def __init__(self, file):
        self.file = file
        self.offset = 0
        self.set(0)
        fake = {"LD_PRELOAD": libraries(), "FAKETIME_TIMESTAMP_FILE": file,
                "FAKETIME_NO_CACHE": 1, "FAKETIME_DONT_FAKE_MONOTONIC": 1}
        self.prefix = ["env", *(f"{key}={value}" for key, value in fake.items())]

    def set(self, offset):
        """So many seconds from the true time."""
        self.offset = offset
        new = self.file.with_suffix(".new")
        new.write_text(f"{offset:+d}\n", encoding="utf-8")
        new.replace(self.file)
