"""Raw history: writing a frame, and reading back what a slot needs after a takeover."""

import struct
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from aggregator.store import binary

Cursor = psycopg.Cursor[tuple[Any, ...]]


def write(cursor: Cursor, host_ids: Sequence[int], layout_ids: Sequence[int], times: Sequence[float],
          received_at: float, epochs: Sequence[int], seqs: Sequence[int], values: NDArray[np.float64],
          starts: Sequence[int], sizes: Sequence[int]) -> None:
    """COPY the samples of one frame. Raises psycopg.DataError or IntegrityError when the database refuses one."""
    data = binary.sample_rows(host_ids, layout_ids, times, received_at, epochs, seqs, values, starts, sizes)
    with cursor.copy("COPY sample (host_id, layout_id, ts, received_at, epoch, seq, values) FROM STDIN "
                     "(FORMAT BINARY)") as copy:
        copy.write(data)


_HEAD = struct.Struct(">hiiiiiqi")  # fields; host_id; layout_id; ts; size of the array


def fetch_since(cursor: Cursor, slot: int, slots: int, since: datetime,
                received_since: datetime) -> tuple[list[int], list[int], list[float], list[NDArray[np.float64]]]:
    """(host ids, layout ids, times, values) of a slot's samples with ts ≥ `since`, received since `received_since`."""
    query = """SELECT s.host_id, s.layout_id, s.ts, s.values FROM sample s JOIN host h ON h.id = s.host_id
               WHERE s.ts >= %s AND s.received_at >= %s AND h.partition %% %s = %s"""
    rows = binary.copy_out(cursor, query, [since, received_since, slots, slot])
    heads = [_HEAD.unpack_from(row) for row in rows]
    values = [binary.read_real_arrays([row], _HEAD.size - 4, 1)[0, 0] for row in rows]
    return [head[2] for head in heads], [head[4] for head in heads], [binary.unix_seconds(head[6]) for head in heads], values
