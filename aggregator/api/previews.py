"""The preview of a rule: which hosts it concerns, their history as a grid, and what the rule would have done over it."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aggregator.analysis import downsample, matching, preview, timespan
from aggregator.analysis.preview import Floats, Limits
from aggregator.analysis.rules import Override, Rule, instance_of, instance_text
from aggregator.analysis.timespan import Span
from aggregator.api.backend import Backend
from aggregator.api.parameters import rfc3339
from aggregator.api.problems import invalid
from aggregator.api.rule_models import AskedPreviewModel
from aggregator.live import engine, variants
from aggregator.store import fleet, rules
from shared import catalogue
from shared.names import split_metric
from shared.wire import SEVERITIES

SHORT_SECONDS, SHORT_STEP = 7200, 5
"""Spans up to this are tried on raw history, in steps of 5 s; longer ones on minutes."""
LONGEST_SECONDS = 31 * 86_400
MAX_HOSTS, MAX_SERIES, MAX_RESULTS = 2000, 1000, 1000
MAX_READINGS = 12_000_000
"""Steps of all series together: one takes about 50 bytes while it is judged."""
HOSTS_AT_ONCE, NAMES_AT_ONCE = 10, 200

_KINDS = {"forecast": "it needs fits over a past that is not kept", "baseline": "it needs baselines of the past",
          "state": "snapshots of containers are not kept over time", "missing": "presence is not kept step by step",
          "host_down": "silence is judged by the moment of arrival",
          "mass_silence": "silence is judged by the moment of arrival", "reboot": "see the reboots in system.uptime_seconds",
          "event": "it depends on what others tell", "composite": "preview the rules that it is made of"}


@dataclasses.dataclass(frozen=True, slots=True)
class _Series:
    host: fleet.Host
    name: str
    rule: Rule
    low: NDArray[np.float32]
    high: NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True)
class _Grid:
    """`count` steps of `step` seconds from `start` (Unix s), read from `source`."""

    start: int
    step: int
    count: int
    source: str

    @property
    def span(self) -> Span:
        first, last = rfc3339(self.start), rfc3339(self.start + self.step * self.count)
        assert first is not None  # noqa: S101 (a span is made of times)
        assert last is not None  # noqa: S101
        return Span(first, last)

    def times(self) -> Floats:
        return self.start + self.step * np.arange(self.count, dtype=np.float64)


def answer(backend: Backend, rule: Rule, asked: AskedPreviewModel) -> dict[str, Any]:
    """What `rule` would have done, as the API answers it. Raises SpanError and 422s."""
    if rule.kind in _KINDS:
        raise invalid("rule.kind", f"{rule.kind} rules cannot be tried on history: {_KINDS[rule.kind]}; threshold and rate can")
    grid = _grid(timespan.span(asked.range, asked.start, asked.to, backend.now(), default="7d"), _window(rule))
    if rule.kind == "rate" and rule.window < 2 * grid.step:
        raise invalid("rule.window", f"history has steps of {grid.step} s here; a window needs two of them, or a shorter range")
    chosen = _hosts(backend, rule, asked)
    found, known = list[_Series](), 0
    for i in range(0, len(chosen), HOSTS_AT_ONCE):
        series, number = _read(backend, chosen[i:i + HOSTS_AT_ONCE], grid)
        found, known = found + series, known + number
        if len(found) > (most := min(MAX_SERIES, MAX_READINGS // grid.count)):
            raise invalid("hosts", f"more than {most} series pass a threshold: ask for fewer hosts or a shorter span")
    return {"from": grid.span.start, "to": grid.span.end, "step": grid.step, "source": grid.source, "hosts": len(chosen),
            "series": known} | _judged(found, grid) | {"notes": _notes(rule, grid)}


def _window(rule: Rule) -> float:
    """How far before the span history is read (s)."""
    return rule.window if rule.kind == "rate" else 0.0


def _grid(span: Span, window: float) -> _Grid:
    if span.seconds + window > LONGEST_SECONDS:
        raise timespan.SpanError("from", f"at most {LONGEST_SECONDS // 86_400} days, the window of a rate before them included")
    step, source = (SHORT_STEP, "raw") if span.seconds + window <= SHORT_SECONDS else (60, "rollup_1m")
    start = int(span.start.timestamp()) // step * step
    return _Grid(start, step, max(1, int(span.end.timestamp() - start) // step), source)


def _hosts(backend: Backend, rule: Rule, asked: AskedPreviewModel) -> list[tuple[fleet.Host, Rule]]:
    """The hosts that are asked for and that the rule selects, and the rule as each has it."""
    wanted = fleet.Filter(names=tuple(asked.hosts), labels={key: None if value == "*" else value
                                                            for key, value in asked.labels.items()})
    hosts = fleet.fetch_all(backend.engine, wanted, backend.now())
    if missing := sorted({*asked.hosts} - {host.name for host in hosts}) if not asked.labels else []:
        raise invalid("hosts", f"there is no host {missing[0][:63]!r}")
    overrides: Mapping[int, Override] = rules.fetch_rule_overrides(backend.engine, rule.name)
    found = [(host, overrides[host.id].applied(rule) if host.id in overrides else rule) for host in hosts
             if matching.fits_labels(rule.selector, host.labels) and matching.fits_any(rule.hosts, host.name)]
    found = [(host, own) for host, own in found if own.enabled or own is rule]
    if len(found) > MAX_HOSTS:
        raise invalid("hosts", f"{len(found)} hosts fit, at most {MAX_HOSTS} are tried: name some, or a label")
    return found


def _read(backend: Backend, chosen: Sequence[tuple[fleet.Host, Rule]], grid: _Grid) -> tuple[list[_Series], int]:
    """The series of some hosts that pass a threshold at all, and how many series the hosts have."""
    rule = chosen[0][1]
    names, ids = _names(backend, rule, [host.id for host, _ in chosen], grid), [host.id for host, _ in chosen]
    if len(ids) > 1 and len(ids) * len(names) * grid.count > MAX_READINGS:
        halves = [_read(backend, part, grid) for part in (chosen[:len(ids) // 2], chosen[len(ids) // 2:])]
        return [one for series, _ in halves for one in series], sum(known for _, known in halves)
    if len(names) > NAMES_AT_ONCE:
        raise invalid("rule.metric", f"more than {NAMES_AT_ONCE} instances on {len(chosen)} hosts: ask for fewer hosts")
    lows = np.array([min(variants.limits(own).thresholds) for _, own in chosen])
    sign = variants.limits(rule).sign
    if rule.kind == "threshold" and grid.source != "raw":
        worst = _worst(backend.history.fetch(ids, names, "rollup_1h", grid.span), len(ids), len(names), sign)
        passes = worst >= lows[:, None]
        hot = np.flatnonzero(passes.any(axis=1)), np.flatnonzero(passes.any(axis=0))
        known = int(np.isfinite(worst).sum())
    else:
        hot, known = (np.arange(len(ids)), np.arange(len(names))), -1
    kept = [(chosen[i], [names[n] for n in hot[1]]) for i in hot[0].tolist()]
    series = list(_gridded(backend, kept, grid)) if kept and len(hot[1]) else []
    return [one for one in series if _passes(one, sign)], len(series) if known < 0 else known


def _names(backend: Backend, rule: Rule, ids: Sequence[int], grid: _Grid) -> list[str]:
    if not rule.is_per_instance:
        return [rule.metric]
    every = backend.history.fetch_names(ids, "raw" if grid.source == "raw" else "rollup_1h", grid.span)
    return [name for name in every if instance_of(rule.metric, name) is not None]


def _worst(points: downsample.Points, hosts: int, names: int, sign: float) -> Floats:
    """(hosts, names) the worst reading of the span, -inf where there is none."""
    found = np.full((hosts, names), -np.inf)
    values = (points.high if sign > 0 else points.low) * sign
    np.maximum.at(found, points.group, np.where(np.isnan(values), -np.inf, values))
    return found


def _gridded(backend: Backend, kept: Sequence[tuple[tuple[fleet.Host, Rule], list[str]]], grid: _Grid) -> Iterator[_Series]:
    names, rule = kept[0][1], kept[0][0][1]
    before = round(_window(rule) / grid.step)
    span = Span(grid.span.start - timedelta(seconds=before * grid.step), grid.span.end)
    points = downsample.bucketed(backend.history.fetch([host.id for (host, _), _ in kept], names, grid.source, span), grid.step)
    column = (points.ts // downsample.SECOND - grid.start) // grid.step + before
    is_inside = (column >= 0) & (column < grid.count + before)
    points, column = downsample.chosen(points, is_inside), column[is_inside]
    for number, ((host, own), _) in enumerate(kept):
        rows = np.flatnonzero(points.group == number)
        for n, name in enumerate(names):
            low, high = (np.full(grid.count + before, np.nan, np.float32) for _ in range(2))
            low[column[rows]], high[column[rows]] = points.low[rows, n], points.high[rows, n]
            if np.isnan(high).all():
                continue
            if before:
                low = high = preview.changes(high, before, is_counter=catalogue.is_counter(name))
            yield _Series(host, name, own, low, high)


def _passes(series: _Series, sign: float) -> bool:
    worst = np.fmax(series.low * sign, series.high * sign)
    return bool((worst >= min(variants.limits(series.rule).thresholds)).any())


def _judged(found: Sequence[_Series], grid: _Grid) -> dict[str, Any]:
    """What happened to the series, in all and one by one."""
    if not found:
        return {"fired": 0, "affected_hosts": 0, "total_seconds": 0.0, "longest_seconds": 0.0, "suggested_for": None,
                "fired_with_suggested": None, "results": []}
    times, limits = grid.times(), _limits([one.rule for one in found])
    patience = _patience(found, grid)
    low, high = (preview.filled(np.array([getattr(one, side) for one in found]), patience) for side in ("low", "high"))
    levels = preview.levels(low, high, times, limits)
    outcomes = preview.outcomes(levels, low, high, times, grid.step, limits)
    outcomes.sort(key=lambda one: (-one.fired, -one.total_seconds))
    fired = preview.fired(levels)
    rows = np.array([one.series for one in outcomes], np.intp)
    some = limits.chosen(rows)

    def count(hold: float) -> int:
        return preview.fired(preview.levels(low[rows], high[rows], times,
                                            dataclasses.replace(some, hold=np.full(len(rows), hold))))

    better = preview.suggested_for(count, found[0].rule.for_, fired) if fired > 1 else None
    return {"fired": fired, "affected_hosts": len({found[one.series].host.id for one in outcomes}),
            "total_seconds": sum(one.total_seconds for one in outcomes),
            "longest_seconds": max((one.longest_seconds for one in outcomes), default=0.0),
            "suggested_for": better and better[0], "fired_with_suggested": better and better[1],
            "results": [_shown(one, found[one.series]) for one in outcomes[:MAX_RESULTS]]}


def _limits(found: Sequence[Rule]) -> Limits:
    made = [variants.limits(rule) for rule in found]
    return Limits(np.array([one.sign for one in made]), np.array([one.margin for one in made]),
                  np.array([rule.for_ for rule in found]), np.array([rule.recover_for for rule in found]),
                  np.array([one.thresholds for one in made]))


def _patience(found: Sequence[_Series], grid: _Grid) -> NDArray[np.int64]:
    """After how many steps without a reading the engine begins to wait anew, by series."""
    seconds = [max(engine.GAP_SECONDS, 3 * (one.host.interval or 0.0)) for one in found]
    return (np.array(seconds) // grid.step).astype(np.int64)


def _shown(outcome: preview.Outcome, series: _Series) -> dict[str, Any]:
    split = split_metric(series.name)
    worst = float(downsample.shown(np.array([outcome.worst]))[0])
    return {"host": series.host.name, "instance": instance_text(split[1]) if split and series.rule.is_per_instance else "",
            "fired": outcome.fired, "severity": SEVERITIES[outcome.level - 1], "longest_seconds": outcome.longest_seconds,
            "total_seconds": outcome.total_seconds, "worst_value": worst, "first_at": rfc3339(outcome.first_at),
            "last_at": rfc3339(outcome.last_at), "is_active": outcome.is_active}


def _notes(rule: Rule, grid: _Grid) -> list[str]:
    notes = [f"tried on steps of {grid.step} s: times are exact to that"]
    if rule.sensor_limits:
        notes.append("the sensors' own limits are left out")
    return [*notes, "silences, maintenance windows and flap detection are left out: the engine may fire less"]
