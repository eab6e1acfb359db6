"""faults_topic - what operators do to a topic or a client, and a disk of Kafka's that is slow."""

import faults
import kafka_wire


class Quota(faults.Fault):
    """Kafka takes only so many bytes a second from whoever produces."""

    name = "quota"
    target = "kafka"
    default = False
    replays = False
    lasts = (3.0, 8.0)

    def __init__(self, rng):
        super().__init__(rng)
        self.per_second = int(10 ** rng.uniform(4.5, 5.5))

    def title(self):
        return f"{self.name}: {self.per_second:,} bytes a second"

    def set(self, world, per_second):
        kafka_wire.set_quota(world.kafka.bootstrap.split(",")[0], per_second)

    def begin(self, world):
        self.set(world, self.per_second)

    def end(self, world):
        self.set(world, None)


class SlowLog(faults.Fault):
    """Each write of a broker to its log takes a tenth of a second longer."""

    name = "slow-log"
    target = "kafka"
    default = False
    needs_slow_log = True
    replays = False
    lasts = (3.0, 8.0)

    def begin(self, world):
        world.kafka.slow_switch.touch()

    def end(self, world):
        world.kafka.slow_switch.unlink()
