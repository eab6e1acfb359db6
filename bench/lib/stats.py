"""stats - median, spread, and how sure a median is."""

import random
import statistics

RESAMPLES = 4000


def median(values):
    return statistics.median(values)


def mean(figures):
    """Of runs of the same repetition, one of each number that all of them have."""
    if len(figures) == 1:
        return figures[0]
    return {key: statistics.fmean(one[key] for one in figures) for key, value in figures[0].items()
            if isinstance(value, (int, float)) and all(key in one for one in figures)}


def interval(values):
    """95 % bootstrap interval of the median; None for fewer than three values.

    The values are one per repetition, each already a ratio of two runs that followed each
    other, so what slows the whole machine down is in both.
    """
    if len(values) < 3:
        return None
    dice = random.Random(1)  # the same figures give the same interval
    medians = sorted(statistics.median(dice.choices(values, k=len(values)))
                     for _ in range(RESAMPLES))
    return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES) - 1]
