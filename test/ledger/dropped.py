"""dropped - what may be missing, because the gateway's books list the range that it was in.

    millrace audit --json ──▶ Dropped.ranges[lane] ──▶ Dropped.explains(device's gap)

An event that did not arrive has no identity.  But those of its device that arrived on either side
have one, and all of a device are in one lane, in their order: so it had a seq between theirs.  A
gap is explained if the ranges hold as many seqs in there as the device misses.
"""

import collections
import json

LANE_SHIFT = 48  # of kafka_reader's identities


class Dropped:
    def __init__(self, ranges):
        self.ranges = ranges  # {lane: [(first, last)]}
        self.used = collections.Counter()  # (device, before, behind): explained so far

    @classmethod
    def of_audit(cls, text):
        ranges = collections.defaultdict(list)
        for row in map(json.loads, text.splitlines()):
            if "first" in row:
                ranges[row["lane"]].append((row["first"], row["last"]))
        return cls(dict(ranges))

    def room(self, before, behind):
        """Seqs in a range, between these identities; 0: none on that side."""
        known = before or behind
        lanes = [(known >> LANE_SHIFT) - 1] if known else list(self.ranges)
        low = before & ((1 << LANE_SHIFT) - 1)
        high = behind & ((1 << LANE_SHIFT) - 1) if behind else 1 << LANE_SHIFT
        if before and behind and before >> LANE_SHIFT != behind >> LANE_SHIFT:
            return 0
        return sum(max(0, min(last, high - 1) - max(first, low + 1) + 1)
                   for lane in lanes for first, last in self.ranges.get(lane, ()))

    def explains(self, device, number, identities):
        """It was missed; `identities`: of the device's events by number, 0 where none came."""
        before = next((one for one in reversed(identities[:number]) if one), 0)
        behind = next((one for one in identities[number + 1:] if one), 0)
        self.used[device, before, behind] += 1
        return self.used[device, before, behind] <= self.room(before, behind)
