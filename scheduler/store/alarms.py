"""Executions that end badly raise an alert, the next good one ends it; maintenance windows that are open while one runs."""

from collections.abc import Sequence
from datetime import timedelta

import msgspec

from scheduler.store.runs import Run
from shared import logs, wire
from shared.database import Connection

log = logs.get("scheduler")

BAD = ("failed", "timed_out", "missed")
LONGEST = timedelta(days=7)
OPEN_SECONDS = 60.0


def raise_all(connection: Connection, runs: Sequence[Run], own_host: str) -> None:
    """Raise the alerts of these executions, one for each schedule and host. What has no host is said of `own_host`.

    One that is raised already is told again where it was told before, unless that host is gone.
    """
    last = {(run.schedule_id, run.host): run for run in runs}
    keys = sorted(last)
    raised = connection.execute(
        """INSERT INTO schedule_failing AS f (schedule_id, host, type, told)
           SELECT * FROM unnest(%s::int[], %s::text[], %s::text[], %s::text[])
           ON CONFLICT (schedule_id, host) DO UPDATE SET told = CASE
             WHEN EXISTS (SELECT FROM host WHERE name = f.told) THEN f.told ELSE excluded.told END
           RETURNING schedule_id, host, type, told""",
        [[key[0] for key in keys], [key[1] for key in keys], [_type(last[key]) for key in keys],
         [last[key].host or own_host for key in keys]]).fetchall()
    for schedule_id, host, kind, told in raised:
        run = last[schedule_id, host]
        is_known = _tell(connection, told, wire.Event(type=kind, host=told, message=message(run), ts=run.at.timestamp(),
                                                      instance={"schedule": run.name}))
        logs.event(log, "execution ended badly", 30, schedule=run.name, execution=run.id, host=run.host, state=run.state,
                   reason=run.reason, alert="raised" if is_known else f"none: no host is called {told}; set --host to one")


def resolve_all(connection: Connection, runs: Sequence[Run]) -> None:
    """End the alerts that earlier executions of the same schedules and hosts raised."""
    last = {(run.schedule_id, run.host): run for run in runs}
    gone = connection.execute(
        """DELETE FROM schedule_failing f USING unnest(%s::int[], %s::text[]) AS n (schedule_id, host)
           WHERE f.schedule_id = n.schedule_id AND f.host = n.host RETURNING f.schedule_id, f.host, f.type, f.told""",
        [[key[0] for key in last], [key[1] for key in last]]).fetchall()
    for schedule_id, host, kind, told in gone:
        run = last[schedule_id, host]
        _tell(connection, told, wire.Event(type=kind, host=told, resolved=True, message=message(run), ts=run.at.timestamp(),
                                           instance={"schedule": run.name}))


def resolve_deleted(connection: Connection) -> None:
    """End the alerts of schedules that were deleted: no good execution will."""
    gone = connection.execute(
        """DELETE FROM schedule_failing f USING schedule s WHERE s.id = f.schedule_id AND s.deleted_at IS NOT NULL
           RETURNING s.name, f.type, f.told, now()""").fetchall()
    for name, kind, told, at in gone:
        _tell(connection, told, wire.Event(type=kind, host=told, resolved=True, message=f"schedule {name} was deleted",
                                           ts=at.timestamp(), instance={"schedule": name}))


def _type(run: Run) -> str:
    return "backup_failed" if "backup" in run.schedule.tags else "schedule_failed"


def _tell(connection: Connection, host: str, event: wire.Event) -> bool:
    """Have ingest hear of it; False where there is no such host."""
    return connection.execute(
        """INSERT INTO inbox (partition, host_id, payload, actor)
           SELECT partition, id, %s::jsonb, 'scheduler' FROM host WHERE name = %s""",
        [msgspec.json.encode(event).decode(), host]).rowcount == 1


def message(run: Run) -> str:
    """What the alert says."""
    why = run.reason or run.error or ("" if run.exit_code is None else f"exit code {run.exit_code}")
    how = {"failed": "failed", "timed_out": "took too long", "missed": "was missed"}.get(run.state, run.state)
    return f"schedule {run.name} {how}{f': {why}' if why else ''}"[:1024]


def open_window(connection: Connection, run: Run, hosts: int) -> None:
    """Silence the hosts of an execution while it runs. It never lasts longer than its time-outs allow."""
    schedule, target = run.schedule, run.target
    rounds = -(-hosts // target.parallel) if target.parallel else 1
    most = timedelta(seconds=min((schedule.timeout + schedule.grace) * rounds + OPEN_SECONDS, LONGEST.total_seconds()))
    match = {"hosts": target.hosts, "labels": target.labels}
    connection.execute(
        """INSERT INTO silence (owner, reason, match, ends_at, created_by) VALUES (%s, %s, %s::jsonb, now() + %s, 'scheduler')""",
        [f"schedule {run.name}", _reason(run), msgspec.json.encode(match).decode(), most])
    connection.execute("UPDATE configuration SET version = version + 1 WHERE name = 'quiet'")


def close_windows(connection: Connection, runs: Sequence[Run]) -> None:
    """Their executions are over."""
    if runs and connection.execute(
            "UPDATE silence SET ends_at = now() WHERE owner = ANY (%s) AND reason = ANY (%s) AND ends_at > now()",
            [[f"schedule {run.name}" for run in runs], [_reason(run) for run in runs]]).rowcount:
        connection.execute("UPDATE configuration SET version = version + 1 WHERE name = 'quiet'")


def has_window(run: Run) -> bool:
    """Whether a maintenance window covers the hosts of this execution while it runs."""
    return run.schedule.window and run.parent is None and bool(run.target.hosts or run.target.labels)


def _reason(run: Run) -> str:
    return f"execution {run.id}"
