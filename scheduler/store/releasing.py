"""Executions that are due and not released yet: which may begin, which must wait, which are missed; the hosts of a fleet."""

import dataclasses
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from scheduler.planning import Other
from scheduler.store.runs import COLUMNS, Run
from shared.database import Connection
from shared.names import matcher
from shared.schedules import Target

LATER = datetime(2200, 1, 1, tzinfo=UTC)
"""`not_before` of a host that waits until another of its fleet has ended."""
WAIT_SECONDS = 1.0
MAX_ID = 63


def claim(connection: Connection, most: int) -> list[Run]:
    """Up to `most` executions that are due, in order, locked together with their schedules until the end of the transaction."""
    rows = connection.execute(
        f"""SELECT {COLUMNS} FROM execution e JOIN schedule s ON s.id = e.schedule_id
            WHERE e.state = 'pending' AND e.fired_at IS NULL AND e.not_before <= now()
            ORDER BY e.not_before, e.scheduled_for, e.attempt LIMIT %s
            FOR UPDATE OF e SKIP LOCKED FOR NO KEY UPDATE OF s SKIP LOCKED""", [most])  # noqa: S608 (constants)
    return [Run(*row) for row in rows]


def fetch_others(connection: Connection, runs: Sequence[Run]) -> dict[tuple[int, str], list[Other]]:
    """What is released and not over, by (schedule, host). Fleets as a whole are left out: their hosts count one by one."""
    found: dict[tuple[int, str], list[Other]] = {}
    for schedule_id, host, number, state in connection.execute(
            """SELECT schedule_id, host, id, state FROM execution WHERE schedule_id = ANY (%s) AND fired_at IS NOT NULL
                 AND state IN ('pending', 'running') AND NOT (target->>'type' = 'task' AND host = '') ORDER BY fired_at""",
            [list({run.schedule_id for run in runs})]):
        found.setdefault((schedule_id, host), []).append(Other(number, state))
    return found


@dataclasses.dataclass(slots=True)
class Decided:
    """What was decided about a batch, by execution id."""

    begin: list[str] = dataclasses.field(default_factory=list)
    wait: list[str] = dataclasses.field(default_factory=list)
    missed: dict[str, str] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    cancel: list[str] = dataclasses.field(default_factory=list)
    fleets: dict[str, int] = dataclasses.field(default_factory=dict)


def write(connection: Connection, decided: Decided) -> None:
    """Write it down."""
    connection.execute("UPDATE execution SET fired_at = now() WHERE id = ANY (%s)", [decided.begin])
    if decided.wait:
        connection.execute("UPDATE execution SET not_before = now() + make_interval(secs => %s) WHERE id = ANY (%s)",
                           [WAIT_SECONDS, decided.wait])
    for state, ended in (("missed", decided.missed), ("failed", decided.failed)):
        if ended:
            connection.execute(
                """UPDATE execution e SET state = %s, reason = n.reason, ended_at = now()
                   FROM unnest(%s::text[], %s::text[]) AS n (id, reason) WHERE e.id = n.id""",
                [state, list(ended), list(ended.values())])
    if decided.cancel:
        connection.execute(  # what somebody holds is asked again: who replaces it waits
            """UPDATE execution SET is_cancelling = true, reason = 'replaced by a later firing' WHERE id IN (
                 SELECT id FROM execution WHERE id = ANY (%s) AND state IN ('pending', 'running') AND NOT is_cancelling
                 FOR UPDATE SKIP LOCKED)""", [decided.cancel])
    if decided.fleets:
        connection.execute(
            """UPDATE execution e SET state = 'running', fired_at = now(), started_at = now(), hosts = n.hosts
               FROM unnest(%s::text[], %s::int[]) AS n (id, hosts) WHERE e.id = n.id""",
            [list(decided.fleets), list(decided.fleets.values())])


def fetch_hosts(connection: Connection) -> dict[str, Mapping[str, str]]:
    """Every host and its labels, in order."""
    return {name: msgspec.json.decode(labels)
            for name, labels in connection.execute("SELECT name, labels::text FROM host ORDER BY name")}


def chosen(target: Target, hosts: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The hosts that a target means: by name or pattern, and by label. One that says neither means none."""
    if not target.hosts and not target.labels:
        return []
    names = matcher(target.hosts or ["*"])
    return [name for name, labels in hosts.items() if names.fullmatch(name)
            and all(key in labels and value in ("*", labels[key]) for key, value in target.labels.items())]


def spread(connection: Connection, fleet: Run, hosts: Sequence[str]) -> None:
    """Give each host of a fleet its execution; those beyond `parallel` wait for others to end."""
    now, target, grace = fleet.at, fleet.target, timedelta(seconds=fleet.schedule.grace)
    most = target.parallel or len(hosts)
    ids = [f"{fleet.id}-{host}" if len(fleet.id) + len(host) < MAX_ID else secrets.token_hex(8) for host in hosts]
    starts = [now if place < most else LATER for place in range(len(hosts))]
    ends = [fleet.not_after if place < most else LATER + grace for place in range(len(hosts))]
    connection.execute(
        """INSERT INTO execution (id, schedule_id, parent, scheduled_for, attempt, host, cause, actor, state, target, payload,
             not_before, not_after)
           SELECT n.id, p.schedule_id, p.id, p.scheduled_for, p.attempt, n.host, p.cause, p.actor, 'pending', p.target, p.payload,
             n.not_before, n.not_after
           FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[]) AS n (id, host, not_before, not_after),
             execution p WHERE p.id = %s
           ON CONFLICT (schedule_id, scheduled_for, host, attempt) DO NOTHING""", [ids, list(hosts), starts, ends, fleet.id])
