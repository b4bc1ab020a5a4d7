"""Executions and alerts as spans of time, to be drawn into charts."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from aggregator.store.reading import fetch_rows

_STARTS = "coalesce(e.started_at, e.fired_at, e.scheduled_for)"
LONGEST_EXECUTION = timedelta(days=8)
"""An execution takes a week at most, and waits a while before."""


def fetch_executions(engine: Engine, hosts: Sequence[str], since: datetime, until: datetime, limit: int) -> list[dict[str, Any]]:
    """Executions that were under way between `since` and `until`, newest first: on these hosts, or wholes where none is named."""
    whose = "e.host = ANY (:hosts) AND e.host <> ''" if hosts else "e.parent IS NULL"
    return fetch_rows(engine, f"""
        SELECT 'execution' AS kind, e.id, e.host, s.name AS title, e.state, {_STARTS} AS starts_at, e.ended_at AS ends_at,
               coalesce(s.definition->'tags', '[]') AS tags
        FROM execution e JOIN schedule s ON s.id = e.schedule_id
        WHERE {whose} AND e.created_at < :until AND e.created_at >= :oldest AND coalesce(e.ended_at, :until) >= :since
          AND {_STARTS} < :until
        ORDER BY e.created_at DESC, e.id LIMIT :limit""",  # noqa: S608 (constants)
        {"hosts": list(hosts), "since": since, "until": until, "oldest": since - LONGEST_EXECUTION, "limit": limit})


def fetch_alerts(engine: Engine, hosts: Sequence[str], since: datetime, until: datetime, limit: int) -> list[dict[str, Any]]:
    """Alerts that fired and were not over between `since` and `until`, the latest change first."""
    whose = "h.name = ANY (:hosts)" if hosts else "true"
    return fetch_rows(engine, f"""
        SELECT 'alert' AS kind, CAST(a.id AS text) AS id, h.name AS host,
               CASE a.message WHEN '' THEN a.rule ELSE a.message END AS title, a.severity AS state, a.fired_at AS starts_at,
               a.resolved_at AS ends_at, jsonb_build_array(a.rule) AS tags
        FROM alert a JOIN host h ON h.id = a.host_id
        WHERE {whose} AND a.fired_at < :until AND coalesce(a.resolved_at, :until) >= :since
          AND (a.state IN ('firing', 'unknown') OR (a.state = 'resolved' AND a.changed_at >= :since))
        ORDER BY a.changed_at DESC, a.id DESC LIMIT :limit""",  # noqa: S608 (constants)
        {"hosts": list(hosts), "since": since, "until": until, "limit": limit})
