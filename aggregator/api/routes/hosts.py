"""Hosts: the list, one of them, and what is known of it now."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from aggregator.api import formats, models
from aggregator.api.backend import Backend, Ready
from aggregator.api.formats import Wanted
from aggregator.api.parameters import ChosenHosts, Cursor, HostName, Limit, before, cursor, existing, opened, rfc3339
from aggregator.api.problems import invalid, not_found
from aggregator.api.security import Admin, Reader
from aggregator.store import details, fleet, newest
from shared.names import is_host

router = APIRouter(prefix="/api/v1", tags=["hosts"])

Sort = Literal["name", "score", "last_seen", "cpu", "memory", "disk",
               "-name", "-score", "-last_seen", "-cpu", "-memory", "-disk"]
ProcessSort = Literal["cpu", "memory", "io"]

_PROCESS_KEYS: dict[str, str] = {"cpu": "cpu_percent", "memory": "memory_bytes", "io": "io_bytes_per_second"}
_HOST_COLUMNS = tuple(models.HostModel.model_fields)
_GAP_COLUMNS = ("id", "host", "epoch", "from_seq", "to_seq", "samples", "reason", "noticed_at")
_CONTAINER_COLUMNS = ("name", "state", "health", "image", "cpu_percent", "memory_bytes", "restarts", "started_at",
                      "should_run", "ports", "id")
_PROCESS_COLUMNS = ("pid", "name", "user", "cpu_percent", "memory_bytes", "memory_percent", "io_bytes_per_second",
                    "threads", "state", "started_at", "command")
_SENSOR_COLUMNS = ("kind", "group", "label", "current", "high", "critical")


def shown(host: fleet.Host) -> dict[str, Any]:
    """A host as lists show it."""
    return {"name": host.name, "state": host.state, "status": host.status,
            "score": None if host.score is None else round(host.score, 2),
            "cpu_percent": host.cpu, "memory_percent": host.memory, "disk_percent": host.disk,
            "last_seen_at": host.ts, "received_at": host.received_at, "interval_seconds": host.interval,
            "labels": host.labels, "agent_version": host.agent_version, "first_seen_at": host.first_seen_at,
            "state_reason": host.state_reason, "state_at": host.state_at}


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
def delete_host(backend: Ready, _: Admin, host: HostName) -> Response:
    """Delete a host and all of its history. If its agent still sends, it comes back as a new one."""
    if not is_host(host) or not fleet.delete(backend.engine, host):
        raise not_found("host", host)
    return Response(status_code=204)


@router.get("/hosts/{host}/inventory")
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


@router.get("/hosts/{host}/containers", response_model=models.ContainersModel)
def read_containers(backend: Ready, _: Reader, wanted: Wanted, host: HostName) -> Response:
    """Latest snapshot of the containers, by name."""
    payload, ts = _snapshot(backend, host, "containers")
    containers = sorted((_container(one) for one in payload.get("containers", [])), key=lambda one: str(one["name"]))
    return formats.records(
        wanted, "containers", containers, _CONTAINER_COLUMNS, host=host, ts=ts, available=ts is not None,
        reason="" if ts else _why_absent(backend, host, "docker"), total=payload.get("total") or len(containers))


@router.get("/hosts/{host}/processes", response_model=models.ProcessesModel)
def read_processes(backend: Ready, _: Reader, wanted: Wanted, host: HostName, sort: ProcessSort = "cpu",
                   limit: Annotated[int, Query(ge=1, le=50)] = 10) -> Response:
    """Foremost processes of the latest snapshot, by CPU, memory or I/O."""
    payload, ts = _snapshot(backend, host, "processes")
    key = _PROCESS_KEYS[sort]
    foremost = sorted(payload.get("processes", []), key=lambda one: -(one.get(key) or 0.0))[:limit]
    found = [one | {"started_at": rfc3339(one.get("started_at") or None)} for one in foremost]
    return formats.records(wanted, "processes", found, _PROCESS_COLUMNS, host=host, ts=ts, sort=sort,
                           total=payload.get("total", 0))


@router.get("/hosts/{host}/sensors", response_model=models.SensorsModel)
def read_sensors(backend: Ready, _: Reader, wanted: Wanted, host: HostName) -> Response:
    """Temperatures (celsius) and fans (rpm) of the latest snapshot; `reason` says why there are none."""
    payload, ts = _snapshot(backend, host, "sensors")
    return formats.records(
        wanted, "sensors", payload.get("sensors", []), _SENSOR_COLUMNS, host=host, ts=ts,
        available=bool(payload.get("available")),
        reason=payload.get("reason", "") if ts else _why_absent(backend, host, "sensors"))


@router.get("/hosts/{host}/gaps", response_model=models.GapsModel)
def read_gaps(backend: Ready, _: Reader, wanted: Wanted, host: HostName, limit: Limit = 100,
              page: Annotated[Cursor, Query(alias="cursor")] = None) -> Response:
    """Losses: seqs that the agent had to drop and that will never come, newest first."""
    existing(backend, host)
    gaps = details.fetch_gaps(backend.engine, host, before(page), limit)
    following = cursor([gaps[-1]["id"]]) if len(gaps) == limit else None
    return formats.records(wanted, "gaps", gaps, _GAP_COLUMNS, next_cursor=following)


def _snapshot(backend: Backend, host: str, kind: str) -> tuple[dict[str, Any], Any]:
    existing(backend, host)
    payload, ts = details.fetch_snapshot(backend.engine, host, kind)
    return payload or {}, ts


def _why_absent(backend: Backend, host: str, collector: str) -> str:
    inventory, _ = details.fetch_inventory(backend.engine, host)
    states = (inventory or {}).get("collectors") or []
    said = next((state.get("reason") for state in states if state.get("name") == collector), "")
    return said or "no snapshot has come yet"


def _container(container: dict[str, Any]) -> dict[str, Any]:
    return container | {"name": container.get("name", ""), "started_at": rfc3339(container.get("started_at"))}
