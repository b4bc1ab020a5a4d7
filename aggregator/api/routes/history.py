"""History: metrics of one host, one metric of many hosts, and health over time."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Response

from aggregator.analysis import downsample, health
from aggregator.analysis.downsample import Floats, Integers, Points
from aggregator.analysis.timespan import Plan, Span
from aggregator.api import figure_models, formats, parameters
from aggregator.api.backend import Backend, Ready
from aggregator.api.formats import Wanted
from aggregator.api.parameters import Asked, AskedSpan, ChosenHosts, HostName, Metrics, Rate, Word, existing
from aggregator.api.problems import invalid
from aggregator.api.security import Reader
from aggregator.store import fleet
from shared import catalogue
from shared.names import matcher

router = APIRouter(prefix="/api/v1", tags=["history"])

DEFAULT_METRICS = ("health.score", "cpu.percent", "memory.percent", "disk.percent", "disk.read_bytes_per_second",
                   "disk.write_bytes_per_second", "network.receive_bytes_per_second",
                   "network.transmit_bytes_per_second")

Aggregate = Literal["mean", "min", "max", "sum", "count"]


@router.get("/hosts/{host}/metrics", response_model=figure_models.HistoryModel)
def read_metrics(backend: Ready, _: Reader, wanted: Wanted, host: HostName, asked: Asked,
                 metric: Metrics = [], rate: Rate = False) -> Response:  # noqa: B006 (FastAPI copies it)
    """History of chosen metrics. Every point carries min, mean and max, so that no spike is lost however few there are.

    Without `metric`: the main ones. A metric that the host did not have is null.
    """
    return _history(backend, wanted, host, asked, metric or DEFAULT_METRICS, rate=rate)


@router.get("/hosts/{host}/health/history", response_model=figure_models.HistoryModel)
def read_health_history(backend: Ready, _: Reader, wanted: Wanted, host: HostName, asked: Asked) -> Response:
    """Health score and its components over time, as the metrics `health.score`, `health.cpu` and so on."""
    return _history(backend, wanted, host, asked, health.OUTPUTS)


@router.get("/series", response_model=figure_models.SeriesModel)
def read_series(
        backend: Ready, _: Reader, wanted: Wanted, chosen: ChosenHosts, asked: Asked,
        metric: Annotated[Word, Query(description="one metric", examples=["cpu.percent"])],
        agg: Annotated[Aggregate | None, Query(description="one figure for all hosts (of a group) a point")] = None,
        group_by: Annotated[Word | None, Query(description="key of a label; implies agg=mean")] = None,
        rate: Rate = False) -> Response:
    """One metric of many hosts: a series a host, or with `agg` or `group_by` one for all or for each group.

    sum, mean and count (of hosts) combine the hosts' means, min and max their extremes.
    """
    if "*" in metric:
        raise invalid("metric", "one metric, without *")
    parameters.plain_metrics([metric])
    hosts = fleet.fetch_all(backend.engine, chosen, backend.now())
    span, plan = asked.planned(backend, hosts=len(hosts))
    parameters.check_size(span, plan, hosts=len(hosts))
    points = _fetch(backend, [host.id for host in hosts], [metric], plan, span, rate=rate)
    how = agg or ("mean" if group_by else None)
    series = _by_host(hosts, points) if how is None else _by_group(hosts, points, group_by, how)
    head = {"metric": metric, "unit": _unit(metric, rate=rate), "from": span.start, "to": span.end, "step": plan.step,
            "source": plan.source, "agg": how, "group_by": group_by, "hosts": len(hosts)}
    return formats.answer(wanted, lambda: head | {"series": [one.document(plan.step) for one in series]},
                          lambda: _series_table(series, plan.step, how))


def _history(backend: Backend, wanted: formats.Format, host: str, asked: AskedSpan,
             metrics: Sequence[str], *, rate: bool = False) -> Response:
    parameters.plain_metrics(metrics)
    number = existing(backend, host)
    span, plan = asked.planned(backend)
    names = _expanded(backend, number, metrics, plan, span)
    parameters.check_size(span, plan, metrics=len(names))
    points = _fetch(backend, [number], names, plan, span, rate=rate)
    low, mean, high = (downsample.shown(values) for values in (points.low, points.mean, points.high))
    ts = times(points.ts, plan.step)

    def document() -> dict[str, Any]:
        columns = {name: {"unit": _unit(name, rate=rate), "min": low[:, n].tolist(), "mean": mean[:, n].tolist(),
                          "max": high[:, n].tolist()} for n, name in enumerate(names)}
        return {"host": host, "from": span.start, "to": span.end, "step": plan.step, "source": plan.source, "ts": ts,
                "count": points.count.tolist(), "metrics": columns}

    def rows() -> Iterator[Sequence[Any]]:
        for n, name in enumerate(names):
            columns = (values[:, n].tolist() for values in (low, mean, high))
            yield from zip(ts, [name] * len(ts), points.count.tolist(), *columns, strict=True)

    return formats.answer(wanted, document, lambda: formats.Table(("ts", "metric", "count", "min", "mean", "max"), rows()))


def _fetch(backend: Backend, hosts: Sequence[int], metrics: Sequence[str], plan: Plan, span: Span, *, rate: bool) -> Points:
    """Points as the plan wants them; rates are taken before points are merged, so that no restart is missed."""
    points = backend.history.fetch(hosts, metrics, plan.source, span)
    return downsample.bucketed(downsample.rates(downsample.bucketed(points, 0)) if rate else points, plan.step)


def _expanded(backend: Backend, host: int, metrics: Sequence[str], plan: Plan, span: Span) -> list[str]:
    """Metrics with patterns replaced by the names that the host had, each once."""
    names = [name for name in metrics if "*" not in name]
    if patterns := [name for name in metrics if "*" in name]:
        fits = matcher(patterns)
        names += [name for name in backend.history.fetch_names([host], plan.source, span) if fits.fullmatch(name)]
    names = list(dict.fromkeys(names))
    if len(names) > parameters.MAX_METRICS:
        raise invalid("metric", f"{len(names)} metrics fit; at most {parameters.MAX_METRICS} an answer: narrow the patterns")
    return names


@dataclasses.dataclass(frozen=True, slots=True)
class _Series:
    kind: str
    name: str
    ts: Integers
    values: dict[str, Floats]

    def document(self, step: int) -> dict[str, Any]:
        return {self.kind: self.name, "ts": times(self.ts, step)} | self.lists()

    def lists(self) -> dict[str, list[float]]:
        return {name: downsample.shown(values).tolist() for name, values in self.values.items()}


def _by_host(hosts: Sequence[fleet.Host], points: Points) -> list[_Series]:
    ends = np.searchsorted(points.group, np.arange(len(hosts) + 1))
    return [_Series("host", host.name, points.ts[a:b],
                    {"min": points.low[a:b, 0], "mean": points.mean[a:b, 0], "max": points.high[a:b, 0]})
            for host, a, b in zip(hosts, ends[:-1], ends[1:], strict=True) if b > a]


def _by_group(hosts: Sequence[fleet.Host], points: Points, label: str | None, how: str) -> list[_Series]:
    groups = fleet.grouped(hosts, label) if label else {"": list(hosts)}
    number = {host.id: n for n, members in enumerate(groups.values()) for host in members}
    target = np.array([number[host.id] for host in hosts], np.int64)
    group, ts, value = downsample.across(points, target, how)
    ends = np.searchsorted(group, np.arange(len(groups) + 1))
    return [_Series("group", name, ts[a:b], {"value": value[a:b]})
            for name, a, b in zip(groups, ends[:-1], ends[1:], strict=True) if b > a]


def _series_table(series: Sequence[_Series], step: int, how: str | None) -> formats.Table:
    names = ("min", "mean", "max") if how is None else ("value",)
    rows = (row for one in series for row in zip(
        [one.name] * len(one.ts), times(one.ts, step), *one.lists().values(), strict=True))
    return formats.Table(("host" if how is None else "group", "ts", *names), rows)


def times(ts: Integers, step: int) -> list[str]:
    """Microseconds as RFC 3339, in whole seconds where there is a step."""
    texts: list[str] = np.datetime_as_string(ts.astype("datetime64[us]"), unit="s" if step else "ms", timezone="UTC").tolist()
    return texts


def _unit(name: str, *, rate: bool) -> str | None:
    found = catalogue.find(name)
    return None if found is None else f"{found.unit}/s" if rate else found.unit
