"""Desired collection settings: what they are, what each host should have, and what its agent says it has.

The API changes them, ingest publishes them. A host's row gets a new revision when its merged settings change; settings that are
empty again mean that the retained message is cleared.
"""

import logging
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, text

from aggregator.analysis import collection
from aggregator.analysis.collection import Config
from aggregator.store import audit_log
from aggregator.store.reading import fetch_row, fetch_rows
from shared import database, logs

log = logs.get("collection")

_COLUMNS = "name, definition, changed_at, changed_by"


def fetch_all(engine: Engine) -> list[dict[str, Any]]:
    """Every config, the one that counts most last."""
    return fetch_rows(engine, f"SELECT {_COLUMNS} FROM collection_config ORDER BY position, name")  # noqa: S608 (constant)


def fetch_one(engine: Engine, name: str) -> dict[str, Any] | None:
    """One config; None where there is none."""
    return fetch_row(engine, f"SELECT {_COLUMNS} FROM collection_config WHERE name = :name", {"name": name})  # noqa: S608 (constant)


def write(engine: Engine, config: Config, actor: str) -> bool:
    """Make or change a config; True where it is new. Its hosts get new revisions."""
    with engine.begin() as connection:
        plain = msgspec.to_builtins(config)
        is_new: bool = connection.execute(
            text("""INSERT INTO collection_config (name, position, definition, changed_by)
                    VALUES (:name, :position, CAST(:definition AS jsonb), :actor)
                    ON CONFLICT (name) DO UPDATE SET position = excluded.position, definition = excluded.definition,
                      changed_at = now(), changed_by = excluded.changed_by RETURNING xmax = 0"""),
            {"name": config.name, "position": config.position, "definition": msgspec.json.encode(plain).decode(),
             "actor": actor}).scalar_one()
        audit_log.write(connection, actor, "create" if is_new else "change", "collection config", config.name, plain)
        refresh(_driver(connection))
    return is_new


def delete(engine: Engine, name: str, actor: str) -> bool:
    """Delete a config; its hosts get what the others say. False where there is none."""
    with engine.begin() as connection:
        if not connection.execute(text("DELETE FROM collection_config WHERE name = :name"), {"name": name}).rowcount:
            return False
        audit_log.write(connection, actor, "delete", "collection config", name)
        refresh(_driver(connection))
    return True


def fetch_host(engine: Engine, host_id: int) -> dict[str, Any] | None:
    """What a host should have and has; None where nothing was ever wanted of it."""
    return fetch_row(engine, """SELECT revision, desired, published_at, applied_revision, applied_at, problem
                                FROM host_config WHERE host_id = :host""", {"host": host_id})


def fetch_good(engine: Engine) -> list[Config]:
    """Every config that can be read."""
    with engine.connect() as connection:
        return fetch_configs(_driver(connection))


def fetch_configs(connection: database.Connection) -> list[Config]:
    """Every config that can be read; one that cannot is left out and logged."""
    found = []
    for name, plain in connection.execute("SELECT name, definition FROM collection_config ORDER BY name").fetchall():
        try:
            found.append(msgspec.convert(plain, Config))
        except msgspec.ValidationError as error:
            logs.event(log, "a collection config cannot be used and is left out", logging.WARNING, config=name, error=error)
    return found


def refresh(connection: database.Connection, host_ids: Sequence[int] | None = None) -> int:
    """Work out anew what hosts (all, where none are given: new ones, or whose labels have changed) should have; how many changed.

    Those that changed get a revision above any before, and count as not published. Call it in a transaction.
    """
    # One after the other: whoever comes second sees what the first has written.
    connection.execute("SELECT FROM configuration WHERE name = 'collection' FOR UPDATE")
    configs = fetch_configs(connection)
    rows = connection.execute(
        """SELECT h.id, h.name, h.labels, coalesce(c.desired, '{}') FROM host h LEFT JOIN host_config c ON c.host_id = h.id
           WHERE %s::int[] IS NULL OR h.id = ANY (%s::int[])""", [host_ids and list(host_ids)] * 2).fetchall()
    wanted = [(number, collection.desired(configs, name, labels), before) for number, name, labels, before in rows]
    changed = [(number, msgspec.json.encode(desired).decode()) for number, desired, before in wanted if desired != before]
    if changed:
        # Above any that an agent may have applied, even one of a database that is no more.
        connection.execute(
            """INSERT INTO host_config AS c (host_id, revision, desired)
               SELECT n.id, greatest(extract(epoch FROM now())::bigint, 1 + (SELECT max(revision) FROM host_config)), n.desired
               FROM unnest(%s::int[], %s::jsonb[]) AS n (id, desired)
               ON CONFLICT (host_id) DO UPDATE SET revision = excluded.revision, desired = excluded.desired, published_at = NULL,
                 problem = ''""", [[number for number, _ in changed], [desired for _, desired in changed]])
        connection.execute("UPDATE configuration SET version = version + 1 WHERE name = 'collection'")
    return len(changed)


def _driver(connection: Connection) -> database.Connection:
    """The driver's own connection, in the same transaction."""
    raw: database.Connection = connection.connection.driver_connection  # type: ignore[assignment]
    return raw
