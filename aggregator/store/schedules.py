"""Schedules as the API keeps them: listed, made, changed, deleted. When one is due next is worked out with every change.

The time is the database's: a schedule is due by it.
"""

import dataclasses
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, text

from aggregator.store import audit_log, configuration
from aggregator.store.reading import fetch_row, fetch_rows
from shared.recurrence import next_after
from shared.schedule_problems import fires_alike
from shared.schedules import Schedule, definition, read_schedule

_COLUMNS = """s.id, s.name, s.revision, s.definition, s.is_default, s.next_at, s.fired_at, s.created_at, s.changed_at,
  s.changed_by, last.id AS last_id, last.state AS last_state, last.scheduled_for AS last_scheduled_for,
  last.ended_at AS last_ended_at, last.reason AS last_reason"""
_FROM = """FROM schedule s LEFT JOIN LATERAL (
  SELECT e.id, e.state, e.scheduled_for, e.ended_at, e.reason FROM execution e WHERE e.schedule_id = s.id AND e.parent IS NULL
  ORDER BY e.scheduled_for DESC, e.id LIMIT 1) last ON true"""


class TakenError(Exception):
    """A schedule of this name exists."""


class ChangedError(Exception):
    """Somebody else has changed or deleted the schedule meanwhile."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which schedules: None or empty means any. `part` is a part of the name."""

    kind: str | None = None
    target: str | None = None
    enabled: bool | None = None
    tag: str | None = None
    part: str = ""


def fetch_now(engine: Engine) -> datetime:
    """The time of the database."""
    row = fetch_row(engine, "SELECT now() AS at")
    assert row is not None  # noqa: S101 (a SELECT without FROM)
    at: datetime = row["at"]
    return at


def fetch_page(engine: Engine, asked: Filter, *, after: str, limit: int) -> list[dict[str, Any]]:
    """One page of schedules by name, after the name `after`, each with its latest execution."""
    given = (("s.definition->>'kind' = :kind", "kind", asked.kind),
             ("s.definition->'target'->>'type' = :target", "target", asked.target),
             ("s.enabled = :enabled", "enabled", asked.enabled), ("s.definition->'tags' ? :tag", "tag", asked.tag),
             ("position(:part IN s.name) > 0", "part", asked.part or None), ("s.name > :after", "after", after or None))
    where = ["s.deleted_at IS NULL", *(clause for clause, _, value in given if value is not None)]
    return fetch_rows(engine, f"SELECT {_COLUMNS} {_FROM} WHERE {' AND '.join(where)} ORDER BY s.name LIMIT :limit",
                      {name: value for _, name, value in given} | {"limit": limit})


def fetch_one(engine: Engine, name: str) -> dict[str, Any] | None:
    """One schedule with its latest execution; None where there is none."""
    return fetch_row(engine, f"SELECT {_COLUMNS} {_FROM} WHERE s.name = :name AND s.deleted_at IS NULL", {"name": name})


def create(engine: Engine, schedule: Schedule, actor: str) -> None:
    """Store a new schedule; a deleted one of the same name goes on from its last revision. Raises TakenError."""
    with engine.begin() as connection:
        revision = connection.execute(text("""
            INSERT INTO schedule (name, definition, enabled, next_at, changed_by)
            VALUES (:name, CAST(:definition AS jsonb), :enabled, :next_at, :actor)
            ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, enabled = excluded.enabled,
              next_at = excluded.next_at, changed_by = excluded.changed_by, revision = schedule.revision + 1, is_default = false,
              fired_at = NULL, created_at = now(), changed_at = now(), deleted_at = NULL
            WHERE schedule.deleted_at IS NOT NULL RETURNING revision"""),
            _parameters(connection, schedule, actor)).scalar_one_or_none()
        if revision is None:
            raise TakenError
        _note(connection, schedule.name, actor, "create", {"revision": revision})


def replace(engine: Engine, schedule: Schedule, revision: int, actor: str) -> None:
    """Make this the next revision of its schedule after `revision`. The same again changes nothing. Raises ChangedError.

    One that fires as before stays due when it was: a firing that is late already is not lost by the change.
    """
    with engine.begin() as connection:
        before = connection.execute(text("""SELECT revision, definition, next_at FROM schedule
                                            WHERE name = :name AND deleted_at IS NULL FOR NO KEY UPDATE"""),
                                    {"name": schedule.name}).one_or_none()
        if before is None or before.revision != revision:
            raise ChangedError
        if before.definition == definition(schedule):
            return
        parameters = _parameters(connection, schedule, actor)
        if _fires_as_before(before.definition, schedule):
            parameters["next_at"] = before.next_at
        connection.execute(text("""UPDATE schedule SET definition = CAST(:definition AS jsonb), enabled = :enabled,
                                     next_at = :next_at, changed_by = :actor, changed_at = now(), revision = revision + 1
                                   WHERE name = :name"""), parameters)
        new = definition(schedule)
        fields = sorted(name for name in new.keys() | before.definition.keys() if new.get(name) != before.definition.get(name))
        _note(connection, schedule.name, actor, "change", {"revision": revision + 1, "fields": fields})


def delete(engine: Engine, name: str, actor: str) -> bool:
    """Delete a schedule: it fires no more, and what has not begun is cancelled. Its history stays. False where there is none."""
    with engine.begin() as connection:
        number = connection.execute(text("""
            UPDATE schedule SET deleted_at = now(), enabled = false, next_at = NULL, revision = revision + 1, changed_at = now(),
              changed_by = :actor WHERE name = :name AND deleted_at IS NULL RETURNING id"""),
            {"name": name, "actor": actor}).scalar_one_or_none()
        if number is None:
            return False
        gone = connection.execute(text("""
            WITH gone AS (UPDATE execution SET state = 'cancelled', reason = 'its schedule was deleted', ended_at = now()
                          WHERE schedule_id = :id AND state = 'pending' RETURNING id),
              unsaid AS (DELETE FROM schedule_outbox WHERE execution_id IN (SELECT id FROM gone))
            SELECT count(*) FROM gone"""), {"id": number}).scalar_one()
        _note(connection, name, actor, "delete", {"cancelled": gone})
    return True


def _fires_as_before(stored: Any, schedule: Schedule) -> bool:
    try:
        return fires_alike(read_schedule(stored), schedule)
    except msgspec.ValidationError:
        return False


def _parameters(connection: Connection, schedule: Schedule, actor: str) -> dict[str, Any]:
    now = connection.execute(text("SELECT now()")).scalar_one()
    return {"name": schedule.name, "definition": msgspec.json.encode(definition(schedule)).decode(), "enabled": schedule.enabled,
            "next_at": next_after(schedule, now) if schedule.enabled else None, "actor": actor}


def _note(connection: Connection, name: str, actor: str, action: str, detail: dict[str, Any]) -> None:
    audit_log.write(connection, actor, action, "schedule", name, detail)
    configuration.changed(connection, "schedules")
