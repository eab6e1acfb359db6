"""faults_brokers - what happens to single brokers of a cluster.  It goes on without one of them;
with two away, or with fewer replicas in sync than a topic asks for, it takes nothing, and has to.

Behind each of them every replica is in sync again.
"""

import faults


class Brokers(faults.Fault):
    target = "kafka"
    default = False
    needs_cluster = True
    replays = False  # the idempotent producer repeats, and Kafka recognises it
    lasts = (1.0, 6.0)

    def whole(self, world):
        world.kafka.resume()
        world.kafka.start()
        world.kafka.wait_whole(world.topic)

    def end(self, world):
        self.whole(world)


class LeaderKill(Brokers):
    """kill -9 of the broker that leads most partitions; others are elected."""

    name = "leader-kill"

    def begin(self, world):
        world.kafka.leader(world.topic).kill()


class LeaderStop(Brokers):
    """It is stopped as operators do, and hands its partitions over."""

    name = "leader-stop"

    def begin(self, world):
        world.kafka.leader(world.topic).stop()


class LeaderPause(Brokers):
    """It stands still, is given up by the others, and comes back believing that it leads."""

    name = "leader-pause"
    lasts = (1.0, 9.0)

    def begin(self, world):
        world.kafka.leader(world.topic).pause()


class ControllerPause(Brokers):
    """The same with the active controller."""

    name = "controller-pause"
    lasts = (1.0, 9.0)

    def begin(self, world):
        world.kafka.controller().pause()


class ControllerKill(Brokers):
    name = "controller-kill"

    def begin(self, world):
        world.kafka.controller().kill()


class Leaders(Brokers):
    """All partitions get another leader, while all brokers are well."""

    name = "leaders"
    lasts = (0.0, 0.5)

    def begin(self, world):
        world.kafka.move_leaders(world.topic)


class Rolling(Brokers):
    """Each broker is stopped and started in turn, as for an upgrade."""

    name = "rolling"
    lasts = (0.0, 0.5)

    def begin(self, world):
        for node in world.kafka.nodes:
            node.stop()
            self.whole(world)


class TwoAway(Brokers):
    """Two of three are killed: no majority, nobody to copy to."""

    name = "two-away"
    lasts = (1.0, 8.0)

    def begin(self, world):
        stays = world.kafka.leader(world.topic)
        for node in world.kafka.nodes:
            if node is not stays:
                node.kill()


class TooFewInSync(Brokers):
    """The topic asks for three replicas in sync, and one is away."""

    name = "in-sync"
    lasts = (2.0, 8.0)

    def begin(self, world):
        world.kafka.configure(world.topic, min_insync_replicas=3)
        self.rng.choice(world.kafka.nodes).stop()

    def end(self, world):
        self.whole(world)
        world.kafka.configure(world.topic, min_insync_replicas=2)
