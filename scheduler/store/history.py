"""What is kept of executions: so many of each schedule, and none beyond the retention policy `executions`."""

from shared.database import Connection

TRIM_LOCK = 0x6472_7472
"""Held by the one scheduler that trims."""
BATCH = 2000


def trim(connection: Connection, seconds: float) -> int:
    """Delete what is beyond `keep` of schedules that fired within the last `seconds` or never; the number of executions deleted.

    Only what is over is deleted. Nothing is done where another scheduler is at it.
    """
    with connection.transaction():
        if not _is_ours(connection):
            return 0
        return connection.execute(
            """DELETE FROM execution WHERE id IN (
                 SELECT old.id FROM schedule s CROSS JOIN LATERAL (
                   SELECT id, state FROM execution e WHERE e.schedule_id = s.id AND e.parent IS NULL
                   ORDER BY scheduled_for DESC, id OFFSET coalesce((s.definition->>'keep')::int, 100)) AS old
                 WHERE coalesce(s.fired_at, now()) > now() - make_interval(secs => %s)
                   AND old.state NOT IN ('pending', 'running') LIMIT %s)""",
            [seconds, BATCH]).rowcount


def trim_old(connection: Connection) -> int:
    """Delete what is older than the retention policy allows, and keys of triggers whose execution is gone."""
    with connection.transaction():
        if not _is_ours(connection):
            return 0
        connection.execute("DELETE FROM trigger_key WHERE created_at < now() - interval '7 days' "
                           "AND NOT EXISTS (SELECT FROM execution e WHERE e.id = execution_id)")
        return connection.execute(
            """DELETE FROM execution WHERE id IN (
                 SELECT id FROM execution WHERE parent IS NULL AND state NOT IN ('pending', 'running') AND created_at < now()
                   - make_interval(days => (SELECT keep_days FROM retention_policy WHERE name = 'executions'))
                 ORDER BY created_at LIMIT %s)""", [BATCH]).rowcount


def _is_ours(connection: Connection) -> bool:
    row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [TRIM_LOCK]).fetchone()
    return row is not None and bool(row[0])
