"""Alerts as ingest writes and reads them: many rows and their events with a few statements, whatever their number.

Rows travel as one JSON array each way of a statement, which Postgres takes apart (`jsonb_to_recordset`): thousands at once cost
little. An alert that somebody resolved meanwhile is over: what ingest still had to say of it changes nothing and leaves no event.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import LiteralString

import msgspec
from msgspec import Struct

from aggregator.store.samples import Cursor
from aggregator.store.slots import Lease
from shared.database import Connection


class Row(Struct, frozen=True, kw_only=True):
    """An alert as it is after a beat. Times in Unix s.

    `culprits`: by what the host's processes are ordered; it and `reason` are empty where what the table has is kept.
    """

    id: int
    host_id: int
    rule: str
    instance: str
    type: str
    source: str
    state: str
    severity: str
    metric: str
    value: float | None
    threshold: float | None
    rule_revision: int
    message: str
    recommendation: str
    reason: str
    dismissible: bool
    flapping: bool
    muted_by: Sequence[str]
    started_at: float
    fired_at: float | None
    resolved_at: float | None
    changed_at: float
    culprits: str = ""


class Event(Struct, frozen=True, kw_only=True):
    """One transition. `has_culprits`: it keeps those of its alert."""

    alert_id: int
    at: float
    kind: str
    severity: str
    value: float | None
    threshold: float | None
    reason: str
    rule_revision: int
    is_muted: bool
    has_culprits: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """An alert as the table has it, for memory and for the bus."""

    id: int
    host_id: int
    host: str
    rule: str
    instance: str
    type: str
    source: str
    state: str
    severity: str
    metric: str
    value: float | None
    threshold: float | None
    rule_revision: int
    message: str
    recommendation: str
    dismissible: bool
    flapping: bool
    held: bool
    muted_by: list[str]
    started_at: float
    fired_at: float | None
    resolved_at: float | None
    changed_at: float
    acknowledged_by: str
    dismissed: bool


_RECORD: LiteralString = """jsonb_to_recordset(%s::jsonb) AS n (id bigint, host_id int, rule text, instance text, type text,
  source text, state text, severity text, metric text, value float8, threshold float8, rule_revision int, message text,
  recommendation text, reason text, dismissible boolean, flapping boolean, muted_by text[], started_at float8, fired_at float8,
  resolved_at float8, changed_at float8, culprits text)"""

# The three first processes of the host's list, unless that is too old to say anything of the moment.
_CULPRITS: LiteralString = """(SELECT coalesce(jsonb_agg(top.process), '[]') FROM (
    SELECT p - 'threads' - 'state' AS process FROM snapshot s, jsonb_array_elements(s.payload->'processes') p
    WHERE n.culprits <> '' AND s.host_id = n.host_id AND s.kind = 'processes'
      AND s.ts > to_timestamp(n.changed_at) - interval '15 minutes'
    ORDER BY (p->>CASE n.culprits WHEN 'cpu' THEN 'cpu_percent' WHEN 'memory' THEN 'memory_bytes'
              ELSE 'io_bytes_per_second' END)::float8 DESC NULLS LAST LIMIT 3) top)"""

_UPDATE: LiteralString = f"""
WITH n AS MATERIALIZED (SELECT * FROM {_RECORD}),
locked AS (SELECT a.id FROM alert a WHERE a.id IN (SELECT id FROM n) AND a.state IN ('pending', 'firing', 'unknown')
           ORDER BY a.id FOR UPDATE)
UPDATE alert a SET type = n.type, source = n.source, state = n.state, severity = n.severity, metric = n.metric, value = n.value,
  threshold = n.threshold, rule_revision = n.rule_revision, message = n.message, recommendation = n.recommendation,
  reason = CASE WHEN n.reason = '' THEN a.reason ELSE n.reason END, dismissible = n.dismissible,
  flapping = n.flapping, muted_by = n.muted_by, fired_at = to_timestamp(n.fired_at), resolved_at = to_timestamp(n.resolved_at),
  changed_at = to_timestamp(n.changed_at), culprits = CASE WHEN n.culprits = '' THEN a.culprits ELSE {_CULPRITS} END
FROM n JOIN locked ON locked.id = n.id WHERE a.id = n.id RETURNING a.id"""  # noqa: S608 (constants)

_INSERT: LiteralString = f"""
INSERT INTO alert (id, host_id, rule, instance, type, source, state, severity, metric, value, threshold, rule_revision, message,
  recommendation, reason, dismissible, flapping, muted_by, started_at, fired_at, resolved_at, changed_at, culprits)
SELECT id, host_id, rule, instance, type, source, state, severity, metric, value, threshold, rule_revision, message,
  recommendation, reason, dismissible, flapping, muted_by, to_timestamp(started_at), to_timestamp(fired_at),
  to_timestamp(resolved_at), to_timestamp(changed_at), {_CULPRITS} FROM {_RECORD}"""  # noqa: S608 (constants)

# Ids are drawn in the order of the rows, after their alerts are locked: of one alert, events are in the order of their ids.
_EVENTS: LiteralString = """
WITH event AS (
  INSERT INTO alert_event (id, alert_id, at, kind, severity, value, threshold, reason, rule_revision, is_muted, culprits)
  SELECT nextval('alert_event_id'), n.alert_id, to_timestamp(n.at), n.kind, n.severity, n.value, n.threshold, n.reason,
    n.rule_revision, n.is_muted, CASE WHEN n.has_culprits THEN a.culprits ELSE '[]' END
  FROM (SELECT * FROM ROWS FROM (jsonb_to_recordset(%s::jsonb) AS (alert_id bigint, at float8, kind text, severity text,
          value float8, threshold float8, reason text, rule_revision int, is_muted boolean, has_culprits boolean))
          WITH ORDINALITY ORDER BY ordinality) n JOIN LATERAL (SELECT culprits FROM alert WHERE id = n.alert_id) a ON true
  RETURNING id, alert_id, kind),
told AS (
  INSERT INTO outbox (partition, alert_id, event_id)
  SELECT h.partition, e.alert_id, e.id FROM event e JOIN alert a ON a.id = e.alert_id JOIN host h ON h.id = a.host_id
  WHERE e.kind NOT IN ('pending', 'cancelled') ORDER BY e.id RETURNING id, event_id)
SELECT event.id, told.id FROM event LEFT JOIN told ON told.event_id = event.id ORDER BY event.id"""

_STORED: LiteralString = """
SELECT a.id, a.host_id, h.name, a.rule, a.instance, a.type, a.source, a.state, a.severity, a.metric, a.value, a.threshold,
  a.rule_revision, a.message, a.recommendation, a.dismissible, a.flapping, a.held, a.muted_by,
  extract(epoch FROM a.started_at)::float8, extract(epoch FROM a.fired_at)::float8, extract(epoch FROM a.resolved_at)::float8,
  extract(epoch FROM a.changed_at)::float8, coalesce(a.acknowledged_by, ''), a.dismissed_at IS NOT NULL
FROM {alert} a JOIN host h ON h.id = a.host_id """

# Open alerts first, then their hosts: beginning with the hosts, it would search each one's whole history.
_OPEN: LiteralString = f"""
WITH open AS MATERIALIZED (SELECT * FROM alert WHERE state IN ('pending', 'firing', 'unknown') OR held)
{_STORED.format(alert="open")} WHERE h.partition %% %s = %s"""  # noqa: S608 (constants)


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """What became of one event: its id, and its row in the outbox where the bus hears of it."""

    event_id: int
    outbox_id: int | None


def take_ids(connection: Connection, count: int) -> list[int]:
    """Ids for new alerts."""
    return [number for (number,) in connection.execute("SELECT nextval('alert_id') FROM generate_series(1, %s)", [count])]


def write(cursor: Cursor, fresh: Sequence[Row], known: Sequence[Row], events: Sequence[Event]) -> list[Written | None]:
    """Write new alerts, known ones that are still open, and events in their order; None for events of alerts that were not.

    Raises psycopg.IntegrityError where the table disagrees with what ingest holds in memory.
    """
    kept = {row.id for row in fresh}
    if known:
        kept |= {number for (number,) in cursor.execute(_UPDATE, [_json(known)])}
    if fresh:
        cursor.execute(_INSERT, [_json(fresh)])
    told = [event for event in events if event.alert_id in kept]
    written = iter([Written(*row) for row in cursor.execute(_EVENTS, [_json(told)])] if told else [])
    return [next(written) if event.alert_id in kept else None for event in events]


def write_released(cursor: Cursor, ids: Sequence[int]) -> None:
    """The conditions of alerts that were resolved by hand have passed."""
    cursor.execute("UPDATE alert SET held = false WHERE id = ANY (%s)", [list(ids)])


def fetch_open(connection: Connection, lease: Lease) -> list[Stored]:
    """Alerts of a slot that are open or held."""
    return [Stored(*row) for row in connection.execute(_OPEN, [lease.slots, lease.slot])]


def fetch(connection: Connection, ids: Iterable[int]) -> dict[int, Stored]:
    """Alerts by id, those that are there."""
    rows = connection.execute(_STORED.format(alert="alert") + "WHERE a.id = ANY (%s)", [list(ids)])
    return {row[0]: Stored(*row) for row in rows}


def fetch_active(connection: Connection, ids: Iterable[int]) -> set[int]:
    """Those of the alerts that are active."""
    return {number for (number,) in connection.execute(
        "SELECT id FROM alert WHERE id = ANY (%s) AND state IN ('firing', 'unknown')", [list(ids)])}


def _json(rows: Sequence[Row] | Sequence[Event]) -> str:
    return msgspec.json.encode(rows).decode()
