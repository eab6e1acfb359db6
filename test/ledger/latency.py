"""latency - how long devices waited for their acknowledgements, with a fault in force and without.

    quiet, faulty = waits(journal path, windows)      milliseconds, in no order
    percentile(quiet, 99)

An event that a device sent again says nothing: its own connection was lost.
"""

import journal

BEHIND_S = 1.0  # behind a fault, what it did may still be felt


def waits(path, windows):
    """Of events sent outside of all windows, and within one."""
    sent, again, quiet, faulty = {}, set(), [], []
    for kind, qos, _, device, number, when in journal.entries(path):
        event = device, number
        if kind == journal.SENT and qos:
            sent[event] = when
        elif kind == journal.RESENT:
            again.add(event)
        elif kind == journal.ACKED and event not in again:
            within = any(one["begin"] <= sent[event] <= one["end"] + BEHIND_S for one in windows)
            (faulty if within else quiet).append((when - sent[event]) * 1000)
    return quiet, faulty


def percentile(values, percent):
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]
