"""What moved together: Pearson's correlation of one series with many others, at the lag where it is strongest. Pure.

1. At every lag from -`lags` to `lags` steps, r over the pairs that both series have. The lag with the largest |r| counts, the
   nearest to 0 among equals. A positive lag: the other series follows the target; a negative one: it went before.
2. Two series that each resemble their own past agree by chance more often than independent points do. n pairs are worth
   n' = n / (1 + 2 Σ r_x(k) r_y(k) (1 - k / n)), summed up to n / 4 (Bartlett 1935; Pyper and Peterman, Comparison of methods to
   account for autocorrelation in correlation analyses of fish data, Canadian Journal of Fisheries and Aquatic Sciences 55, 1998),
   or n (1 - a) / (1 + a) with a = r_x(1) r_y(1) freed of their bias, whichever is less.
3. The interval is Fisher's: tanh(atanh r ± 1.96 / √(n' - 3)); p is that of t = r √((n' - 2) / (1 - r²)).
4. Having looked at m lags costs: p becomes 1 - (1 - p)^m with m the number of lags (Šidák). Having looked at many series
   costs, too: q is p adjusted by Benjamini and Hochberg (Journal of the Royal Statistical Society B 57, 1995).
   Of what has q < 0.05 at most 1 in 20 is expected to be chance.

A series that is constant, or has fewer than FEWEST_PAIRS pairs with the target, has no correlation: NaN, with p and q of 1.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from aggregator.analysis.autocorrelation import Floats, autocorrelation, first_lag, student_probability

FEWEST_PAIRS = 12
SIGNIFICANT = 0.05
Z_95 = 1.959964
LARGEST_R = 0.9999999
STILL = 1e-6
"""A series whose standard deviation is at most this share of its size is constant: history holds 4-byte floats."""


@dataclasses.dataclass(frozen=True, slots=True)
class Correlations:
    """For each of n series: r at `lag` steps over `count` pairs worth `effective`, its 95 % interval, p (lags counted) and q."""

    r: Floats
    lag: NDArray[np.int64]
    count: NDArray[np.int64]
    effective: Floats
    low: Floats
    high: Floats
    p: Floats
    q: Floats

    def ranked(self) -> NDArray[np.int64]:
        """Indices of the series that have a correlation, the least likely chance first, then the strongest."""
        order = np.lexsort((-np.abs(np.nan_to_num(self.r)), np.round(self.q, 12)))
        return order[np.isfinite(self.r[order])].astype(np.int64)


def correlations(target: Floats, others: Floats, lags: int = 0) -> Correlations:
    """Correlate `target` (t,) with each row of `others` (n, t), NaN for gaps, at up to `lags` steps either way."""
    lags = max(0, min(lags, len(target) - FEWEST_PAIRS))
    x, y = _standard(target[None, :]), _standard(others)
    tried = np.array(sorted(range(-lags, lags + 1), key=lambda lag: (abs(lag), lag)), np.int64)
    one, many = _Sums.of(x), _Sums.of(y)
    found = [_at(one, many, lag) for lag in tried.tolist()]
    r, count = np.stack([pair[0] for pair in found]), np.stack([pair[1] for pair in found])
    best = np.argmax(np.nan_to_num(np.abs(np.round(r, 9)), nan=-1.0), axis=0)
    here = np.arange(len(others))
    return _judged(r[best, here], tried[best], count[best, here], _worth(x, y), 2 * lags + 1)


def adjusted(p: Floats) -> Floats:
    """Adjust p values for their number, by Benjamini and Hochberg."""
    if not len(p):
        return p
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty_like(p)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q


def _standard(values: Floats) -> Floats:
    """Each row with mean 0 and standard deviation 1; NaN all through where it is constant."""
    is_known = np.isfinite(values)
    count = np.maximum(is_known.sum(axis=1, keepdims=True), 1)
    mean = np.where(is_known, values, 0.0).sum(axis=1, keepdims=True) / count
    centred = np.where(is_known, values - mean, 0.0)
    sd = np.sqrt((centred**2).sum(axis=1, keepdims=True) / count)
    is_moving = sd > STILL * np.abs(mean)
    return np.where(is_known & is_moving, centred / np.where(is_moving, sd, 1.0), np.nan)


@dataclasses.dataclass(frozen=True, slots=True)
class _Sums:
    """Rows with 0 for gaps, their squares, and 1 where there is a point: what sums of pairs are made of."""

    values: Floats
    squares: Floats
    has: Floats

    @classmethod
    def of(cls, values: Floats) -> "_Sums":
        is_known = np.isfinite(values)
        filled = np.where(is_known, values, 0.0)
        return cls(filled, filled * filled, is_known.astype(np.float64))

    def cut(self, begin: int, steps: int) -> "_Sums":
        return _Sums(*(part[:, begin:begin + steps] for part in (self.values, self.squares, self.has)))


def _at(x: _Sums, y: _Sums, lag: int) -> tuple[Floats, NDArray[np.int64]]:
    """Correlation and number of pairs of x(t) with y(t + lag), for each row of y."""
    steps = x.values.shape[1] - abs(lag)
    x, y = x.cut(max(0, -lag), steps), y.cut(max(0, lag), steps)
    of_x = np.stack([x.values[0], x.squares[0], x.has[0]], axis=1)
    sum_x, sum_xx, count = (y.has @ of_x).T
    sum_xy, _, sum_y = (y.values @ of_x).T
    sum_yy = y.squares @ x.has[0]
    some = np.maximum(count, 1.0)
    var_x, var_y = sum_xx - sum_x**2 / some, sum_yy - sum_y**2 / some
    is_sound = (count >= FEWEST_PAIRS) & (var_x > 1e-9 * some) & (var_y > 1e-9 * some)
    r = np.where(is_sound, (sum_xy - sum_x * sum_y / some) / np.sqrt(np.where(is_sound, var_x * var_y, 1.0)), np.nan)
    return np.clip(r, -1.0, 1.0), count.astype(np.int64)


def _worth(x: Floats, y: Floats) -> Floats:
    """What share of its pairs each series is worth."""
    steps = x.shape[1]
    lags = max(1, steps // 4)
    products = autocorrelation(x, lags)[:, 1:] * autocorrelation(y, lags)[:, 1:]
    summed = 1 + 2 * (products * (1 - np.arange(1, lags + 1) / steps)).sum(axis=1)
    one = first_lag(x) * first_lag(y)
    return np.asarray(np.minimum(1 / np.maximum(summed, 1.0), (1 - one) / (1 + one)))


def _judged(r: Floats, lag: NDArray[np.int64], count: NDArray[np.int64], worth: Floats, tries: int) -> Correlations:
    effective = np.where(np.isfinite(r), np.maximum(count * worth, 1.0), 0.0)
    bounded = np.clip(r, -LARGEST_R, LARGEST_R)
    with np.errstate(invalid="ignore", divide="ignore"):
        half = np.where(effective > 3, Z_95 / np.sqrt(np.maximum(effective - 3, 1e-12)), np.inf)
        t = bounded * np.sqrt(np.maximum(effective - 2, 0.0) / (1 - bounded**2))
        p = np.where(np.isfinite(r) & (effective > 2), student_probability(t, effective - 2), 1.0)
        low, high = np.tanh(np.arctanh(bounded) - half), np.tanh(np.arctanh(bounded) + half)
        p = -np.expm1(tries * np.log1p(-np.minimum(p, 1 - 1e-16)))
    is_known = np.isfinite(r)
    q = np.ones_like(p)
    q[is_known] = adjusted(p[is_known])
    return Correlations(r, np.where(is_known, lag, 0), count, effective, low, high, np.where(is_known, p, 1.0), q)
