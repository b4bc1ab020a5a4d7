"""Notifications: what is due, what came of it, and how much waits. Times are Unix s, given by the caller.

The notifier works with a connection of its own; the API reads with the engine.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import psycopg
from sqlalchemy import Engine

from aggregator.analysis.channels import Channel, Target
from aggregator.store import audit_log
from aggregator.store.notification_groups import readable
from aggregator.store.reading import fetch_rows
from shared.database import Connection

LEASE_SECONDS = 120.0
"""After which a notification is taken by another notifier, when the one that had it has not said what came of it."""


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
               None if definition is None else readable(definition, Channel, f"channel {channel}"),
               None if secret is None else readable(msgspec.json.decode(secret), Target, f"secret of channel {channel}"))


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


def queue_test(engine: Engine, channel: str, content: bytes, now: datetime, actor: str) -> int:
    """A test notification, due at once; its id."""
    with engine.begin() as connection:
        audit_log.write(connection, actor, "test", "channel", channel)
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
