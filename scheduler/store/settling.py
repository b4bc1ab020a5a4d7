"""States whose consequences are not drawn yet: claimed, given a row in the history of their execution, retried, summed up."""

from collections.abc import Collection, Sequence
from datetime import datetime

from scheduler.planning import retry_at
from scheduler.states import Verdict, whole
from scheduler.store.runs import COLUMNS, Run
from shared.database import Connection
from shared.schedules import FINAL, State


def claim(connection: Connection, most: int) -> list[Run]:
    """Up to `most` executions whose state is not the one last told, locked until the end of the transaction."""
    rows = connection.execute(
        f"""SELECT {COLUMNS} FROM execution e JOIN schedule s ON s.id = e.schedule_id WHERE e.told <> e.state
            ORDER BY e.id LIMIT %s FOR UPDATE OF e SKIP LOCKED""", [most])  # noqa: S608 (constants)
    return [Run(*row) for row in rows]


def note(connection: Connection, runs: Sequence[Run]) -> None:
    """The state is told: a row of history for each."""
    ids = [run.id for run in runs]
    connection.execute(
        """INSERT INTO execution_event (execution_id, at, state, reason, actor)
           SELECT * FROM unnest(%s::text[], %s::timestamptz[], %s::text[], %s::text[], %s::text[])""",
        [ids, [(run.ended_at if run.state in FINAL else run.started_at) or run.at for run in runs], [run.state for run in runs],
         [run.reason for run in runs], [run.executor for run in runs]])
    connection.execute("UPDATE execution SET told = state WHERE id = ANY (%s)", [ids])


def retry(connection: Connection, runs: Sequence[Run]) -> set[str]:
    """Try again what failed and has attempts left; the ids of those that are tried again."""
    again: list[tuple[str, datetime]] = []
    for run in runs:
        is_over = run.is_fleet or run.is_cancelling or run.is_late or run.is_deleted
        at = None if is_over else retry_at(run.schedule, run.state, run.attempt, run.at)
        if at is not None:
            again.append((run.id, at))
    if again:
        connection.execute(
            """INSERT INTO execution (id, schedule_id, parent, scheduled_for, attempt, host, cause, actor, state, target, payload,
                 not_before, not_after)
               SELECT substr(md5(e.id || gen_random_uuid()), 1, 16), e.schedule_id, e.parent, e.scheduled_for, e.attempt + 1,
                 e.host, 'retry', e.actor, 'pending', e.target, e.payload, n.at,
                 n.at + make_interval(secs => coalesce((s.definition->>'grace')::float8, 3600))
               FROM unnest(%s::text[], %s::timestamptz[]) AS n (id, at) JOIN execution e ON e.id = n.id
                 JOIN schedule s ON s.id = e.schedule_id
               ON CONFLICT (schedule_id, scheduled_for, host, attempt) DO NOTHING""",
            [[number for number, _ in again], [at for _, at in again]])
    return {number for number, _ in again}


def lock_fleets(connection: Connection, ids: Collection[str]) -> dict[str, Run]:
    """Fleets of which a host has ended: whoever sums them up must see what others have just written about their hosts."""
    if not ids:
        return {}
    rows = connection.execute(
        f"""SELECT {COLUMNS} FROM execution e JOIN schedule s ON s.id = e.schedule_id WHERE e.id = ANY (%s)
            ORDER BY e.id FOR UPDATE OF e""", [sorted(ids)])  # noqa: S608 (constants)
    return {run.id: run for run in (Run(*row) for row in rows)}


def sum_up(connection: Connection, fleets: Sequence[Run]) -> None:
    """End the fleets whose hosts have all ended, each by its last attempt; let waiting hosts of the others begin."""
    states: dict[str, dict[State, int]] = {fleet.id: {} for fleet in fleets}
    for parent, state, count in connection.execute(
            """SELECT parent, CASE WHEN told <> state THEN 'running' ELSE state END AS open_or_over, count(*) FROM (
                 SELECT DISTINCT ON (parent, host) parent, state, told FROM execution WHERE parent = ANY (%s)
                 ORDER BY parent, host, attempt DESC) AS last GROUP BY 1, 2""", [list(states)]):
        states[parent][state] = count
    for fleet in fleets:
        verdict = whole(states[fleet.id], is_cancelling=fleet.is_cancelling)
        if verdict is not None and (fleet.state == "running" or verdict.state != fleet.state):
            _end(connection, fleet, verdict)
        elif verdict is None and fleet.target.parallel:
            _let_begin(connection, fleet)


def _end(connection: Connection, fleet: Run, verdict: Verdict) -> None:
    is_late = fleet.state in FINAL
    connection.execute("UPDATE execution SET state = %s, reason = %s, ended_at = now(), is_late = %s WHERE id = %s",
                       [verdict.state, verdict.reason, is_late, fleet.id])


def _let_begin(connection: Connection, fleet: Run) -> None:
    connection.execute(
        """UPDATE execution SET not_before = now(), not_after = now() + make_interval(secs => %s) WHERE id IN (
             SELECT id FROM execution WHERE parent = %s AND state = 'pending' AND not_before > now() + interval '50 years'
             ORDER BY host LIMIT greatest(0, %s - (
               SELECT count(*) FROM execution WHERE parent = %s AND state IN ('pending', 'running')
                 AND not_before < now() + interval '50 years')))""",
        [fleet.schedule.grace, fleet.id, fleet.target.parallel, fleet.id])
