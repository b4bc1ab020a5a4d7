"""Maintenance windows as the API keeps them: listed, written, deleted."""

from typing import Any

import msgspec
from sqlalchemy import Engine, text

from aggregator.analysis.quiet import Window
from aggregator.store import audit_log, configuration
from aggregator.store.reading import fetch_row, fetch_rows

_COLUMNS = "name, definition, created_at, changed_at, changed_by"


def fetch_all(engine: Engine) -> list[dict[str, Any]]:
    """Every window, by name."""
    return fetch_rows(engine, f"SELECT {_COLUMNS} FROM maintenance_window ORDER BY name")  # noqa: S608 (constant)


def fetch_one(engine: Engine, name: str) -> dict[str, Any] | None:
    """One window; None where there is none of this name."""
    return fetch_row(engine, f"SELECT {_COLUMNS} FROM maintenance_window WHERE name = :name", {"name": name})  # noqa: S608 (constant)


def write(engine: Engine, window: Window, actor: str) -> bool:
    """Make or change a window; True where it is new."""
    with engine.begin() as connection:
        definition = msgspec.to_builtins(window)
        is_new: bool = connection.execute(
            text("""INSERT INTO maintenance_window (name, definition, changed_by)
                    VALUES (:name, CAST(:definition AS jsonb), :actor)
                    ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, changed_at = now(),
                      changed_by = excluded.changed_by RETURNING xmax = 0"""),
            {"name": window.name, "definition": msgspec.json.encode(definition).decode(), "actor": actor}).scalar_one()
        audit_log.write(connection, actor, "create" if is_new else "change", "maintenance window", window.name, definition)
        configuration.changed(connection, "quiet")
    return is_new


def delete(engine: Engine, name: str, actor: str) -> bool:
    """Delete a window; False where there is none of this name."""
    with engine.begin() as connection:
        found = connection.execute(text("DELETE FROM maintenance_window WHERE name = :name"), {"name": name}).rowcount == 1
        if found:
            audit_log.write(connection, actor, "delete", "maintenance window", name)
            configuration.changed(connection, "quiet")
    return found
