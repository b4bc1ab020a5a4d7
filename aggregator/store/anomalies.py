"""Reading anomalies: times at which hosts were unlike themselves; and which rules fired most, for insights."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from aggregator.store.reading import fetch_row, fetch_rows

_SELECT = """SELECT a.id, h.name AS host, a.began_at, a.ended_at, a.peak_at, a.peak, a.threshold, a.metrics
             FROM anomaly a JOIN host h ON h.id = a.host_id"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which anomalies: empty or None means any. Those that lasted at some time between `since` and `until`."""

    hosts: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    is_open: bool | None = None


def fetch_page(engine: Engine, asked: Filter, *, limit: int, after: tuple[datetime, int] | None = None) -> list[dict[str, Any]]:
    """One page, the latest begin first, after the anomaly with this begin and id."""
    given = (("h.name = ANY (:hosts)", bool(asked.hosts)), ("a.began_at < :until", asked.until is not None),
             ("coalesce(a.ended_at, 'infinity') >= :since", asked.since is not None),
             ("a.ended_at IS NULL", asked.is_open is True), ("a.ended_at IS NOT NULL", asked.is_open is False),
             ("(a.began_at, a.id) < (:after_at, :after_id)", after is not None))
    where = " AND ".join(["true", *(clause for clause, is_given in given if is_given)])
    at, number = after or (None, None)
    return fetch_rows(engine, f"{_SELECT} WHERE {where} ORDER BY a.began_at DESC, a.id DESC LIMIT :limit",
                      {"hosts": list(asked.hosts), "since": asked.since, "until": asked.until, "limit": limit,
                       "after_at": at, "after_id": number})


def fetch_one(engine: Engine, anomaly: int) -> dict[str, Any] | None:
    """One anomaly; None where there is none."""
    return fetch_row(engine, f"{_SELECT} WHERE a.id = :anomaly", {"anomaly": anomaly})


def fetch_noisy(engine: Engine, hosts: Sequence[int], since: datetime, until: datetime, limit: int) -> list[dict[str, Any]]:
    """Rules that fired most on one of these hosts: how often, how often for less than five minutes, how often flapping."""
    return fetch_rows(engine, """
        SELECT a.rule, h.name AS host, max(a.metric) AS metric, count(*) AS fired,
               count(*) FILTER (WHERE a.resolved_at < a.fired_at + interval '5 minutes') AS short,
               count(*) FILTER (WHERE EXISTS (SELECT FROM alert_event e
                                               WHERE e.alert_id = a.id AND e.kind = 'flapping')) AS flapping
        FROM alert a JOIN host h ON h.id = a.host_id
        WHERE a.host_id = ANY (:hosts) AND a.changed_at >= :since AND a.fired_at >= :since AND a.fired_at < :until
        GROUP BY a.rule, h.name ORDER BY fired DESC, a.rule, h.name LIMIT :limit""",
        {"hosts": list(hosts), "since": since, "until": until, "limit": limit})
