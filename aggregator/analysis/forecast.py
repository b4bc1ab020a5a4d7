"""When a metric reaches a value at its present pace, with how sure that is: straight lines through hourly means. Pure.

For every series at once, ordinary least squares over the n hours that have a point (x time, y value, x̄ and ȳ their means):
b = Sxy / Sxx, s² = (Syy - b Sxy) / (n - 2), the slope's standard error is s / √Sxx (Draper and Smith, Applied Regression
Analysis, 3rd edition, 1.3-1.4). The time at which the line crosses y₀ is x̄ + (y₀ - ȳ) / b; its 95 % limits are those of
inverse regression (the same book, 3.2; Fieller's theorem), with g = (t s)² / (b² Sxx) and t Student's quantile for n - 2:

    x̄ + [(y₀ - ȳ) / b ± (t s / b) √((y₀ - ȳ)² / (b² Sxx) + (1 - g) / n)] / (1 - g)

They are finite exactly where g < 1: where the slope differs from 0 at the same 95 %.

1. One line through the whole window, one through its last 6 hours.
2. Where the slope of the short one excludes the long one's, the pace has changed and the short one counts, else the long one.
3. No answer (inf) without 6 points, without a significant slope towards the target, or where the line explains less than half
   of the variance. A series that is at its target has 0 seconds left; one that is beyond it is a threshold's business.
"""

import dataclasses
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHORT_HOURS = 6.0
FEWEST_POINTS = 6
LEAST_R_SQUARED = 0.5
CONFIDENCE = 0.95

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class Lines:
    """A line through each of n series. `error`: half the slope's 95 % interval. Both are NaN where there are too few points.

    `count`: how many points there are, or how many independent ones they are worth.
    """

    count: NDArray[Any]
    mean_x: Floats
    mean_y: Floats
    sxx: Floats
    slope: Floats
    error: Floats
    r_squared: Floats


@dataclasses.dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds from now until each of n series reaches the target, and the 95 % interval of that; inf for never."""

    seconds: Floats
    low: Floats
    high: Floats


def forecast(hours: Floats, values: Floats, target: float, now: float) -> Forecast:
    """When each series reaches `target`. `hours` (t,) and `now` on one scale of hours, `values` (n, t) with NaN for gaps."""
    line = present_lines(hours, values, now)
    latest = _latest(values)
    with np.errstate(invalid="ignore"):
        is_sound = (np.abs(line.slope) > line.error) & (line.r_squared >= LEAST_R_SQUARED)
        is_towards = line.slope * (target - latest) > 0
    crossings = (np.where(is_sound & is_towards, np.maximum(hour - now, 0.0) * 3600, np.inf) for hour in crossing(line, target))
    return Forecast(*(np.where(latest == target, 0.0, seconds) for seconds in crossings))


def present_lines(hours: Floats, values: Floats, now: float) -> Lines:
    """For each series the line of its present pace: through all of it, or through its last hours where the pace has changed."""
    long, short = fit(hours, values), fit(hours, np.where(hours > now - SHORT_HOURS - 0.5, values, np.nan))
    with np.errstate(invalid="ignore"):
        has_turned = np.abs(short.slope - long.slope) > short.error
    return Lines(*(np.where(has_turned, getattr(short, field.name), getattr(long, field.name))
                   for field in dataclasses.fields(Lines)))


def fit(hours: Floats, values: Floats) -> Lines:
    """Ordinary least squares through each row of `values` (n, t) over `hours` (t,); NaN are gaps."""
    is_known = np.isfinite(values)
    count = is_known.sum(axis=1)
    some = np.maximum(count, 1)
    mean_x = np.where(is_known, hours, 0.0).sum(axis=1) / some
    mean_y = np.where(is_known, values, 0.0).sum(axis=1) / some
    x = np.where(is_known, hours - mean_x[:, None], 0.0)
    y = np.where(is_known, values - mean_y[:, None], 0.0)
    sxx, sxy, syy = (x * x).sum(axis=1), (x * y).sum(axis=1), (y * y).sum(axis=1)
    is_enough = count >= FEWEST_POINTS
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(is_enough, sxy / sxx, np.nan)
        rest = np.maximum(syy - slope * sxy, 0.0)
        error = student(np.maximum(count - 2, 1)) * np.sqrt(rest / (count - 2) / sxx)
        r_squared = np.where(syy > 0, 1 - rest / syy, 0.0)
    return Lines(count, mean_x, mean_y, sxx, slope, error, r_squared)


def crossing(line: Lines, target: float) -> tuple[Floats, Floats, Floats]:
    """When (on the scale of hours) each line crosses the target, and the limits of that; without meaning unless g < 1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = (target - line.mean_y) / line.slope
        g = (line.error / line.slope) ** 2
        spread = np.sqrt(g * (distance**2 + line.sxx * (1 - g) / line.count))
        limits = [line.mean_x + (distance + sign * spread) / (1 - g) for sign in (-1, 1)]
    return line.mean_x + distance, limits[0], limits[1]


def student(freedom: NDArray[np.int64]) -> Floats:
    """Student's t quantile of 97.5 % for so many degrees of freedom, right to 0.1 % from 4 on.

    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    x = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    terms = (x, (x**3 + x) / 4, (5 * x**5 + 16 * x**3 + 3 * x) / 96, (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
             (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92_160)
    return np.asarray(sum(term / freedom.astype(np.float64)**power for power, term in enumerate(terms)))


def _latest(values: Floats) -> Floats:
    """The last value of each row; NaN where there is none."""
    is_known = np.isfinite(values)
    last = values.shape[1] - 1 - np.argmax(is_known[:, ::-1], axis=1)
    return np.asarray(np.where(is_known.any(axis=1), values[np.arange(len(values)), last], np.nan))
