"""Trends of many series at once: moving averages, lines through windows, whether they are chance, where they lead. Pure.

1. Where a window holds four days and more, what returns every 24 and 12 hours is fitted together with the line and taken out, so
   that a daily wave is neither taken for a trend nor hides one. By ordinary least squares the line is the same as in one fit.
2. The line is that of `analysis.forecast`; its error is corrected for autocorrelation: s² and the degrees of freedom are those of
   n' = `effective_count` independent points (Santer and others 2000). Slopes of what only wanders are then found significant
   about as rarely as they should be: tests/unit/test_trends.py shows how often.
3. `direction` is the slope's sign where p < 0.05, else 0. Fewer than FEWEST_POINTS points, or fewer than 3
   effective ones, have none.
4. What the line forecasts at x₀ has the interval of a new observation: ± t √(s² (1 + 1 / n') + se² (x₀ - x̄)²) (Draper and Smith,
   Applied Regression Analysis, 3rd edition, 1.4). When it crosses a threshold, and within which limits, is `forecast.crossing`,
   with n' in place of n, too.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from aggregator.analysis import forecast
from aggregator.analysis.autocorrelation import Floats, effective_count, student_probability, student_quantile
from aggregator.analysis.forecast import FEWEST_POINTS, Lines

SIGNIFICANT = 0.05
PERIODS_HOURS = (24.0, 12.0)
LEAST_DAYS = 4
LEAST_EFFECTIVE = 3.0
LEAST_START = 0.1
"""A per cent change is told where the line begins at no less than this share of the window's mean size."""
EXACT = 1e-9
"""A line that leaves less than this share of the values' size is exact but for rounding."""


@dataclasses.dataclass(frozen=True, slots=True)
class Trends:
    """One figure for each of n series; NaN where there is none. Slopes are per day; `low` and `high` bound the 95 % interval.

    `count` points, worth `effective` independent ones; `start` and `end` of the line; `change_percent` along it; `p` of the
    slope; `direction` -1, 0 or 1; `lines` for questions about the future, in hours.
    """

    count: NDArray[np.int64]
    effective: Floats
    mean: Floats
    slope: Floats
    low: Floats
    high: Floats
    p: Floats
    direction: NDArray[np.int64]
    start: Floats
    end: Floats
    change_percent: Floats
    spread: Floats
    lines: Lines


@dataclasses.dataclass(frozen=True, slots=True)
class Outlook:
    """What each line says of one time, and between which limits 95 % of points would lie then."""

    value: Floats
    low: Floats
    high: Floats


def moving_average(values: Floats, width: int) -> Floats:
    """Mean of the `width` latest points at each point of each row (n, t); NaN before there are so many, gaps are left out."""
    is_known = np.isfinite(values)
    size = np.cumsum(np.pad(is_known, ((0, 0), (1, 0))), axis=1)
    first = np.where(is_known.any(axis=1), values[np.arange(len(values)), is_known.argmax(axis=1)], 0.0)[:, None]
    sums = np.cumsum(np.pad(np.where(is_known, values - first, 0.0), ((0, 0), (1, 0))), axis=1)
    count = size[:, width:] - size[:, :-width]
    found = np.full(values.shape, np.nan)
    if width <= values.shape[1]:
        means = (sums[:, width:] - sums[:, :-width]) / np.maximum(count, 1) + first
        found[:, width - 1:] = np.where(count > 0, means, np.nan)
    return found


def trends(hours: Floats, values: Floats) -> Trends:
    """The trend of each row of `values` (n, t), NaN for gaps, over `hours` (t,), evenly spaced."""
    values = np.where(np.isfinite(values), values, np.nan)
    level = _deseasoned(hours, values)
    line = forecast.fit(hours, level)
    rest = level - (line.mean_y[:, None] + line.slope[:, None] * (hours - line.mean_x[:, None]))
    is_enough = line.count >= FEWEST_POINTS
    effective = np.where(is_enough, effective_count(np.where(is_enough[:, None], rest, np.nan)), 0.0)
    freedom = effective - 2
    size = np.sqrt(_mean_square(values))
    spread = np.sqrt(_sum_square(rest) / np.maximum(freedom, 1e-9))
    spread = np.where(np.sqrt(_mean_square(rest)) <= EXACT * size, 0.0, spread)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = spread / np.sqrt(line.sxx)
        is_flat = np.abs(line.slope) * np.sqrt(line.sxx / np.maximum(line.count, 1)) <= EXACT * size
        t = np.where(is_flat, 0.0, line.slope / error)
    p = np.where(is_enough & (freedom >= LEAST_EFFECTIVE - 2), _probability(t, freedom), 1.0)
    is_bounded = freedom >= LEAST_EFFECTIVE - 2
    half = np.where(is_bounded, student_quantile(np.where(is_bounded, freedom, 1.0)) * error, np.inf)
    start, end = (line.mean_y + line.slope * (hours[at] - line.mean_x) for at in (0, -1))
    return Trends(
        line.count, effective, np.where(line.count > 0, line.mean_y, np.nan), line.slope * 24, (line.slope - half) * 24,
        (line.slope + half) * 24, p, _direction(line.slope, p), start, end, _change(start, end, values), spread,
        dataclasses.replace(line, error=half, count=np.maximum(effective, 1.0)))


def outlook(found: Trends, hour: float) -> Outlook:
    """What the lines say of `hour`, on the scale of hours that they were made on."""
    line = found.lines
    value = line.mean_y + line.slope * (hour - line.mean_x)
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = found.effective - 2
        quantile = student_quantile(np.where(freedom >= LEAST_EFFECTIVE - 2, freedom, 0.0))
        noise = quantile * found.spread * np.sqrt(1 + 1 / found.effective)
        half = np.hypot(noise, line.error * (hour - line.mean_x))
    return Outlook(value, value - half, value + half)


def hours_until(found: Trends, threshold: float, now: float) -> Outlook:
    """Hours from `now` until each line crosses `threshold`, with limits; inf where it does not, or its slope may be chance."""
    present = outlook(found, now).value
    with np.errstate(invalid="ignore"):
        is_towards = (found.direction != 0) & (found.lines.slope * (threshold - present) > 0)
        is_bounded = is_towards & (np.abs(found.lines.slope) > found.lines.error)
    value, low, high = forecast.crossing(found.lines, threshold)
    return Outlook(np.where(is_towards, value - now, np.inf), np.where(is_bounded, np.maximum(low - now, 0.0), np.inf),
                   np.where(is_bounded, high - now, np.inf))


def _deseasoned(hours: Floats, values: Floats) -> Floats:
    """`values` without what returns daily, where the window is long enough to tell that from a trend."""
    length = (hours[-1] - hours[0]) if len(hours) > 1 else 0.0
    step = length / max(1, len(hours) - 1)
    periods = [period for period in PERIODS_HOURS if length + step >= LEAST_DAYS * 24 and period >= 4 * step]
    if not periods:
        return values
    is_known = np.isfinite(values)
    scaled = (hours - hours.mean()) / length
    waves = [wave(2 * np.pi * hours / period) for period in periods for wave in (np.sin, np.cos)]
    design = np.stack([np.ones_like(hours), scaled, *waves], axis=1)
    centre = np.where(is_known, values, 0.0).sum(axis=1) / np.maximum(is_known.sum(axis=1), 1)
    y = np.where(is_known, values - centre[:, None], 0.0)
    squares = np.einsum("nt,ti,tj->nij", is_known.astype(np.float64), design, design, optimize=True)
    fitted = np.linalg.pinv(squares, rcond=1e-6, hermitian=True) @ (y @ design)[:, :, None]
    is_long = is_known.sum(axis=1) >= 2 * design.shape[1]
    return np.where(is_long[:, None], values - fitted[:, 2:, 0] @ design[:, 2:].T, values)


def _direction(slope: Floats, p: Floats) -> NDArray[np.int64]:
    return np.where(p < SIGNIFICANT, np.sign(np.nan_to_num(slope)), 0.0).astype(np.int64)


def _probability(t: Floats, freedom: Floats) -> Floats:
    """Probability of each t; an exact line (an infinite t) is no chance."""
    return np.where(np.isinf(t), 0.0, student_probability(np.where(np.isinf(t), 0.0, t), freedom))


def _change(start: Floats, end: Floats, values: Floats) -> Floats:
    size = np.sqrt(_mean_square(values))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((np.abs(start) >= LEAST_START * size) & (size > 0), 100 * (end - start) / np.abs(start), np.nan)


def _sum_square(values: Floats) -> Floats:
    return np.asarray(np.nansum(values * values, axis=1))


def _mean_square(values: Floats) -> Floats:
    return np.asarray(_sum_square(values) / np.maximum(np.isfinite(values).sum(axis=1), 1))
