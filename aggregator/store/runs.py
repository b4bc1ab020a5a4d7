"""Starting executions by hand, and cancelling them. A scheduler does the rest: it releases whatever is pending.

The schedule's row is locked meanwhile: one that is just being deleted starts nothing.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from sqlalchemy import Connection, Engine, text

from aggregator.store import audit_log, configuration
from shared.schedules import FINAL, Schedule, Target, definition, read_schedule


class DisabledError(Exception):
    """The schedule that it would be an execution of was deleted or disabled; the message names it."""


class HostsMissingError(Exception):
    """The schedule names no hosts: whoever starts it has to."""


class EndedError(Exception):
    """The execution is over; the message is its state."""


class Started(NamedTuple):
    """An execution that was asked for; `is_new` false: an earlier call with the same key has started it."""

    id: str
    is_new: bool


def start(engine: Engine, name: str, actor: str, *, payload: dict[str, Any] | None = None, hosts: Sequence[str] = (),
          key: str = "") -> Started | None:
    """Start a schedule now; None where there is none. `hosts` take the place of its target's. Raises HostsMissingError."""
    with engine.begin() as connection:
        row = connection.execute(text("""SELECT id, definition FROM schedule WHERE name = :name AND deleted_at IS NULL
                                         FOR SHARE"""), {"name": name}).one_or_none()
        if row is None:
            return None
        schedule, made = read_schedule(row.definition), secrets.token_hex(8)
        target = msgspec.structs.replace(schedule.target, hosts=list(hosts), labels={}) if hosts else schedule.target
        if target.type == "task" and not (target.hosts or target.labels):
            raise HostsMissingError
        if key and (earlier := _taken(connection, row.id, key, made)):
            return Started(earlier, is_new=False)
        _insert(connection, made, row.id, schedule, target, schedule.payload if payload is None else payload, "", actor)
        audit_log.write(connection, actor, "run", "schedule", name, {"execution": made})
    return Started(made, is_new=True)


def start_task(engine: Engine, schedule: Schedule, host: str, arguments: Mapping[str, Any], actor: str) -> str:
    """Start the task of one of drumbeat's own manual schedules on one host; the execution's id. Raises DisabledError."""
    with engine.begin() as connection:
        number, stored = _own(connection, schedule)
        target = msgspec.structs.replace(stored.target, hosts=[host], arguments=dict(arguments))
        made = secrets.token_hex(8)
        _insert(connection, made, number, stored, target, {}, host, actor)
        audit_log.write(connection, actor, schedule.target.task, "host", host, {"execution": made, **arguments})
    return made


def start_duty(engine: Engine, duty: str, arguments: Mapping[str, Any], actor: str) -> tuple[str, str]:
    """Run a duty now, as an execution of the schedule that it has; schedule and execution. Raises DisabledError."""
    with engine.begin() as connection:
        row = connection.execute(text("""
            SELECT id, name, definition FROM schedule WHERE definition->'target'->>'type' = 'maintenance'
              AND definition->'target'->>'duty' = :duty AND deleted_at IS NULL ORDER BY is_default DESC, id LIMIT 1
            FOR SHARE"""),
            {"duty": duty}).one_or_none()
        if row is None:
            raise DisabledError(f"there is no schedule with the duty {duty}; make one with POST /api/v1/schedules")
        schedule, made = read_schedule(row.definition), secrets.token_hex(8)
        target = msgspec.structs.replace(schedule.target, arguments=schedule.target.arguments | dict(arguments))
        _insert(connection, made, row.id, schedule, target, schedule.payload, "", actor)
        audit_log.write(connection, actor, "run", "schedule", row.name, {"execution": made, **arguments})
    return row.name, made


def cancel(engine: Engine, execution: str, actor: str) -> Literal["cancelled", "cancelling"] | None:
    """Cancel what has not begun; let a scheduler stop what runs. None where there is none. Raises EndedError."""
    with engine.begin() as connection:
        state = connection.execute(text("SELECT state FROM execution WHERE id = :id FOR UPDATE"),
                                   {"id": execution}).scalar_one_or_none()
        if state is None:
            return None
        if state in FINAL:
            raise EndedError(state)
        values = {"id": execution, "reason": f"cancelled by {actor}", "actor": actor}
        if state == "pending":
            connection.execute(text("""UPDATE execution SET state = 'cancelled', reason = :reason, ended_at = now(),
                                         lease_until = NULL WHERE id = :id"""), values)
            connection.execute(text("DELETE FROM schedule_outbox WHERE execution_id = :id"), values)
        elif connection.execute(text("UPDATE execution SET is_cancelling = true WHERE id = :id AND NOT is_cancelling"),
                                values).rowcount:
            connection.execute(text("""INSERT INTO execution_event (execution_id, state, reason, actor)
                                       VALUES (:id, 'running', 'is to be cancelled', :actor)"""), values)
        audit_log.write(connection, actor, "cancel", "execution", execution)
    return "cancelled" if state == "pending" else "cancelling"


def _taken(connection: Connection, schedule: int, key: str, execution: str) -> str:
    """The execution that a key has led to before; empty where it is new and now leads to this one."""
    values = {"schedule": schedule, "key": key, "execution": execution}
    if connection.execute(text("""INSERT INTO trigger_key (schedule_id, key, execution_id) VALUES (:schedule, :key, :execution)
                                  ON CONFLICT DO NOTHING"""), values).rowcount:
        return ""
    earlier: str = connection.execute(text("SELECT execution_id FROM trigger_key WHERE schedule_id = :schedule AND key = :key"),
                                      values).scalar_one()
    return earlier


def _own(connection: Connection, schedule: Schedule) -> tuple[int, Schedule]:
    """One of drumbeat's own schedules as it is stored, made where it never was. Raises DisabledError."""
    made = connection.execute(text("""INSERT INTO schedule (name, definition, is_default, enabled)
                                      VALUES (:name, CAST(:definition AS jsonb), true, true) ON CONFLICT (name) DO NOTHING"""),
                              {"name": schedule.name, "definition": msgspec.json.encode(definition(schedule)).decode()})
    if made.rowcount:
        configuration.changed(connection, "schedules")
    row = connection.execute(text("SELECT id, definition, enabled, deleted_at FROM schedule WHERE name = :name FOR SHARE"),
                             {"name": schedule.name}).one()
    stored = read_schedule(row.definition)
    if row.deleted_at is not None or not row.enabled or stored.target.type != "task":
        raise DisabledError(f"the schedule {schedule.name!r} was disabled, deleted or given another target: nobody may do this")
    return row.id, stored


def _insert(connection: Connection, made: str, number: int, schedule: Schedule, target: Target, payload: dict[str, Any],
            host: str, actor: str) -> None:
    connection.execute(
        text("""INSERT INTO execution (id, schedule_id, scheduled_for, host, cause, actor, state, target, payload, not_before,
                  not_after)
                VALUES (:id, :schedule, clock_timestamp(), :host, 'manual', :actor, 'pending', CAST(:target AS jsonb),
                  CAST(:payload AS jsonb), now(), now() + make_interval(secs => :grace))"""),
        {"id": made, "schedule": number, "host": host, "actor": actor, "target": msgspec.json.encode(target).decode(),
         "payload": msgspec.json.encode(payload).decode(), "grace": schedule.grace})
