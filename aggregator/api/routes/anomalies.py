"""Anomalies that were noticed as they happened, and runs of a detector over stored history."""

from datetime import datetime
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query, Response

from aggregator.analysis import timespan
from aggregator.api import analytics_models, anomaly_search, formats
from aggregator.api.backend import Ready
from aggregator.api.formats import Wanted
from aggregator.api.parameters import Cursor, Hosts, Limit, cursor, opened
from aggregator.api.problems import invalid, not_found
from aggregator.api.security import Operator, Reader
from aggregator.store import anomalies, anomaly_runs

router = APIRouter(prefix="/api/v1", tags=["analytics"])

_COLUMNS = tuple(analytics_models.AnomalyModel.model_fields)


@router.get("/anomalies", response_model=analytics_models.AnomaliesModel)
def list_anomalies(
        backend: Ready, _: Reader, wanted: Wanted, host: Hosts = [],  # noqa: B006 (FastAPI copies it)
        start: Annotated[str | None, Query(alias="from", max_length=40, description="not over before then, RFC 3339")] = None,
        end: Annotated[str | None, Query(alias="to", max_length=40, description="begun before then, RFC 3339")] = None,
        is_open: Annotated[bool | None, Query(alias="open", description="true: those that last; false: that are over")] = None,
        limit: Limit = 100, page: Annotated[Cursor, Query(alias="cursor")] = None) -> Response:
    """Times at which hosts were unlike themselves, the latest begin first."""
    since, until = (timespan.instant(text, name) if text is not None else None for text, name in ((start, "from"), (end, "to")))
    parts = opened(page, tuple[datetime, Annotated[int, msgspec.Meta(ge=0, lt=2**62)]])
    if parts is not None and parts[0].tzinfo is None:
        raise invalid("cursor", "this is no cursor of this list; begin without one")
    asked = anomalies.Filter(hosts=tuple(host), since=since, until=until, is_open=is_open)
    found = anomalies.fetch_page(backend.engine, asked, limit=limit + 1, after=parts)
    rows = found[:limit]
    following = cursor([rows[-1]["began_at"], rows[-1]["id"]]) if len(found) > limit else None
    return formats.records(wanted, "anomalies", rows, _COLUMNS, next_cursor=following)


@router.get("/anomalies/{anomaly}", response_model=analytics_models.AnomalyModel)
def read_anomaly(backend: Ready, _: Reader, anomaly: Annotated[int, Path(ge=1, lt=2**63)]) -> Response:
    """One anomaly, with the metrics that explain it."""
    row = anomalies.fetch_one(backend.engine, anomaly)
    if row is None:
        raise not_found("anomaly", str(anomaly))
    return formats.json_answer(row)


@router.post("/anomaly-runs", response_model=analytics_models.RunModel, status_code=201)
def start_run(backend: Ready, token: Operator, asked: analytics_models.AskedRunModel) -> Response:
    """Judge stored history by a detector, and keep what it finds. `default` learns from the week before the range."""
    result = anomaly_search.answer(backend, asked)
    request = asked.model_dump(by_alias=True, exclude_none=True)
    return formats.json_answer(anomaly_runs.create(backend.engine, request, result, token.name), 201)


@router.get("/anomaly-runs/{run}", response_model=analytics_models.RunModel)
def read_run(backend: Ready, _: Reader, run: Annotated[int, Path(ge=1, lt=2**63)]) -> Response:
    """One run, with what it found."""
    row = anomaly_runs.fetch_one(backend.engine, run)
    if row is None:
        raise not_found("anomaly run", str(run))
    return formats.json_answer(row)
