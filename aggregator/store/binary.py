"""Rows in Postgres' binary COPY format, made with numpy and struct and read back the same way.

Format: docs of COPY, "Binary Format". Times are microseconds since 2000-01-01 UTC; real[] is one-dimensional, no nulls.
"""

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

POSTGRES_EPOCH = 946_684_800
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
_FLOAT4_OID = 700
_ELEMENT = np.dtype([("size", ">i4"), ("value", ">f4")])
_ARRAY = struct.Struct(">iiiiii")


def microseconds(unix: float) -> int:
    """Unix seconds as Postgres' binary timestamptz."""
    return round((unix - POSTGRES_EPOCH) * 1e6)


def unix_seconds(micros: int) -> float:
    return micros / 1e6 + POSTGRES_EPOCH


def elements(values: NDArray[np.floating]) -> memoryview:
    """Array elements as COPY wants them, 8 bytes each; an array of k values from i on is the slice [8i, 8(i + k)]."""
    made = np.empty(len(values), _ELEMENT)
    made["size"] = 4
    made["value"] = values
    return made.view(np.uint8).data


def array_head(count: int) -> bytes:
    """What stands before the elements of a real[] of `count` values: field size, dimensions, type, bounds."""
    return _ARRAY.pack(20 + 8 * count, 1, 0, _FLOAT4_OID, count, 1)


def array_text(values: Iterable[float | None]) -> str:
    """Numbers as a Postgres array literal; None and NaN become NULL. psycopg's own arrays cost ten times as much."""
    return "{" + ",".join(["NULL" if value is None or math.isnan(value) else repr(value) for value in values]) + "}"


_SAMPLE = struct.Struct(">hiiiiiqiqiqiqiiiiii")


def sample_rows(host_ids: Sequence[int], layout_ids: Sequence[int], times: Sequence[float], received_at: float,
                epochs: Sequence[int], seqs: Sequence[int], values: NDArray[np.float64], starts: Sequence[int],
                sizes: Sequence[int]) -> bytes:
    """All rows of a frame for `COPY sample (host_id, layout_id, ts, received_at, epoch, seq, values)`."""
    body, received, pack = elements(values), microseconds(received_at), _SAMPLE.pack
    parts: list[bytes | memoryview] = [HEADER]
    for host, layout, ts, epoch, seq, start, size in zip(
            host_ids, layout_ids, times, epochs, seqs, starts, sizes, strict=True):
        parts.append(pack(7, 4, host, 4, layout, 8, round((ts - POSTGRES_EPOCH) * 1e6), 8, received, 8, epoch, 8, seq,
                          20 + 8 * size, 1, 0, _FLOAT4_OID, size, 1))
        parts.append(body[8 * start:8 * (start + size)])
    parts.append(TRAILER)
    return b"".join(parts)


_ROLLUP = struct.Struct(">hiiiiiqii")


def rollup_row(host_id: int, layout_id: int, ts: float, count: int, arrays: Sequence[NDArray[np.floating]]) -> bytes:
    """One row for `COPY rollup_… (host_id, layout_id, ts, count, min, mean, max)`, without header and trailer."""
    stacked = np.concatenate(arrays)
    size = len(stacked) // 3
    body, head = elements(stacked), array_head(size)
    return b"".join((_ROLLUP.pack(7, 4, host_id, 4, layout_id, 8, microseconds(ts), 4, count), head, body[:8 * size], head,
                     body[8 * size:16 * size], head, body[16 * size:]))


def read_real_arrays(rows: Sequence[bytes], offset: int, arrays: int) -> NDArray[np.float64]:
    """(rows, arrays, k): the real[] fields at the end of rows of one layout.

    `offset` is where the size of the first array field stands; every row has arrays of the same length.
    """
    block = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1)[:, offset:]
    width = block.shape[1] // arrays
    cells = np.ascontiguousarray(block.reshape(len(rows), arrays, width)[:, :, 24:])
    return cells.view(_ELEMENT)["value"].astype(np.float64)


def copy_out(cursor: psycopg.Cursor[Any], query: str, parameters: Sequence[Any]) -> list[bytes]:
    """The rows of a query in binary COPY format, each without the stream's header and trailer."""
    with cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT BINARY)", parameters) as copy:
        rows = [bytes(block) for block in copy]
    if rows:
        rows[0] = rows[0][len(HEADER):]
    return [row for row in rows if row not in (b"", TRAILER)]
