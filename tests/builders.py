"""Builders with defaults: rows in the database and messages, so that a test says only what it is about."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from aggregator.store import partitions
from shared.names import partition

Connection = psycopg.Connection[tuple[Any, ...]]

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def store_partitions(connection: Connection, since: datetime = NOW - timedelta(days=2), until: datetime = NOW) -> None:
    """Partitions of every history table that hold [since, until]."""
    partitions.ensure(connection, since, until)


def store_host(connection: Connection, name: str = "web-1", *, labels: dict[str, str] | None = None, state: str = "online",
               state_at: datetime | None = None, received_at: datetime | None = NOW, interval: float = 5.0,
               score: float | None = 90.0, cpu: float | None = 10.0, memory: float | None = 20.0,
               disk: float | None = 30.0, inventory: dict[str, Any] | None = None) -> int:
    """A host, and what a glance needs of it unless `received_at` is None; its id."""
    row = connection.execute(
        """INSERT INTO host (name, partition, labels, state, state_at, inventory, inventory_at)
           VALUES (%s, %s, %s, %s, %s, %s, now()) RETURNING id""",
        [name, int(partition(name)), Jsonb(labels or {}), state, state_at,
         None if inventory is None else Jsonb(inventory)]).fetchone()
    assert row is not None
    host_id: int = row[0]
    if received_at is not None:
        connection.execute(
            """INSERT INTO host_now (host_id, ts, received_at, interval, score, cpu, memory, disk)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s)""",
            [host_id, received_at, received_at, interval, score, cpu, memory, disk])
    return host_id


def store_layout(connection: Connection, keys: Sequence[str]) -> int:
    """A layout with these keys, in this order; its id."""
    digest = hashlib.sha256("\n".join(keys).encode()).digest()
    row = connection.execute("""INSERT INTO layout (digest, keys) VALUES (%s, %s)
                                ON CONFLICT (digest) DO UPDATE SET digest = excluded.digest RETURNING id""",
                             [digest, list(keys)]).fetchone()
    assert row is not None
    return int(row[0])


def store_samples(connection: Connection, host_id: int, samples: Iterable[tuple[datetime, dict[str, float]]]) -> None:
    """Samples as (time, metrics)."""
    for seq, (ts, metrics) in enumerate(samples, 1):
        layout_id = store_layout(connection, list(metrics))
        connection.execute(
            """INSERT INTO sample (host_id, layout_id, ts, received_at, epoch, seq, values)
               VALUES (%s, %s, %s, %s, 1, %s, %s::float8[]::real[])""",
            [host_id, layout_id, ts, ts, seq, list(metrics.values())])


def store_rollup(connection: Connection, table: str, host_id: int, ts: datetime, count: int,
                 metrics: dict[str, tuple[float, float, float]]) -> None:
    """One row of `rollup_1m`, `rollup_1h` or `rollup_1d`; metrics as (min, mean, max)."""
    low, mean, high = zip(*metrics.values(), strict=True)
    connection.execute(
        f"""INSERT INTO {table} (host_id, layout_id, ts, count, min, mean, max)
            VALUES (%s, %s, %s, %s, %s::float8[]::real[], %s::float8[]::real[], %s::float8[]::real[])""",  # type: ignore[arg-type]
        [host_id, store_layout(connection, list(metrics)), ts, count, list(low), list(mean), list(high)])


def store_snapshot(connection: Connection, host_id: int, kind: str, payload: dict[str, Any], ts: datetime = NOW) -> None:
    """Latest snapshot of one kind."""
    connection.execute("INSERT INTO snapshot (host_id, kind, ts, payload) VALUES (%s, %s, %s, %s)",
                       [host_id, kind, ts, Jsonb(payload)])
