"""Figures about drumbeat's own data: what is stored, how large it is, and how far behind it is."""

from typing import Any

from sqlalchemy import Engine

from aggregator.store.reading import fetch_row, fetch_rows

_LARGE = ("sample", "rollup_1m", "rollup_1h", "rollup_1d")

_TABLES = """
SELECT coalesce(parent.relname, c.relname) AS name, c.relname AS part, pg_total_relation_size(c.oid) AS bytes,
       pg_relation_size(c.oid) AS heap_bytes, greatest(c.reltuples, coalesce(t.n_live_tup, 0))::bigint AS rows
FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class parent ON parent.oid = i.inhparent
LEFT JOIN pg_stat_user_tables t ON t.relid = c.oid
WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace ORDER BY 1, 2"""

_COUNTS = """
SELECT (SELECT count(*) FROM sample WHERE received_at > now() - interval '1 minute'
          AND ts > now() - interval '1 day') AS recent_samples_count,
       (SELECT count(*) FROM reject) AS rejects,
       (SELECT count(*) FROM reject WHERE received_at > now() - interval '1 hour') AS rejects_last_hour,
       (SELECT count(*) FROM gap) AS gaps,
       (SELECT coalesce(sum(to_seq - from_seq + 1), 0)::float8 FROM gap) AS lost_samples,
       (SELECT count(*) FROM layout) AS layouts,
       (SELECT extract(epoch FROM now() - max(received_at))::float8 FROM host_now) AS lag_seconds"""

_SLOTS = """
SELECT slot, owner, epoch, expires_at > now() AS held, checkpoint_at, rolled_up_to FROM slot ORDER BY slot"""


def fetch_tables(engine: Engine) -> list[dict[str, Any]]:
    """Every table and partition: name (of the table), part, bytes with indexes, estimated rows."""
    return fetch_rows(engine, _TABLES)


def fetch_extents(engine: Engine) -> dict[str, dict[str, Any]]:
    """Oldest and newest time in each of the large tables."""
    return {table: fetch_row(engine, _extent(table)) or {} for table in _LARGE}


def _extent(table: str) -> str:
    # By host through the index (host_id, ts), the oldest hosts and those heard of last: not a scan of all.
    return f"""SELECT min((SELECT ts FROM {table} WHERE host_id = h.id ORDER BY ts LIMIT 1)) AS oldest,
                      max((SELECT ts FROM {table} WHERE host_id = h.id ORDER BY ts DESC LIMIT 1)) AS newest
               FROM ((SELECT id FROM host ORDER BY id LIMIT 100)
                     UNION (SELECT host_id FROM host_now ORDER BY ts DESC LIMIT 100)) h"""  # noqa: S608 (constants)


def fetch_points_per_sample(engine: Engine) -> float | None:
    """Mean number of metrics of the newest layouts; None before the first sample."""
    row = fetch_row(engine, """SELECT avg(cardinality(keys))::float8 AS points
                               FROM (SELECT keys FROM layout ORDER BY id DESC LIMIT 100) l""")
    return None if row is None else row["points"]


def fetch_counts(engine: Engine) -> dict[str, Any]:
    """Samples of the last minute, rejects, gaps, and seconds since anything was received."""
    return fetch_row(engine, _COUNTS) or {}


def fetch_slots(engine: Engine) -> list[dict[str, Any]]:
    """Slots and their owners."""
    return fetch_rows(engine, _SLOTS)
