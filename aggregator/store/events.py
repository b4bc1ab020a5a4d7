"""Events from outside as the API takes them: into the inbox, from which ingest hands them to the rules."""

from typing import Any

import msgspec
from sqlalchemy import Engine, text

from aggregator.store import audit_log
from shared import wire


def write_event(engine: Engine, host: int, event: wire.Event, actor: str) -> int | None:
    """Put one event of a host into the inbox and note it; its id, None where the host is gone."""
    said = msgspec.to_builtins(event)
    with engine.begin() as connection:
        number = connection.execute(
            text("""INSERT INTO inbox (partition, host_id, payload, actor)
                    SELECT partition, id, CAST(:payload AS jsonb), :actor FROM host WHERE id = :host RETURNING id"""),
            {"payload": msgspec.json.encode(event).decode(), "actor": actor, "host": host}).scalar_one_or_none()
        if number is None:
            return None
        audit_log.write(connection, actor, "raise", "event", event.type, _told(said))
        return int(number)


def fetch_hearing(engine: Engine, kind: str) -> list[str]:
    """Names of the enabled rules that hear events of a type."""
    with engine.connect() as connection:
        rows = connection.execute(
            text("""SELECT name FROM rule WHERE deleted_at IS NULL AND definition->>'kind' = 'event'
                      AND coalesce(definition->>'enabled', 'true') = 'true'
                      AND coalesce(nullif(definition->>'event', ''), name) = :kind ORDER BY name"""), {"kind": kind})
        return [row[0] for row in rows]


def _told(said: dict[str, Any]) -> dict[str, Any]:
    """What the audit log keeps of an event."""
    return {name: said[name] for name in ("host", "message", "severity", "instance", "resolved") if said.get(name)}
