"""faults_topic - what operators do to a topic or a client, and a disk of Kafka's that is slow."""

import collections
import time

import books
import faults
import harness
import kafka_wire
from event import Maker

LEARNS_S = 5.0  # until each broker knows that a topic is gone


class Gone:
    """What deleted topics may have taken with them: of each device the events right behind the last
    one that a reader had seen, without a gap, and sent before every broker knew.
    """

    def __init__(self):
        self.last = []  # at each deletion: {device: the highest number that was read}
        self.when = []
        self.sent = {}

    def deleted(self, kept, maker):
        last = collections.Counter()
        for record in kept:
            event = maker.recognise(record.value())
            last[event.device] = max(last[event.device], event.number)
        self.last.append(last)
        self.when.append(time.time() + LEARNS_S)

    def judge(self, journal_path):
        self.sent = books.sent_of(journal_path)
        return self

    def took(self, device, number, seen):
        """It was missed; whether its topic's end explains that.  `seen`: 1 for each number read."""
        return any(number > last[device] and self.sent[device, number] < when
                   and 1 not in seen[last[device] + 1 : number]
                   for last, when in zip(self.last, self.when))


class TopicDeleted(faults.Fault):
    """The topic is deleted with all that it has, and made again a while later."""

    name = "topic-deleted"
    target = "kafka"
    default = False
    lasts = (0.5, 6.0)

    def begin(self, world):
        world.gone = world.gone or Gone()
        world.reader.keep()
        world.kafka.delete_topic(world.topic)
        world.gone.deleted(world.reader.kept, Maker(world.run_id, world.plan.size))

    def end(self, world):
        world.kafka.create_topic(world.topic, if_missing=True)


class MorePartitions(faults.Fault):
    """Partitions are added, and keys belong elsewhere from then on: for the gateway with
    `partitions: follow` at once, else from its next start on.
    """

    name = "partitions"
    target = "kafka"
    default = False
    replays = False
    lasts = (2.0, 4.0)

    def begin(self, world):
        from confluent_kafka.admin import NewPartitions

        now = len(world.kafka.admin.list_topics(world.topic, harness.PATIENCE)
                  .topics[world.topic].partitions)
        more = NewPartitions(world.topic, now + self.rng.randint(1, 3))
        for done in world.kafka.admin.create_partitions([more]).values():
            done.result(harness.PATIENCE)
        world.moves += 1


class Quota(faults.Fault):
    """Kafka takes only so many bytes a second from whoever produces."""

    name = "quota"
    target = "kafka"
    default = False
    replays = False
    lasts = (3.0, 8.0)

    def __init__(self, rng):
        super().__init__(rng)
        self.per_second = int(10 ** rng.uniform(4.5, 5))

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


USER = "User:plain"  # of kafka.sh with KAFKA_SECURE


def permit(kafka, kind, name, *operations, prefixed=False):
    """To USER."""
    from confluent_kafka.admin import (AclBinding, AclOperation, AclPermissionType,
                                       ResourcePatternType, ResourceType)

    pattern = ResourcePatternType.PREFIXED if prefixed else ResourcePatternType.LITERAL
    acls = [AclBinding(ResourceType[kind], name, pattern, USER, "*", AclOperation[operation],
                       AclPermissionType.ALLOW) for operation in operations]
    for done in kafka.admin.create_acls(acls).values():
        done.result(harness.PATIENCE)


class Revoked(faults.Fault):
    """The permission to write to the topic is taken back, and given again.  Named by tests alone:
    it needs a Kafka with KAFKA_SECURE, and its user.
    """

    name = "revoked"
    target = "kafka"
    default = False
    lasts = (1.0, 5.0)

    def begin(self, world):
        from confluent_kafka.admin import (AclBindingFilter, AclOperation, AclPermissionType,
                                           ResourcePatternType, ResourceType)

        mine = AclBindingFilter(ResourceType.TOPIC, world.topic, ResourcePatternType.LITERAL, USER,
                                None, AclOperation.WRITE, AclPermissionType.ALLOW)
        start = len(world.gateway.log.all)
        for done in world.kafka.admin.delete_acls([mine]).values():
            done.result(harness.PATIENCE)
        world.gateway.wait_log(f"'{world.topic}' may not be written to by '{USER}'", start=start)

    def end(self, world):
        permit(world.kafka, "TOPIC", world.topic, "WRITE")
        harness.until(lambda: world.gateway.bridge("kafka")["up"], "the bridge to be up")
