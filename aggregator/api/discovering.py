"""Insights over stored history: reads what `analysis.insights` looks at, and puts its sentences in order."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from aggregator.analysis import insights
from aggregator.analysis.insights import FORECAST_HOURS, HOUR, Insight
from aggregator.analysis.timespan import Plan, Span
from aggregator.api import analytics
from aggregator.api.backend import Backend
from aggregator.store import anomalies, fleet

METRICS = ("health.score", "cpu.percent", "cpu.load1", "memory.percent", "swap.percent", "disk.busy_percent", "disk.await_ms",
           "network.receive_bytes_per_second", "network.transmit_bytes_per_second", "network.error_percent", "processes.total",
           "temperature.celsius", "gpu.percent", "containers.running")
FILLING = ("disk.percent{*}", "disk.inodes_percent{*}")
DAYS = 8
WEEK = timedelta(days=7)
MOST_ANOMALIES, MOST_NOISY = 100, 50
NAMES_AT_ONCE = 50


def fetch(backend: Backend, hosts: Sequence[fleet.Host], at: datetime) -> list[Insight]:
    """Every insight about the hosts as of `at`, the weightiest first. Raises SpanError where that are too many numbers."""
    if not hosts:
        return []
    plan = Plan(HOUR, "rollup_1h")
    grid = analytics.fetch_grid(backend, hosts, METRICS, analytics.whole(Span(at - timedelta(days=DAYS), at), HOUR), plan)
    found = [*insights.changed(grid), *insights.peers(grid, groups(hosts)), *insights.daily(grid)]
    last = analytics.whole(Span(at - timedelta(hours=FORECAST_HOURS), at), HOUR)
    names = analytics.expanded(backend, hosts, FILLING, last, plan)
    for i in range(0, len(names), NAMES_AT_ONCE):
        found += insights.limits(analytics.fetch_grid(backend, hosts, names[i:i + NAMES_AT_ONCE], last, plan))
    noisy = anomalies.fetch_noisy(backend.engine, [host.id for host in hosts], at - WEEK, at, MOST_NOISY)
    found += insights.noisy(noisy, at - WEEK, at)
    asked = anomalies.Filter(hosts=tuple(host.name for host in hosts), since=at - timedelta(days=1), until=at)
    found += [insights.unlike(row, at) for row in anomalies.fetch_page(backend.engine, asked, limit=MOST_ANOMALIES)]
    return sorted(found, key=lambda one: -one.weight)


def groups(hosts: Sequence[fleet.Host]) -> dict[str, list[int]]:
    """Positions of hosts that have a label in common; of all of them where none has a label."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for i, host in enumerate(hosts):
        for key, value in host.labels.items():
            found[f"{key}:{value}"].append(i)
    return dict(found) or {"": list(range(len(hosts)))}
