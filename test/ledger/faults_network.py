"""faults_network - what happens on the way between the gateway and Kafka (proxy.py)."""

import faults
import proxy


class Network(faults.Fault):
    target = "network"
    default = False
    needs_proxy = True
    replays = False  # the idempotent producer repeats, and Kafka recognises it
    lasts = (0.5, 4.0)

    def rule(self):
        """A new one for each connection of brokers and gateway."""
        raise NotImplementedError

    def begin(self, world):
        for node in world.kafka.nodes:
            node.proxy.rule = self.rule()

    def end(self, world):
        for node in world.kafka.nodes:
            node.proxy.heal()


class Cut(Network):
    """Each connection breaks in the middle: of a request, so that half a batch arrives, or of an
    answer, so that nobody knows; and the next one too.
    """

    name = "cut"

    def __init__(self, rng):
        super().__init__(rng)
        self.way = rng.choice((proxy.TO_KAFKA, proxy.TO_GATEWAY))
        self.within = int(10 ** rng.uniform(2, 5.5 if self.way == proxy.TO_KAFKA else 3.5))

    def title(self):
        return f"{self.name}: {self.way}, within {self.within:,} bytes"

    def rule(self):
        return proxy.Cut(self.rng, self.way, self.within)


class Frozen(Network):
    """Nothing moves, and then all of it at once."""

    name = "frozen"

    def rule(self):
        return proxy.Frozen()


class Silent(Network):
    """Half-open: connections stand, what is sent is lost, nobody is told.  Only patience
    (socket.timeout.ms of librdkafka, a minute) helps.
    """

    name = "silent"
    lasts = (20.0, 150.0)

    def __init__(self, rng):
        super().__init__(rng)
        self.ways = rng.choice(((proxy.TO_KAFKA,), (proxy.TO_GATEWAY,),
                                (proxy.TO_KAFKA, proxy.TO_GATEWAY)))

    def title(self):
        return f"{self.name}: {' and '.join(self.ways)}"

    def rule(self):
        return proxy.Silent(self.ways)


class Narrow(Network):
    """One Mbit/s for everything."""

    name = "narrow"
    lasts = (5.0, 15.0)
    BYTES_PER_S = 125_000

    def rule(self):
        return proxy.Narrow(self.BYTES_PER_S)
