"""faults_disk - what a disk does to a gateway whose data lie on one of their own.  Root only."""

import faults
import harness


class Power(faults.Fault):
    """The power fails: what was not flushed is gone.

    The gateway outlives its disk for a moment, and may acknowledge nothing of what it takes
    meanwhile.
    """

    name = "power"
    default = False
    needs_disk = True
    lasts = (0.0, 0.1)

    def begin(self, world):
        world.disk.cut_power()

    def end(self, world):
        world.gateway.kill()
        world.disk.unmount()
        world.disk.mount()
        world.start_gateway()


class FullDisk(faults.Fault):
    """No room is left for a while; room returns, and the gateway goes on by itself."""

    name = "full-disk"
    default = False
    needs_disk = True
    lasts = (1.0, 2.5)
    replays = False

    def begin(self, world):
        self.filler = world.disk.fill(leave_kib=self.rng.randint(0, 4096))

    def end(self, world):
        self.filler.unlink()
        world.same_gateway()


class ReadOnly(faults.Fault):
    """The file system gives up and is read only: the gateway says why, and ends."""

    name = "read-only"
    default = False
    needs_disk = True
    lasts = (0.0, 0.1)

    def begin(self, world):
        world.disk.give_up()

    def end(self, world):
        code = world.gateway.process.wait(harness.PATIENCE)
        log = world.gateway.log
        log.thread.join(harness.PATIENCE)
        if code != 74 or not log.find("level=error .*check the disk and restart"):
            raise AssertionError(f"on a read-only disk it ended with {code}:\n{log.text()}")
        world.gateway.kill()
        world.disk.unmount()
        world.disk.mount()
        world.start_gateway()
