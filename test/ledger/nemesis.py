"""nemesis - a schedule of faults made from a seed, carried out while the load goes on.

    schedule(seed, faults, rounds, gap) ──▶ [Step]      pure: the same seed, the same steps
    Nemesis(world, steps).run() ──▶ windows: when which fault was in force

A round is one fault.  The next one may begin while the one before still lasts, if it has another
target: so a gateway is also killed while its Kafka is paused.  But a gateway that is stopped in the
middle of everything (pause) does not wait for a Kafka to stop or start: that takes as long as the
machine likes, and nothing would be acknowledged meanwhile.  Between two steps a random while
passes, and before a fault begins at its target, something must have been acknowledged since the
last one: otherwise the load stands still, and the run would show nothing.
"""

import dataclasses
import random
import sys
import time

import faults

GAP_S = (0.3, 2.0)
OVERLAP = 0.3  # how likely a fault is still in force when the next one begins
PROGRESS_S = 60


@dataclasses.dataclass
class Step:
    gap: float
    begins: bool
    fault: object  # faults.Fault


def apart(one, other):
    """One would last for as long as the other takes."""
    return (one.silent and other.takes_long) or (one.takes_long and other.silent)


def schedule(seed, names, rounds, gap=GAP_S):
    """Every fault ends before the last step is over."""
    rng = random.Random(f"nemesis-{seed}")
    classes = [faults.known()[name] for name in names]
    steps, open_faults = [], []

    def end(one):
        open_faults.remove(one)
        steps.append(Step(rng.uniform(*one.lasts), False, one))

    for _ in range(rounds):
        chosen = rng.choice(classes)(random.Random(rng.random()))
        for one in list(open_faults):
            if (one.target == chosen.target or apart(one, chosen)
                    or rng.random() >= OVERLAP):
                end(one)
        steps.append(Step(rng.uniform(*gap), True, chosen))
        open_faults.append(chosen)
    for one in list(open_faults):
        end(one)
    return steps


class Nemesis:
    def __init__(self, world, steps, say=None):
        self.world, self.steps = world, steps
        self.say = say or (lambda text: print(text, file=sys.stderr, flush=True))
        self.windows = []
        self.acked = 0

    def run(self, until=None):
        """Every step, or those up to the time `until` (monotonic); what is open then is ended."""
        in_force = {}
        for step in self.steps:
            if step.begins and until is not None and time.monotonic() > until:
                break
            self.world.rest(step.gap)
            if step.begins:
                if not in_force:
                    self.await_progress()
                in_force[step.fault] = self.open_window(step.fault)
                step.fault.begin(self.world)
            else:
                self.finish(step.fault, in_force.pop(step.fault))
        for fault, window in in_force.items():
            self.finish(fault, window)
        return self.windows

    def open_window(self, fault):
        window = {"fault": fault.name, "begin": time.time(), "end": None,
                  "acked": self.world.acked(), **self.world.dropped()}
        self.windows.append(window)
        self.say(f"  {len(self.windows)}: {fault.title()} after {window['acked']:,} acknowledged")
        return window

    def finish(self, fault, window):
        window["lag"] = self.world.lag()  # what it made wait
        fault.end(self.world)
        window["end"] = time.time()
        self.acked = self.world.acked()

    def await_progress(self):
        """Something was acknowledged since the last fault was over."""
        deadline = time.monotonic() + PROGRESS_S
        while self.world.acked() <= self.acked:
            if time.monotonic() > deadline:
                raise AssertionError(f"no event was acknowledged for {PROGRESS_S} s")
            self.world.rest(0.05)
