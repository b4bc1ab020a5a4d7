"""What else is known of hosts: inventory, snapshots of containers, processes and sensors, and gaps."""

from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from aggregator.store.reading import fetch_row, fetch_rows


def fetch_inventory(engine: Engine, host: str) -> tuple[dict[str, Any] | None, datetime | None]:
    """Inventory as the agent sent it, and when it came; None where none came yet."""
    row = fetch_row(engine, "SELECT inventory, inventory_at FROM host WHERE name = :host", {"host": host})
    return (None, None) if row is None else (row["inventory"], row["inventory_at"])


def fetch_snapshot(engine: Engine, host: str, kind: str) -> tuple[dict[str, Any] | None, datetime | None]:
    """Latest snapshot (`containers`, `processes` or `sensors`) and its time; None where none came yet."""
    row = fetch_row(engine, """SELECT s.payload, s.ts FROM snapshot s JOIN host h ON h.id = s.host_id
                               WHERE h.name = :host AND s.kind = :kind""", {"host": host, "kind": kind})
    return (None, None) if row is None else (row["payload"], row["ts"])


def fetch_containers(engine: Engine, *, hosts: list[str], states: list[str], healths: list[str], part: str,
                     limit: int) -> list[dict[str, Any]]:
    """Containers of the whole fleet by host and name; empty filters mean any."""
    return fetch_rows(engine, """
        SELECT h.name AS host, s.ts, c AS container
        FROM snapshot s JOIN host h ON h.id = s.host_id
        CROSS JOIN LATERAL jsonb_array_elements(s.payload -> 'containers') AS c
        WHERE s.kind = 'containers' AND (CAST(:all_hosts AS boolean) OR h.name = ANY (:hosts))
          AND (CAST(:all_states AS boolean) OR c ->> 'state' = ANY (:states))
          AND (CAST(:all_healths AS boolean) OR coalesce(c ->> 'health', '') = ANY (:healths))
          AND position(:part IN (c ->> 'name')) > 0
        ORDER BY h.name, c ->> 'name' LIMIT :limit""", {
        "hosts": hosts, "all_hosts": not hosts, "states": states, "all_states": not states, "healths": healths,
        "all_healths": not healths, "part": part, "limit": limit})


def fetch_gaps(engine: Engine, host: str | None, before: int | None, limit: int) -> list[dict[str, Any]]:
    """Gaps, newest first, below id `before`; of one host or of all."""
    return fetch_rows(engine, """
        SELECT g.id, h.name AS host, lpad(to_hex(g.epoch), 16, '0') AS epoch, g.from_seq, g.to_seq,
               g.to_seq - g.from_seq + 1 AS samples, g.reason, g.noticed_at
        FROM gap g JOIN host h ON h.id = g.host_id
        WHERE (CAST(:host AS text) IS NULL OR h.name = :host) AND (CAST(:before AS bigint) IS NULL OR g.id < :before)
        ORDER BY g.id DESC LIMIT :limit""", {"host": host, "before": before, "limit": limit})
