"""faults - what can be done to a gateway and its Kafka; one class each, found by its name.

A fault has a `target` (two faults never have the same target at a time), begins, lasts, and ends;
behind end() the world is whole again.  All chance comes from the `rng` it is given, so a seed
makes the same run.  A module that adds faults defines further classes and is listed in MODULES.

    world.gateway   harness.Gateway              world.start_gateway()
    world.kafka     harness.Kafka, or a Cluster  world.shards: what a restart may choose from
    world.disk      disk.Disk with the gateway's data, for a fault with needs_disk; else None
"""

import importlib
import os
import signal

MODULES = ("faults", "faults_disk", "faults_limits", "faults_point", "faults_brokers",
           "faults_network", "faults_topic", "faults_certificate", "faults_clock")
REGISTRY = {}


class Fault:
    name = None  # as in --faults
    target = "gateway"
    lasts = (0.0, 1.0)  # seconds between begin and end
    replays = True  # at_least_once: what was in flight may be delivered again
    silent = False  # nobody is served while it is in force
    takes_long = False  # begin() or end() waits until its target has stopped or started
    default = True  # part of a run that names no faults
    needs_cluster = False  # world.kafka is a cluster.Cluster of three brokers
    needs_proxy = False  # a cluster.Cluster whose brokers have proxies
    needs_slow_log = False  # a cluster.Cluster whose logs can be made slow
    needs_disk = False  # the gateway's data lie on a disk of their own; root only

    def __init_subclass__(cls):
        if cls.name is not None:  # else it is what others have in common
            REGISTRY[cls.name] = cls

    def __init__(self, rng):
        self.rng = rng

    def title(self):
        """For people."""
        return self.name

    def begin(self, world):
        raise NotImplementedError

    def end(self, world):
        """Nothing to undo."""


def known():
    for module in MODULES:
        importlib.import_module(module)
    return REGISTRY


class Kill(Fault):
    """kill -9; sometimes the start behind it is killed too, on its way through recovery."""

    name = "kill"

    def begin(self, world):
        world.gateway.kill()

    def end(self, world):
        if self.rng.random() < 0.25:
            world.gateway.spawn()
            world.rest(self.rng.uniform(0, 0.15))
            world.gateway.kill()
        world.start_gateway()


class Term(Fault):
    """A stop as an operator makes it, and a start."""

    name = "term"

    def begin(self, world):
        world.gateway.stop()

    def end(self, world):
        world.start_gateway()


class Shards(Fault):
    """kill -9, and a start with another number of shards."""

    name = "shards"

    def begin(self, world):
        world.gateway.kill()

    def end(self, world):
        world.start_gateway(shards=self.rng.choice(world.shards))


class Pause(Fault):
    """SIGSTOP: nobody answers, the sockets stay."""

    name = "pause"
    silent = True
    lasts = (0.2, 3.0)

    def begin(self, world):
        os.kill(world.gateway.pid(), signal.SIGSTOP)

    def end(self, world):
        os.kill(world.gateway.pid(), signal.SIGCONT)


class Asleep(Pause):
    """SIGSTOP for longer than a transaction of Kafka's lasts, as of a machine that sleeps."""

    name = "asleep"
    default = False
    lasts = (60.0, 75.0)


class Hup(Fault):
    """A storm of SIGHUPs."""

    name = "hup"
    lasts = (0.0, 0.2)
    replays = False

    def begin(self, world):
        for _ in range(self.rng.randint(20, 200)):
            os.kill(world.gateway.pid(), signal.SIGHUP)
            world.rest(self.rng.uniform(0, 0.005))


class KafkaPause(Fault):
    """SIGSTOP of Kafka: connections are open, nothing moves."""

    name = "kafka-pause"
    target = "kafka"
    lasts = (0.2, 4.0)

    def begin(self, world):
        world.kafka.pause()

    def end(self, world):
        world.kafka.resume()


class KafkaKill(Fault):
    """kill -9 of Kafka, and a start on its own log."""

    name = "kafka-kill"
    target = "kafka"
    takes_long = True
    lasts = (0.2, 4.0)

    def begin(self, world):
        world.kafka.kill()

    def end(self, world):
        world.kafka.start()


class KafkaStop(KafkaKill):
    """A stop of Kafka as an operator makes it."""

    name = "kafka-stop"

    def begin(self, world):
        world.kafka.stop()
