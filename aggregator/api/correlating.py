"""What moved together over stored history: one metric of one host against others of it, or of others."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from aggregator.analysis import correlation
from aggregator.analysis.correlation import SIGNIFICANT, Correlations
from aggregator.analysis.grids import Grid
from aggregator.analysis.timespan import Span
from aggregator.api import analytics, parameters
from aggregator.api.backend import Backend
from aggregator.api.problems import invalid
from aggregator.store import fleet

MAX_POINTS = 150
STRONG = 0.5


def answer(backend: Backend, target: tuple[str, str], hosts: Sequence[fleet.Host], patterns: Sequence[str], span: Span,
           lags: int, limit: int) -> dict[str, Any]:
    """What moved with a (host, metric), as the API answers it. `hosts` has the host, too. Raises SpanError and 422s."""
    host, metric = target
    if "*" in metric:
        raise invalid("metric", "one metric, without *; compare it with patterns")
    parameters.plain_metrics([metric])
    whole, plan = analytics.planned(backend, span, MAX_POINTS, len(hosts))
    metrics = analytics.names(backend, hosts, [metric, *patterns], whole, plan)
    grid = analytics.fetch_grid(backend, hosts, metrics, whole, plan)
    lags = min(lags, grid.values.shape[2] // 4)
    head = {"host": host, "metric": metric, "from": grid.start, "to": grid.end, "step": grid.step, "lags": lags}
    series, values = grid.series()
    if target not in series:
        return head | {"compared": 0, "left_out": len(series), "correlations": [],
                       "notes": [f"{host} has no {metric} in that time"]}
    others = [i for i, one in enumerate(series) if one != target]
    found = correlation.correlations(values[series.index(target)], values[others], lags)
    ranked = found.ranked().tolist()
    rows = [row(grid, target, series[others[i]], found, i) for i in ranked[:limit]]
    return head | {"compared": len(ranked), "left_out": len(others) - len(ranked), "correlations": rows,
                   "notes": list(_notes(grid, values[series.index(target)], ranked, found))}


def row(grid: Grid, target: tuple[str, str], other: tuple[str, str], found: Correlations, i: int) -> dict[str, Any]:
    """One correlation as the API answers it."""
    host, metric = other
    r, lag = float(found.r[i]), int(found.lag[i]) * grid.step
    is_significant = bool(found.q[i] < SIGNIFICANT)
    return {"host": host, "metric": metric, "r": round(r, 4), "low": _plain(found.low[i]), "high": _plain(found.high[i]),
            "lag_seconds": lag, "points": int(found.count[i]), "effective_points": round(float(found.effective[i]), 1),
            "p": float(f"{found.p[i]:.3g}"), "q": float(f"{found.q[i]:.3g}"), "significant": is_significant,
            "text": _text(target, other, r, lag, is_significant=is_significant)}


def _text(target: tuple[str, str], other: tuple[str, str], r: float, lag: int, *, is_significant: bool) -> str:
    name = other[1] if other[0] == target[0] else f"{other[1]} of {other[0]}"
    if not is_significant and abs(r) < STRONG:
        return f"{name}: no more than chance (r {r:.2f})"
    when = "at the same time" if lag == 0 else f"{_minutes(abs(lag))} {'after' if lag > 0 else 'before'} it"
    how = "moved with it" if r > 0 else "moved against it"
    doubt = "" if is_significant else "; so few independent moves may be chance"
    return f"{name} {how}, {when} (r {r:.2f}){doubt if abs(r) >= STRONG else ', weakly'}"


def _minutes(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def _notes(grid: Grid, target: Any, ranked: Sequence[int], found: Correlations) -> list[str]:
    known = int(np.isfinite(target).sum())
    if known < correlation.FEWEST_PAIRS:
        return [f"{known} points of {grid.step} s, at least {correlation.FEWEST_PAIRS} are needed: ask for a longer span"]
    if not ranked and len(found.r):
        return ["it is constant, or nothing else moved"]
    return []


def _plain(value: Any) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
