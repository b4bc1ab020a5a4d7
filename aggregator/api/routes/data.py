"""drumbeat's own data: how much is stored, how it flows, and what was refused."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from aggregator.analysis.liveness import LIVE
from aggregator.api import formats, own_models
from aggregator.api.backend import Ready
from aggregator.api.formats import Wanted
from aggregator.api.parameters import Cursor, Limit, Word, before, cursor
from aggregator.api.problems import invalid
from aggregator.api.security import Reader
from aggregator.store import fleet, refusals, statistics
from shared import __version__
from shared.wire import REASONS

router = APIRouter(prefix="/api/v1", tags=["data"])

STORAGE_SECONDS = 5.0
_KEPT_AS = {"sample": "raw"}
_TABLE_COLUMNS = tuple(own_models.TableModel.model_fields)
_REJECT_COLUMNS = tuple(own_models.RejectModel.model_fields)


@router.get("/storage", response_model=own_models.StorageModel)
def read_storage(backend: Ready, _: Reader, wanted: Wanted) -> Response:
    """Sizes of tables and partitions with their indexes, estimated rows, oldest and newest times, and retention."""
    rows = backend.cached("tables", STORAGE_SECONDS, lambda: statistics.fetch_tables(backend.engine))
    extents = backend.cached("extents", STORAGE_SECONDS, lambda: statistics.fetch_extents(backend.engine))
    keep = backend.keep_days()
    tables = [_table(name, [row for row in rows if row["name"] == name], extents.get(name, {}), keep)
              for name in dict.fromkeys(row["name"] for row in rows)]
    raw = next((table for table in tables if table["name"] == "sample"), {"rows": 0, "bytes": 0})
    width = statistics.fetch_points_per_sample(backend.engine)
    points = round(raw["rows"] * width) if width else None
    return formats.records(
        wanted, "tables", tables, _TABLE_COLUMNS, database_bytes=sum(table["bytes"] for table in tables), points=points,
        bytes_per_point=round(raw["bytes"] / points, 2) if points else None)


def _table(name: str, rows: list[dict[str, Any]], extent: dict[str, Any], keep: dict[str, int]) -> dict[str, Any]:
    parts = [{"name": row["part"], "bytes": row["bytes"], "rows": row["rows"]} for row in rows if row["part"] != name]
    return {"name": name, "bytes": sum(row["bytes"] for row in rows), "rows": sum(row["rows"] for row in rows),
            "oldest": extent.get("oldest"), "newest": extent.get("newest"),
            "keep_days": keep.get(_KEPT_AS.get(name, name)), "partitions": parts}


@router.get("/stats", response_model=own_models.StatsModel)
def read_stats(backend: Ready, _: Reader) -> Response:
    """Counts of hosts, samples of the last minute, rejects, gaps and slots, and how long ago anything was received."""
    engine, now = backend.engine, backend.now()
    counts = backend.cached("counts", 1.0, lambda: statistics.fetch_counts(engine))
    return formats.json_answer(
        {"ts": now, "version": __version__, "hosts": fleet.fetch_count(engine, fleet.Filter(), now),
         "online": fleet.fetch_count(engine, fleet.Filter(states=LIVE), now)}
        | counts | {"slots": statistics.fetch_slots(engine)})


@router.get("/rejects", response_model=own_models.RejectsModel)
def list_rejects(backend: Ready, _: Reader, wanted: Wanted, host: Word | None = None,
                 reason: Annotated[Word | None, Query(description=", ".join(REASONS))] = None, limit: Limit = 100,
                 page: Annotated[Cursor, Query(alias="cursor")] = None) -> Response:
    """Refused messages, newest first, with the reason and the beginning of the payload."""
    if reason is not None and reason not in REASONS:
        raise invalid("reason", f"{reason!r} is not one; allowed: {', '.join(REASONS)}")
    rows = refusals.fetch_page(backend.engine, host=host, reason=reason, before=before(page), limit=limit)
    following = cursor([rows[-1]["id"]]) if len(rows) == limit else None
    found = [row | {"payload": bytes(row["payload"]).decode(errors="backslashreplace")} for row in rows]
    return formats.records(wanted, "rejects", found, _REJECT_COLUMNS, next_cursor=following,
                           counts=refusals.fetch_counts(backend.engine))
