"""What a rule would have done over history: the engine's latches, run over many series at once. Pure.

History comes as a grid: n series by t steps of the same length, each with the lowest and highest reading of its step, NaN where
there was none. A threshold that must be passed for a time is held to be passed in a step only when every reading of it passes;
one that counts at once (`for` 0) when any does. The same holds for the way back.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aggregator.analysis import latches

Floats = NDArray[np.float64]
Readings = NDArray[np.floating[Any]]
Levels = NDArray[np.int8]

LADDER = (30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0, 86_400.0)
"""Times that are suggested as `for`."""

STEPS_AT_ONCE = 500


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Of n series: `sign`, `margin`, `hold` (s), `recover` (s), and `thresholds` (n, k), turned so that more is always worse."""

    sign: Floats
    margin: Floats
    hold: Floats
    recover: Floats
    thresholds: Floats

    def chosen(self, rows: NDArray[np.intp]) -> "Limits":
        return Limits(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What happened to one series. Times in Unix s; `level` from 1, as the thresholds; `worst`: the value while it fired."""

    series: int
    fired: int
    level: int
    longest_seconds: float
    total_seconds: float
    worst: float
    first_at: float
    last_at: float
    is_active: bool


def levels(low: Readings, high: Readings, ts: Floats, limits: Limits) -> Levels:
    """(t, n) the level that is on after each step, 0 where none is. `ts` (t,): when the steps begin, Unix s."""
    used = np.flatnonzero(np.isfinite(limits.thresholds).any(axis=0))
    thresholds, numbers = limits.thresholds[:, used], used.astype(np.int8) + 1
    on, since = np.zeros(thresholds.shape, bool), np.full(thresholds.shape, np.nan)
    found = np.zeros((len(ts), len(on)), np.int8)
    at = np.empty(len(on))
    for first in range(0, len(ts), STEPS_AT_ONCE):
        block = slice(first, first + STEPS_AT_ONCE)
        above, below = _compared(low[:, block], high[:, block], limits, thresholds)
        for i in range(above.shape[0]):
            at.fill(ts[first + i])
            on, since = latches.step(on, since, above[i], below[i], at, limits.hold, limits.recover)
            found[first + i] = (on * numbers).max(axis=1, initial=0)
    return found


def _compared(low: Readings, high: Readings, limits: Limits, thresholds: Floats) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(t, n, k) whether readings (n, t) pass the thresholds (n, k), and whether they have come back."""
    sign = limits.sign[:, None]
    best, worst = np.fmin(low * sign, high * sign), np.fmax(low * sign, high * sign)
    up = np.where(limits.hold[:, None] > 0, best, worst).T
    down = np.where(limits.recover[:, None] > 0, worst, best).T
    shape = (*up.shape, thresholds.shape[1])
    below = latches.behind(down.ravel(), np.tile(thresholds, (len(down), 1)), np.tile(limits.margin, len(down)))
    return up[:, :, None] >= thresholds, below.reshape(shape)


def outcomes(found: Levels, low: Readings, high: Readings, ts: Floats, step: float, limits: Limits) -> list[Outcome]:
    """One outcome for each series that fired. `low` and `high` as for `levels`."""
    fires = (found > 0).T
    edges = np.diff(np.pad(fires, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    return [_outcome(row, edges[row], found[:, row], np.where(limits.sign[row] > 0, high[row], low[row]),
                     np.append(ts, ts[-1] + step), limits.sign[row])
            for row in np.flatnonzero(fires.any(axis=1)).tolist()]


def _outcome(row: int, edges: NDArray[np.int8], level: Levels, values: Readings, ends: Floats, sign: float) -> Outcome:
    begin, end = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    lasted = ends[end] - ends[begin]
    worst = float(np.nanmax(np.where(level > 0, values * sign, -np.inf)) * sign)
    return Outcome(row, len(begin), int(level.max()), float(lasted.max()), float(lasted.sum()), worst,
                   float(ends[begin[0]]), float(ends[begin[-1]]), bool(level[-1] > 0))


def fired(found: Levels) -> int:
    """How many alerts fired in all."""
    on = found > 0
    return int(on[:1].sum() + (on[1:] & ~on[:-1]).sum()) if on.size else 0


def suggested_for(count: Callable[[float], int], now: float, times: int) -> tuple[float, int] | None:
    """The shortest `for` of LADDER above `now` with which at most half of `times` alerts fire, and how many those are.

    `count` tells how many fire with a given `for`; it never grows with it. None where nothing on the ladder does.
    """
    rungs, best = [rung for rung in LADDER if rung > now], None
    low, high = 0, len(rungs)
    while low < high:
        middle = (low + high) // 2
        number = count(rungs[middle])
        if number <= times // 2:
            best, high = (rungs[middle], number), middle
        else:
            low = middle + 1
    return best


def filled(values: Readings, patience: NDArray[np.int64]) -> Readings:
    """Readings (n, t) with gaps of up to `patience` (n,) steps closed by the reading before; longer ones stay NaN."""
    steps = np.arange(values.shape[1])
    last = np.maximum.accumulate(np.where(np.isnan(values), -1, steps), axis=1)
    is_near = (last >= 0) & (steps - last <= patience[:, None])
    return np.where(is_near, np.take_along_axis(values, np.maximum(last, 0), axis=1), np.nan).astype(values.dtype)


def changes(values: Readings, steps: int, *, is_counter: bool) -> Readings:
    """(t,) → (t - steps,) change over so many steps; a counter that fell began again at 0."""
    if is_counter:
        known = np.flatnonzero(~np.isnan(values))
        offset = np.zeros(len(values))
        before, after = values[known[:-1]], values[known[1:]]
        offset[known[1:]] = np.where(after < before, before, 0.0)
        values = values + np.cumsum(offset)
    return values[steps:] - values[:-steps]
