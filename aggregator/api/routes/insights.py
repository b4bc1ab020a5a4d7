"""Insights in plain sentences with their evidence, and the story of a time on a host."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from aggregator.analysis.insights import Insight, Kind
from aggregator.api import analytics, analytics_models, discovering, formats, moments
from aggregator.api.analytics import At, Duration
from aggregator.api.backend import Ready
from aggregator.api.formats import Wanted
from aggregator.api.parameters import ChosenHosts, HostName, existing
from aggregator.api.security import Reader
from aggregator.store import fleet

router = APIRouter(prefix="/api/v1", tags=["analytics"])

_COLUMNS = ("kind", "host", "weight", "text", "recommendation")


@router.get("/insights", response_model=analytics_models.InsightsModel)
def list_insights(
        backend: Ready, _: Reader, wanted: Wanted, chosen: ChosenHosts,
        kind: Annotated[list[Kind], Query(max_length=6, description="only these")] = [],  # noqa: B006 (FastAPI copies it)
        at: At = None,
        limit: Annotated[int, Query(ge=1, le=1000, description="how many of the weightiest")] = 50) -> Response:
    """What stands out on a host or in the fleet, in sentences, each with the figures that it rests on.

    What changed against the same time last week, what is full soon, hosts unlike their peers, daily peaks, rules that fire
    much, and anomalies. `recommendation` says what follows.
    """
    hosts, now = analytics.chosen(backend, chosen), analytics.instant(backend, at, "at")
    found = [one for one in discovering.fetch(backend, hosts, now) if not kind or one.kind in kind]
    return formats.records(wanted, "insights", [shown(one) for one in found[:limit]], _COLUMNS, at=now, hosts=len(hosts),
                           total=len(found))


@router.get("/hosts/{host}/explanation", response_model=analytics_models.MomentModel)
def explain(backend: Ready, _: Reader, host: HostName, at: At = None,
            window: Annotated[Duration, Query(description="length of the span around it, like 30m or 2h")] = "1h") -> Response:
    """What was unusual on a host around a time, what moved together, and its anomalies, alerts and executions of then."""
    existing(backend, host)
    seconds = min(analytics.seconds(window, "window"), 7 * 86_400)
    one = fleet.fetch_all(backend.engine, fleet.Filter(names=(host,)), backend.now())[0]
    return formats.json_answer(moments.answer(backend, one, analytics.instant(backend, at, "at"), seconds))


def shown(one: Insight) -> dict[str, Any]:
    """An insight as the API answers it."""
    return {"kind": one.kind, "host": one.host, "text": one.text, "weight": one.weight, "recommendation": one.recommendation,
            "evidence": [{"host": part.host, "metric": part.metric, "from": part.start, "to": part.end, "figures": part.figures}
                         for part in one.evidence]}
