"""Executions that are released and not over: those that time has caught up with, and those whose host must be told."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta

from scheduler.states import Open, Verdict
from scheduler.store.runs import COLUMNS, Run
from shared.database import Connection

RESEND_SECONDS, MOST_RESEND_SECONDS = 5.0, 60.0
_ANSWERS = "(e.target->>'type' = 'maintenance' OR (e.target->>'type' = 'task' AND e.host <> ''))"


@dataclasses.dataclass(frozen=True, slots=True)
class Watched:
    """An execution and what decides about it. `task_host`: the host that runs it as a task, else empty."""

    id: str
    is_fleet: bool
    task_host: str
    open: Open
    at: datetime


def claim(connection: Connection, most: int) -> list[Watched]:
    """Up to `most` executions that may be overdue or are to be cancelled, locked; those that others hold are theirs."""
    rows = connection.execute(
        f"""SELECT e.id, e.target->>'type' = 'task' AND e.host = '', CASE e.target->>'type' WHEN 'task' THEN e.host ELSE '' END,
              e.state, e.not_after, e.started_at,
              coalesce((s.definition->>'timeout')::float8, 3600), e.lease_until, e.is_cancelling, {_ANSWERS}, now()
            FROM execution e JOIN schedule s ON s.id = e.schedule_id
            WHERE e.state IN ('pending', 'running') AND (e.is_cancelling
              OR (e.state = 'pending' AND e.not_after < now() AND e.fired_at IS NOT NULL)
              OR (e.state = 'running' AND NOT (e.target->>'type' = 'task' AND e.host = '') AND (e.lease_until < now()
                OR e.started_at + make_interval(secs => coalesce((s.definition->>'timeout')::float8, 3600)) < now())))
            ORDER BY e.id LIMIT %s FOR UPDATE OF e SKIP LOCKED""", [most])  # noqa: S608 (constants)
    return [Watched(number, is_fleet, host, Open(
                state=state, not_after=not_after, deadline=_deadline(started_at, timeout, is_fleet=is_fleet),
                lease_until=None if state == "pending" else lease_until, is_cancelling=is_cancelling, answers=answers), at)
            for number, is_fleet, host, state, not_after, started_at, timeout, lease_until, is_cancelling, answers, at in rows]


def _deadline(started_at: datetime | None, timeout: float, *, is_fleet: bool) -> datetime | None:
    return None if started_at is None or is_fleet else started_at + timedelta(seconds=timeout)


def write(connection: Connection, verdicts: Sequence[tuple[str, Verdict]]) -> None:
    """Write the ends and the cancellations. What is missed is not said on the bus any more."""
    ends = [(number, verdict.state, verdict.reason) for number, verdict in verdicts if verdict.state is not None]
    if ends:
        ids, states, reasons = (list(column) for column in zip(*ends, strict=True))
        connection.execute(
            """UPDATE execution e SET state = n.state, ended_at = now(), lease_until = NULL,
                 reason = CASE n.reason WHEN '' THEN e.reason ELSE n.reason END
               FROM unnest(%s::text[], %s::text[], %s::text[]) AS n (id, state, reason) WHERE e.id = n.id""",
            [ids, states, reasons])
        connection.execute("DELETE FROM schedule_outbox WHERE execution_id = ANY (%s)", [ids])
    connection.execute("UPDATE execution SET is_cancelling = true WHERE id = ANY (%s)",
                       [[number for number, verdict in verdicts if verdict.state is None]])


def cancel_hosts(connection: Connection, fleets: Sequence[str]) -> None:
    """Whoever cancels a fleet cancels its hosts; those that somebody holds, the next time."""
    connection.execute(
        """UPDATE execution SET is_cancelling = true WHERE id IN (
             SELECT id FROM execution WHERE parent = ANY (%s) AND state IN ('pending', 'running') AND NOT is_cancelling
             FOR UPDATE SKIP LOCKED)""", [list(fleets)])


def claim_tasks(connection: Connection, most: int) -> list[Run]:
    """Tasks that their host must be sent now: it has not answered yet. Sent again and again, at growing distances."""
    rows = connection.execute(
        f"""WITH taken AS (
              SELECT id FROM execution WHERE state = 'pending' AND fired_at IS NOT NULL AND host <> ''
                AND target->>'type' = 'task' AND coalesce(lease_until, '-infinity') <= now()
              ORDER BY fired_at LIMIT %s FOR UPDATE SKIP LOCKED),
            e AS (UPDATE execution x SET lease_until = now() + make_interval(
                    secs => least(%s, %s + extract(epoch FROM now() - x.fired_at)::float8 / 4))
                  FROM taken WHERE x.id = taken.id RETURNING x.*)
            SELECT {COLUMNS} FROM e JOIN schedule s ON s.id = e.schedule_id""",  # noqa: S608 (constants)
        [most, MOST_RESEND_SECONDS, RESEND_SECONDS])
    return [Run(*row) for row in rows]
