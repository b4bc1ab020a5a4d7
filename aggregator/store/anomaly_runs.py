"""Anomaly runs: what somebody had judged over stored history, and what was found."""

from typing import Any

import msgspec
from sqlalchemy import Engine, text

from aggregator.store import audit_log
from aggregator.store.reading import fetch_row

_COLUMNS = "id, created_at, created_by, request, result"


def create(engine: Engine, request: Any, result: Any, actor: str) -> dict[str, Any]:
    """Keep a run; the row as `fetch_one` has it."""
    plain = {name: msgspec.json.encode(value).decode() for name, value in (("request", request), ("result", result))}
    with engine.begin() as connection:
        row = connection.execute(
            text(f"""INSERT INTO anomaly_run (request, result, created_by)
                     VALUES (CAST(:request AS jsonb), CAST(:result AS jsonb), :actor) RETURNING {_COLUMNS}"""),  # noqa: S608 (constant)
            plain | {"actor": actor}).mappings().one()
        audit_log.write(connection, actor, "create", "anomaly run", str(row["id"]))
    return dict(row)


def fetch_one(engine: Engine, run: int) -> dict[str, Any] | None:
    """One run; None where there is none."""
    return fetch_row(engine, f"SELECT {_COLUMNS} FROM anomaly_run WHERE id = :run", {"run": run})  # noqa: S608 (constant)
