"""Anomaly runs: a detector over stored history of some metrics of some hosts, and what it finds."""

import dataclasses
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from aggregator.analysis import downsample, timespan, zscore
from aggregator.analysis.anomaly.detector import Detector
from aggregator.analysis.anomaly.parameters import DEFAULTS
from aggregator.analysis.grids import Floats, Grid
from aggregator.analysis.timespan import Span
from aggregator.analysis.zscore import Bands
from aggregator.api import analytics
from aggregator.api.analytics_models import AskedRunModel
from aggregator.api.backend import Backend
from aggregator.api.problems import invalid
from aggregator.api.routes.history import times
from aggregator.api.trending import plain
from aggregator.store import fleet
from shared import catalogue

MAX_POINTS, POINTS_OF_MANY = 2000, 500
MANY_SERIES = 200
LEARNING_DAYS = 7
LONGEST_DAYS = 92
MOST_FOUND, MOST_BANDS = 1000, 20
LEAST_POINTS = 10
BAND_SDS = 2.0
DAY = 86_400


@dataclasses.dataclass(frozen=True, slots=True)
class _Judged:
    """Bands of the series of a grid, the threshold of their |z|, and how many calm steps are between two anomalies at least."""

    bands: Bands
    threshold: float
    calm: int = 0


def answer(backend: Backend, asked: AskedRunModel) -> dict[str, Any]:
    """What is found, as the API answers it. Raises SpanError and 422s."""
    span = timespan.span(asked.range, asked.start, asked.to, backend.now())
    if span.seconds > LONGEST_DAYS * DAY:
        raise timespan.SpanError("from", f"at most {LONGEST_DAYS} days")
    before = analytics.seconds(asked.window, "window")
    if asked.method == "default":
        before = LEARNING_DAYS * DAY
    labels = {key: None if value == "*" else value for key, value in asked.labels.items()}
    hosts = analytics.chosen(backend, fleet.Filter(names=tuple(asked.hosts), labels=labels))
    read = Span(span.start - timedelta(seconds=before), span.end)
    whole, plan = analytics.planned(backend, read, MAX_POINTS, max(1, len(hosts)))
    metrics = analytics.names(backend, hosts, asked.metrics, whole, plan)
    if len(metrics) * len(hosts) > MANY_SERIES:
        whole, plan = analytics.planned(backend, read, POINTS_OF_MANY, len(hosts))
    grid = analytics.fetch_grid(backend, hosts, metrics, whole, plan)
    first = max(0, int(np.ceil((span.start - grid.start).total_seconds() / grid.step)))
    series, values = grid.series()
    judged = _zscore(values, asked, before // grid.step) if asked.method == "zscore" else _default(grid, values, asked)
    judged = _possible(judged, [metric for _, metric in series])
    found = _found(grid, series, values, judged, first)
    return {"from": grid.at(min(first, grid.values.shape[2])), "to": grid.end, "step": grid.step, "source": plan.source,
            "method": asked.method, "threshold": judged.threshold, "series": len(series),
            "judged_points": int(np.isfinite(judged.bands.z[:, first:]).sum()), "total": len(found),
            "anomalies": found[:MOST_FOUND],
            "notes": list(_notes(asked, hosts, series, judged, first)),
            "bands": _bands(grid, series, values, judged, first) if asked.bands else []}


def _zscore(values: Floats, asked: AskedRunModel, width: int) -> _Judged:
    if width < LEAST_POINTS:
        raise invalid("window", f"history has {width} points in it here; ask for a longer one, a shorter range, or fewer hosts")
    threshold = asked.sigma / asked.sensitivity
    return _Judged(zscore.bands(values, width, threshold, max(LEAST_POINTS, width // 4)), threshold)


def _default(grid: Grid, values: Floats, asked: AskedRunModel) -> _Judged:
    """The detector that also watches continuously, from its first sample on: it learns the time before the range."""
    per_day = DAY // grid.step
    detector, first = Detector(len(values), per_day), int(grid.start.timestamp()) // grid.step
    low, high, middle, score = (np.full(values.shape, np.nan) for _ in range(4))
    for at in range(values.shape[1]):
        expected = detector.expected(first + at)
        middle[:, at], spread = expected.middle, BAND_SDS * expected.sd
        low[:, at], high[:, at] = expected.middle - spread, expected.middle + spread
        score[:, at] = detector.score(values[:, at], first + at).score
    begun = np.cumsum(np.isfinite(values), axis=1) > DEFAULTS.warm_up_days * per_day
    bands = Bands(middle, low, high, np.where(begun & np.isfinite(values), score, np.nan))
    return _Judged(bands, DEFAULTS.alert / asked.sensitivity, max(1, round(DEFAULTS.calm_hours * per_day / 24)))


def _possible(judged: _Judged, metrics: Sequence[str]) -> _Judged:
    """Bands within what the metrics can be: nobody expects a rate below 0, or more than 100 %."""
    low, high = np.array([catalogue.bounds(metric) for metric in metrics]).reshape(-1, 2, 1).transpose(1, 0, 2)
    bands = judged.bands
    return dataclasses.replace(judged, bands=dataclasses.replace(
        bands, low=np.clip(bands.low, low, high), high=np.clip(bands.high, low, high)))


def _found(grid: Grid, series: Sequence[tuple[str, str]], values: Floats, judged: _Judged, first: int) -> list[dict[str, Any]]:
    """Anomalies that begin in the range, the largest score first."""
    bands = judged.bands
    found = zscore.anomalies(bands.z[:, first:], judged.threshold, judged.calm)
    order = np.argsort(-np.abs(bands.z[found.series, found.peak + first]), kind="stable") if len(found) else np.empty(0, np.int64)
    rows = []
    for i in order.tolist():
        row, begin, end, peak = (int(part[i]) for part in (found.series, found.begin, found.end, found.peak))
        at = (row, peak + first)
        value, mean, low, high, score = (plain(part[at]) for part in (values, bands.mean, bands.low, bands.high, bands.z))
        host, metric = series[row]
        rows.append({"host": host, "metric": metric, "unit": _unit(metric), "from": grid.at(begin + first),
                     "to": grid.at(end + first + 1), "peak_at": grid.at(peak + first), "value": value, "mean": mean,
                     "low": low, "high": high, "score": score})
    return rows


def _bands(grid: Grid, series: Sequence[tuple[str, str]], values: Floats, judged: _Judged, first: int) -> list[dict[str, Any]]:
    steps = np.arange(first, values.shape[1]) * grid.step + int(grid.start.timestamp())
    ts, bands = times(steps * downsample.SECOND, grid.step), judged.bands
    columns = {"value": values, "mean": bands.mean, "low": bands.low, "high": bands.high, "score": bands.z}
    return [{"host": host, "metric": metric, "ts": ts} | {name: _column(part[i, first:]) for name, part in columns.items()}
            for i, (host, metric) in enumerate(series[:MOST_BANDS])]


def _column(values: Floats) -> list[float | None]:
    return [plain(value) for value in values]


def _notes(asked: AskedRunModel, hosts: Sequence[fleet.Host], series: Sequence[Any], judged: _Judged, first: int) -> Any:
    if not hosts:
        yield "no host fits"
    elif not series:
        yield "no host has such a metric in that time"
    elif not np.isfinite(judged.bands.z[:, first:]).any():
        yield "too little history to judge by: the time before a point, not the range itself, says what is usual"
    if asked.bands and len(series) > MOST_BANDS:
        yield f"bands of the first {MOST_BANDS} series only"


def _unit(metric: str) -> str | None:
    found = catalogue.find(metric)
    return None if found is None else found.unit
