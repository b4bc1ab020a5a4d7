"""Hosts: the list, one of them, and what is known of it now."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Response

from aggregator.api import formats, models
from aggregator.api.backend import Backend, Ready
from aggregator.api.formats import Wanted
from aggregator.api.parameters import ChosenHosts, Cursor, HostName, Limit, before, cursor, existing, opened, rfc3339
from aggregator.api.problems import invalid, not_found
from aggregator.api.security import Admin, Reader
from aggregator.store import details, fleet, newest
from shared import wire
from shared.names import is_host, split_metric

router = APIRouter(prefix="/api/v1", tags=["hosts"])

Sort = Literal["name", "score", "last_seen", "cpu", "memory", "disk",
               "-name", "-score", "-last_seen", "-cpu", "-memory", "-disk"]
ProcessSort = Literal["cpu", "memory", "io"]

_PROCESS_KEYS: dict[str, str] = {"cpu": "cpu_percent", "memory": "memory_bytes", "io": "io_bytes_per_second"}
_HOST_COLUMNS = tuple(models.HostModel.model_fields)
_GAP_COLUMNS = tuple(models.GapModel.model_fields)
_PROCESS_COLUMNS = tuple(models.ProcessModel.model_fields)
_SENSOR_COLUMNS = tuple(models.SensorModel.model_fields)


def shown(host: fleet.Host) -> dict[str, Any]:
    """A host as lists show it."""
    return {"name": host.name, "state": host.state, "status": host.status,
            "score": None if host.score is None else round(host.score, 2),
            "cpu_percent": host.cpu, "memory_percent": host.memory, "disk_percent": host.disk,
            "last_seen_at": host.ts, "received_at": host.received_at, "interval_seconds": host.interval,
            "labels": host.labels, "agent_version": host.agent_version, "first_seen_at": host.first_seen_at,
            "state_reason": host.state_reason, "state_at": host.state_at, "alerts": host.alerts, "worst_alert": host.worst_alert}


@router.get("/hosts", response_model=models.HostsModel)
def list_hosts(backend: Ready, _: Reader, wanted: Wanted, chosen: ChosenHosts, sort: Sort = "name",
               limit: Limit = 100, page: Annotated[Cursor, Query(alias="cursor")] = None) -> Response:
    """Hosts with state and main figures. A minus before the sort key turns it round; hosts without the figure come last."""
    now, after = backend.now(), None
    if (parts := opened(page, tuple[str, str, str])) is not None:
        if parts[0] != sort:
            raise invalid("cursor", f"it belongs to sort={parts[0]}")
        after = fleet.Position(*parts[1:])
    try:
        hosts, following = fleet.fetch_page(backend.engine, chosen, now, sort=sort.lstrip("-"),
                                            descending=sort.startswith("-"), limit=limit, after=after)
    except fleet.PositionError:
        raise invalid("cursor", "this is no cursor of this list; begin without one") from None
    total = len(hosts) if page is None and following is None else fleet.fetch_count(backend.engine, chosen, now)
    return formats.records(wanted, "hosts", [shown(host) for host in hosts], _HOST_COLUMNS, total=total,
                           next_cursor=following and cursor([sort, *following]))


@router.get("/hosts/{host}", response_model=models.HostModel)
def read_host(backend: Ready, _: Reader, host: HostName) -> Response:
    """One host."""
    found = fleet.fetch_one(backend.engine, host, backend.now()) if is_host(host) else None
    if found is None:
        raise not_found("host", host)
    return formats.json_answer(shown(found))


@router.delete("/hosts/{host}", status_code=204)
def delete_host(backend: Ready, token: Admin, host: HostName) -> Response:
    """Delete a host and all of its history. If its agent still sends, it comes back as a new one."""
    if not is_host(host) or not fleet.delete(backend.engine, host, token.name):
        raise not_found("host", host)
    return Response(status_code=204)


@router.get("/hosts/{host}/inventory", response_model=models.InventoryModel)
def read_inventory(backend: Ready, _: Reader, host: HostName) -> Response:
    """What the host is: hardware, system, file systems, interfaces, GPUs, and which collectors run or why not.

    The fields are those of `/api/v1/schemas/inventory`, with times in RFC 3339.
    """
    existing(backend, host)
    inventory, received_at = details.fetch_inventory(backend.engine, host)
    if inventory is None:
        raise not_found("inventory yet of host", host)
    times = {name: rfc3339(inventory.get(name)) for name in ("ts", "boot_at")}
    return formats.json_answer(inventory | times | {"received_at": received_at})


@router.get("/hosts/{host}/latest", response_model=models.LatestModel)
def read_latest(backend: Ready, _: Reader, wanted: Wanted, host: HostName) -> Response:
    """Every metric of the newest sample."""
    sample = newest.fetch(backend.engine, backend.layouts, existing(backend, host))
    if sample is None:
        raise not_found("sample yet of host", host)
    return formats.answer(
        wanted, lambda: {"host": host, "ts": sample.ts, "received_at": sample.received_at, "metrics": sample.metrics()},
        lambda: formats.Table(("ts", "metric", "value"), ((sample.ts, *pair) for pair in sample.metrics().items())))


@router.get("/hosts/{host}/processes", response_model=models.ProcessesModel)
def read_processes(backend: Ready, _: Reader, wanted: Wanted, host: HostName, sort: ProcessSort = "cpu",
                   limit: Annotated[int, Query(ge=1, le=50)] = 10) -> Response:
    """Foremost processes of the latest snapshot, by CPU, memory or I/O."""
    payload, ts = fetch_snapshot(backend, host, "processes")
    processes = msgspec.convert(payload.get("processes", []), list[wire.Process])
    foremost = sorted(processes, key=lambda one: -(getattr(one, _PROCESS_KEYS[sort]) or 0.0))[:limit]
    found = [msgspec.structs.asdict(one) | {"started_at": rfc3339(one.started_at or None)} for one in foremost]
    return formats.records(wanted, "processes", found, _PROCESS_COLUMNS, host=host, ts=ts, sort=sort,
                           total=payload.get("total", 0))


@router.get("/hosts/{host}/sensors", response_model=models.SensorsModel)
def read_sensors(backend: Ready, _: Reader, wanted: Wanted, host: HostName) -> Response:
    """Temperatures (celsius) and fans (rpm), graphics cards included; `reason` says why there are none."""
    payload, ts = fetch_snapshot(backend, host, "sensors")
    cards = _card_temperatures(newest.fetch(backend.engine, backend.layouts, existing(backend, host)))
    found = [msgspec.structs.asdict(one) for one in msgspec.convert(payload.get("sensors", []), list[wire.Sensor]) + cards]
    said = payload.get("reason", "") if ts else why_absent(backend, host, "sensors")
    return formats.records(wanted, "sensors", found, _SENSOR_COLUMNS, host=host, ts=ts,
                           available=bool(payload.get("available") or cards), reason="" if cards else said)


@router.get("/hosts/{host}/gaps", response_model=models.GapsModel)
def read_gaps(backend: Ready, _: Reader, wanted: Wanted, host: HostName, limit: Limit = 100,
              page: Annotated[Cursor, Query(alias="cursor")] = None) -> Response:
    """Losses: seqs that the agent had to drop and that will never come, newest first; what came late but whole; its spools."""
    number = existing(backend, host)
    gaps = details.fetch_gaps(backend.engine, host, before(page), limit)
    following = cursor([gaps[-1]["id"]]) if len(gaps) == limit else None
    more = {} if wanted != "json" else {"backfills": details.fetch_backfills(backend.engine, number, backend.now()),
                                        "epochs": details.fetch_epochs(backend.engine, number)}
    return formats.records(wanted, "gaps", gaps, _GAP_COLUMNS, **more, next_cursor=following)


def _card_temperatures(sample: newest.Newest | None) -> list[wire.Sensor]:
    """Graphics cards as sensors, from the newest sample: they are no chips that the sensors' collector reads."""
    splits = [(split_metric(name), value) for name, value in (sample.metrics().items() if sample else ())]
    return [wire.Sensor(kind="temperature", group="gpu", label=split[1]["gpu"], current=value)
            for split, value in splits if split and split[0] == "gpu.temperature_celsius" and "gpu" in split[1]]


def fetch_snapshot(backend: Backend, host: str, kind: str) -> tuple[dict[str, Any], datetime | None]:
    """Latest snapshot of one kind and its time; empty where none came yet. Raises a 404."""
    existing(backend, host)
    payload, ts = details.fetch_snapshot(backend.engine, host, kind)
    return payload or {}, ts


def why_absent(backend: Backend, host: str, collector: str) -> str:
    """What the collector said of why it has nothing."""
    inventory, _ = details.fetch_inventory(backend.engine, host)
    states = (inventory or {}).get("collectors") or []
    said = next((state.get("reason") for state in states if state.get("name") == collector), "")
    return said or "no snapshot has come yet"
