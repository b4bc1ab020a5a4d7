"""Builders of alerts and their events with defaults: rows as ingest writes them."""

from datetime import datetime, timedelta
from typing import Any

from builders import NOW, Connection
from psycopg.types.json import Jsonb

FIRED_AT = NOW - timedelta(minutes=5)

_ALERT = {
    "rule": "high_cpu", "instance": "", "source": "system", "state": "firing", "severity": "warning", "metric": "cpu.percent",
    "value": 91.5, "threshold": 80.0, "rule_revision": 1, "message": "CPU is 91.5 % busy",
    "recommendation": "Look at the processes.", "started_at": FIRED_AT, "fired_at": FIRED_AT, "changed_at": FIRED_AT}
_EVENT = {"kind": "firing", "at": FIRED_AT, "severity": "warning", "value": 91.5, "threshold": 80.0, "rule_revision": 1,
          "reason": "91.5 is at least 80"}


def store_alert(connection: Connection, host_id: int, **fields: Any) -> int:
    """An alert of a host, firing unless `state` says otherwise; its id. Columns that are not given have defaults."""
    row = {"type": fields.get("rule", "high_cpu")} | _ALERT | {"host_id": host_id} | fields
    return _insert(connection, "alert", row)


def store_event(connection: Connection, alert_id: int, **fields: Any) -> int:
    """An event of an alert, that it fires unless `kind` says otherwise; its id. Nobody has routed it."""
    return _insert(connection, "alert_event", _EVENT | {"alert_id": alert_id} | fields)


def store_firing(connection: Connection, host_id: int, *, at: datetime = FIRED_AT, **fields: Any) -> tuple[int, int]:
    """An alert that fires since `at`, and the event that says so; their ids."""
    alert = store_alert(connection, host_id, **{"started_at": at, "fired_at": at, "changed_at": at} | fields)
    return alert, store_event(connection, alert, at=at, severity=fields.get("severity", "warning"))


def _insert(connection: Connection, table: str, row: dict[str, Any]) -> int:
    """Insert a row whose id comes from the table's sequence; the id."""
    names = ", ".join(row)
    values = [Jsonb(value) if name == "culprits" else value for name, value in row.items()]
    found = connection.execute(
        f"INSERT INTO {table} (id, {names}) VALUES (nextval('{table}_id'), {', '.join(['%s'] * len(row))}) RETURNING id",
        values).fetchone()
    assert found is not None
    return int(found[0])
