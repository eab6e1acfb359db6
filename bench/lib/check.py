"""check - the scorecard judges as it says: run by bench/smoke."""

from scorecard import Row
from stats import interval


def runs(*costs):
    """Repetitions of a gateway beside a floor of 100 ns."""
    return {"x/ours": [dict(rep=rep, cpu_ns=cost) for rep, cost in enumerate(costs)],
            "x/floor": [dict(rep=rep, cpu_ns=100) for rep in range(len(costs))]}


def verdict(row, results, failed=()):
    return row.verdict(row.values(results, set(failed)))


row = Row("0", "CPU", "floor", "<=", 1.2, "x",
          lambda r: r["x/ours"]["cpu_ns"] / r["x/floor"]["cpu_ns"])
good = runs(110, 111, 112, 110, 111, 109, 113)
assert verdict(row, good) == "met"
assert verdict(row, runs(150, 151, 152, 150)) == "**not met**"
# A median on the right side is not enough: the whole interval has to be.
assert verdict(row, runs(110, 111, 300, 112, 290, 110, 295)) == "**not met**"
# A run that was wrong voids the row, whatever the other repetitions say.
assert verdict(row, good, ["x/ours"]) == "void"
assert verdict(row, good, ["x/other"]) == "met"
assert verdict(row, {}) == "void"
# A repetition without one of its runs does not count.
short = runs(110, 111, 112)
short["x/floor"].pop()
assert len(row.values(short, set())) == 2
# Two runs of one repetition are one value.
double = runs(110, 111, 112)
double["x/ours"].append(dict(rep=0, cpu_ns=130))
assert row.values(double, set()) == [1.2, 1.11, 1.12]
low, high = interval([1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6])
assert 1.0 <= low <= 1.3 <= high <= 1.6
assert interval([1.0, 2.0]) is None
