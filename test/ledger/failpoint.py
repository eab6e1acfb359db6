"""failpoint - the moments at which the gateway ends at once, by name (failpoint.c does it).

    gateway.prefix = at(point, hit, said)   its next start meets the point
    reached(said)                           whether it came to it

A point is a call of the program, in front of it or behind it: there is no code for it in the
product.  A name says what is lost: "cursor: before flush" has written the cursor and not flushed.
"""

import dataclasses
import functools
import os
import pathlib
import subprocess

import harness

HERE = pathlib.Path(__file__).resolve().parent
HITS = (1, 2, 3, 10)


@dataclasses.dataclass(frozen=True)
class Point:
    name: str
    call: str
    subject: str
    when: str
    rehome: bool = False  # met by a start with another number of shards
    hits: tuple = HITS


def around(what, name, call, subject, **more):
    return [Point(f"{what}: {when} {name}", call, subject, when, **more)
            for when in ("before", "after")]


SEGMENT, NAMED = "*/lane-*/*.seg", "*/journal/lane-*/[0-9]*.seg"
LETTERS = "*/dead-letters/*.seg"  # met where the load has events that no target takes
SPARE, SPARE_NEW = "*/lane-*/spare-*.seg", "*/spare.tmp"
CURSORS, META, STORE = "*/journal/cursors", "*/journal/meta.tmp", "*/data.mdb"
ONCE, FEW = (1,), (1, 2, 3)  # what a start does but once, and what is done every other second
POINTS = tuple(
    # ---- the journal: what is acknowledged ----
    around("append", "write", "pwritev", NAMED)
    + around("append", "flush", "fdatasync", NAMED)
    + around("segment", "first write", "pwritev", SPARE)
    + around("segment", "first flush", "fdatasync", SPARE)
    + around("segment", "rename", "rename", SPARE)
    + around("segment", "folder flush", "fsync", "*/journal/lane-*")
    + around("segment", "recycling", "rename", NAMED)
    + around("spare", "creation", "open", SPARE_NEW)
    + around("spare", "write", "pwritev", SPARE_NEW)
    + around("spare", "flush", "fsync", SPARE_NEW)
    + around("spare", "rename", "rename", SPARE_NEW)
    # ---- the dead letters ----
    + around("dead letter", "write", "pwritev", LETTERS)
    + around("dead letter", "flush", "fdatasync", LETTERS)
    # ---- how far each bridge and the session store are ----
    + around("cursor", "write", "pwritev", CURSORS)
    + around("cursor", "flush", "fdatasync", CURSORS)
    # ---- the checkpoint of sessions ----
    + around("checkpoint", "pages", "*write*", "/*.mdb", hits=FEW)
    + around("checkpoint", "flush", "fdatasync", STORE, hits=FEW)
    + around("checkpoint", "commit", "pwrite", "dsync:*.mdb", hits=FEW)
    # ---- a start with another number of shards ----
    + around("lanes", "new folder", "mkdir", "*/lane-*", rehome=True, hits=ONCE)
    + around("lanes", "meta write", "pwritev", META, rehome=True, hits=ONCE)
    + around("lanes", "meta flush", "fdatasync", META, rehome=True, hits=ONCE)
    + around("lanes", "meta rename", "rename", META, rehome=True, hits=ONCE)
    + around("lanes", "journal folder flush", "fsync", "*/journal", rehome=True, hits=ONCE)
    + around("lanes", "moved sessions, write", "pwritev", SEGMENT, rehome=True)
    + around("lanes", "moved sessions, flush", "fdatasync", SEGMENT, rehome=True)
    + around("lanes", "moved sessions, checkpoint", "pwrite", "dsync:*.mdb", rehome=True,
             hits=FEW)
    # ---- Kafka ----
    + [point for what, key, hits in (("InitProducerId", 22, ONCE), ("AddPartitionsToTxn", 24, HITS),
                                     ("Produce", 0, HITS), ("EndTxn", 26, HITS))
       for point in (*around("kafka", f"{what} leaves", "sendmsg", f"kafka:{key}", hits=hits),
                     *around("kafka", f"the answer to {what}", "recvmsg", f"kafka:{key}",
                             hits=hits))]
    # ---- devices ----
    + [point for what, first in (("CONNACK", "20"), ("PUBACK", "40"), ("PUBREC", "50"),
                                 ("PUBREL", "62"), ("PUBCOMP", "70"), ("PUBLISH", "3?"))
       for point in around("device", what, "send", f"mqtt:{first}")]
)

IN_FILES = ("pwritev", "*write*", "pwrite", "fdatasync", "fsync", "rename", "open", "mkdir",
            "unlink")
FILE_POINTS = tuple(point for point in POINTS if point.call in IN_FILES)


@functools.cache
def preloaded(name):
    """The library that NAME.c of this folder makes."""
    made = harness.ROOT / "build" / f"{name}.so"
    made.parent.mkdir(exist_ok=True)
    mine = made.with_suffix(f".{os.getpid()}")  # others may be running with theirs
    subprocess.run(["cc", "-std=c17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC",
                    "-o", mine, HERE / f"{name}.c", "-ldl"], check=True)
    mine.replace(made)
    return made


def prefix(said, call, subject, when, hit, action="kill"):
    """Words in front of a program's command line."""
    return ["env", f"LD_PRELOAD={preloaded('failpoint')}", f"FAILPOINT_SAID={said}",
            f"FAILPOINT={call} {subject} {when} {hit} {action}"]


def at(point, hit, said, action="kill"):
    return prefix(said, point.call, point.subject, point.when, hit, action)


def reached(said):
    return pathlib.Path(said).exists()
