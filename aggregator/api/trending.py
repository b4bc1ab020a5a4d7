"""Trends over stored history: one metric of hosts over windows, as the API answers them."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from aggregator.analysis import downsample, forecast, trends
from aggregator.analysis.forecast import FEWEST_POINTS
from aggregator.analysis.grids import Grid
from aggregator.analysis.insights import FORECAST_HOURS
from aggregator.analysis.timespan import Plan, Span
from aggregator.analysis.trends import Outlook, Trends
from aggregator.api import analytics
from aggregator.api.backend import Backend
from aggregator.api.routes.history import times
from aggregator.store import fleet
from shared import catalogue

MANY_HOSTS = 10
POINTS, POINTS_OF_MANY = 400, 240
DIRECTIONS = {-1: "down", 0: "neutral", 1: "up"}


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """One window's trends of the hosts that have the metric in it or before it, and the grid of twice its length."""

    name: str
    grid: Grid
    width: int
    found: Trends
    ahead: Outlook
    until: Outlook | None


def fetch_window(backend: Backend, hosts: Sequence[fleet.Host], metric: str, name: str, at: datetime,
                 threshold: float | None) -> Window:
    """Read and judge one window that ends at `at`. Raises SpanError."""
    seconds = analytics.seconds(name, "window")
    # Of many hosts coarser history is read, so that all windows together take a second or two.
    many = len(hosts) > MANY_HOSTS
    span, plan = analytics.planned(backend, Span(at - timedelta(seconds=2 * seconds), at), POINTS_OF_MANY if many else POINTS,
                                   max(1, len(hosts)) * (2 if many else 1))
    width = max(1, round(seconds / plan.step))
    span = Span(span.end - timedelta(seconds=2 * width * plan.step), span.end)
    grid = analytics.fetch_grid(backend, hosts, [metric], span, plan)
    hours, values = grid.hours(), grid.values[:, 0]
    found = trends.trends(hours[-width:], values[:, -width:])
    now = values.shape[1] * grid.step / 3600
    until = None if threshold is None else trends.hours_until(found, threshold, now)
    return Window(name, grid, width, found, trends.outlook(found, now + seconds / 3600), until)


def rows(window: Window, threshold: float | None) -> list[dict[str, Any]]:
    """A row for each host, in their order."""
    grid, found = window.grid, window.found
    averages = trends.moving_average(grid.values[:, 0], window.width)
    start = grid.at(grid.values.shape[2] - window.width)
    ahead = grid.end + timedelta(seconds=window.width * grid.step)
    return [{"host": host, "window": window.name, "from": start, "to": grid.end, "step": grid.step} | _figures(found, i) | {
        "moving_average": plain(averages[i, -1]),
        "moving_average_before": plain(averages[i, -1 - window.width]) if averages.shape[1] > window.width else None,
        "forecast": None if not np.isfinite(window.ahead.low[i]) else {
            "at": ahead, **{name: plain(getattr(window.ahead, name)[i]) for name in ("value", "low", "high")}},
        "time_to_threshold": _crossing(window.until, threshold, i),
        "note": _note(found, i, grid)} for i, host in enumerate(grid.hosts)]


def series(window: Window) -> list[dict[str, Any]]:
    """The values of the window and their moving averages, of each host."""
    grid, width = window.grid, window.width
    averages = trends.moving_average(grid.values[:, 0], width)
    steps = grid.values.shape[2]
    seconds = int(grid.start.timestamp()) + grid.step * np.arange(steps - width, steps)
    ts = times(seconds * downsample.SECOND, grid.step)
    return [{"host": host, "window": window.name, "ts": ts, "value": [plain(value) for value in grid.values[i, 0, -width:]],
             "moving_average": [plain(value) for value in averages[i, -width:]]} for i, host in enumerate(grid.hosts)]


def forecasts(backend: Backend, hosts: Sequence[fleet.Host], patterns: Sequence[str], target: float) -> list[dict[str, Any]]:
    """When each metric that fits reaches `target`, the soonest first. Raises SpanError and 422s."""
    if not hosts:
        return []
    plan = Plan(3600, "rollup_1h")
    span = analytics.whole(Span(backend.now() - timedelta(hours=FORECAST_HOURS), backend.now()), plan.step)
    grid = analytics.fetch_grid(backend, hosts, analytics.names(backend, hosts, patterns, span, plan), span, plan)
    series, values = grid.series()
    if not series:
        return []
    found = forecast.forecast(grid.hours(), values, target, float(grid.values.shape[2]))
    slope = forecast.present_lines(grid.hours(), values, float(grid.values.shape[2])).slope * 24
    order = [i for i in np.argsort(found.seconds, kind="stable").tolist() if np.isfinite(found.seconds[i])]
    return [{"host": series[i][0], "metric": series[i][1], "value": plain(values[i][np.isfinite(values[i])][-1]),
             "slope_per_day": plain(slope[i]), "seconds": plain(found.seconds[i]), "low": plain(found.low[i]),
             "high": plain(found.high[i])} for i in order]


def default_threshold(metric: str) -> float | None:
    """What a metric cannot exceed, where it is a percentage; else None."""
    found = catalogue.find(metric)
    return found.high if found is not None and found.unit == "percent" and np.isfinite(found.high) else None


def plain(value: Any) -> float | None:
    """A number with six digits; None where it is none."""
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _figures(found: Trends, i: int) -> dict[str, Any]:
    is_enough = found.count[i] >= FEWEST_POINTS
    figures = {"p": found.p, "slope_per_day": found.slope, "slope_low": found.low, "slope_high": found.high,
               "change_percent": found.change_percent}
    return {"points": int(found.count[i]), "effective_points": plain(found.effective[i]) if is_enough else None,
            "direction": DIRECTIONS[int(found.direction[i])] if is_enough else "unknown",
            **{name: plain(column[i]) if is_enough else None for name, column in figures.items()}}


def _crossing(until: Outlook | None, threshold: float | None, i: int) -> dict[str, Any] | None:
    if until is None:
        return None
    left = {"seconds": until.value, "low": until.low, "high": until.high}
    return {"threshold": threshold, **{name: _seconds(column[i]) for name, column in left.items()}}


def _note(found: Trends, i: int, grid: Grid) -> str:
    if found.count[i] == 0:
        return "no points in this window"
    if found.count[i] < FEWEST_POINTS:
        return f"{found.count[i]} points of {grid.step} s, at least {FEWEST_POINTS} are needed"
    if found.p[i] < trends.SIGNIFICANT:
        return ""
    return "constant" if found.slope[i] == 0 or found.spread[i] == 0 else "the slope may be chance"


def _seconds(hours: Any) -> float | None:
    return round(float(hours) * 3600) if np.isfinite(hours) and hours < 24 * 36_500 else None
