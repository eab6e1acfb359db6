"""faults_point - the gateway ends at a point of its own work (failpoint.py), under load."""

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
        point, hit = self.point, self.hit
        said = world.temp.path / f"point-{len(world.points)}"
        world.gateway.kill()
        if point.rehome:
            world.use_shards(self.rng.choice([n for n in (1, 2, 3) if n != world.shards_now()]))
        failpoint.at(world.gateway, point, hit, said)
        world.gateway.spawn()
        self.await_end(world)
        world.points.append((point, hit, failpoint.reached(said)))

    def await_end(self, world):
        """Its port is the old one, so devices come to it by themselves."""
        deadline = time.monotonic() + PATIENCE_S
        while world.gateway.process.poll() is None and time.monotonic() < deadline:
            world.rest(0.01)

    def end(self, world):
        world.gateway.kill()
        failpoint.clear(world.gateway)
        world.start_gateway()
