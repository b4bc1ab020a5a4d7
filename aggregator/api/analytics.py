"""History for statistics: windows as people write them, hosts that are asked for, and grids of means within bounds."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import Query
from pydantic import StringConstraints

from aggregator.analysis import downsample, grids, timespan
from aggregator.analysis.grids import Grid
from aggregator.analysis.timespan import Plan, Span, SpanError
from aggregator.api import parameters
from aggregator.api.backend import Backend
from aggregator.api.problems import invalid, not_found
from aggregator.store import fleet
from shared.names import matcher

MAX_HOSTS = 1000
MAX_SERIES = 3000
METRICS_A_READ = 100
SHORTEST_STEP = 10
"""Seconds. Agents send a sample every 5 s: in shorter steps every other one is empty, and no point has a neighbour."""
LONGEST = 400 * 86_400
SHORTEST = 300
_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}

Duration = Annotated[str, StringConstraints(max_length=8)]
At = Annotated[str | None, Query(alias="at", max_length=40, description="as of this time, RFC 3339; now where missing")]


def seconds(text: str, parameter: str) -> int:
    """`90m`, `24h`, `7d` → seconds. Raises SpanError."""
    found = re.fullmatch(r"([1-9]\d{0,4})([mhdw])", text)
    length = int(found[1]) * _UNITS[found[2]] if found else 0
    if not SHORTEST <= length <= LONGEST:
        raise SpanError(parameter, f"{text[:40]!r} is no window; allowed: 5m to 400d, written like 90m, 24h or 7d")
    return length


def instant(backend: Backend, text: str | None, parameter: str) -> datetime:
    """The time that a text means, now where there is none; never later than now. Raises SpanError."""
    return backend.now() if text is None else timespan.reachable(min(timespan.instant(text, parameter), backend.now()), parameter)


def chosen(backend: Backend, asked: fleet.Filter) -> list[fleet.Host]:
    """The hosts that are asked for, by name. Raises a 404 for the first that is named and does not exist, a 422 for too many."""
    hosts = fleet.fetch_all(backend.engine, asked, backend.now())
    if missing := sorted({*asked.names} - {host.name for host in hosts}):
        raise not_found("such host", missing[0])
    if len(hosts) > MAX_HOSTS:
        raise invalid("host", f"{len(hosts)} hosts fit, at most {MAX_HOSTS} are looked at together: name some, or a label")
    return hosts


def planned(backend: Backend, span: Span, max_points: int, hosts: int) -> tuple[Span, Plan]:
    """Step and source for a span, and the span in whole steps: the present one, which is not over, is left out."""
    most = max(1, min(max_points, int(span.seconds // SHORTEST_STEP)))
    plan = timespan.plan(span, "auto", most, backend.now(), backend.keep_days(), hosts)
    return whole(span, plan.step), plan


def whole(span: Span, step: int) -> Span:
    """The steps that a span covers wholly; at least one."""
    first, last = -(-span.start.timestamp() // step) * step, span.end.timestamp() // step * step
    start = datetime.fromtimestamp(min(first, last - step), UTC)
    return Span(start, datetime.fromtimestamp(last, UTC))


def fetch_grid(backend: Backend, hosts: Sequence[fleet.Host], metrics: Sequence[str], span: Span, plan: Plan) -> Grid:
    """Means of metrics of hosts over a span of whole steps. Raises SpanError where memory should not hold that."""
    steps = max(1, round(span.seconds / plan.step))
    parameters.check_size(span, plan, hosts=len(hosts), metrics=len(metrics))
    span = Span(span.end - timedelta(seconds=steps * plan.step), span.end)
    ids, names_ = [host.id for host in hosts], [host.name for host in hosts]
    parts = [metrics[i:i + METRICS_A_READ] for i in range(0, max(1, len(metrics)), METRICS_A_READ)]
    return grids.beside([grids.grid(downsample.bucketed(backend.history.fetch(ids, part, plan.source, span), plan.step),
                                    names_, part, span.start, plan.step, steps) for part in parts])


def expanded(backend: Backend, hosts: Sequence[fleet.Host], patterns: Sequence[str], span: Span, plan: Plan) -> list[str]:
    """Metrics with patterns replaced by the names that some of the hosts had, each once. Raises a 422 for what is no name."""
    parameters.plain_metrics(patterns)
    found = [name for name in patterns if "*" not in name]
    if wild := [name for name in patterns if "*" in name]:
        fits = matcher(wild)
        had = backend.history.fetch_names([host.id for host in hosts], plan.source, span)
        found += [name for name in had if fits.fullmatch(name)]
    return list(dict.fromkeys(found))


def names(backend: Backend, hosts: Sequence[fleet.Host], patterns: Sequence[str], span: Span, plan: Plan) -> list[str]:
    """Those, within bounds. Raises a 422 for too many."""
    found = expanded(backend, hosts, patterns, span, plan)
    if len(found) * len(hosts) > MAX_SERIES:
        raise invalid("metric", f"{len(found)} metrics of {len(hosts)} hosts fit; at most {MAX_SERIES} series are looked at "
                                "together: narrow the patterns, or name fewer hosts")
    return found
