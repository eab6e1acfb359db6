"""faults_clock - the wall clock is set while the gateway runs, or between two of its lives."""

import faults
from wallclock import WallClock

HOUR, YEAR = 3600, 365 * 24 * 3600
STEPS = (1, -1, 600, -600, HOUR, -HOUR, YEAR, -YEAR)


class Clock(faults.Fault):
    """It jumps, and jumps back; half of the time the gateway is killed in between.

    An hour ahead and more, Kafka refuses the time of what is received: events wait for the clock.
    """

    name = "clock"
    default = False
    lasts = (0.3, 2.0)

    def __init__(self, rng):
        super().__init__(rng)
        self.step = rng.choice(STEPS)
        self.kills = rng.random() < 0.5

    def title(self):
        return f"{self.name}: {self.step:+d} s" + (", and killed" if self.kills else "")

    def begin(self, world):
        self.clock = WallClock(world.temp.path / "clock")
        if world.gateway.prefix != self.clock.prefix:  # from the next start on it has this clock
            world.gateway.kill()
            world.gateway.prefix = self.clock.prefix
            world.start_gateway()
        self.clock.set(self.step)
        if self.kills:
            world.rest(self.rng.uniform(0, 0.3))
            world.gateway.kill()
            world.start_gateway()

    def end(self, world):
        self.clock.set(0)
        world.same_gateway()
