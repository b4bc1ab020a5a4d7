"""The z-score detector: unusual is what lies some standard deviations from the mean of the time before it. Pure.

For every point the mean and standard deviation of the `width` points before it, itself not among them: nothing looks ahead, and a
prefix of a series is judged as in the whole. z = (value - mean) / sd; the band is mean ± threshold · sd (Shewhart's control
limits over a rolling window; Montgomery, Introduction to Statistical Quality Control, 6.4). Points in a row whose |z| is over the
threshold are one anomaly, with its begin, end and peak; a point that is missing does not end one, a usual one does.

The first `least` points of a series are not judged. A standard deviation is at least FLOOR of the mean: rounding is no variation.
"""

import dataclasses

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from aggregator.analysis.autocorrelation import Floats

SIGMA = 2.0
FLOOR = 1e-4
ABSOLUTE_FLOOR = 1e-9
LARGEST_Z = 1000.0


@dataclasses.dataclass(frozen=True, slots=True)
class Bands:
    """What was expected of each point of n series (n, t), and how far it is from that; NaN where it is not judged."""

    mean: Floats
    low: Floats
    high: Floats
    z: Floats


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """Anomalies, one an entry: of which series, and the positions of its first point, its last and its peak."""

    series: NDArray[np.int64]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    peak: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.series)


def bands(values: Floats, width: int, threshold: float = SIGMA, least: int = 10) -> Bands:
    """Judge each point of `values` (n, t), NaN for gaps, by the `width` points before it, `least` of them there."""
    is_known = np.isfinite(values)
    first = np.where(is_known.any(axis=1), values[np.arange(len(values)), is_known.argmax(axis=1)], 0.0)[:, None]
    x = np.where(is_known, values - first, 0.0)
    count, sums, squares = (_before(part, width) for part in (is_known.astype(np.float64), x, x * x))
    some = np.maximum(count, 1.0)
    mean = sums / some
    variance = np.maximum(squares / some - mean**2, 0.0) * some / np.maximum(some - 1, 1.0)
    level = mean + first
    sd = np.maximum(np.sqrt(variance), FLOOR * np.abs(level) + ABSOLUTE_FLOOR)
    is_judged = count >= least
    z = np.where(is_judged & is_known, np.clip((x - mean) / sd, -LARGEST_Z, LARGEST_Z), np.nan)
    level = np.where(is_judged, level, np.nan)
    return Bands(level, level - threshold * sd, level + threshold * sd, z)


def _before(values: Floats, width: int) -> Floats:
    """At each point, the sum of the `width` points before it. Each is summed anew: running sums keep what a spike rounds off."""
    padded = np.pad(values, ((0, 0), (width, 0)))[:, :-1]
    return np.asarray(sliding_window_view(padded, width, axis=1).sum(axis=2))


def anomalies(scores: Floats, threshold: float, calm: int = 0) -> Found:
    """Rows of points whose |score| is over `threshold`; NaN are points that are missing.

    Those of a series that lie at most `calm` steps apart are one.
    """
    is_known = np.isfinite(scores)
    series, at = np.nonzero(is_known)
    size = np.abs(scores[series, at])
    is_hot = size > threshold
    is_new = np.r_[True, series[1:] != series[:-1]] if len(series) else np.zeros(0, bool)
    begins = np.flatnonzero(is_hot & (is_new | ~np.r_[False, is_hot[:-1]]))
    is_last = np.r_[is_new[1:], True] if len(series) else is_new
    ends = np.flatnonzero(is_hot & (is_last | ~np.r_[is_hot[1:], False]))
    if calm and len(begins):
        is_apart = (series[begins[1:]] != series[ends[:-1]]) | (at[begins[1:]] - at[ends[:-1]] > calm)
        begins, ends = begins[np.r_[True, is_apart]], ends[np.r_[is_apart, True]]
    peaks = np.array([begin + np.argmax(size[begin:end + 1]) for begin, end in zip(begins, ends, strict=True)], np.int64)
    return Found(series[begins].astype(np.int64), at[begins].astype(np.int64), at[ends].astype(np.int64),
                 at[peaks].astype(np.int64) if len(peaks) else peaks)
