"""Executions that a message asks for. The same key leads to the same execution."""

import secrets

import msgspec

from scheduler.store.runs import readable
from shared.database import Connection
from shared.wire import Trigger

EAR_LOCK = 0x6472_6561
"""Held by the one scheduler that takes triggers without a key: all hear them, one may act."""


def take_ear(connection: Connection) -> bool:
    """Whether this connection is now the one that takes triggers without a key, as long as it lasts."""
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", [EAR_LOCK]).fetchone()
    return row is not None and bool(row[0])


def start(connection: Connection, name: str, trigger: Trigger) -> str | None:
    """Make an execution of a schedule; its id, empty where the key has led to one before. None: there is no such schedule."""
    row = connection.execute(  # locked: one that is just being deleted starts nothing
        "SELECT id, definition::text FROM schedule WHERE name = %s AND deleted_at IS NULL FOR SHARE", [name]).fetchone()
    if row is None:
        return None
    number, schedule = row[0], readable(name, row[1])[0]
    made = secrets.token_hex(8)
    if trigger.key:
        is_new = connection.execute("""INSERT INTO trigger_key (schedule_id, key, execution_id) VALUES (%s, %s, %s)
                                       ON CONFLICT DO NOTHING""", [number, trigger.key, made]).rowcount == 1
        if not is_new:
            return ""
    payload = schedule.payload if trigger.payload is None else trigger.payload
    connection.execute(
        """INSERT INTO execution (id, schedule_id, scheduled_for, cause, actor, state, target, payload, not_before, not_after)
           VALUES (%s, %s, clock_timestamp(), 'trigger', %s, 'pending', %s::jsonb, %s::jsonb, now(),
             now() + make_interval(secs => %s))""",
        [made, number, f"mqtt:{trigger.by}" if trigger.by else "mqtt", msgspec.json.encode(schedule.target).decode(),
         msgspec.json.encode(payload).decode(), schedule.grace])
    return made
