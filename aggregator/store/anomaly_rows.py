"""Anomalies as ingest writes them: one row an incident, carried on while it lasts."""

import dataclasses
from collections.abc import Sequence

import msgspec
from psycopg.types.json import Jsonb
from sqlalchemy import Engine, text

from aggregator.store.samples import Cursor
from aggregator.store.slots import Lease
from shared.database import Connection
from shared.wire import Explaining


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One anomaly; times in Unix s; `id` 0 where it has none yet."""

    id: int
    host_id: int
    began_at: float
    ended_at: float | None
    peak_at: float
    peak: float
    threshold: float
    metrics: list[Explaining]


def write(cursor: Cursor, rows: Sequence[Row]) -> list[int]:
    """Write anomalies; their ids, 0 for one whose host is gone.

    One without an id that begins within an anomaly of its host is that one, found again by an owner that judged the same
    minutes: it is carried on.
    """
    return [_update(cursor, row, row.id or _same(cursor, row)) or _insert(cursor, row) for row in rows]


def _same(cursor: Cursor, row: Row) -> int:
    found = cursor.execute(
        """SELECT id FROM anomaly WHERE host_id = %s AND began_at <= to_timestamp(%s)
             AND coalesce(ended_at, 'infinity') > to_timestamp(%s) ORDER BY id DESC LIMIT 1""",
        [row.host_id, row.began_at, row.began_at]).fetchone()
    return 0 if found is None else int(found[0])


def _update(cursor: Cursor, row: Row, number: int) -> int:
    found = cursor.execute(
        """UPDATE anomaly SET ended_at = to_timestamp(%s), peak_at = to_timestamp(%s), peak = %s, metrics = %s
           WHERE id = %s RETURNING id""",
        [row.ended_at, row.peak_at, row.peak, _json(row.metrics), number]).fetchone() if number else None
    return 0 if found is None else int(found[0])


def _insert(cursor: Cursor, row: Row) -> int:
    found = cursor.execute(
        """INSERT INTO anomaly (id, host_id, began_at, ended_at, peak_at, peak, threshold, metrics)
           SELECT nextval('anomaly_id'), id, to_timestamp(%s), to_timestamp(%s), to_timestamp(%s), %s, %s, %s
           FROM host WHERE id = %s ON CONFLICT DO NOTHING RETURNING id""",
        [row.began_at, row.ended_at, row.peak_at, row.peak, row.threshold, _json(row.metrics), row.host_id]).fetchone()
    return 0 if found is None else int(found[0])


def _json(metrics: Sequence[Explaining]) -> Jsonb:
    return Jsonb(msgspec.to_builtins(list(metrics)))


def fetch_recent(connection: Connection, lease: Lease, since: float) -> list[Row]:
    """The anomalies of a slot's hosts that are open, or ended after `since` (Unix s)."""
    rows = connection.execute(
        """SELECT a.id, a.host_id, extract(epoch FROM a.began_at)::float8, extract(epoch FROM a.ended_at)::float8,
             extract(epoch FROM a.peak_at)::float8, a.peak, a.threshold, a.metrics
           FROM anomaly a JOIN host h ON h.id = a.host_id
           WHERE h.partition %% %s = %s AND (a.ended_at IS NULL OR a.ended_at > to_timestamp(%s)) ORDER BY a.id""",
        [lease.slots, lease.slot, since])
    return [Row(id=number, host_id=host_id, began_at=began_at, ended_at=ended_at, peak_at=peak_at, peak=peak, threshold=threshold,
                metrics=msgspec.convert(metrics, list[Explaining]))
            for number, host_id, began_at, ended_at, peak_at, peak, threshold, metrics in rows]


def fetch_open(engine: Engine, host_ids: Sequence[int]) -> dict[int, tuple[float, list[str]]]:
    """Host id → when its open anomaly began (Unix s) and the metrics that explain it; hosts without one are left out."""
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT host_id, extract(epoch FROM began_at)::float8 AS began_at, metrics FROM anomaly "
                                       "WHERE ended_at IS NULL AND host_id = ANY (:hosts)"), {"hosts": list(host_ids)}).all()
    return {row.host_id: (row.began_at, [each["metric"] for each in row.metrics]) for row in rows}
