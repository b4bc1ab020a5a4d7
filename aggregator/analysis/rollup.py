"""Folding samples into buckets, and buckets into larger ones. Pure.

A fold of n rows of k metrics gives b buckets: start, count (b,), and min, mean, max (b, k). Means are computed in double
precision and stored as real, so a mean of means differs from the mean of raw by rounding of real alone (6e-8 relative).
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class Buckets:
    """b buckets of k metrics: `starts` (Unix s) and `counts` (b,), `low`, `mean`, `high` (b, k)."""

    starts: NDArray[np.int64]
    counts: NDArray[np.int64]
    low: Floats
    mean: Floats
    high: Floats


def fold(times: Floats, counts: NDArray[np.int64], low: Floats, mean: Floats, high: Floats, step: int) -> Buckets:
    """Fold n ≥ 1 rows into buckets of `step` seconds. Raw samples are rows with count 1 whose min, mean and max agree."""
    order = np.argsort(times, kind="stable")
    starts = (times[order] // step).astype(np.int64) * step
    edges = np.flatnonzero(np.concatenate([[True], starts[1:] != starts[:-1]]))
    count = np.add.reduceat(counts[order], edges)
    total = np.add.reduceat(mean[order] * counts[order][:, None], edges, axis=0)
    return Buckets(starts[edges], count, np.minimum.reduceat(low[order], edges, axis=0), total / count[:, None],
                   np.maximum.reduceat(high[order], edges, axis=0))


def fold_samples(times: Floats, values: Floats, step: int) -> Buckets:
    """Fold raw samples: `times` (n,) in Unix s, `values` (n, k)."""
    return fold(times, np.ones(len(times), np.int64), values, values, values, step)
