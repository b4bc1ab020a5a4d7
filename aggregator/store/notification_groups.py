"""What the notifier routes by: events nobody has taken up, their alerts, routes, channels, and groups. Times are Unix s."""

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from aggregator.analysis.channels import Channel
from aggregator.analysis.grouping import State
from aggregator.analysis.routing import Route
from aggregator.analysis.rules import alert_key, instance_labels
from shared import logs, wire
from shared.database import Connection

log = logs.get("notifier")

T = TypeVar("T")

ROUTING_LOCK = 0x726F_7574
EVENTS_A_PASS = 500
GROUPS_A_PASS = 200

GroupKey = tuple[str, str]
"""(route, key)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """What happened to an alert, as far as routing asks. `recorded_at`: Unix s."""

    alert: int
    kind: str
    is_muted: bool
    recorded_at: float


@dataclasses.dataclass(frozen=True, slots=True)
class Alert:
    """An alert as it stands, with what routes look at. `told` is it as the bus has it."""

    told: wire.Alert
    labels: Mapping[str, str]
    instance: str
    is_active: bool
    resolved_at: float | None


def try_lock_routing(connection: Connection) -> bool:
    """Until the transaction ends, be the one that routes; False while another is. Events of an alert must stay in order."""
    row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [ROUTING_LOCK]).fetchone()
    return bool(row and row[0])


def take_events(connection: Connection, now: float) -> list[Event]:
    """Events that nobody has taken up, in order; they are, once the transaction is committed."""
    rows = connection.execute(
        """WITH taken AS (UPDATE alert_event SET routed_at = to_timestamp(%s) WHERE id IN (
               SELECT id FROM alert_event WHERE routed_at IS NULL ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)
             RETURNING id, alert_id, kind, is_muted, recorded_at)
           SELECT alert_id, kind, is_muted, extract(epoch FROM recorded_at)::float8 FROM taken ORDER BY recorded_at, id""",
        [now, EVENTS_A_PASS])
    return [Event(*row) for row in rows]


_ALERT = """SELECT a.id, h.name, h.labels, a.rule, a.type, a.instance, a.state, a.severity, a.message, a.recommendation,
  a.metric, a.value, a.threshold, extract(epoch FROM a.started_at)::float8, extract(epoch FROM a.fired_at)::float8,
  extract(epoch FROM a.changed_at)::float8, extract(epoch FROM a.resolved_at)::float8, a.flapping, a.dismissible,
  a.dismissed_at IS NOT NULL, CASE WHEN a.acknowledged_until <= to_timestamp(%s) THEN '' ELSE coalesce(a.acknowledged_by, '') END,
  a.muted_by
  FROM alert a JOIN host h ON h.id = a.host_id WHERE a.id = ANY(%s)"""


def fetch_alerts(connection: Connection, numbers: Iterable[int], now: float) -> dict[int, Alert]:
    """Alerts by id, as they stand; those that are deleted are missing. An acknowledgement that has expired is none."""
    return {row[0]: _alert(row) for row in connection.execute(_ALERT, [now, list(numbers)])}


def _alert(row: tuple[Any, ...]) -> Alert:
    (number, host, labels, rule, kind, instance, state, severity, message, recommendation, metric, value, threshold,
     started_at, fired_at, changed_at, resolved_at, flapping, dismissible, dismissed, acknowledged_by, muted_by) = row
    is_active = state in ("firing", "unknown")
    told = wire.Alert(
        id=number, host=host, alert=alert_key(rule, instance), rule=rule, type=kind, instance=instance_labels(instance),
        state=state if is_active else "resolved", severity=severity, message=message, recommendation=recommendation,
        metric=metric, value=value, threshold=threshold, started_at=started_at, fired_at=fired_at or changed_at,
        changed_at=changed_at, flapping=flapping, dismissible=dismissible, dismissed=dismissed,
        acknowledged_by=acknowledged_by, muted_by=list(muted_by))
    return Alert(told, labels, instance, is_active, resolved_at)


def fetch_routes(connection: Connection) -> list[tuple[str, Route]]:
    """Routes in the order in which they are tried; one that cannot be read is left out, with a line in the log."""
    rows = connection.execute("SELECT name, definition FROM notification_route ORDER BY position, name")
    return [(name, route) for name, definition in rows if (route := readable(definition, Route, f"route {name}")) is not None]


def fetch_channels(connection: Connection) -> dict[str, tuple[Channel, bool]]:
    """Channels by name, and whether each fails."""
    rows = connection.execute("SELECT name, definition, failing_since IS NOT NULL FROM notification_channel")
    return {name: (channel, is_failing) for name, definition, is_failing in rows
            if (channel := readable(definition, Channel, f"channel {name}")) is not None}


def fetch_groups(connection: Connection, wanted: Iterable[GroupKey], alerts: Iterable[int],
                 now: float) -> dict[GroupKey, State]:
    """The wanted groups, those that hold one of the alerts, and those whose time has come."""
    routes, keys = zip(*wanted, strict=True) if (wanted := list(wanted)) else ((), ())
    rows = connection.execute(
        """SELECT route, key, state FROM notification_group
           WHERE (route, key) IN (SELECT * FROM unnest(%s::text[], %s::text[])) OR state->'members' ?| %s
              OR (route, key) IN (SELECT route, key FROM notification_group WHERE next_at <= to_timestamp(%s)
                                  ORDER BY next_at LIMIT %s)""",
        [list(routes), list(keys), [str(alert) for alert in alerts], now, GROUPS_A_PASS])
    return {(route, key): readable(state, State, f"group {key} of {route}") or State() for route, key, state in rows}


def write_groups(connection: Connection, groups: Mapping[GroupKey, tuple[State, float | None]]) -> None:
    """Groups and when to look at each again."""
    with connection.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO notification_group (route, key, state, next_at) VALUES (%s, %s, %s::jsonb, to_timestamp(%s))
               ON CONFLICT (route, key) DO UPDATE SET state = excluded.state, next_at = excluded.next_at""",
            [(*key, msgspec.json.encode(state).decode(), at) for key, (state, at) in groups.items()])


def delete_groups(connection: Connection, keys: Sequence[GroupKey]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany("DELETE FROM notification_group WHERE route = %s AND key = %s", keys)


def readable(stored: Any, kind: type[T], what: str) -> T | None:
    """What is stored as JSON; None with a line in the log where it cannot be read: one row must not stop the others."""
    try:
        return msgspec.convert(stored, kind, strict=False)
    except msgspec.ValidationError as error:
        logs.event(log, "cannot be read", logging.ERROR, what=what, error=str(error))
        return None
