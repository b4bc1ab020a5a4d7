"""Debounced comparators: a condition must last before it counts, and be over for a while before it is over. Pure.

A latch is on or off. While its input contradicts it, `since` says from when; once that has lasted `hold` seconds (to go on) or
`recover` seconds (to go off), it flips. An input that agrees again starts the wait anew.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


ROUNDING = 1e-4
"""Seconds by which a wait may be short: times come back from the database in whole microseconds."""


def step(on: Flags, since: Floats, above: Flags, below: Flags, ts: Floats, hold: Floats, recover: Floats) -> tuple[Flags, Floats]:
    """The latches after one reading: (n, k) for n conditions of k levels.

    `since`: event time from which the input contradicts, NaN where it agrees. `above`: the value passes the level's threshold;
    `below`: it has come back behind the recovery value (in between, nothing contradicts). `ts`, `hold`, `recover`: (n,) seconds.
    """
    contrary = np.where(on, below, above)
    at = ts[:, None]
    since = np.where(contrary, np.where(np.isnan(since), at, since), np.nan)
    flips = contrary & (at - since >= np.where(on, recover[:, None], hold[:, None]) - ROUNDING)
    return on ^ flips, np.where(flips, np.nan, since)


def behind(values: Floats, thresholds: Floats, margin: Floats) -> Flags:
    """(n, k) whether values (n,) have come back: to the recovery value where there is a margin (n,), else below the threshold."""
    value, margin = values[:, None], margin[:, None]
    return np.where(margin > 0, value <= thresholds - margin, value < thresholds)


def levels(on: Flags) -> NDArray[np.int64]:
    """(n,) the highest level that is on, from 1; 0 where none is."""
    return np.asarray((on * np.arange(1, on.shape[1] + 1)).max(axis=1, initial=0), np.int64)


def waits(on: Flags, since: Floats) -> Flags:
    """(n,) whether nothing is on yet, but something would be if it lasted."""
    return np.asarray((~on & ~np.isnan(since)).any(axis=1) & ~on.any(axis=1))
