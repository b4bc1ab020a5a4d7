"""Versions of what services keep in memory: rules, quiet, notifications, schedules, collection. A change counts its one up."""

from typing import Literal

from sqlalchemy import Connection, text

from shared import database

Part = Literal["rules", "quiet", "notifications", "schedules", "collection"]


def changed(connection: Connection, part: Part) -> None:
    """Whoever keeps this part in memory must read it anew; call it in the transaction of the change."""
    connection.execute(text("UPDATE configuration SET version = version + 1 WHERE name = :name"), {"name": part})


def fetch_versions(connection: database.Connection) -> dict[str, int]:
    """Every part and its version."""
    return dict(connection.execute("SELECT name, version FROM configuration").fetchall())
