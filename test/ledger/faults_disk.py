"""faults_disk - what a disk does to a gateway whose data lie on one of their own.  Root only."""

import faults


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
