"""Containers of one host and of all."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response

from aggregator.api import formats, models
from aggregator.api.backend import Ready
from aggregator.api.formats import Wanted
from aggregator.api.parameters import Cursor, HostName, Hosts, Word, cursor, opened, rfc3339
from aggregator.api.routes.hosts import fetch_snapshot, why_absent
from aggregator.api.security import Reader
from aggregator.store import details
from shared import wire

router = APIRouter(prefix="/api/v1", tags=["hosts"])

_COLUMNS = tuple(models.ContainerModel.model_fields)
_FLEET_COLUMNS = ("host", "ts", *_COLUMNS)


@router.get("/hosts/{host}/containers", response_model=models.ContainersModel)
def read_containers(backend: Ready, _: Reader, wanted: Wanted, host: HostName) -> Response:
    """Latest snapshot of the containers, by name."""
    payload, ts = fetch_snapshot(backend, host, "containers")
    containers = msgspec.convert(payload.get("containers", []), list[wire.Container])
    found = sorted((shown(one, ts) for one in containers), key=lambda one: str(one["name"]))
    return formats.records(
        wanted, "containers", found, _COLUMNS, host=host, ts=ts, available=ts is not None,
        reason="" if ts else why_absent(backend, host, "docker"),
        **_counts(containers) | {"total": payload.get("total") or len(found)})


@router.get("/containers", response_model=models.FleetContainersModel)
def list_containers(
        backend: Ready, _: Reader, wanted: Wanted, host: Hosts = [],  # noqa: B006 (FastAPI copies it)
        state: Annotated[list[Word], Query(max_length=10, description="Docker's word, like running")] = [],  # noqa: B006
        health: Annotated[list[Word], Query(max_length=10, description="Docker's word, like unhealthy")] = [],  # noqa: B006
        q: Annotated[Word, Query(description="part of the name")] = "",
        limit: Annotated[int, Query(ge=1, le=10_000, description="rows a page")] = 1000,
        page: Annotated[Cursor, Query(alias="cursor")] = None) -> Response:
    """Containers of all hosts, by host and name."""
    chosen = details.ContainerFilter(hosts=host, states=state, healths=health, part=q)
    rows = details.fetch_containers(backend.engine, chosen, opened(page, tuple[str, str, str]), limit)
    found = [{"host": row["host"], "ts": row["ts"]} | shown(msgspec.convert(row["container"], wire.Container), row["ts"])
             for row in rows]
    following = cursor([found[-1]["host"], found[-1]["name"], found[-1]["id"]]) if len(found) == limit else None
    return formats.records(wanted, "containers", found, _FLEET_COLUMNS,
                           **details.fetch_container_counts(backend.engine, chosen), next_cursor=following)


def shown(container: wire.Container, ts: datetime | None) -> dict[str, Any]:
    """A container as REST shows it; `ts` is the time of its snapshot."""
    started = container.started_at
    is_up = container.state == "running" and started is not None and ts is not None
    return msgspec.structs.asdict(container) | {
        "started_at": rfc3339(started),
        "uptime_seconds": round(max(0.0, ts.timestamp() - started), 1) if is_up and ts and started else None}


def _counts(containers: Iterable[wire.Container]) -> dict[str, int]:
    states = [(one.state, one.should_run) for one in containers]
    return {"running": sum(state == "running" for state, _ in states),
            "stopped": sum(state in details.ENDED and should_run for state, should_run in states)}
