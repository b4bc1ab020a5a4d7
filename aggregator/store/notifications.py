"""Notifications: events nobody has taken up, groups, what is due, and what came of it. Times are Unix s, given by the caller.

The notifier works with a connection of its own; the API reads with the engine.
"""

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec
import psycopg
from sqlalchemy import Engine

from aggregator.analysis.channels import Channel, Target
from aggregator.analysis.grouping import State
from aggregator.analysis.routing import Route
from aggregator.analysis.rules import alert_key, instance_labels
from aggregator.store.reading import fetch_rows
from shared import logs, wire
from shared.database import Connection

log = logs.get("notifier")

T = TypeVar("T")

ROUTING_LOCK = 0x726F_7574
EVENTS_A_PASS = 500
GROUPS_A_PASS = 200
LEASE_SECONDS = 120.0
"""After which a notification is taken by another notifier, when the one that had it has not said what came of it."""

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


@dataclasses.dataclass(frozen=True, slots=True)
class Due:
    """A notification that this process has taken, for its next attempt. `content` is JSON."""

    number: int
    channel: str
    route: str
    kind: str
    content: bytes
    attempts: int
    created_at: float
    definition: Channel | None
    target: Target | None


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
    return [(name, route) for name, definition in rows if (route := _converted(definition, Route, f"route {name}")) is not None]


def _converted(stored: Any, kind: type[T], what: str) -> T | None:
    """What is stored as JSON; None with a line in the log where it cannot be read: one row must not stop the others."""
    try:
        return msgspec.convert(stored, kind, strict=False)
    except msgspec.ValidationError as error:
        logs.event(log, "cannot be read", logging.ERROR, what=what, error=str(error))
        return None


def fetch_channels(connection: Connection) -> dict[str, tuple[Channel, bool]]:
    """Channels by name, and whether each fails."""
    rows = connection.execute("SELECT name, definition, failing_since IS NOT NULL FROM notification_channel")
    return {name: (channel, is_failing) for name, definition, is_failing in rows
            if (channel := _converted(definition, Channel, f"channel {name}")) is not None}


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
    return {(route, key): _converted(state, State, f"group {key} of {route}") or State() for route, key, state in rows}


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


def write(connection: Connection, channel: str, route: str, kind: str, alerts: Sequence[int], content: bytes,
          now: float) -> int:
    """A notification that is due at once; its id."""
    row = connection.execute(
        """INSERT INTO notification (channel, route, kind, alert_ids, content, next_attempt_at, created_at)
           VALUES (%s, %s, %s, %s, %s::jsonb, to_timestamp(%s), to_timestamp(%s)) RETURNING id""",
        [channel, route, kind, list(alerts), content.decode(), now, now]).fetchone()
    assert row is not None  # noqa: S101 (INSERT … RETURNING)
    return int(row[0])


def claim(connection: Connection, now: float, room: int, busy: Mapping[str, int], per_channel: int) -> list[Due]:
    """Take up to `room` notifications that are due, of each channel so many that `per_channel` are under way.

    They are this process' own for `LEASE_SECONDS`; who dies meanwhile leaves them to the others.
    """
    full = [name for name, count in busy.items() if count >= per_channel]
    rows = connection.execute(
        """WITH ranked AS (
             SELECT id, row_number() OVER (PARTITION BY channel ORDER BY id) AS place, channel FROM notification
             WHERE state = 'due' AND next_attempt_at <= to_timestamp(%(now)s) AND channel <> ALL(%(full)s)),
           chosen AS (
             SELECT id FROM notification WHERE state = 'due' AND next_attempt_at <= to_timestamp(%(now)s)
               AND id IN (SELECT id FROM ranked WHERE place <= %(most)s - coalesce((%(busy)s::jsonb->>channel)::int, 0))
             ORDER BY id LIMIT %(room)s FOR UPDATE SKIP LOCKED),
           taken AS (
             UPDATE notification SET attempts = attempts + 1, next_attempt_at = to_timestamp(%(until)s)
             WHERE id IN (SELECT id FROM chosen) RETURNING *)
           SELECT t.id, t.channel, t.route, t.kind, t.content::text, t.attempts, extract(epoch FROM t.created_at)::float8,
                  c.definition, c.secret
           FROM taken t LEFT JOIN notification_channel c ON c.name = t.channel ORDER BY t.id""",
        {"now": now, "full": full, "most": per_channel, "busy": msgspec.json.encode(dict(busy)).decode(), "room": room,
         "until": now + LEASE_SECONDS})
    return [_due(row) for row in rows]


def _due(row: tuple[Any, ...]) -> Due:
    number, channel, route, kind, content, attempts, created_at, definition, secret = row
    return Due(number, channel, route, kind, content.encode(), attempts, created_at,
               None if definition is None else _converted(definition, Channel, f"channel {channel}"),
               None if secret is None else _converted(msgspec.json.decode(secret), Target, f"secret of channel {channel}"))


def give_back(connection: Connection, number: int, now: float) -> None:
    """A notification that was taken and not tried is due again."""
    connection.execute("""UPDATE notification SET attempts = attempts - 1, next_attempt_at = to_timestamp(%s)
                          WHERE id = %s AND state = 'due'""", [now, number])


def write_attempt(connection: Connection, number: int, at: float, seconds: float, error: str) -> None:
    """What came of one attempt; no error: it was delivered."""
    connection.execute("""INSERT INTO notification_attempt (notification_id, at, ok, seconds, error)
                          SELECT id, to_timestamp(%s), %s, %s, %s FROM notification WHERE id = %s""",
                       [at, not error, seconds, error, number])


def finish(connection: Connection, number: int, state: str, now: float) -> None:
    """`delivered` or `failed`, for good."""
    connection.execute("UPDATE notification SET state = %s, finished_at = to_timestamp(%s) WHERE id = %s", [state, now, number])


def postpone(connection: Connection, number: int, until: float) -> None:
    connection.execute("UPDATE notification SET next_attempt_at = to_timestamp(%s) WHERE id = %s", [until, number])


def mark_channel_well(connection: Connection, name: str, now: float) -> bool:
    """Note that something was delivered; whether the channel had failed before."""
    row = connection.execute(
        """WITH before AS (SELECT failing_since FROM notification_channel WHERE name = %(name)s FOR UPDATE)
           UPDATE notification_channel SET failing_since = NULL, last_error = '', delivered_at = to_timestamp(%(now)s)
           WHERE name = %(name)s RETURNING (SELECT failing_since FROM before) IS NOT NULL""",
        {"name": name, "now": now}).fetchone()
    return bool(row and row[0])


def mark_channel_failing(connection: Connection, name: str, error: str, now: float) -> float | None:
    """Note that a channel fails, and since when (Unix s); None where there is no such channel any more."""
    row = connection.execute(
        """UPDATE notification_channel SET failing_since = coalesce(failing_since, to_timestamp(%s)), last_error = %s
           WHERE name = %s RETURNING extract(epoch FROM failing_since)::float8""", [now, error, name]).fetchone()
    return None if row is None else float(row[0])


def is_channel_told(connection: Connection, name: str, since: float) -> bool:
    """Whether others have been told that a channel fails since then."""
    return connection.execute(
        """SELECT 1 FROM notification WHERE kind = 'channel' AND created_at >= to_timestamp(%s)
             AND content->>'channel' = %s LIMIT 1""", [since, name]).fetchone() is not None


@dataclasses.dataclass(frozen=True, slots=True)
class Backlog:
    """What waits: notifications and events, the age of the oldest in s, and the channels that fail."""

    due: int
    due_seconds: float
    events: int
    events_seconds: float
    failing: int


def fetch_backlog(connection: Connection, now: float) -> Backlog:
    row = connection.execute(
        """SELECT n.count, n.age, e.count, e.age, (SELECT count(*) FROM notification_channel WHERE failing_since IS NOT NULL)
           FROM (SELECT count(*), coalesce(%(now)s - extract(epoch FROM min(created_at)), 0)::float8 AS age
                 FROM notification WHERE state = 'due') n,
                (SELECT count(*), coalesce(%(now)s - extract(epoch FROM min(recorded_at)), 0)::float8 AS age
                 FROM alert_event WHERE routed_at IS NULL) e""", {"now": now}).fetchone()
    assert row is not None  # noqa: S101 (aggregates)
    return Backlog(*row)


def queue_test(engine: Engine, channel: str, content: bytes, now: datetime) -> int:
    """A test notification, due at once; its id."""
    with engine.begin() as connection:
        raw: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        return write(raw, channel, "", "test", [], content, now.timestamp())


def fetch(engine: Engine, *, state: str | None, channel: str | None, alert: int | None, before: int | None,
          limit: int) -> list[dict[str, Any]]:
    """Notifications that fit, newest first, each with its content and its attempts."""
    clauses = {"n.state = :state": state, "n.channel = :channel": channel, "n.alert_ids @> ARRAY[:alert]::bigint[]": alert,
               "n.id < :before": before}
    where = " AND ".join(clause for clause, value in clauses.items() if value is not None) or "true"
    return fetch_rows(engine, f"""
        SELECT n.id, n.channel, n.route, n.kind, n.content, n.state, n.alert_ids, n.created_at, n.finished_at,
          CASE WHEN n.state = 'due' THEN n.next_attempt_at END AS next_attempt_at,
          coalesce((SELECT jsonb_agg(jsonb_build_object('at', t.at, 'ok', t.ok, 'seconds', t.seconds, 'error', t.error)
                                     ORDER BY t.id)
                    FROM notification_attempt t WHERE t.notification_id = n.id), '[]') AS attempts
        FROM notification n WHERE {where} ORDER BY n.id DESC LIMIT :limit""",  # noqa: S608 (constants)
        {"state": state, "channel": channel, "alert": alert, "before": before, "limit": limit})
