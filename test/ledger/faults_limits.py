"""faults_limits - the system gives the gateway less than it would like: descriptors, memory."""

import os
import pathlib

import faults

CGROUPS = pathlib.Path("/sys/fs/cgroup/memory")


class Limited(faults.Fault):
    """A start below the limit, which may end at once or later, and one without."""

    default = False
    lasts = (1.0, 3.0)

    def begin(self, world):
        world.gateway.kill()
        world.gateway.prefix = self.prefix(world)
        world.gateway.spawn()

    def prefix(self, world):
        raise NotImplementedError

    def end(self, world):
        world.gateway.kill()
        world.gateway.prefix = []
        world.start_gateway()


class Descriptors(Limited):
    """Fewer than the devices need."""

    name = "descriptors"

    def __init__(self, rng):
        super().__init__(rng)
        self.limit = rng.randint(30, 90)

    def title(self):
        return f"{self.name}: {self.limit}"

    def prefix(self, world):
        return ["prlimit", f"--nofile={self.limit}:{self.limit}"]


class MemoryLimit(Limited):
    """A memory controller ends it whenever it has more.  Root only."""

    name = "memory-limit"

    def __init__(self, rng):
        super().__init__(rng)
        self.mib = rng.randint(24, 96)
        self.group = CGROUPS / f"millrace-{os.getpid()}-{rng.randrange(1 << 30):08x}"

    def title(self):
        return f"{self.name}: {self.mib} MiB"

    def prefix(self, world):
        self.group.mkdir()
        (self.group / "memory.limit_in_bytes").write_text(str(self.mib << 20), encoding="ascii")
        return ["sh", "-c", f'echo $$ >{self.group}/cgroup.procs; exec "$@"', "sh"]

    def end(self, world):
        super().end(world)
        self.group.rmdir()
