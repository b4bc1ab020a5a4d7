"""Latest figures and containers of every host."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from aggregator.api import formats, models, parameters
from aggregator.api.backend import Ready
from aggregator.api.formats import Wanted
from aggregator.api.parameters import ChosenHosts, Hosts, Metrics, Word, rfc3339
from aggregator.api.routes.history import DEFAULT_METRICS
from aggregator.api.security import Reader
from aggregator.store import details, fleet, newest

router = APIRouter(prefix="/api/v1", tags=["fleet"])

FRESH = timedelta(days=1)
_CONTAINER_COLUMNS = ("host", "ts", "name", "state", "health", "image", "cpu_percent", "memory_bytes", "restarts",
                      "started_at", "should_run", "ports", "id")


@router.get("/fleet/latest", response_model=models.FleetLatestModel)
def read_fleet_latest(backend: Ready, _: Reader, wanted: Wanted, chosen: ChosenHosts,
                      metric: Metrics = []) -> Response:  # noqa: B006 (FastAPI copies it)
    """Chosen metrics of the newest sample of every host heard of within a day; without `metric`: the main ones."""
    parameters.plain_metrics(metric)
    fits = parameters.matcher(metric or DEFAULT_METRICS)
    hosts = fleet.fetch_all(backend.engine, chosen, backend.now())
    samples = newest.fetch_many(backend.engine, backend.layouts, [host.id for host in hosts], backend.now(), FRESH)
    picked = {layout: [n for n, key in enumerate(backend.layouts.keys(layout)) if fits.fullmatch(key)]
              for layout in {sample.layout_id for sample in samples.values()}}
    found: list[dict[str, Any]] = []
    for host in hosts:
        if (sample := samples.get(host.id)) is not None:
            values = {sample.keys[n]: sample.values[n] for n in picked[sample.layout_id]}
            found.append({"host": host.name, "ts": sample.ts, "values": values})
    names = sorted({backend.layouts.keys(layout)[n] for layout, chosen_ in picked.items() for n in chosen_})
    return formats.answer(
        wanted, lambda: {"metrics": names, "hosts": found},
        lambda: formats.Table(("host", "ts", *names), (
            (one["host"], one["ts"], *map(one["values"].get, names)) for one in found)))


@router.get("/containers", response_model=models.FleetContainersModel)
def list_containers(
        backend: Ready, _: Reader, wanted: Wanted, host: Hosts = [],  # noqa: B006 (FastAPI copies it)
        state: Annotated[list[Word], Query(max_length=10, description="Docker's word, like running")] = [],  # noqa: B006
        health: Annotated[list[Word], Query(max_length=10, description="Docker's word, like unhealthy")] = [],  # noqa: B006
        q: Annotated[Word, Query(description="part of the name")] = "",
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000) -> Response:
    """Containers of all hosts, by host and name."""
    rows = details.fetch_containers(backend.engine, hosts=host, states=state, healths=health, part=q, limit=limit)
    found = [row["container"] | {"host": row["host"], "ts": row["ts"],
                                 "started_at": rfc3339(row["container"].get("started_at"))} for row in rows]
    return formats.records(wanted, "containers", found, _CONTAINER_COLUMNS)
