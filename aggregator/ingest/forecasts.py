"""Forecasts of a slot's hosts for rules of kind forecast: every five minutes, a few hosts at a time, between the beats."""

import time
from collections import deque
from collections.abc import Sequence

import numpy as np

from aggregator.analysis.forecast import forecast
from aggregator.analysis.rules import Rule, instance_of
from aggregator.live.alerts import Change
from aggregator.live.shard import Shard
from aggregator.store import forecasting
from shared.database import Connection

EVERY = 300.0
HOSTS_AT_ONCE = 20
SHARE = 0.05
"""Of the time, spent here at most: samples must not wait for forecasts. A large fleet's round takes longer then."""
SILENT_SECONDS = 600.0
"""A host that has been silent for so long is not judged: nobody knows how it goes on there."""
HOUR = 3600.0


class Forecasts:
    """Knows which hosts are left in this round; `run` looks at the next few."""

    def __init__(self, connection: Connection, shard: Shard) -> None:
        self._connection, self._shard = connection, shard
        self._left: deque[tuple[Rule, range]] = deque()
        self._round_at = self._free_at = 0.0

    def run(self, now: float) -> list[Change]:
        """Transitions that the next forecasts lead to at `now` (Unix s). Raises database.Unavailable."""
        if not self._left and not 0 <= now - self._round_at < EVERY:
            self._round_at = now
            self._left += self._round()
        if not self._left or 0 < self._free_at - now < EVERY:
            return []
        begin = time.perf_counter()
        changes = self._judge(*self._left.popleft(), now)
        self._free_at = now + (time.perf_counter() - begin) / SHARE
        return changes

    def _round(self) -> list[tuple[Rule, range]]:
        count = len(self._shard.hosts)
        return [(rule, range(first, min(first + HOSTS_AT_ONCE, count)))
                for rule in self._shard.engine.watched("forecast") for first in range(0, count, HOSTS_AT_ONCE)]

    def _judge(self, rule: Rule, rows: Sequence[int], now: float) -> list[Change]:
        """Hand the engine the seconds that are left, inf also for open alerts whose metric has gone."""
        hosts, engine = self._shard.hosts, self._shard.engine
        chosen = {hosts.all[row].id: row for row in rows
                  if hosts.all[row].id and hosts.newest_ts[row] > now - SILENT_SECONDS and hosts.all[row].name not in engine.down
                  and engine.applies(rule.name, row)}
        name = rule.metric.partition("{")[0]
        points = [] if not chosen else forecasting.fetch_hours(self._connection, list(chosen), name, now - rule.window, now)
        left = {(row, key[2]): np.inf for key in engine.alerts if key[1] == rule.name and (row := key[0]) in chosen.values()}
        left |= {(chosen[host_id], instance): seconds for (host_id, key), seconds in seconds_left(points, rule, now).items()
                 if (instance := instance_of(rule.metric, key)) is not None}
        return engine.measured(rule.name, [row for row, _ in left], [instance for _, instance in left],
                               np.array(list(left.values())), now) if left else []


def seconds_left(points: Sequence[forecasting.Point], rule: Rule, now: float) -> dict[tuple[int, str], float]:
    """(host_id, metric) → seconds until it reaches the rule's target, inf for never. Pure."""
    series = {key: i for i, key in enumerate(dict.fromkeys((host_id, metric) for host_id, metric, _, _ in points))}
    starts = sorted({start for _, _, start, _ in points})
    if not starts or rule.target is None:
        return {}
    column = {start: i for i, start in enumerate(starts)}
    values = np.full((len(series), len(starts)), np.nan)
    for host_id, metric, start, mean in points:
        values[series[host_id, metric], column[start]] = mean
    middles = np.array([(start + min(start + HOUR, now)) / 2 for start in starts])
    found = forecast((middles - starts[0]) / HOUR, values, rule.target, (now - starts[0]) / HOUR)
    return dict(zip(series, found.seconds.tolist(), strict=True))
