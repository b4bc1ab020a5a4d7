"""Refused messages, for people to look at."""

from typing import Any

from sqlalchemy import Engine

from aggregator.store.reading import fetch_rows


def fetch_page(engine: Engine, *, host: str | None, reason: str | None, before: int | None,
               limit: int) -> list[dict[str, Any]]:
    """Rejects, newest first, below id `before`. The payload is cut to its first 2 KB already."""
    return fetch_rows(engine, """
        SELECT id, received_at, host, topic, reason, detail, size, encode(sha256, 'hex') AS sha256, payload
        FROM reject
        WHERE (CAST(:host AS text) IS NULL OR host = :host) AND (CAST(:reason AS text) IS NULL OR reason = :reason)
          AND (CAST(:before AS bigint) IS NULL OR id < :before)
        ORDER BY id DESC LIMIT :limit""", {"host": host, "reason": reason, "before": before, "limit": limit})


def fetch_counts(engine: Engine) -> dict[str, int]:
    """Number of kept rejects by reason."""
    rows = fetch_rows(engine, "SELECT reason, count(*) AS count FROM reject GROUP BY reason ORDER BY reason")
    return {row["reason"]: row["count"] for row in rows}
