"""faults_point - at a point of its own work (failpoint.py), under load, the gateway ends, or what
it asks of the system fails.
"""

import errno
import time

import failpoint
import faults

PATIENCE_S = 5.0


class AtPoint(faults.Fault):
    """A kill, and a start that ends at a point; which was reached is noted in the world."""

    name = "point"
    default = False
    lasts = (0.0, 0.0)

    def __init__(self, rng):
        super().__init__(rng)
        self.point = rng.choice(failpoint.POINTS)
        self.hit = rng.choice(self.point.hits)

    def title(self):
        return f"{self.point.name} ({self.hit})"

    def begin(self, world):
        said = world.temp.path / f"point-{len(world.points)}"
        world.gateway.kill()
        if self.point.rehome:
            world.use_shards(self.rng.choice([n for n in (1, 2, 3) if n != world.shards_now()]))
        world.gateway.prefix = self.prefix(said)
        world.gateway.spawn()
        self.await_it(world, said)
        world.points.append((self.point, self.hit, failpoint.reached(said)))

    def prefix(self, said):
        return failpoint.at(self.point, self.hit, said)

    def await_it(self, world, said):
        """Its port is the old one, so devices come to it by themselves."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.is_over(world, said) and time.monotonic() < deadline:
            world.rest(0.01)

    def is_over(self, world, said):
        return world.gateway.process.poll() is not None

    def end(self, world):
        self.judge(world, world.gateway.process.poll())
        world.gateway.kill()
        world.gateway.prefix = []
        world.start_gateway()

    def judge(self, world, code):
        """`code`: with which it ended by itself, or None."""


class IoError(AtPoint):
    """A call on a file fails: it ends with a sentence and its exit code, or goes on."""

    name = "io-error"
    lasts = (0.2, 1.0)
    CODES = (70, 71, 73, 74)  # of sysexits.h: internal, system, cannot create, I/O error

    def __init__(self, rng):
        super().__init__(rng)
        self.point = rng.choice(failpoint.FILE_POINTS)
        self.hit = rng.choice(self.point.hits)
        errors = [errno.EIO, errno.ENOSPC]
        errors += [errno.EMFILE] if self.point.call == "open" else []
        errors += ["short"] if self.point.call == "pwritev" else []
        self.error = rng.choice(errors)

    def title(self):
        return f"{super().title()}: {errno.errorcode.get(self.error, self.error)}"

    def prefix(self, said):
        return failpoint.at(self.point, self.hit, said, self.error)

    def is_over(self, world, said):
        return failpoint.reached(said) or super().is_over(world, said)

    def judge(self, world, code):
        log = world.gateway.log
        if code is not None and (code not in self.CODES or not log.find("level=error|millrace: ")):
            raise AssertionError(f"{self.title()}: it ended with {code}; the log:\n{log.text()}")


class NoMemory(IoError):
    """The n-th allocation of the program itself is refused: it says so, and ends."""

    name = "no-memory"
    CODES = (71, 78)  # in the middle of reading its configuration: 78

    def __init__(self, rng):
        super().__init__(rng)
        self.point = failpoint.Point("memory", "malloc", "*/millrace", "before")
        self.hit, self.error = int(10 ** rng.uniform(0, 4)), errno.ENOMEM


class SlowDisk(AtPoint):
    """Each flush takes a while longer."""

    name = "slow-disk"
    lasts = (1.0, 3.0)

    def __init__(self, rng):
        super().__init__(rng)
        self.point = failpoint.Point("disk", "fdatasync", "*", "before")
        self.hit, self.ms = "1+", int(10 ** rng.uniform(1, 2.7))

    def title(self):
        return f"{self.name}: {self.ms} ms"

    def prefix(self, said):
        return failpoint.at(self.point, self.hit, said, f"delay:{self.ms}")

    def is_over(self, world, said):
        return failpoint.reached(said)

    def judge(self, world, code):
        assert code is None, world.gateway.log.text()
