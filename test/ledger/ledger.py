"""ledger - ./dev ledger: prove on this machine that nothing is lost, doubled or reordered.

Devices publish to a gateway that writes into a real Kafka, while both suffer; at the end the
devices' own journal is compared with what Kafka has, event by event.  One line says what came
out, the first offenders follow, the whole of it is in build/ledger/.  The exit code is 0 when every
promise was kept, 1 when one was broken, 2 when the run did not come about.
"""

import argparse
import pathlib
import random
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "behaviour")]
import faults  # noqa: E402
import harness  # noqa: E402
from cluster import kafka_for  # noqa: E402
from report import DID_NOT_RUN  # noqa: E402
from world import Plan, World, say  # noqa: E402


def options():
    known = faults.known()
    usual = ",".join(name for name, one in known.items() if one.default)
    parser = argparse.ArgumentParser(
        prog="./dev ledger", description=__doc__.split("\n\n")[1],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--seed", type=int, default=0, help="makes the same run again; 0: a new one, and said")
    add("--rounds", type=int, default=10, help="faults to be made")
    add("--seconds", type=float, default=0, help="no new fault after so long; 0: all rounds")
    add("--faults", default=usual, help=f"of {', '.join(known)}; none: load alone")
    add("--delivery", default="exactly_once", choices=("at_least_once", "exactly_once"))
    add("--devices", type=int, default=20)
    add("--rate", type=float, default=10_000, help="events a second, all devices together")
    add("--window", type=int, default=50, help="unacknowledged events of a device")
    add("--size", type=int, default=100, help="bytes of a payload, on the average")
    add("--shards", default="1", help="numbers that a restart may choose from, as in 1,2,3")
    add("--churn", type=float, default=2, help="connections that devices lose a second")
    add("--watched", type=int, default=0, help="so many devices are also read over MQTT")
    add("--segment", default="4MiB", help="size of a segment of the journal")
    add("--binary", type=pathlib.Path, help="the program (default: build/release/millrace)")
    return parser.parse_args(), known


def plan_of(given, known):
    names = () if given.faults in ("", "none") else tuple(given.faults.split(","))
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"./dev ledger: no fault is called {unknown[0]!r}; known: {', '.join(known)}")
    return Plan(
        seed=given.seed or random.SystemRandom().randrange(1, 1 << 31), delivery=given.delivery,
        rounds=given.rounds if names else 0, faults=names, devices=given.devices,
        seconds=given.seconds or (0 if names else 10), rate=given.rate, window=given.window,
        size=given.size, churn=given.churn, watched=given.watched, binary=given.binary,
        segment=given.segment,
        shards=tuple(int(one) for one in given.shards.split(",")))


def main():
    given, known = options()
    plan = plan_of(given, known)
    kafka = kafka_for([known[name] for name in plan.faults])
    try:
        with World(plan, kafka) as world:
            report = world.run()
            path = world.save(report, harness.ROOT / "build" / "ledger")
            print(report.line())
            for line in report.offenders(world.journal_path):
                print(line)
            print(f"all of it: {path.relative_to(harness.ROOT)}")
            return report.exit_code()
    except (AssertionError, OSError, unittest.SkipTest) as why:
        say(f"./dev ledger: the run did not come about: {why}\n  --seed {plan.seed} repeats it")
        return DID_NOT_RUN
    finally:
        kafka.remove()


if __name__ == "__main__":
    sys.exit(main())
