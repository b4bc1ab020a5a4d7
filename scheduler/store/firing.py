"""Schedules that are due: claimed, given a row for each fire time, and set to when they are due next, in one transaction."""

import dataclasses
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from scheduler.planning import Plan
from scheduler.store.runs import readable
from shared.database import Connection
from shared.recurrence import delay
from shared.schedules import Schedule


@dataclasses.dataclass(frozen=True, slots=True)
class Due:
    """A schedule that is due. `problem`: why it cannot be read."""

    id: int
    name: str
    schedule: Schedule
    problem: str
    next_at: datetime
    at: datetime


def claim(connection: Connection, most: int) -> list[Due]:
    """Up to `most` schedules that are due, locked until the end of the transaction; those that others hold are theirs."""
    rows = connection.execute(
        """SELECT id, name, definition::text, next_at, now() FROM schedule
           WHERE enabled AND next_at IS NOT NULL AND next_at <= now() AND deleted_at IS NULL
           ORDER BY next_at LIMIT %s FOR NO KEY UPDATE SKIP LOCKED""", [most])
    return [Due(number, name, *readable(name, text), next_at, at) for number, name, text, next_at, at in rows]


def write(connection: Connection, planned: Sequence[tuple[Due, Plan]]) -> int:
    """Write the executions of these plans and when each schedule is due next; the number of executions that are new."""
    rows = [_row(due, at.at, at.cause, at.missed, is_settled=at.is_settled) for due, plan in planned for at in plan.firings]
    made = 0
    if rows:
        made = connection.execute(
            """INSERT INTO execution (id, schedule_id, scheduled_for, cause, state, reason, target, payload, not_before,
                 not_after, told, ended_at)
               SELECT id, schedule_id, at, cause, state, reason, target, payload, greatest(at + jitter, CASE cause WHEN 'misfire'
                 THEN now() ELSE at END), greatest(at + jitter, now()) + grace, told, CASE state WHEN 'missed' THEN now() END
               FROM jsonb_to_recordset(%s::jsonb) AS n (id text, schedule_id int, at timestamptz, cause text, state text,
                 reason text, target jsonb, payload jsonb, jitter interval, grace interval, told text)
               ON CONFLICT (schedule_id, scheduled_for, host, attempt) DO NOTHING""",
            [msgspec.json.encode(rows).decode()]).rowcount
    connection.execute(
        """UPDATE schedule s SET next_at = n.next_at, fired_at = CASE WHEN n.fired THEN now() ELSE s.fired_at END
           FROM unnest(%s::int[], %s::timestamptz[], %s::bool[]) AS n (id, next_at, fired) WHERE s.id = n.id""",
        [[due.id for due, _ in planned], [plan.next_at for _, plan in planned], [bool(plan.firings) for _, plan in planned]])
    return made


def _row(due: Due, at: datetime, cause: str, missed: str, *, is_settled: bool) -> dict[str, Any]:
    state = "missed" if missed else "pending"
    return {
        "id": secrets.token_hex(8), "schedule_id": due.id, "at": at, "cause": cause, "state": state, "reason": missed,
        "target": due.schedule.target, "payload": due.schedule.payload, "jitter": f"{delay(due.schedule, at):.3f} s",
        "grace": f"{due.schedule.grace} s", "told": state if is_settled else "pending"}
