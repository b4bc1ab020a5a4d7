"""Channels and routes of notifications, as the API writes and shows them."""

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy
from sqlalchemy import Connection, Engine, text

from aggregator.analysis.channels import Channel, Target
from aggregator.analysis.routing import Route
from aggregator.store import audit_log, configuration
from aggregator.store.reading import fetch_row, fetch_rows

_CHANNEL = """SELECT name, definition, created_at, changed_at, changed_by, failing_since, last_error, delivered_at
              FROM notification_channel"""
_ROUTE = "SELECT name, position, definition, changed_at, changed_by FROM notification_route"


class NameTakenError(Exception):
    """A channel or a route with this name exists already."""


class ChannelInUseError(Exception):
    """Routes name this channel; the message says which."""


def fetch_channels(engine: Engine) -> list[dict[str, Any]]:
    """Every channel by name, without what is secret."""
    return fetch_rows(engine, f"{_CHANNEL} ORDER BY name")


def fetch_channel(engine: Engine, name: str) -> dict[str, Any] | None:
    """One channel, without what is secret."""
    return fetch_row(engine, f"{_CHANNEL} WHERE name = :name", {"name": name})


def fetch_target(engine: Engine, name: str) -> Target | None:
    """What of a channel is secret; only for keeping it where a change leaves it out."""
    row = fetch_row(engine, "SELECT secret FROM notification_channel WHERE name = :name", {"name": name})
    return None if row is None else msgspec.json.decode(row["secret"], type=Target)


def create_channel(engine: Engine, name: str, channel: Channel, target: Target, actor: str) -> None:
    """Raises NameTakenError."""
    try:
        with engine.begin() as connection:
            connection.execute(text("""
                INSERT INTO notification_channel (name, definition, secret, changed_by)
                VALUES (:name, CAST(:definition AS jsonb), :secret, :actor)"""), _channel_row(name, channel, target, actor))
            _noted(connection, actor, "create", "channel", name, channel)
    except sqlalchemy.exc.IntegrityError:
        raise NameTakenError(f"a channel named {name!r} exists; change it with PUT, or choose another name") from None


def replace_channel(engine: Engine, name: str, channel: Channel, target: Target, actor: str) -> bool:
    """Change a channel; what was wrong with it before counts no more. False where there is none."""
    with engine.begin() as connection:
        changed = connection.execute(text("""
            UPDATE notification_channel SET definition = CAST(:definition AS jsonb), secret = :secret, changed_by = :actor,
              changed_at = now(), failing_since = NULL, last_error = '' WHERE name = :name"""),
            _channel_row(name, channel, target, actor))
        if changed.rowcount:
            _noted(connection, actor, "change", "channel", name, channel)
        return bool(changed.rowcount)


def delete_channel(engine: Engine, name: str, actor: str) -> bool:
    """Delete a channel. False where there is none. Raises ChannelInUseError while a route names it."""
    with engine.begin() as connection:
        routes = connection.execute(text("""
            SELECT name FROM notification_route
            WHERE definition->'channels' ? :name OR definition->'escalate_to' ? :name ORDER BY name"""), {"name": name})
        if users := [row[0] for row in routes]:
            raise ChannelInUseError(f"it is used by the route {', '.join(users)}; take it out there first")
        deleted = connection.execute(text("DELETE FROM notification_channel WHERE name = :name"), {"name": name})
        if deleted.rowcount:
            _noted(connection, actor, "delete", "channel", name, None)
        return bool(deleted.rowcount)


def fetch_routes(engine: Engine) -> list[dict[str, Any]]:
    """Every route in the order in which they are tried."""
    return fetch_rows(engine, f"{_ROUTE} ORDER BY position, name")


def fetch_route(engine: Engine, name: str) -> dict[str, Any] | None:
    """One route."""
    return fetch_row(engine, f"{_ROUTE} WHERE name = :name", {"name": name})


def create_route(engine: Engine, name: str, position: int | None, route: Route, actor: str) -> None:
    """Add a route, after all others where it has no position. Raises NameTakenError."""
    try:
        with engine.begin() as connection:
            connection.execute(text("""
                INSERT INTO notification_route (name, position, definition, changed_by)
                SELECT :name, coalesce(:position, (SELECT coalesce(max(position), 0) + 10 FROM notification_route)),
                       CAST(:definition AS jsonb), :actor"""), _route_row(name, position, route, actor))
            _noted(connection, actor, "create", "route", name, route)
            _route_anew(connection)
    except sqlalchemy.exc.IntegrityError:
        raise NameTakenError(f"a route named {name!r} exists; change it with PUT, or choose another name") from None


def replace_route(engine: Engine, name: str, position: int | None, route: Route, actor: str) -> bool:
    """Change a route; it keeps its position where none is given. False where there is none."""
    with engine.begin() as connection:
        changed = connection.execute(text("""
            UPDATE notification_route SET position = coalesce(:position, position), definition = CAST(:definition AS jsonb),
              changed_by = :actor, changed_at = now() WHERE name = :name"""), _route_row(name, position, route, actor))
        if changed.rowcount:
            _noted(connection, actor, "change", "route", name, route)
            _route_anew(connection)
        return bool(changed.rowcount)


def delete_route(engine: Engine, name: str, actor: str) -> bool:
    """Delete a route. False where there is none."""
    with engine.begin() as connection:
        deleted = connection.execute(text("DELETE FROM notification_route WHERE name = :name"), {"name": name})
        if deleted.rowcount:
            _noted(connection, actor, "delete", "route", name, None)
            _route_anew(connection)
        return bool(deleted.rowcount)


def _route_anew(connection: Connection) -> None:
    """Have the notifier look again at what fires: a route that comes late must still be taken. Nothing is told twice by one."""
    connection.execute(text("""
        UPDATE alert_event SET routed_at = NULL WHERE id IN (
          SELECT max(e.id) FROM alert_event e JOIN alert a ON a.id = e.alert_id
          WHERE a.state IN ('firing', 'unknown') AND e.kind = 'firing' GROUP BY e.alert_id)"""))


def _noted(connection: Connection, actor: str, action: str, kind: str, name: str, definition: msgspec.Struct | None) -> None:
    audit_log.write(connection, actor, action, kind, name, None if definition is None else msgspec.to_builtins(definition))
    configuration.changed(connection, "notifications")


def _channel_row(name: str, channel: Channel, target: Target, actor: str) -> Mapping[str, Any]:
    return {"name": name, "definition": msgspec.json.encode(channel).decode(), "actor": actor,
            "secret": msgspec.json.encode(target).decode()}


def _route_row(name: str, position: int | None, route: Route, actor: str) -> Mapping[str, Any]:
    return {"name": name, "position": position, "definition": msgspec.json.encode(route).decode(), "actor": actor}
