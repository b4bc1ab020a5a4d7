"""Merging history into fewer points without losing an extreme: every bucket carries count, min, mean and max. Pure.

A point is one row of `Points`: raw samples are points of count 1 whose min, mean and max are the value. A metric that a
point does not have is NaN there; a bucket is NaN only where no point of it has the metric.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SECOND = 1_000_000
"""Times are Unix microseconds (UTC), in integers."""


@dataclasses.dataclass(frozen=True, slots=True)
class Points:
    """History of some metrics: `group` and `ts` by row; `low`, `mean` and `high` by row and metric.

    `group` tells hosts (or groups of hosts) apart and is 0 where there is one; `count` is the number of samples.
    """

    group: Integers
    ts: Integers
    count: Integers
    low: Floats
    mean: Floats
    high: Floats

    def __len__(self) -> int:
        return len(self.ts)


def empty(metrics: int) -> Points:
    """No points, of so many metrics."""
    nothing, values = np.empty(0, np.int64), np.empty((0, metrics), np.float64)
    return Points(nothing, nothing, nothing, values, values, values)


def joined(parts: Sequence[Points]) -> Points:
    """Points of several parts, one after the other; `parts` is not empty."""
    if len(parts) == 1:
        return parts[0]
    columns = (np.concatenate([getattr(part, field.name) for part in parts]) for field in dataclasses.fields(Points))
    return Points(*columns)


def bucketed(points: Points, step: int) -> Points:
    """Points merged into buckets of `step` seconds that begin at multiples of it; ordered by group, then time.

    The mean is weighted by count. Minima and maxima are those of the points, so no spike is lost. `step` 0 orders only.
    """
    ts = points.ts - points.ts % (step * SECOND) if step else points.ts
    order = np.lexsort((ts, points.group))
    group, ts = points.group[order], ts[order]
    if not len(ts):
        return points
    starts = np.flatnonzero(np.r_[True, (group[1:] != group[:-1]) | (ts[1:] != ts[:-1])])
    if len(starts) == len(ts):
        return Points(group, ts, points.count[order], points.low[order], points.mean[order], points.high[order])
    count = points.count[order]
    return Points(
        group[starts], ts[starts], np.add.reduceat(count, starts),
        np.fmin.reduceat(points.low[order], starts, axis=0),
        _weighted_mean(points.mean[order], count, starts),
        np.fmax.reduceat(points.high[order], starts, axis=0))


def _weighted_mean(mean: Floats, count: Integers, starts: NDArray[np.intp]) -> Floats:
    weights = np.where(np.isnan(mean), 0.0, count[:, None])
    sums = np.add.reduceat(np.where(np.isnan(mean), 0.0, mean) * weights, starts, axis=0)
    total = np.add.reduceat(weights, starts, axis=0)
    return np.divide(sums, total, out=np.full_like(sums, np.nan), where=total > 0)


def rates(points: Points) -> Points:
    """Growth per second of counters, from each point of a group to its next; points must be bucketed already.

    A point counts with its highest value. A counter that fell began again at 0. A group's first point has no rate.
    """
    after = np.flatnonzero(points.group[1:] == points.group[:-1]) + 1
    then, now = points.high[after - 1], points.high[after]
    seconds = (points.ts[after] - points.ts[after - 1]) / SECOND
    rate = np.where(now < then, now, now - then) / seconds[:, None]
    return dataclasses.replace(chosen(points, after), low=rate, mean=rate, high=rate)


def across(points: Points, group_of: Integers, how: str) -> tuple[Integers, Integers, Floats]:
    """Combine the means of hosts into one figure per target group and bucket: (group, ts, value).

    `group_of[g]` is the target of group g. `how`: mean (each host counts once), min, max, sum or count (of hosts).
    min and max take the extremes within the bucket, the others the hosts' means. Points must be bucketed already.
    """
    target = group_of[points.group]
    value = {"min": points.low, "max": points.high}.get(how, points.mean)[:, 0]
    known = ~np.isnan(value)
    target, ts, value = target[known], points.ts[known], value[known]
    order = np.lexsort((ts, target))
    target, ts, value = target[order], ts[order], value[order]
    if not len(ts):
        return target, ts, value
    starts = np.flatnonzero(np.r_[True, (target[1:] != target[:-1]) | (ts[1:] != ts[:-1])])
    return target[starts], ts[starts], _REDUCTIONS[how](value, starts)


def _sum(value: Floats, starts: NDArray[np.intp]) -> Floats:
    return np.add.reduceat(value, starts)


def _count(value: Floats, starts: NDArray[np.intp]) -> Floats:
    return np.diff(np.append(starts, len(value))).astype(np.float64)


def _mean(value: Floats, starts: NDArray[np.intp]) -> Floats:
    return _sum(value, starts) / _count(value, starts)


_REDUCTIONS: dict[str, Any] = {
    "mean": _mean, "sum": _sum, "count": _count,
    "min": functools.partial(np.minimum.reduceat), "max": functools.partial(np.maximum.reduceat)}
AGGREGATES: tuple[str, ...] = tuple(_REDUCTIONS)


def shown(values: Floats) -> Floats:
    """Values as people wrote them: stored as 4-byte floats, so fractions are rounded to the 7 digits these carry."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        digits = np.clip(6 - np.floor(np.log10(np.abs(values))), 0, 20)
        scale = 10.0 ** digits
        rounded = np.rint(values * scale) / scale
    return np.where((values == np.rint(values)) | np.isnan(values), values, rounded)


def chosen(points: Points, rows: NDArray[Any]) -> Points:
    """Points of some rows only: a mask or indices."""
    return Points(*(getattr(points, field.name)[rows] for field in dataclasses.fields(Points)))
