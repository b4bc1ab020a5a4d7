"""How the API reads Postgres: an engine whose questions end in time, and columns of numbers as numpy arrays."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import psycopg
import sqlalchemy
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, text

from shared import database

ARRAY_HEADER_BYTES = 20
"""Of an array of one dimension as `array_send` writes it: dimensions, flags, type, length, lower bound."""

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
        return [tuple(row) for row in connection.execute(text(sql), parameters).all()]


def fetch_row(engine: Engine, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """Fetch the first row of a question; None where there is none."""
    rows = fetch_rows(engine, sql, parameters)
    return rows[0] if rows else None


def read_columns(connection: Connection, columns: Sequence[tuple[str, str]], source: str,
                 parameters: Sequence[Any]) -> list[NDArray[Any]]:
    """Columns of numbers, without a Python object (or a message of the protocol) a row.

    `columns` are (SQL expression, numpy type as sent: `>i4`, `>i8` for times in microseconds from 2000, or `>f4`), none of
    them null; `source` is the rest of the SQL from FROM on.
    """
    raw: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    asked = ", ".join(f"array_send(array_agg({expression}))" for expression, _ in columns)
    with raw.cursor(binary=True) as cursor:
        cursor.execute(f"SELECT {asked} {source}", parameters)
        row = cursor.fetchone()
    return [unpacked(data, kind) for data, (_, kind) in zip(row or (), columns, strict=True)]


def unpacked(array: bytes | None, kind: str) -> NDArray[Any]:
    """Numbers of an array as `array_send` writes it; null is none."""
    element = np.dtype([("size", ">i4"), ("x", kind)])
    return np.empty(0, kind) if array is None else np.frombuffer(array, element, offset=ARRAY_HEADER_BYTES)["x"]
