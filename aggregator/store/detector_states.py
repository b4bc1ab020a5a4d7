"""What the anomaly detector has learnt of each host, and the minutes from which it is brought up to date."""

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from aggregator.store import binary
from aggregator.store.samples import Cursor
from aggregator.store.slots import Lease
from shared.database import Connection

VERSION = 1
"""Of the form in which states are packed; those of another version are left where they are, and written anew."""

_HEAD = struct.Struct(">hiiiiiqiii")  # fields; host_id; layout_id; ts; count; size of the array


def write(cursor: Cursor, saved_at: int, states: Iterable[tuple[int, bytes]]) -> None:
    """Write (host id, state), all minutes before `saved_at` (Unix s) learnt; hosts that are gone are passed over."""
    cursor.executemany(
        """INSERT INTO detector_state (host_id, version, saved_at, state)
           SELECT id, %s, to_timestamp(%s), %b FROM host WHERE id = %s
           ON CONFLICT (host_id) DO UPDATE
           SET version = excluded.version, saved_at = excluded.saved_at, state = excluded.state""",
        [(VERSION, saved_at, state, host_id) for host_id, state in states])


def fetch_saved(connection: Connection, lease: Lease) -> list[tuple[int, int]]:
    """(host id, saved at in Unix s, 0 where there is no state) of every host of a slot, those saved together in a row."""
    return connection.execute(
        """SELECT h.id, coalesce(extract(epoch FROM d.saved_at), 0)::bigint AS saved FROM host h
           LEFT JOIN detector_state d ON d.host_id = h.id AND d.version = %s
           WHERE h.partition %% %s = %s ORDER BY saved DESC, h.id""", [VERSION, lease.slots, lease.slot]).fetchall()


def fetch(connection: Connection, host_ids: Sequence[int]) -> dict[int, bytes]:
    """States of this version by host id."""
    rows = connection.execute("SELECT host_id, state FROM detector_state WHERE host_id = ANY (%s) AND version = %s",
                              [list(host_ids), VERSION], binary=True)
    return {host_id: bytes(state) for host_id, state in rows}


def is_rolled_up(connection: Connection, lease: Lease, now: float) -> bool:
    """Whether no minutes of the slot's hosts are waiting to be made from raw history, as they do after a takeover."""
    row = connection.execute(
        """SELECT EXISTS (SELECT FROM rollup_due d JOIN host h ON h.id = d.host_id WHERE d.raw_from IS NOT NULL
             AND d.due_at <= to_timestamp(%s) AND h.partition %% %s = %s)""", [now, lease.slots, lease.slot]).fetchone()
    return row is None or not row[0]


def fetch_first(connection: Connection, host_ids: Sequence[int], since: int, until: int) -> int:
    """The first minute (Unix s) in [since, until) of which there are rollups of these hosts; `until` where there is none."""
    row = connection.execute(
        """SELECT extract(epoch FROM min(ts))::bigint FROM rollup_1m
           WHERE host_id = ANY (%s) AND ts >= to_timestamp(%s) AND ts < to_timestamp(%s)""",
        [list(host_ids), since, until]).fetchone()
    return until if row is None or row[0] is None else int(row[0])


def fetch_keys(connection: Connection, layout_ids: Sequence[int]) -> dict[int, list[str]]:
    """The metrics of layouts, in their order."""
    return dict(connection.execute("SELECT id, keys FROM layout WHERE id = ANY (%s)", [list(layout_ids)]).fetchall())


def fetch_minutes(connection: Connection, host_ids: Sequence[int], since: int,
                  until: int) -> tuple[NDArray[np.int64], list[NDArray[np.float64]]]:
    """Rollups of minutes in [since, until) (Unix s): (n, 4) of host id, layout id, start, count; and each one's means."""
    with connection.cursor() as cursor:
        rows = binary.copy_out(
            cursor, "SELECT host_id, layout_id, ts, count, mean FROM rollup_1m WHERE host_id = ANY (%s) AND ts >= %s AND ts < %s",
            [list(host_ids), datetime.fromtimestamp(since, UTC), datetime.fromtimestamp(until, UTC)])
    heads = [_HEAD.unpack_from(row) for row in rows]
    at = np.array([(head[2], head[4], round(binary.unix_seconds(head[6])), head[8]) for head in heads], np.int64).reshape(-1, 4)
    by_size: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        by_size.setdefault(len(row), []).append(i)
    means: list[NDArray[np.float64]] = [np.empty(0)] * len(rows)
    for group in by_size.values():
        for i, mean in zip(group, binary.read_real_arrays([rows[i] for i in group], _HEAD.size - 4, 1)[:, 0], strict=True):
            means[i] = mean
    return at, means
