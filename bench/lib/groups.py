"""groups - which measurements there are, in which order, and how often.

What is compared stands in one group: a group's runs follow each other, repetition by
repetition, forwards and then backwards (ABBA), so a machine that gets slower or faster over the
minutes favours nobody.  What is compared most closely goes forwards and backwards within each
repetition, and what is measured most often comes first, because --minutes ends it there.
"""

from dataclasses import dataclass, field

from alternatives import COMMITS, SOCKETS
from beside import beside_plan
from loads import PROFILES, VARIANTS


SCALE_CONNECTIONS = (10, 1000, 15_000)


@dataclass
class Group:
    name: str
    reps: int  # by default; --reps sets all
    runs: list  # (name, function of Runs)
    kind: str = "whole"  # part of a whole run; "long" with --long only; "asked": by --only alone
    kafka: bool = True
    twice: tuple = ()  # names of runs that each repetition has forwards and backwards: ABBA in it
    chosen: list = field(default_factory=list)

    @property
    def complete(self):
        return len(self.chosen) == len(self.runs)

    def order(self, repetition):
        """Of one repetition.  Forwards, then backwards: within it, or from one to the next."""
        if self.twice:
            return self.chosen + [run for run in self.chosen[::-1] if run[0] in self.twice]
        return self.chosen if repetition % 2 == 0 else self.chosen[::-1]


def named(group, **runs):
    return [(f"{group}/{name}", function) for name, function in runs.items()]


def groups():
    return [
        Group("order", 1, named(
            "order",
            pipelined=lambda b: b.run_order("a"),
            single=lambda b: b.run_order("b")), kafka=False),
        Group("a", 7, named(
            "a",
            floor=lambda b: b.run_floor("a"),
            rdkafka=lambda b: b.run_rdkafka("va", b.count("a", "rdkafka")),
            kafka=lambda b: b.run_kafka("a"),
            rdkafka_batch=lambda b: b.run_rdkafka("batch", b.count("a", "rdkafka")),
            blast=lambda b: b.run_blast(),
            journal=lambda b: b.run_journal("a"))),
        Group("b", 7, named(
            "b",
            floor=lambda b: b.run_floor("b"),
            journal=lambda b: b.run_journal("b"),
            journal_epoll=lambda b: b.run_journal("b", loop="epoll"),
            kafka=lambda b: b.run_kafka("b"),
            kafka_epoll=lambda b: b.run_kafka("b", loop="epoll")),
            twice=("b/floor", "b/journal", "b/journal_epoll")),
        Group("c", 7, named(
            "c",
            floor=lambda b: b.run_floor("c"),
            journal=lambda b: b.run_journal("c"),
            journal_epoll=lambda b: b.run_journal("c", loop="epoll"),
            kafka=lambda b: b.run_kafka("c"))),
        Group("latency", 7, named(
            "latency",
            rdkafka=lambda b: b.run_latency_rdkafka(),
            kafka=lambda b: b.run_latency_kafka(),
            rawfs=lambda b: b.run_rawfs(),
            disk_4k=lambda b: b.run_disk(4096))),
        Group("catchup", 7, named(
            "catchup",
            rdkafka=lambda b: b.run_catchup_rdkafka(),
            gateway=lambda b: b.run_catchup(),
            live=lambda b: b.run_catchup_live())),
        Group("overload", 7, named(
            "overload",
            peak=lambda b: b.run_overload(None),
            x150=lambda b: b.run_overload(1.5),
            x300=lambda b: b.run_overload(3)), twice=("overload/peak",)),
        Group("connect", 7, named(
            "connect",
            floor=lambda b: b.run_connect("floor"),
            gateway=lambda b: b.run_connect("gateway")), kafka=False),
        Group("cost", 3, named("cost", **{
            name: lambda b, name=name: b.run_variant(name) for name in VARIANTS})),
        Group("encoder", 3, named(
            "encoder",
            rdkafka=lambda b: b.run_rdkafka("va", b.count("a", "rdkafka")),
            own=lambda b: b.run_encoder(),
            own_plain=lambda b: b.run_encoder("--plain"),
            rdkafka_headers=lambda b: b.run_rdkafka("va", b.count("a", "rdkafka"),
                                                    "--header-bytes", 24),
            own_headers=lambda b: b.run_encoder("--header-bytes", 24)), kind="asked"),
        Group("shards", 3, named(
            "shards",
            a_1=lambda b: b.run_kafka("a"),
            a_2=lambda b: b.run_kafka("a", shards=2),
            b_1=lambda b: b.run_kafka("b"),
            b_2=lambda b: b.run_kafka("b", shards=2))),
        Group("scale", 3, named("scale", **{
            f"{subject}_{count}": lambda b, s=subject, count=count: b.run_scale(s, count)
            for count in SCALE_CONNECTIONS for subject in ("floor", "journal")}), kafka=False),
        Group("backlog", 1, named("backlog", gateway=lambda b: b.run_backlog()), kafka=False),
        Group("bytes", 3, named("bytes", journal=lambda b: b.run_bytes()), kafka=False),
        Group("idle", 3, named(
            "idle",
            floor=lambda b: b.run_idle("floor"),
            gateway=lambda b: b.run_idle("gateway")), kafka=False),
        Group("idle_tls", 1, named(
            "idle_tls",
            floor=lambda b: b.run_idle_tls("floor"),
            gateway=lambda b: b.run_idle_tls("gateway")), kafka=False),
        Group("tls", 3, named(
            "tls",
            openssl=lambda b: b.run_openssl(),
            floor=lambda b: b.run_handshakes("floor"),
            gateway=lambda b: b.run_handshakes("gateway")), kafka=False),
        Group("recovery", 1, named("recovery", journal=lambda b: b.run_recovery()), kafka=False),
        Group("sessions", 1, named("sessions", gateway=lambda b: b.run_sessions()), kafka=False),
        Group("sustained", 1, named(
            "sustained",
            at_least=lambda b: b.run_sustained("at_least_once"),
            exactly=lambda b: b.run_sustained("exactly_once")), kind="long"),
        Group("followed", 3, named(
            "followed",
            a_rdkafka=lambda b: b.run_followed_rdkafka("a"),
            a_kafka=lambda b: b.run_followed("a"),
            b_rdkafka=lambda b: b.run_followed_rdkafka("b"),
            b_kafka=lambda b: b.run_followed("b")), kind="asked"),
        Group("commit", 7, named("commit", **{
            f"{name}_{size}": lambda b, n=name, size=size: b.run_commit(n, size)
            for size in COMMITS["sizes"] for name in COMMITS["ways"]}), kind="asked", kafka=False),
        Group("sockets", 7, named("sockets", **{
            name: lambda b, n=name: b.run_sockets(n) for name in SOCKETS}), kind="asked",
            kafka=False),
        Group("beside", 2, beside_plan(), kind="asked", kafka=False),
        Group("profile", 1, [(f"profile/{name}", lambda b, name=name: b.run_profile(name))
                             for name in PROFILES], kind="asked"),
    ]


def selected(args):
    """The groups to run; `chosen` has their runs.

    --only takes names of groups, and beginnings of names of runs.
    """
    found = []
    for group in groups():
        if args.only:
            wanted = args.only.split(",")
            group.chosen = [run for run in group.runs if group.name in wanted or
                            any("/" in w and run[0].startswith(w) for w in wanted)]
        elif group.kind == "whole" or (group.kind == "long" and args.long):
            group.chosen = group.runs
        if group.chosen:
            found.append(group)
    return found
