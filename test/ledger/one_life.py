"""one_life - a gateway with a kept session; each trial begins at the same folder, with one fault.

    class Calls(OneLife):
        NAME, CONFIG, FILTER = "calls", "...", "calls/#"

`begin(call, files, when, hit, action)` starts it with a failpoint, `end()` ends it.
"""

import contextlib
import http.client
import random
import shutil
import subprocess
import unittest

import failpoint
import harness
from harness import RELEASE, Gateway, Temp
from test_starts import present
from wire import subscribe


def gone():
    """The gateway may end in the middle of anything."""
    return contextlib.suppress(OSError, http.client.HTTPException, TypeError, AssertionError,
                               subprocess.TimeoutExpired)


def spread(count, parts, seed):
    """One of 1 to count out of each of so many parts; "all": each."""
    numbers = list(range(1, count + 1))
    if parts == "all":
        return numbers
    rng, part = random.Random(seed), max(1, count // int(parts))
    return [rng.choice(numbers[at : at + part]) for at in range(0, count, part)]


class OneLife(unittest.TestCase):
    NAME, CONFIG, FILTER, QOS = "", "", "", 1

    def setUp(self):
        self.temp = Temp(self.NAME)
        self.addCleanup(self.temp.remove)
        self.data, self.kept = self.temp.path / "data", self.temp.path / "kept"
        self.said = self.temp.path / "said"
        self.gateway = Gateway(self.CONFIG, binary=RELEASE / "millrace", data=self.data)
        self.addCleanup(self.gateway.temp.remove)
        self.addCleanup(self.gateway.kill)
        self.gateway.start()
        with present(self.gateway, "reader")[0] as wire:
            wire.send(subscribe([self.FILTER], qos=self.QOS))
            self.assertEqual(wire.read()[0], 0x90)
        self.prepare()
        self.gateway.kill()
        shutil.copytree(self.data, self.kept)

    def prepare(self):
        """What else was there before the trials."""

    def begin(self, call, files, when, hit, action):
        shutil.rmtree(self.data)
        shutil.copytree(self.kept, self.data)
        self.said.unlink(missing_ok=True)
        self.gateway.prefix = failpoint.prefix(self.said, call, files, when, hit, action)
        self.gateway.spawn()
        harness.until(lambda: self.gateway.process.poll() is not None
                      or self.gateway.log.find('component=gateway .*msg="ready"'), "the start")

    def end(self):
        """Its log."""
        log = self.gateway.log
        self.gateway.kill()
        self.gateway.prefix = []
        return log
