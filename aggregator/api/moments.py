"""What was unusual on a host at a time, what moved together, and what else happened then."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np

from aggregator.analysis import figures, zscore
from aggregator.analysis.timespan import Span
from aggregator.api import analytics, correlating
from aggregator.api.backend import Backend
from aggregator.api.trending import plain
from aggregator.store import annotations, anomalies, fleet
from shared import catalogue

BEFORE = timedelta(days=1)
FAR = 3.0
CLOSE = 0.7
MAX_POINTS = 600
MOST, MOST_ENTRIES = 10, 100
LEAST_POINTS = 24


def answer(backend: Backend, host: fleet.Host, at: datetime, seconds: int) -> dict[str, Any]:
    """The time around `at` on a host, as the API answers it."""
    end = min(at + timedelta(seconds=seconds / 2), backend.now())
    span = Span(end - timedelta(seconds=seconds), end)
    unusual = _unusual(backend, host, span)
    entries = {name: [{"kind": one["kind"], **{key: one[key] for key in ("id", "title", "state", "starts_at", "ends_at")}}
                      for one in fetch(backend.engine, [host.name], span.start, span.end, MOST_ENTRIES)]
               for name, fetch in (("alerts", annotations.fetch_alerts), ("executions", annotations.fetch_executions))}
    asked = anomalies.Filter(hosts=(host.name,), since=span.start, until=span.end)
    return {"host": host.name, "from": span.start, "to": span.end, "unusual": unusual,
            "together": _together(backend, host, unusual, span),
            "anomalies": anomalies.fetch_page(backend.engine, asked, limit=MOST_ENTRIES)} | entries


def _unusual(backend: Backend, host: fleet.Host, span: Span) -> list[dict[str, Any]]:
    """Metrics outside their band in the span, each where it was farthest outside, the farthest first."""
    whole, plan = analytics.planned(backend, Span(span.start - BEFORE, span.end), MAX_POINTS, 1)
    names = analytics.names(backend, [host], ["*"], whole, plan)
    grid = analytics.fetch_grid(backend, [host], names, whole, plan)
    series, values = grid.series()
    if not series:
        return []
    # What is usual is said by the time before the span alone: an hour of it must not become normal within that hour.
    first = min(values.shape[1] - 1, max(1, int((span.start - grid.start).total_seconds()) // grid.step))
    bands = zscore.bands(np.insert(values[:, :first], first, np.nan, axis=1), first, FAR, LEAST_POINTS)
    mean, low, high = (part[:, -1:] for part in (bands.mean, bands.low, bands.high))
    z = np.clip((values[:, first:] - mean) * FAR / (high - mean), -zscore.LARGEST_Z, zscore.LARGEST_Z)
    size = np.nan_to_num(np.abs(z))
    peak = size.argmax(axis=1)
    order = np.argsort(-size.max(axis=1), kind="stable")[:MOST]
    return [_row(series[i][1], grid.at(first + int(peak[i])), float(values[i, first + peak[i]]), float(low[i, 0]),
                 float(high[i, 0]), float(z[i, peak[i]])) for i in order.tolist() if size[i, peak[i]] > FAR]


def _row(metric: str, at: datetime, value: float, low: float, high: float, z: float) -> dict[str, Any]:
    low, high = (float(np.clip(one, *catalogue.bounds(metric))) for one in (low, high))
    text = (f"{metric} was {figures.value(metric, value)} at {at:%H:%M} UTC, where {figures.between(metric, low, high)} "
            "was usual in the day before")
    shown = {"value": plain(value), "low": plain(low), "high": plain(high), "z": plain(z)}
    return {"metric": metric, "at": at, **shown, "text": text}


def _together(backend: Backend, host: fleet.Host, unusual: list[dict[str, Any]], span: Span) -> list[dict[str, Any]]:
    """What moved with the most unusual metric, in twice the span; one step up of both is told, though it may be chance."""
    if not unusual:
        return []
    half = timedelta(seconds=span.seconds / 2)
    wide = Span(span.start - half, min(span.end + half, backend.now()))
    found = correlating.answer(backend, (host.name, unusual[0]["metric"]), [host], ["*"], wide, 10, MOST)
    return [one for one in found["correlations"] if one["significant"] or abs(one["r"]) >= CLOSE]
