"""Latest figures of every host."""

from typing import Any

from fastapi import APIRouter, Response

from aggregator.api import figure_models, formats, parameters
from aggregator.api.backend import Ready
from aggregator.api.formats import Wanted
from aggregator.api.parameters import ChosenHosts, Metrics
from aggregator.api.routes.history import DEFAULT_METRICS
from aggregator.api.security import Reader
from aggregator.store import fleet, newest

router = APIRouter(prefix="/api/v1", tags=["fleet"])


@router.get("/fleet/latest", response_model=figure_models.FleetLatestModel)
def read_fleet_latest(backend: Ready, _: Reader, wanted: Wanted, chosen: ChosenHosts,
                      metric: Metrics = []) -> Response:  # noqa: B006 (FastAPI copies it)
    """Chosen metrics of the newest sample of every host heard of within a day; without `metric`: the main ones."""
    parameters.plain_metrics(metric)
    names = {host.id: host.name for host in fleet.fetch_all(backend.engine, chosen, backend.now())}
    samples = newest.fetch_many(backend.engine, backend.layouts, list(names), backend.now(), newest.FRESH,
                                tuple(metric or DEFAULT_METRICS))
    found: list[dict[str, Any]] = [{"host": name, "ts": samples[number].ts, "values": samples[number].metrics()}
             for number, name in names.items() if number in samples]
    columns = sorted({key for keys in {id(one.keys): one.keys for one in samples.values()}.values() for key in keys})
    return formats.answer(
        wanted, lambda: {"metrics": columns, "hosts": found},
        lambda: formats.Table(("host", "ts", *columns), (
            (one["host"], one["ts"], *map(one["values"].get, columns)) for one in found)))
