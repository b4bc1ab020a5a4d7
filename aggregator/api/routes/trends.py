"""Trends of a metric over windows, and what moved together."""

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from aggregator.analysis import timespan
from aggregator.analysis.timespan import Span
from aggregator.api import analytics, analytics_models, correlating, formats, parameters, trending
from aggregator.api.analytics import At, Duration
from aggregator.api.backend import Backend, Ready
from aggregator.api.discovering import FILLING
from aggregator.api.formats import Wanted
from aggregator.api.parameters import ChosenHosts, Word, existing
from aggregator.api.problems import invalid
from aggregator.api.routes.history import DEFAULT_METRICS
from aggregator.api.security import Reader
from aggregator.store import fleet
from shared import catalogue

router = APIRouter(prefix="/api/v1", tags=["analytics"])

WINDOWS = ("1h", "6h", "24h", "7d")
MOST_SERIES = 20
_COLUMNS = tuple(field.alias or name for name, field in analytics_models.TrendModel.model_fields.items())


@router.get("/trends", response_model=analytics_models.TrendsModel)
def read_trends(
        backend: Ready, _: Reader, wanted: Wanted, chosen: ChosenHosts,
        metric: Annotated[Word, Query(description="one metric", examples=["disk.percent"])],
        window: Annotated[list[Duration], Query(max_length=6, description="how far to look back, like 90m, 24h or 7d; may be "
                                                                          "repeated; 1h, 6h, 24h and 7d where missing")] = [],  # noqa: B006
        at: At = None,
        threshold: Annotated[float | None, Query(
            ge=-1e15, le=1e15, allow_inf_nan=False, description="when is it reached? 100 for percentages where missing")] = None,
        points: Annotated[bool, Query(description="values and moving averages, too, of up to 20 hosts")] = False) -> Response:
    """Where a metric is heading: direction, slope, per cent change, forecast, time to a threshold; a row a host and window.

    The direction is told only where the slope is more than chance, given how much the metric resembles its own past.
    """
    if "*" in metric:
        raise invalid("metric", "one metric, without *")
    parameters.plain_metrics([metric])
    hosts, now = analytics.chosen(backend, chosen), analytics.instant(backend, at, "at")
    limit = trending.default_threshold(metric) if threshold is None else threshold
    windows = [trending.fetch_window(backend, hosts, metric, name, now, limit) for name in dict.fromkeys(window or WINDOWS)]
    found = [row for one in windows for row in trending.rows(one, limit)]
    if not chosen.names:
        had = {row["host"] for row in found if row["points"]}
        found = [row for row in found if row["host"] in had]
    unit = catalogue.find(metric)
    return formats.records(wanted, "trends", found, _COLUMNS, metric=metric, unit=unit and unit.unit, series=[
        one for each in windows for one in trending.series(each)[:MOST_SERIES]] if points else [])


@router.get("/correlations", response_model=analytics_models.CorrelationsModel)
def read_correlations(
        backend: Ready, _: Reader,
        metric: Annotated[Word, Query(description="one metric", examples=["cpu.percent"])],
        host: Annotated[Word, Query(description="name of a host")],
        around: Annotated[str | None, Query(max_length=40, description="the middle of the span, RFC 3339; it ends now where "
                                                                       "missing")] = None,
        window: Annotated[Duration, Query(description="length of the span, like 90m or 6h")] = "2h",
        scope: Annotated[Literal["host", "fleet"], Query(description="host: all its metrics; fleet: this and the main metrics of "
                                                                     "every host")] = "host",
        lags: Annotated[int, Query(ge=0, le=60, description="steps either way that are tried")] = 10,
        limit: Annotated[int, Query(ge=1, le=1000, description="how many of the strongest")] = 20) -> Response:
    """What moved together around a time, the surest first, with the lag at which it did."""
    own = _own(backend, host)
    hosts = own if scope == "host" else _with(own, analytics.chosen(backend, fleet.Filter()))
    main = [metric, *DEFAULT_METRICS]
    patterns = ["*"] if scope == "host" else main if len(hosts) * len(main) <= analytics.MAX_SERIES else [metric]
    span = _around(backend, around, analytics.seconds(window, "window"))
    return formats.json_answer(correlating.answer(backend, (host, metric), hosts, patterns, span, lags, limit))


@router.get("/forecasts", response_model=analytics_models.ForecastsModel)
def read_forecasts(
        backend: Ready, _: Reader, wanted: Wanted, chosen: ChosenHosts,
        metric: Annotated[list[Word], Query(max_length=20, description="names, or patterns with `*`; file systems where "
                                                                       "missing")] = [],  # noqa: B006 (FastAPI copies it)
        target: Annotated[float, Query(
            ge=-1e15, le=1e15, allow_inf_nan=False, description="the value that is waited for")] = 100.0) -> Response:
    """When a metric reaches a value at its present pace, by the last three days; the soonest first.

    What does not move towards it for sure is left out. Rules of kind `forecast` see it the same way.
    """
    rows = trending.forecasts(backend, analytics.chosen(backend, chosen), metric or list(FILLING), target)
    return formats.records(wanted, "forecasts", rows, tuple(analytics_models.LeftModel.model_fields), target=target)


@router.post("/correlation-runs", response_model=analytics_models.CorrelationsModel)
def run_correlations(backend: Ready, _: Reader, asked: analytics_models.AskedCorrelationsModel) -> Response:
    """Compare a metric with chosen metrics of chosen hosts over any span. Nothing is stored."""
    span = timespan.span(asked.range, asked.start, asked.to, backend.now())
    others = analytics.chosen(backend, fleet.Filter(names=tuple(asked.hosts))) if asked.hosts else []
    hosts = _with(_own(backend, asked.host), others)
    return formats.json_answer(correlating.answer(
        backend, (asked.host, asked.metric), hosts, asked.metrics, span, asked.lags, asked.limit))


def _own(backend: Backend, host: str) -> list[fleet.Host]:
    existing(backend, host)
    return fleet.fetch_all(backend.engine, fleet.Filter(names=(host,)), backend.now())


def _with(own: list[fleet.Host], others: list[fleet.Host]) -> list[fleet.Host]:
    return [*own, *(host for host in others if host.id != own[0].id)]


def _around(backend: Backend, around: str | None, seconds: int) -> Span:
    """A span of so many seconds around a time; one that would reach into the future ends now."""
    if around is None:
        return Span(backend.now() - timedelta(seconds=seconds), backend.now())
    end = min(analytics.instant(backend, around, "around") + timedelta(seconds=seconds / 2), backend.now())
    return Span(end - timedelta(seconds=seconds), end)
