"""checker - the books of the publisher against what one reader saw; every difference has a name.

    LOST        acknowledged, and not there although the gateway says that nothing is left
    STUCK       acknowledged and not there, while the gateway says that it still has it; or never
                acknowledged, long after every fault was over
    PHANTOM     there, and never sent, or refused
    CORRUPT     there, and not what was sent
    DUP_BROKER  the gateway delivered one acceptance twice, where it may not
    DUP_SOURCE  the gateway accepted an event more often than the device sent it; QoS 2: twice
    REORDER     the first appearance of an event comes behind that of a later one of its device,
                both as fresh ones, or both marked as of a backlog that fresh ones have overtaken
    MISROUTED   a device in two partitions; an event at two members of a shared subscription; in
                the dead letters, and not too large for the target, or too large, and not there
    BOOKS       `millrace audit --kafka` says that the gateway's own books do not add up
    SESSION     what a device was told that no gateway may tell (a session forgotten, a wrong id)

and four that are no fault: DUP_CLIENT, a copy that the device itself sent again with QoS 1;
REPLAY, a copy by the gateway where docs/DELIVERY.md allows one: at_least_once, behind a fault; and
GONE, what a topic had and nobody had read when it was deleted; DROPPED, what was in a range that
the gateway's books list, where `journal.when_full` says so.

Copies are told apart by the identity that the gateway gave the event when it accepted it (header
`millrace_id`); where a reader has none, by their number.
"""

import array
import collections
import dataclasses

import books as of

FAULTS = ("LOST", "STUCK", "PHANTOM", "CORRUPT", "DUP_BROKER", "DUP_SOURCE", "REORDER",
          "MISROUTED", "SESSION", "BOOKS")
REPORTED = ("DUP_CLIENT", "REPLAY", "GONE", "DROPPED")
OFFENDERS_MAX = 10
SEEN = 1
NO_IDENTITY = 0


@dataclasses.dataclass
class Rules:
    replays: bool = False  # the gateway may deliver one acceptance twice
    ordered: bool = True
    poison: int = 0  # of each device's events those of such numbers go to the dead letters
    devices: object = None  # only these are this reader's; None: all
    moves: int = 0  # so often partitions were added, which may take a device elsewhere
    gone: object = None  # faults_topic.Gone: what a deleted topic took with it; None: nothing
    dropped: object = None  # dropped.Dropped: what the gateway's books list; None: nothing


@dataclasses.dataclass
class Offence:
    fault: str
    device: int
    number: int
    where: str
    what: str
    sent: float = None
    acked: float = None
    during: str = ""


class Checker:
    """What one reader saw: saw() per event in the order of its place, then finish()."""

    def __init__(self, books, rules=None):
        self.books, self.rules = books, rules or Rules()
        self.seen = {}  # device: bytearray by number
        self.identities = {}  # device: array of the first identity by number
        self.more = collections.defaultdict(set)  # (device, number): further identities
        self.copies = collections.Counter()  # (device, number): appearances behind the first
        self.highest = collections.Counter()  # (device, stream): the last first appearance
        self.homes = collections.defaultdict(set)  # device: its partitions
        self.places = {}  # device, if it may move: its partition + 1 by number
        self.counts = collections.Counter(dict.fromkeys(FAULTS + REPORTED, 0))
        self.offences = []
        self.records = self.letters = 0

    def found(self, fault, device, number, where, what):
        self.counts[fault] += 1
        if len([one for one in self.offences if one.fault == fault]) < OFFENDERS_MAX:
            self.offences.append(Offence(fault, device, number, where, what))

    # ---- while reading ----

    def damaged(self, where, what):
        self.records += 1
        self.found("CORRUPT", -1, -1, where, what)

    def saw(self, device, number, where, partition=0, identity=NO_IDENTITY, backfill=False):
        """An intact event; `where`: its place, for people; `identity`: > 0, or NO_IDENTITY.

        `backfill`: marked as of a backlog that fresh events have overtaken; in order by itself.
        """
        self.records += 1
        flag = self.books.flag(device, number)
        if not flag & of.SENT or flag & of.REFUSED:
            what = "was refused" if flag & of.REFUSED else "was never sent"
            self.found("PHANTOM", device, number, where, what)
            return
        if self.is_poison(number):
            self.found("MISROUTED", device, number, where, "no target takes it")
        self.note_home(device, number, partition, where)
        if self.account(device, number, where, identity):
            self.in_order(device, number, (partition, backfill), where)

    def aside(self, device, number, where, identity):
        """A dead letter: it counts as there, once, and the order is not its."""
        self.records += 1
        if not self.books.flag(device, number) & of.SENT:
            self.found("PHANTOM", device, number, where, "was never sent")
        elif not self.is_poison(number):
            self.found("MISROUTED", device, number, where, "the target would have taken it")
        else:
            self.letters += self.account(device, number, where, identity)

    def is_poison(self, number):
        return self.rules.poison != 0 and number % self.rules.poison == 0

    def account(self, device, number, where, identity):
        """Whether this is its first appearance."""
        seen = self.seen.get(device)
        if seen is None:
            size = len(self.books.flags[device])
            seen = self.seen[device] = bytearray(size)
            self.identities[device] = array.array("Q", bytes(8 * size))
        if seen[number]:
            self.again(device, number, where, identity)
            return False
        seen[number] = SEEN
        self.identities[device][number] = identity
        return True

    def in_order(self, device, number, place, where):
        partition, backfill = place
        if self.rules.moves:
            size = len(self.seen[device])
            self.places.setdefault(device, bytearray(size))[number] = partition + 1
        # Where devices may move, each partition has an order of its own.
        row = (device, partition, backfill) if self.rules.moves else (device, backfill)
        if number > self.highest[row]:
            self.highest[row] = number
        elif self.rules.ordered:
            self.found("REORDER", device, number, where,
                       f"first appears behind {self.highest[row]}")

    def note_home(self, device, number, partition, where):
        homes = self.homes[device]
        if not self.rules.moves and homes and partition not in homes:
            self.found("MISROUTED", device, number, where,
                       f"its device was in partition {', '.join(map(str, homes))}")
            return
        homes.add(partition)

    def again(self, device, number, where, identity):
        if identity == NO_IDENTITY:
            self.again_by_number(device, number, where)
            return
        known = self.more[device, number] | {self.identities[device][number]}
        if identity in known:
            self.replayed(device, number, where)
            return
        self.more[device, number].add(identity)
        self.accepted_again(device, number, where, len(known))

    def again_by_number(self, device, number, where):
        self.copies[device, number] += 1
        mine = self.books.resends(device, number) if self.books.qos[device] == 1 else 0
        if self.copies[device, number] <= mine:
            self.counts["DUP_CLIENT"] += 1
        else:
            self.replayed(device, number, where)

    def accepted_again(self, device, number, where, further):
        """`further` acceptances before this one."""
        if self.books.qos[device] == 1 and further <= self.books.resends(device, number):
            self.counts["DUP_CLIENT"] += 1
        else:
            self.found("DUP_SOURCE", device, number, where,
                       f"accepted {further + 1} times, QoS {self.books.qos[device]}, "
                       f"sent again {self.books.resends(device, number)} times")

    def replayed(self, device, number, where):
        if self.rules.replays:
            self.counts["REPLAY"] += 1
        else:
            self.found("DUP_BROKER", device, number, where, "delivered twice")

    # ---- at the end ----

    def finish(self, drained=True, publisher_done=True):
        """`drained`: the gateway says that everything was delivered."""
        missing = "LOST" if drained else "STUCK"
        self.check_moves()
        for device, flags in self.books.flags.items():
            if self.rules.devices is not None and device not in self.rules.devices:
                continue
            seen = self.seen.get(device, b"")
            for number in missing_of(flags, seen):
                if self.rules.gone is not None and self.rules.gone.took(device, number, seen):
                    self.counts["GONE"] += 1
                elif self.rules.dropped is not None and self.rules.dropped.explains(
                        device, number, self.identities.get(device, array.array("Q"))):
                    self.counts["DROPPED"] += 1
                else:
                    self.found(missing, device, number, "-", "acknowledged, and not there")
            if not publisher_done and self.books.qos[device]:
                for number in range(1, len(flags)):
                    if not flags[number] & (of.ACKED | of.REFUSED):
                        self.found("STUCK", device, number, "-", "never acknowledged")
        return self

    def check_moves(self):
        """In the order of its numbers a device changes its partition once for each growth."""
        for device, places in self.places.items():
            known = places.translate(None, b"\0")
            changes = sum(one != other for one, other in zip(known, known[1:]))
            if changes > self.rules.moves:
                self.found("MISROUTED", device, -1, "-", f"changed its partition {changes} times; "
                           f"partitions were added {self.rules.moves} times")

    def session_faults(self, said):
        for fault in said:
            self.found("SESSION", -1, -1, "-", fault)

    def is_broken(self):
        return any(self.counts[fault] for fault in FAULTS)


# One byte an event says ACKED or not: translated, the two rows of bytes are compared as a whole,
# and only a device that misses something is walked through.
_ACKED = bytes(1 if flag & of.ACKED else 0 for flag in range(256))


def missing_of(flags, seen):
    """The numbers that are acknowledged in `flags` and not in `seen`."""
    owed = flags.translate(_ACKED)
    seen = bytes(seen) + bytes(len(owed) - len(seen))
    left = int.from_bytes(owed, "big") & ~int.from_bytes(seen, "big")
    if not left:
        return
    for number, byte in enumerate(left.to_bytes(len(owed), "big")):
        if byte:
            yield number


class Group:
    """A shared subscription: each event at exactly one of its members."""

    def __init__(self, checker):
        self.checker = checker
        self.member = {}

    def saw(self, member, device, number, where):
        first = self.member.setdefault((device, number), member)
        if first != member:
            self.checker.found("MISROUTED", device, number, where, f"member {first} has it too")
        self.checker.saw(device, number, where)
