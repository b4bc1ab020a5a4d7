"""Retention policies and health profiles: settings of the fleet that live in the database."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Engine, text

from aggregator.store import audit_log
from aggregator.store.reading import fetch_row, fetch_rows


def fetch_retention(engine: Engine) -> list[dict[str, Any]]:
    """Every policy: name, keep_days, changed_at."""
    return fetch_rows(engine, "SELECT name, keep_days, changed_at FROM retention_policy ORDER BY name")


def write_retention(engine: Engine, keep_days: dict[str, int], actor: str) -> None:
    """Change some policies, all or none. The names must exist."""
    with engine.begin() as connection:
        for name, days in keep_days.items():
            connection.execute(text("""UPDATE retention_policy SET keep_days = :days, changed_at = now()
                                       WHERE name = :name"""), {"name": name, "days": days})
            audit_log.write(connection, actor, "change", "retention policy", name, {"keep_days": days})


def fetch_profile(engine: Engine, name: str) -> tuple[dict[str, Any], datetime] | None:
    """A health profile as it was stored; None where it never was changed."""
    row = fetch_row(engine, "SELECT profile, changed_at FROM health_profile WHERE name = :name", {"name": name})
    return None if row is None else (row["profile"], row["changed_at"])


def write_profile(engine: Engine, name: str, profile: Mapping[str, Any], actor: str) -> None:
    """Store a health profile."""
    with engine.begin() as connection:
        connection.execute(text("""
            INSERT INTO health_profile (name, profile) VALUES (:name, CAST(:profile AS jsonb))
            ON CONFLICT (name) DO UPDATE SET profile = excluded.profile, changed_at = now()"""),
            {"name": name, "profile": msgspec.json.encode(profile).decode()})
        audit_log.write(connection, actor, "change", "health profile", name, profile)
