"""world - one run of the ledger: a gateway, a Kafka, a publisher, readers, a nemesis, the verdict.

    with World(Plan(seed=7, rounds=10), kafka) as world:
        report = world.run()

The publisher's journal lies in a folder of its own, outside of the gateway's data.
"""

import dataclasses
import json
import os
import pathlib
import random
import sys
import time

import books as of
import faults
import harness
import subscriber
from checker import Checker, Group, Rules
from disk import Disk
from dropped import Dropped
from event import POISON_BYTES, Maker
from helper import Helper
from kafka_reader import Reader, take_letters
from nemesis import GAP_S, Nemesis, schedule
from report import Report

ACK_PATIENCE_S, DRAIN_PATIENCE_S = 60, 120
DISK_MIB = 4096  # of a file that takes only what is written


def say(text):
    print(text, file=sys.stderr, flush=True)


@dataclasses.dataclass
class Plan:
    """What a run consists of; one from a seed alone is the default of ./dev ledger."""

    seed: int = 0
    rounds: int = 10
    seconds: float = 0.0  # at most; 0: all rounds
    faults: tuple = ("kill",)
    delivery: str = "exactly_once"
    replays: bool = False  # allowed at at_least_once although no fault of the schedule asks for it
    devices: int = 20
    rate: float = 10_000.0
    window: int = 50
    churn: float = 2.0  # devices lose their connection so often a second, all together
    limit: int = 0  # events of each device; 0: as many as the run takes
    size: int = 100
    poison: int = 0  # every so many events of a device one goes to the dead letters; 0: none
    qos: tuple = (0, 1, 1, 2, 2)
    shards: tuple = (1,)  # the first start has the first of them
    watched: int = 0  # so many devices are read over MQTT too
    identity: bool = True  # records have the header millrace_id
    gap: tuple = GAP_S
    segment: str = "4MiB"  # at least so large as a packet, and 128 KiB
    packet: str = "1MiB"  # at most
    journal: str = "4GiB"  # at most; what is settled goes when there is no more room
    binary: pathlib.Path = None
    name: str = "kafka"
    config: str = ""  # further YAML


CONFIG = """\
mqtt: {{ max_queued_messages: 1000000, max_queued_bytes: 1GiB, max_packet_size: {packet} }}
journal: {{ max_size: {journal}, segment_size: {segment} }}
bridges:
  kafka:
    servers: "{servers}"
    topic: {topic}
    value_encoder: raw
    headers: {headers}
{more}"""


class World:
    def __init__(self, plan, kafka):
        self.plan, self.kafka = plan, kafka
        self.shards = plan.shards
        self.run_id = random.Random(f"{plan.seed}-{plan.name}").randrange(1, 1 << 32)
        self.topic = f"ledger_{self.run_id:08x}"
        self.temp = harness.Temp("ledger")
        self.journal_path = self.temp.path / "publisher.journal"
        self.takings_path = self.temp.path / "subscriber.takings"
        self.disk = self.disk_of_its_own()
        self.gateway = harness.Gateway(self.config(), binary=self.binary(),
                                       data=self.disk and self.disk.path / "data",
                                       sets=[f"gateway.shards={plan.shards[0]}"])
        self.publisher = self.subscriber = None
        self.moves, self.gone = 0, None  # of faults_topic
        self.tls = getattr(kafka, "tls", None)  # of faults_certificate
        self.points = []  # (point, hit, whether it was reached) of faults_point

    def disk_of_its_own(self):
        """Mounted; None when no fault of the plan asks for one."""
        known = faults.known()
        if not any(known[name].needs_disk for name in self.plan.faults):
            return None
        disk = Disk("ledger", DISK_MIB)
        disk.mount()
        return disk

    def binary(self):
        return self.plan.binary or harness.RELEASE / "millrace"

    def config(self):
        more = self.plan.config
        if self.plan.delivery != "at_least_once":
            more = (f"    delivery: {self.plan.delivery}\n"
                    f"    auto_create: {{ enable: true }}\n{more}")  # millrace.positions
        if self.plan.poison:
            more += f"    kafka_options: {{ message.max.bytes: {POISON_BYTES - 1000} }}\n"
        return CONFIG.format(servers=self.kafka.gateway_bootstrap, topic=self.topic, more=more,
                             segment=self.plan.segment, packet=self.plan.packet,
                             journal=self.plan.journal,
                             headers="id" if self.plan.identity else "none")

    # ---- for faults ----

    def rest(self, seconds):
        if seconds > 0:
            time.sleep(seconds)  # sleep: the moment of a fault, and how long it lasts

    def start_gateway(self, shards=None):
        if shards is not None:
            self.use_shards(shards)
        self.gateway.start()

    def use_shards(self, shards):
        """From the next start on."""
        self.gateway.sets = [f"gateway.shards={shards}"]

    def shards_now(self):
        return int(self.gateway.sets[0].split("=")[1])

    def same_gateway(self):
        """It lives on."""
        code = self.gateway.process.poll()
        assert code is None, f"it ended with {code}:\n{self.gateway.log.text()}"

    def mqtt_port(self):
        """Where devices find the gateway."""
        return self.gateway.mqtt_port

    def acked(self):
        self.publisher.check()
        return self.publisher.said().get("acked", 0)

    def lag(self):
        """Events that wait for Kafka; None when the gateway does not answer."""
        try:
            return self.gateway.bridge("kafka")["lag_records"]
        except (OSError, AssertionError):
            return None

    def dropped(self):
        """What the gateway dropped since its start, by reason; {} when it does not answer."""
        try:
            found = self.gateway.metrics()
        except (OSError, AssertionError):
            return {}
        return {name: value for name, value in found.items()
                if name.startswith("millrace_mqtt_messages_dropped_total") and value}

    # ---- the run ----

    def __enter__(self):
        try:
            self.kafka.start()
            self.kafka.create_topic(self.topic, partitions=4)
            self.reader = Reader(self.kafka.bootstrap, self.topic)
            self.reader.begin()
            self.gateway.start()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, *rest):
        for helper in (self.publisher, self.subscriber):
            if helper is not None:
                helper.kill()
        try:
            self.gateway.__exit__(kind, *rest)
        finally:
            if self.disk is not None:
                self.disk.remove()
            self.temp.remove()

    def start_load(self):
        plan = self.plan
        if plan.watched:
            self.subscriber = Helper(
                "subscriber.py", port=self.gateway.mqtt_port, run=self.run_id, size=plan.size,
                poison=plan.poison,
                path=str(self.takings_path), devices=list(range(plan.watched)), readers=READERS)
            self.subscriber.wait_first_word()
        self.publisher = Helper(
            "publisher.py", port=self.mqtt_port(), run=self.run_id, size=plan.size,
            poison=plan.poison,
            path=str(self.journal_path), devices=plan.devices, rate=plan.rate,
            window=plan.window, qos=plan.qos, limit=plan.limit,
            churn=plan.churn)
        self.publisher.wait_first_word()

    def run(self, steps=None):
        """`steps`: of the nemesis; None: those that the plan's seed makes."""
        say(f"\n  ledger: --seed {self.plan.seed} --faults {','.join(self.plan.faults) or 'none'}"
            f" --rounds {self.plan.rounds} --delivery {self.plan.delivery}")
        self.start_load()
        if steps is None:
            steps = schedule(self.plan.seed, self.plan.faults, self.plan.rounds, self.plan.gap)
        until = time.monotonic() + self.plan.seconds if self.plan.seconds else None
        nemesis = Nemesis(self, steps, say)
        windows = nemesis.run(until)
        if until is not None and not steps:
            self.rest(until - time.monotonic())
        return self.verdict(windows)

    def verdict(self, windows):
        """Everything is whole again: what is owed must come; then the books are compared."""
        nemesis_over = time.monotonic()
        if not self.plan.limit:
            self.publisher.tell("quit")
        said = self.publisher.wait_end(ACK_PATIENCE_S)
        publisher_done = said is not None
        if not publisher_done:
            said = self.publisher.said()
            self.publisher.kill()
        books = of.Books.read(self.journal_path)
        taken = self.end_subscriber(books)
        drained = self.drain()
        healed_s = time.monotonic() - nemesis_over
        dropped = self.dropped()
        self.gateway.stop()
        checkers = {"kafka": self.check_kafka(books, drained, publisher_done, windows)}
        checkers["kafka"].session_faults(said["faults"])
        self.check_journal(checkers["kafka"])
        self.check_books(checkers["kafka"])
        if taken is not None:
            checkers.update(check_subscribers(books, self.takings_path, self.plan, taken))
        more = {"healed_s": round(healed_s, 1), "connections": said["connections"],
                "dropped": dropped, "subscriber": taken}
        return Report(self.plan.name, self.plan.seed, books.counts, checkers, windows, more)

    def end_subscriber(self, books):
        if self.subscriber is None:
            return None
        expected = {device: books.acknowledged(device) for device in range(self.plan.watched)}
        self.subscriber.tell("quit" + json.dumps(expected))
        taken = self.subscriber.wait_end(ACK_PATIENCE_S * 5)
        assert taken is not None, "the subscriber did not end"
        return taken

    def drain(self):
        """Whether the bridge says in time that nothing is left."""
        try:
            self.gateway.wait_drained("kafka", DRAIN_PATIENCE_S)
            return True
        except AssertionError:
            said = [line for line in self.gateway.log.all if "component=mqtt" not in line]
            say("\n".join([f"  not drained: {self.gateway.bridge('kafka')}", *said[-20:]]))
            return False

    def check_kafka(self, books, drained, publisher_done, windows):
        known = faults.known()
        replays = self.plan.delivery == "at_least_once" and (
            self.plan.replays or any(known[one["fault"]].replays for one in windows))
        gone = self.gone and self.gone.judge(self.journal_path)
        maker = Maker(self.run_id, self.plan.size, self.plan.poison)
        checker = Checker(books, Rules(replays=replays, moves=self.moves, gone=gone,
                                       dropped=self.given_up(), poison=self.plan.poison))
        self.reader.read(maker, checker)
        done = harness.millrace("dlq", "show", "kafka", "--json", "--data", self.gateway.data,
                                binary=self.binary(), check=False)
        take_letters(done.stdout.splitlines(), maker, checker)
        if self.plan.poison and not checker.letters:
            checker.found("LOST", -1, -1, "the dead letters", f"none: {done.stderr}")
        return checker.finish(drained, publisher_done)

    def given_up(self):
        """The ranges that the gateway's books list, if it may drop anything."""
        if "drop_oldest" not in self.plan.journal:
            return None
        return Dropped.of_audit(harness.millrace("audit", "--json", "--data", self.gateway.data,
                                                 binary=self.binary()).stdout)

    def check_journal(self, checker):
        """What the faults left on disk is a whole journal."""
        done = harness.millrace("journal", "verify", "--data", self.gateway.data,
                                binary=self.binary(), check=False)
        if done.returncode != 0:
            checker.found("CORRUPT", -1, -1, "the journal", done.stdout + done.stderr)

    def check_books(self, checker):
        """The gateway's own books add up, and Kafka has what they say, unless it was deleted."""
        where = ["--data", self.gateway.data]
        if self.gone is None:
            where += ["-c", self.gateway.config, "--kafka"]
        done = harness.millrace("audit", *where, binary=self.binary(), check=False)
        if done.returncode != 0:
            checker.found("BOOKS", -1, -1, "millrace audit", done.stdout + done.stderr)

    def assert_kept(self, test, report):
        """Say what came out; `test` fails where a promise was broken."""
        said = "\n".join([report.line(), *report.offenders(self.journal_path)])
        say(said)
        report.tally()
        test.assertFalse(report.broken, said)

    def save(self, report, folder):
        """The report as JSON, and the offenders for people."""
        os.makedirs(folder, exist_ok=True)
        path = pathlib.Path(folder) / f"{report.name}-{report.seed}.json"
        report.write(path, self.journal_path)
        return path


# A reader that takes everything with QoS 2, one with QoS 1, and a group of two.
READERS = [["exactly", 2, ""], ["least", 1, ""], ["one", 2, "group"], ["other", 2, "group"]]


def check_subscribers(books, path, plan, taken):
    """A checker per view: QoS 2 to a QoS 2 reader is exact; everything else may be repeated."""
    devices = set(range(plan.watched))
    views = {label: Checker(books, Rules(replays=True, devices=devices))
             for label in ("exactly", "least", "group")}
    views["group"].rules.ordered = False  # what a member lost goes to another, later
    group = Group(views["group"])
    for number, intact, device, event in subscriber.entries(path):
        label, _, in_group = READERS[number]
        view = in_group or label
        if not intact:
            views[view].damaged(label, "an event that was not sent so")
        elif in_group and books.qos[device] == 2:
            group.saw(number, device, event, label)
        else:
            views[view].saw(device, event, label)
    for label in ("exactly", "group"):
        exact(views[label], books)
    for checker in views.values():
        checker.finish()
    views["exactly"].session_faults(taken["faults"])
    return views


def exact(checker, books):
    """Copies of events of QoS 2 are a fault, although those of QoS 1 are not."""
    for (device, number), copies in checker.copies.items():
        if books.qos[device] == 2:
            checker.counts["REPLAY"] -= copies
            checker.found("DUP_BROKER", device, number, "-", f"{copies + 1} times with QoS 2")
