"""Health now: of a host, of the fleet, and what to do about it. Scores are stored; reasons are worked out from the metrics."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response

from aggregator.analysis import health, liveness
from aggregator.api import figure_models, formats
from aggregator.api.backend import Backend, Ready
from aggregator.api.formats import Wanted
from aggregator.api.parameters import ChosenHosts, HostName, Limit, Word, existing
from aggregator.api.problems import not_found
from aggregator.api.security import Reader
from aggregator.store import anomaly_rows, fleet, newest
from shared import wire

router = APIRouter(prefix="/api/v1", tags=["health"])

STATUSES = ("healthy", "degraded", "warning", "critical", "unknown")


@router.get("/hosts/{host}/health", response_model=figure_models.HealthModel)
def read_health(backend: Ready, _: Reader, host: HostName) -> Response:
    """Score, status and components of the newest sample, with a reason for every lost point and what to do about it.

    The details of a component are the figures behind it; the disk's list every file system.
    """
    sample = newest.fetch(backend.engine, backend.layouts, existing(backend, host))
    if sample is None:
        raise not_found("sample yet of host", host)
    found = health.assess(host, sample.ts.timestamp(), sample.metrics(), backend.profile())
    if found is None:
        return formats.json_answer({"host": host, "ts": sample.ts, "score": None, "status": "unknown", "components": {},
                                    "reasons": [], "recommendations": ["The host sends no metric that can be scored."]})
    document = msgspec.to_builtins(_with_anomalies(backend, [(sample.host_id, found)])[0])
    if (disk := document["components"].get("disk")) is not None:
        disk["details"] |= {key: value for key, value in sample.metrics().items() if key.startswith("disk.percent{")}
    document.pop("v")
    return formats.json_answer(document | {"ts": sample.ts})


@router.get("/fleet/health", response_model=figure_models.FleetHealthModel)
def read_fleet_health(
        backend: Ready, _: Reader, chosen: ChosenHosts,
        worst: Annotated[int, Query(ge=0, le=100, description="how many of the worst hosts")] = 10,
        group_by: Annotated[Word | None, Query(description="key of a label")] = None) -> Response:
    """Mean score, hosts by state and status, the worst hosts and why; optionally by the value of a label."""
    hosts = fleet.fetch_all(backend.engine, chosen, backend.now())
    groups = fleet.grouped(hosts, group_by) if group_by else {}
    return formats.json_answer(
        {"ts": backend.now()} | _summary(hosts) | {"worst": _worst(backend, hosts, worst)}
        | {"groups": [{"group": name} | _summary(members) for name, members in groups.items()]})


@router.get("/recommendations", response_model=figure_models.RecommendationsModel)
def list_recommendations(backend: Ready, _: Reader, wanted: Wanted, chosen: ChosenHosts,
                         limit: Limit = 100) -> Response:
    """What to do, for the hosts with the lowest scores first; hosts for which nothing needs doing are left out."""
    hosts = _by_score(fleet.fetch_all(backend.engine, chosen, backend.now()))
    found = [{"host": host.name, "score": verdict.score, "status": host.status, "recommendation": text}
             for host, verdict in _verdicts(backend, hosts[:limit]) for text in verdict.recommendations
             if text != health.ALL_WELL]
    return formats.records(wanted, "recommendations", found[:limit], ("host", "score", "status", "recommendation"))


def _summary(hosts: Sequence[fleet.Host]) -> dict[str, Any]:
    live = [host for host in hosts if host.state in liveness.LIVE]
    scores = [host.score for host in live if host.score is not None]
    return {"score": round(sum(scores) / len(scores), 2) if scores else None, "hosts": len(hosts), "online": len(live),
            "by_state": {state: sum(host.state == state for host in hosts) for state in liveness.STATES},
            "by_status": {word: sum(host.status == word for host in live) for word in STATUSES}}


def _by_score(hosts: Sequence[fleet.Host]) -> list[fleet.Host]:
    live = (host for host in hosts if host.state in liveness.LIVE and host.score is not None)
    return sorted(live, key=lambda host: (host.score or 0.0, host.name))


def _worst(backend: Backend, hosts: Sequence[fleet.Host], count: int) -> list[dict[str, Any]]:
    return [{"host": host.name, "score": verdict.score, "status": verdict.status,
             "reasons": [f"{loss.component}: {loss.text}" for loss in verdict.reasons[:3]]}
            for host, verdict in _verdicts(backend, _by_score(hosts)[:count])]


def _verdicts(backend: Backend, hosts: Sequence[fleet.Host]) -> list[tuple[fleet.Host, wire.Health]]:
    samples = newest.fetch_many(backend.engine, backend.layouts, [host.id for host in hosts], backend.now(), newest.FRESH)
    told = [(host, samples[host.id]) for host in hosts if host.id in samples]
    verdicts = health.assess_all(
        [(host.name, sample.ts.timestamp(), sample.metrics()) for host, sample in told], backend.profile())
    found = [(host, verdict) for (host, _), verdict in zip(told, verdicts, strict=True) if verdict is not None]
    full = _with_anomalies(backend, [(host.id, verdict) for host, verdict in found])
    return [(host, verdict) for (host, _), verdict in zip(found, full, strict=True)]


def _with_anomalies(backend: Backend, found: Sequence[tuple[int, wire.Health]]) -> list[wire.Health]:
    """Health by host id with the open anomalies among the reasons."""
    unusual = anomaly_rows.fetch_open(backend.engine, [host_id for host_id, _ in found])
    return [health.with_anomaly(one, *unusual[host_id]) if host_id in unusual else one for host_id, one in found]
