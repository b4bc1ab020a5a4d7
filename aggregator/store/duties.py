"""Executions of drumbeat's own upkeep, as those see them who execute them: claimed, held by a lease, ended.

A duty is done by one at a time: whoever has its advisory lock, which goes with the connection that does the work. Its row says
who that is; a worker whose row is no longer its own stops, and writes nothing but what really came of it, marked late.
"""

import dataclasses
from datetime import datetime
from typing import Any, Literal

from shared.database import Connection

LEASE_SECONDS = 60.0
NAMESPACE = 0x6475_7479  # "duty"
WORKER = "drumbeat-duty-"
"""What the names of working connections begin with; the whole is the executor of the row."""

End = Literal["completed", "failed", "cancelled", "timed_out"]


@dataclasses.dataclass(frozen=True, slots=True)
class Claimed:
    """An execution that is now ours. `timeout` in s."""

    id: str
    executor: str
    schedule: str
    duty: str
    arguments: dict[str, Any]
    timeout: float


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """What came of an execution."""

    id: str
    executor: str
    state: End
    output: str = ""
    error: str = ""


def fetch_waiting(connection: Connection) -> list[str]:
    """Duties that somebody should do now."""
    return [row[0] for row in connection.execute(
        """SELECT coalesce(target->>'duty', '') FROM execution
           WHERE state = 'pending' AND fired_at IS NOT NULL AND target->>'type' = 'maintenance' AND not_after >= now()
             AND NOT is_cancelling GROUP BY 1 ORDER BY min(fired_at)""")]


def lock(connection: Connection, duty: str) -> bool:
    """Whether this connection is now the one that does the duty, as long as it lasts."""
    row = connection.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", [NAMESPACE, duty]).fetchone()
    return row is not None and bool(row[0])


def end_stopped(connection: Connection, duty: str) -> int:
    """End the connection of a worker that has the lock but no execution any more, such as that of a process that is stopped.

    One that has just come has a minute to claim its execution.
    """
    return connection.execute(
        """SELECT pg_terminate_backend(a.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
           WHERE l.locktype = 'advisory' AND l.granted AND l.classid = %s AND l.objid = hashtext(%s)::bit(32)::bigint::oid
             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
             AND a.backend_start < now() - make_interval(secs => %s) AND NOT EXISTS (SELECT FROM execution e
               WHERE e.executor = a.application_name AND e.state = 'running' AND e.lease_until > now())""",
        [NAMESPACE, duty, LEASE_SECONDS]).rowcount


def claim(connection: Connection, executor: str, duty: str) -> Claimed | None:
    """Take the execution of a duty that has waited longest; None where none waits. Have the duty's lock before."""
    row = connection.execute(
        """UPDATE execution e SET state = 'running', started_at = now(), executor = %s,
             lease_until = now() + make_interval(secs => %s)
           FROM schedule s WHERE s.id = e.schedule_id AND e.id = (
             SELECT id FROM execution WHERE state = 'pending' AND fired_at IS NOT NULL AND target->>'type' = 'maintenance'
               AND coalesce(target->>'duty', '') = %s AND not_after >= now() AND NOT is_cancelling
             ORDER BY fired_at LIMIT 1 FOR UPDATE SKIP LOCKED)
           RETURNING e.id, e.executor, s.name, coalesce(e.target->>'duty', ''), coalesce(e.target->'arguments', '{}'),
             coalesce((s.definition->>'timeout')::float8, 3600)""", [executor, LEASE_SECONDS, duty]).fetchone()
    return None if row is None else Claimed(*row)


def renew(connection: Connection, claimed: Claimed) -> bool:
    """Hold an execution for another minute; False where it is ours no longer."""
    return connection.execute(
        """UPDATE execution SET lease_until = now() + make_interval(secs => %s)
           WHERE id = %s AND executor = %s AND state = 'running'""",
        [LEASE_SECONDS, claimed.id, claimed.executor]).rowcount == 1


def fetch_standing(connection: Connection, claimed: Claimed) -> Literal["ours", "cancelling", "gone"]:
    """How an execution stands: ours and wanted, to be cancelled, or no longer ours."""
    row = connection.execute("SELECT is_cancelling FROM execution WHERE id = %s AND executor = %s AND state = 'running'",
                             [claimed.id, claimed.executor]).fetchone()
    return "gone" if row is None else "cancelling" if row[0] else "ours"


def write_end(connection: Connection, ended: Ended) -> bool:
    """What came of it; where the scheduler had given it up, marked late. False where neither could be."""
    return connection.execute(
        """UPDATE execution SET is_late = state <> 'running', state = %s, ended_at = now(), lease_until = NULL, output = %s,
             error = %s, reason = CASE WHEN state <> 'running' AND %s = 'completed' THEN '' ELSE reason END
           WHERE id = %s AND executor = %s AND (state = 'running' OR (state IN ('failed', 'timed_out') AND NOT is_late
             AND error = ''))""",
        [ended.state, ended.output, ended.error, ended.state, ended.id, ended.executor]).rowcount == 1


def fetch_now(connection: Connection) -> datetime:
    """The time of the database."""
    row = connection.execute("SELECT now()").fetchone()
    assert row is not None  # noqa: S101 (a constant)
    return row[0]  # type: ignore[no-any-return]
