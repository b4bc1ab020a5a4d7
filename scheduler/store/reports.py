"""What executors told about executions: locked, decided by `states.step`, written."""

import dataclasses
from collections.abc import Collection, Sequence
from datetime import datetime

from scheduler.store.runs import COLUMNS, Run
from shared.database import Connection
from shared.schedules import State


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What becomes of one execution; `lease_until` None: it has none."""

    id: str
    state: State
    reason: str = ""
    executor: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    lease_until: datetime | None = None
    exit_code: int | None = None
    output: str = ""
    error: str = ""
    is_late: bool = False


def lock(connection: Connection, ids: Collection[str]) -> dict[str, Run]:
    """These executions, locked until the end of the transaction; those that do not exist are not there."""
    rows = connection.execute(
        f"""SELECT {COLUMNS} FROM execution e JOIN schedule s ON s.id = e.schedule_id WHERE e.id = ANY (%s)
            ORDER BY e.id FOR UPDATE OF e""", [list(ids)])  # noqa: S608 (constants)
    return {run.id: run for run in (Run(*row) for row in rows)}


def write(connection: Connection, told: Sequence[Written]) -> None:
    """Write new states. One that was supposed to have ended and is corrected has its consequences drawn anew."""
    if not told:
        return
    columns = ("id", "state", "reason", "executor", "started_at", "ended_at", "lease_until", "exit_code", "output", "error",
               "is_late")
    connection.execute(
        """UPDATE execution e SET state = n.state, reason = n.reason, executor = n.executor, started_at = n.started_at,
             ended_at = n.ended_at, lease_until = n.lease_until, exit_code = n.exit_code, output = n.output, error = n.error,
             is_late = n.is_late, told = CASE WHEN n.is_late AND NOT e.is_late THEN '' ELSE e.told END
           FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[],
             %s::int[], %s::text[], %s::text[], %s::bool[])
             AS n (id, state, reason, executor, started_at, ended_at, lease_until, exit_code, output, error, is_late)
           WHERE e.id = n.id""", [[getattr(one, name) for one in told] for name in columns])
