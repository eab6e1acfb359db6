"""wallclock - a wall clock that is set while a program runs (libfaketime).

The monotonic clock runs on, as the kernel's does.
"""

import glob

from harness import cannot


class WallClock:
    """`prefix`: words in front of the command line of a program that is to have this clock.

    A sanitizer has to be the first library, so it is for release programs.
    """

    def __init__(self, file):
        found = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
        library = found[0] if found else cannot("no libfaketime (./dev test installs faketime)")
        self.file = file
        self.offset = 0
        self.set(0)
        fake = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": file, "FAKETIME_NO_CACHE": 1,
                "FAKETIME_DONT_FAKE_MONOTONIC": 1}
        self.prefix = ["env", *(f"{key}={value}" for key, value in fake.items())]

    def set(self, offset):
        """So many seconds from the true time."""
        self.offset = offset
        new = self.file.with_suffix(".new")
        new.write_text(f"{offset:+d}\n", encoding="utf-8")
        new.replace(self.file)
