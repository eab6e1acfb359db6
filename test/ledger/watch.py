"""watch - how much memory and how many descriptors a gateway has, looked at while a run goes on."""

import dataclasses
import os
import statistics
import threading
import time

EVERY_S = 0.5


@dataclasses.dataclass
class Look:
    when: float  # monotonic seconds
    pid: int
    resident_kib: int
    descriptors: int


def look(gateway):
    """None when it is not there just now."""
    try:
        pid = gateway.pid()
        return Look(time.monotonic(), pid, gateway.resident_kib(),
                    len(os.listdir(f"/proc/{pid}/fd")))
    except (OSError, AttributeError, TypeError):
        return None


def open_files(gateway):
    """What its descriptors are, for people."""
    folder = f"/proc/{gateway.pid()}/fd"
    return "\n".join(sorted(os.readlink(f"{folder}/{number}") for number in os.listdir(folder)))


class Watch:
    """with Watch(gateway) as watch: ...; watch.looks"""

    def __init__(self, gateway):
        self.gateway, self.looks = gateway, []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.over.wait(EVERY_S):
            one = look(self.gateway)
            if one is not None:
                self.looks.append(one)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def second_half(self):
        middle = (self.looks[0].when + self.looks[-1].when) / 2
        return [one for one in self.looks if one.when >= middle]

    def growth_kib(self, looks=None):
        """Of resident memory within the second half (or `looks`): its last third against its first,
        medians.
        """
        sizes = [one.resident_kib for one in looks or self.second_half()]
        third = max(1, len(sizes) // 3)
        return statistics.median(sizes[-third:]) - statistics.median(sizes[:third])

    def slope_kib_per_hour(self):
        half = self.second_half()
        fit = statistics.linear_regression([one.when for one in half],
                                           [one.resident_kib for one in half])
        return fit.slope * 3600
