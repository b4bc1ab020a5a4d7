"""How the API reads Postgres: an engine whose questions end in time, and rows of numbers as one numpy array."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import psycopg
import sqlalchemy
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, text

from shared import database

COPY_HEADER_BYTES = 19
COPY_TRAILER_BYTES = 2
EPOCH_2000 = 946_684_800_000_000
"""Microseconds from 1970, the epoch of Python, to 2000, the epoch of Postgres."""


def open_engine(url: str, *, pool_size: int = 10, timeout_s: float = 20.0) -> Engine:
    """Open the API's engine: a statement that runs longer than `timeout_s` is cancelled."""
    engine = database.open_engine(url, "drumbeat-api", pool_size=pool_size)

    @sqlalchemy.event.listens_for(engine, "connect")
    def limit(connection: psycopg.Connection[Any], _: object) -> None:
        autocommit, connection.autocommit = connection.autocommit, True
        connection.execute(f"SET statement_timeout = {int(timeout_s * 1000)}")
        connection.autocommit = autocommit

    return engine


def fetch_rows(engine: Engine, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Rows of one question as dictionaries."""
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(sql), parameters or {}).mappings()]


def fetch_tuples(engine: Engine, sql: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Rows of one question as tuples, for many of them."""
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(sql), parameters)]


def fetch_row(engine: Engine, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """Fetch the first row of a question; None where there is none."""
    rows = fetch_rows(engine, sql, parameters)
    return rows[0] if rows else None


def read_records(connection: Connection, select: str, parameters: Sequence[Any], metrics: int,
                 arrays: int) -> NDArray[np.void]:
    """Rows of `select` by binary COPY, without a Python object per number.

    `select` answers host_id (int4), ts (timestamptz), count (int4), then `metrics` times `arrays` columns of type real,
    none of them null. The fields of the result: host_id, ts (microseconds from 2000), count, and v["x"][row, column].
    """
    kind = np.dtype([
        ("fields", ">i2"), ("l0", ">i4"), ("host_id", ">i4"), ("l1", ">i4"), ("ts", ">i8"), ("l2", ">i4"),
        ("count", ">i4"), ("v", [("l", ">i4"), ("x", ">f4")], (metrics * arrays,))])
    raw: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    with raw.cursor() as cursor, cursor.copy(f"COPY ({select}) TO STDOUT (FORMAT BINARY)", parameters) as copy:
        data = b"".join(copy)
    count = (len(data) - COPY_HEADER_BYTES - COPY_TRAILER_BYTES) // kind.itemsize
    return np.frombuffer(data, kind, count=count, offset=COPY_HEADER_BYTES)
