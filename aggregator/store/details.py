"""What else is known of hosts: inventory, snapshots of containers, processes and sensors, gaps and backfills."""

import dataclasses
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from aggregator.store.reading import fetch_row, fetch_rows

ENDED = ("exited", "dead")
"""Docker's words for containers that do not run any more."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ContainerFilter:
    """Which containers: empty means any. `part` is a part of the name."""

    hosts: list[str]
    states: list[str]
    healths: list[str]
    part: str


def fetch_inventory(engine: Engine, host: str) -> tuple[dict[str, Any] | None, datetime | None]:
    """Inventory as the agent sent it, and when it came; None where none came yet."""
    row = fetch_row(engine, "SELECT inventory, inventory_at FROM host WHERE name = :host", {"host": host})
    return (None, None) if row is None else (row["inventory"], row["inventory_at"])


def fetch_snapshot(engine: Engine, host: str, kind: str) -> tuple[dict[str, Any] | None, datetime | None]:
    """Latest snapshot (`containers`, `processes` or `sensors`) and its time; None where none came yet."""
    row = fetch_row(engine, """SELECT s.payload, s.ts FROM snapshot s JOIN host h ON h.id = s.host_id
                               WHERE h.name = :host AND s.kind = :kind""", {"host": host, "kind": kind})
    return (None, None) if row is None else (row["payload"], row["ts"])


_CONTAINERS = """FROM snapshot s JOIN host h ON h.id = s.host_id
        CROSS JOIN LATERAL jsonb_array_elements(s.payload -> 'containers') AS c
        WHERE s.kind = 'containers' AND (cardinality(CAST(:hosts AS text[])) = 0 OR h.name = ANY (:hosts))
          AND (cardinality(CAST(:states AS text[])) = 0 OR c ->> 'state' = ANY (:states))
          AND (cardinality(CAST(:healths AS text[])) = 0 OR coalesce(c ->> 'health', '') = ANY (:healths))
          AND position(:part IN (c ->> 'name')) > 0"""


def fetch_containers(engine: Engine, chosen: ContainerFilter, after: tuple[str, str, str] | None,
                     limit: int) -> list[dict[str, Any]]:
    """Containers of the whole fleet by host, name and id, beyond (host, name, id) `after`: host, ts, container."""
    beyond = "" if after is None else "AND (h.name, c ->> 'name', c ->> 'id') > (:host, :name, :id)"
    return fetch_rows(
        engine, f"""SELECT h.name AS host, s.ts, c AS container {_CONTAINERS} {beyond}
                    ORDER BY h.name, c ->> 'name', c ->> 'id' LIMIT :limit""",
        dataclasses.asdict(chosen) | {"limit": limit} | dict(zip(("host", "name", "id"), after or (), strict=False)))


def fetch_container_counts(engine: Engine, chosen: ContainerFilter) -> dict[str, int]:
    """How many containers fit: total, running, and stopped though they should run."""
    return fetch_row(engine, f"""
        SELECT count(*) AS total, count(*) FILTER (WHERE c ->> 'state' = 'running') AS running,
               count(*) FILTER (WHERE c ->> 'state' = ANY (:ended) AND CAST(c ->> 'should_run' AS boolean)) AS stopped
        {_CONTAINERS}""", dataclasses.asdict(chosen) | {"ended": list(ENDED)}) or {}


def fetch_backfills(engine: Engine, host: int, now: datetime) -> list[dict[str, Any]]:
    """Stretches of the last 24 hours whose samples came late, newest first: outages that lost nothing."""
    return fetch_rows(engine, """
        WITH late AS (
          SELECT ts, received_at, ts - lag(ts) OVER (ORDER BY ts) > interval '5 minutes' AS is_new FROM sample
          WHERE host_id = :host AND ts > CAST(:now AS timestamptz) - interval '1 day'
            AND received_at > ts + interval '1 minute'),
        numbered AS (SELECT *, count(*) FILTER (WHERE is_new) OVER (ORDER BY ts) AS stretch FROM late)
        SELECT min(ts) AS from, max(ts) AS to, count(*) AS samples, min(received_at) AS received_from,
               max(received_at) AS received_to
        FROM numbered GROUP BY stretch ORDER BY stretch DESC LIMIT 100""", {"host": host, "now": now})


def fetch_epochs(engine: Engine, host: int) -> list[dict[str, Any]]:
    """The spools that a host has had, newest first: when each was first and last heard of, and up to which seq all is stored."""
    return fetch_rows(engine, """
        SELECT lpad(to_hex(epoch), 16, '0') AS epoch, created_at AS began_at, updated_at AS heard_at, contiguous_seq AS stored_to
        FROM stream WHERE host_id = :host ORDER BY created_at DESC, epoch LIMIT 100""", {"host": host})


def fetch_gaps(engine: Engine, host: str | None, before: int | None, limit: int) -> list[dict[str, Any]]:
    """Gaps, newest first, below id `before`; of one host or of all."""
    return fetch_rows(engine, """
        SELECT g.id, h.name AS host, lpad(to_hex(g.epoch), 16, '0') AS epoch, g.from_seq, g.to_seq,
               g.to_seq - g.from_seq + 1 AS samples, g.reason, g.noticed_at
        FROM gap g JOIN host h ON h.id = g.host_id
        WHERE (CAST(:host AS text) IS NULL OR h.name = :host) AND (CAST(:before AS bigint) IS NULL OR g.id < :before)
        ORDER BY g.id DESC LIMIT :limit""", {"host": host, "before": before, "limit": limit})
