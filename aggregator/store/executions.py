"""Executions by filter and cursor, and one with all that belongs to it.

Lists show wholes: one row for all hosts of a fleet. The rows of its hosts are found by parent, or by host. Each list is read
along an index from its newest row on, so that it takes as long over a million rows as over a hundred.
"""

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from aggregator.store.reading import fetch_row, fetch_rows

MANY = 200
"""The executions of so many schedules are put together from each one's; those of more are picked out of all."""

_COLUMNS = """e.id, s.name AS schedule, e.parent, e.scheduled_for, e.attempt, e.host, e.cause, e.actor, e.state, e.reason,
  e.fired_at, e.started_at, e.ended_at, e.exit_code, e.error, e.is_late, e.is_cancelling, e.hosts, e.created_at"""
_MORE = "e.schedule_id, e.target, e.payload, e.not_before, e.not_after, e.lease_until, e.executor, e.output"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which executions: None or empty means any. `since` and `until` bound when they were made.

    `schedules`: the ids of those that the name or tag asked for means, or None where there are too many to name.
    """

    states: tuple[str, ...] = ()
    schedules: tuple[int, ...] | None = None
    tag: str | None = None
    host: str | None = None
    parent: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def fetch_schedule_ids(engine: Engine, name: str | None, tag: str | None) -> tuple[int, ...] | None:
    """Ids of the schedules of a name or with a tag, deleted ones included; None: all, or more than MANY."""
    clauses = [clause for clause, value in (("name = :name", name), ("definition->'tags' ? :tag", tag)) if value is not None]
    rows = [] if not clauses else fetch_rows(engine, f"SELECT id FROM schedule WHERE {' AND '.join(clauses)} LIMIT :limit",  # noqa: S608 (constants)
                                             {"name": name, "tag": tag, "limit": MANY + 1})
    return tuple(row["id"] for row in rows) if clauses and len(rows) <= MANY else None


def order(asked: Filter) -> str:
    """The time by which a list is in order, newest first: a cursor belongs to one order."""
    return "scheduled_for" if asked.schedules is not None and not asked.parent and not asked.host else "created_at"


def fetch_page(engine: Engine, asked: Filter, *, limit: int, after: tuple[datetime, str] | None = None) -> list[dict[str, Any]]:
    """One page, newest first by `order`, after the execution with this time and id."""
    by, where, parameters = order(asked), _where(asked), dataclasses.asdict(asked) | {"limit": limit}
    if after is not None:
        where.append(f"e.{by} <= :at AND (e.{by} < :at OR e.id > :after)")
        parameters |= {"at": after[0], "after": after[1]}
    newest = f"ORDER BY e.{by} DESC, e.id LIMIT :limit"
    if by == "scheduled_for":
        each = f"SELECT * FROM execution e WHERE e.schedule_id = wanted.id AND {' AND '.join(where)} {newest}"  # noqa: S608 (constants)
        found = f"SELECT e.* FROM unnest(CAST(:ids AS int[])) AS wanted (id) CROSS JOIN LATERAL ({each}) AS e {newest}"  # noqa: S608 (constants)
    else:
        if asked.schedules is not None:
            where.append("e.schedule_id = ANY (:ids)")
        elif asked.tag is not None:
            where.append("EXISTS (SELECT FROM schedule t WHERE t.id = e.schedule_id AND t.definition->'tags' ? :tag)")
        found = f"SELECT * FROM execution e WHERE {' AND '.join(where)} {newest}"  # noqa: S608 (constants)
    return fetch_rows(engine, f"""SELECT {_COLUMNS} FROM ({found}) AS e JOIN schedule s ON s.id = e.schedule_id
                                  ORDER BY e.{by} DESC, e.id""",  # noqa: S608 (constants)
                      parameters | {"ids": list(asked.schedules or ())})


def fetch_one(engine: Engine, execution: str) -> dict[str, Any] | None:
    """One execution with its output; None where there is none."""
    return fetch_row(engine, f"""SELECT {_COLUMNS}, {_MORE} FROM execution e JOIN schedule s ON s.id = e.schedule_id
                                 WHERE e.id = :id""", {"id": execution})  # noqa: S608 (constants)


def fetch_attempts(engine: Engine, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Every attempt at the same firing on the same host, the first one first."""
    return fetch_rows(engine, """SELECT id, attempt, state, reason, started_at, ended_at, exit_code FROM execution
                                 WHERE schedule_id = :schedule_id AND scheduled_for = :scheduled_for AND host = :host
                                 ORDER BY attempt""", row)


def fetch_progress(engine: Engine, execution: str) -> dict[str, int]:
    """How many hosts of a fleet are in which state, each by its last attempt."""
    rows = fetch_rows(engine, """SELECT state, count(*) AS hosts FROM (
                                   SELECT DISTINCT ON (host) state FROM execution WHERE parent = :id ORDER BY host, attempt DESC
                                 ) AS last GROUP BY state ORDER BY state""", {"id": execution})
    return {row["state"]: row["hosts"] for row in rows}


def fetch_events(engine: Engine, execution: str) -> list[dict[str, Any]]:
    """What became of an execution, in order."""
    return fetch_rows(engine, """SELECT at, state, reason, actor FROM execution_event WHERE execution_id = :id
                                 ORDER BY id LIMIT 1000""", {"id": execution})


def _where(asked: Filter) -> list[str]:
    """Clauses of a filter. States stand in the text, so that the indexes of some states are used."""
    where = ["e.parent IS NULL" if not (asked.parent or asked.host) else "true"]
    if asked.states:
        where.append(f"e.state IN ({_quoted(asked.states)})")
    given = (("e.host = :host AND e.host <> ''", asked.host), ("e.parent = :parent AND e.parent IS NOT NULL", asked.parent),
             ("e.created_at >= :since", asked.since), ("e.created_at < :until", asked.until))
    return where + [clause for clause, value in given if value is not None]


def _quoted(states: Sequence[str]) -> str:
    """States as SQL has them. Raises ValueError for what is none."""
    if not all(state.replace("_", "").isalpha() for state in states):
        raise ValueError(f"no states: {states}")
    return ", ".join(f"'{state}'" for state in states)
