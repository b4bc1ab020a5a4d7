"""Streams: which seqs of each (host, epoch) are stored. A checkpoint, made good from the tables after a takeover."""

import dataclasses
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from aggregator.store.binary import array_text
from aggregator.store.samples import Cursor
from aggregator.store.slots import Lease
from shared.database import Connection


@dataclasses.dataclass(frozen=True, slots=True)
class StoredStream:
    """One (host, epoch) as checkpointed."""

    host_id: int
    epoch: int
    contiguous: int
    ahead: Sequence[int]


def checkpoint(cursor: Cursor, lease: Lease, streams: Sequence[StoredStream], at: datetime) -> None:
    """Write the positions of `streams`; everything received before `at` is then covered."""
    cursor.execute(
        """INSERT INTO stream (host_id, epoch, contiguous_seq, ahead)
           SELECT h, e, c, a::bigint[]
           FROM unnest(%s::int[], %s::bigint[], %s::bigint[], %s::text[]) AS n (h, e, c, a)
           ON CONFLICT (host_id, epoch) DO UPDATE SET contiguous_seq = excluded.contiguous_seq, ahead = excluded.ahead,
             updated_at = now()""",
        [array_text(s.host_id for s in streams), array_text(s.epoch for s in streams),
         array_text(s.contiguous for s in streams), "{" + ",".join([f'"{array_text(s.ahead)}"' for s in streams]) + "}"])
    cursor.execute("UPDATE slot SET checkpoint_at = %s WHERE slot = %s", [at, lease.slot])


def fetch(connection: Connection, lease: Lease) -> Iterator[StoredStream]:
    """The checkpointed streams of a slot's hosts that were alive within the last 30 days."""
    rows = connection.execute(
        """SELECT s.host_id, s.epoch, s.contiguous_seq, s.ahead FROM stream s JOIN host h ON h.id = s.host_id
           WHERE h.partition %% %s = %s AND s.updated_at > now() - interval '30 days'""", [lease.slots, lease.slot])
    return (StoredStream(*row) for row in rows)


def fetch_since_checkpoint(connection: Connection,
                           lease: Lease) -> Iterator[tuple[int, int, int, int]]:
    """(host_id, epoch, from_seq, to_seq) of everything stored, refused or given up since the last checkpoint."""
    since = lease.checkpoint_at - timedelta(seconds=5)
    return iter(connection.execute(
        """SELECT s.host_id, s.epoch, s.seq, s.seq FROM sample s JOIN host h ON h.id = s.host_id
           WHERE s.received_at >= %(since)s AND h.partition %% %(slots)s = %(slot)s
           UNION ALL
           SELECT h.id, r.epoch, r.seq, r.seq FROM reject r JOIN host h ON h.name = r.host
           WHERE r.received_at >= %(since)s AND r.seq IS NOT NULL AND h.partition %% %(slots)s = %(slot)s
           UNION ALL
           SELECT g.host_id, g.epoch, g.from_seq, g.to_seq FROM gap g JOIN host h ON h.id = g.host_id
           WHERE g.noticed_at >= %(since)s AND h.partition %% %(slots)s = %(slot)s
           ORDER BY 1, 2, 3""", {"since": since, "slots": lease.slots, "slot": lease.slot}))


def fetch_newest_since_checkpoint(connection: Connection, lease: Lease) -> list[tuple[int, float, float]]:
    """(host_id, newest ts, last received at) of the samples stored since the last checkpoint, in Unix s."""
    return connection.execute(
        """SELECT s.host_id, extract(epoch FROM max(s.ts))::float8, extract(epoch FROM max(s.received_at))::float8
           FROM sample s JOIN host h ON h.id = s.host_id WHERE s.received_at >= %s AND h.partition %% %s = %s
           GROUP BY 1""",
        [lease.checkpoint_at - timedelta(seconds=5), lease.slots, lease.slot]).fetchall()


def write_gaps(cursor: Cursor, gaps: Sequence[tuple[int, int, int, int, str]]) -> None:
    """Gap rows: (host_id, epoch, from_seq, to_seq, reason)."""
    cursor.executemany("INSERT INTO gap (host_id, epoch, from_seq, to_seq, reason) VALUES (%s, %s, %s, %s, %s)", gaps)


