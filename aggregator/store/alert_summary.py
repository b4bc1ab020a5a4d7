"""Alerts in figures: how many are active, by severity, of the fleet and of its hosts."""

from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from aggregator.store.alert_list import COUNT_LIMIT
from aggregator.store.reading import fetch_row

_SHOWN = "a.state IN ('firing', 'unknown') AND a.dismissed_at IS NULL"

SUMMARY = f"""
  count(*) FILTER (WHERE {_SHOWN}) AS total,
  count(*) FILTER (WHERE {_SHOWN} AND a.severity = 'critical') AS critical,
  count(*) FILTER (WHERE {_SHOWN} AND a.severity = 'error') AS error,
  count(*) FILTER (WHERE {_SHOWN} AND a.severity = 'warning') AS warning,
  count(*) FILTER (WHERE {_SHOWN} AND a.severity = 'info') AS info,
  count(*) FILTER (WHERE {_SHOWN} AND a.acknowledged_by IS NOT NULL
                     AND (a.acknowledged_until IS NULL OR a.acknowledged_until > :now)) AS acknowledged,
  count(*) FILTER (WHERE {_SHOWN} AND a.muted_by <> '{{}}') AS muted,
  count(*) FILTER (WHERE {_SHOWN} AND a.state = 'unknown') AS unknown,
  count(*) FILTER (WHERE a.dismissed_at IS NOT NULL) AS dismissed"""


def fetch_summary(engine: Engine, now: datetime) -> dict[str, Any]:
    """Active alerts that nobody dismissed, in all and by severity; of them the acknowledged, muted and unknown; the dismissed."""
    row = fetch_row(engine, f"SELECT {SUMMARY} FROM alert a WHERE a.state IN ('firing', 'unknown')",  # noqa: S608 (constants)
                    {"now": now})
    return row or {}


def fetch_history_count(engine: Engine) -> int:
    """How many alerts are kept that have fired and are over; COUNT_LIMIT at most."""
    row = fetch_row(engine, """SELECT count(*) AS alerts FROM (
                               SELECT 1 FROM alert WHERE state = 'resolved' LIMIT :limit) AS found""", {"limit": COUNT_LIMIT})
    return int(row["alerts"]) if row else 0
