"""What stands out in the history of hosts, in plain sentences, each with the figures that it rests on. Pure.

All but `noisy` and `unlike` read a grid of hourly means of about eight days whose last step is the last whole hour.

* `changed`   the last six hours against the same hours of the days before. The difference to their mean, in units of their
  standard deviation times √(1 + 1 / days), is Student's t for a new observation; all hosts and metrics together are judged by
  Benjamini and Hochberg, so that a large fleet brings no more chance finds than a small one.
* `limits`    what is full within two weeks at its present pace: `analysis.forecast` over the last three days.
* `peers`     means of a day against those of hosts with the same label: median and median absolute deviation (Iglewicz and
  Hoaglin, How to Detect and Handle Outliers, 1993, whose bound is 3.5; here it is 6, for a fleet has thousands of figures).
* `daily`     hours of the day at which a metric is high day after day: the profile of the other days explains half of each day.
* `noisy`     rules that fired most; `unlike`: an anomaly, and what moved with it.

A change must matter, too: a fifth of the value, and 5 points where the unit is percent.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np

from aggregator.analysis import figures, forecast
from aggregator.analysis.autocorrelation import Floats, student_probability
from aggregator.analysis.correlation import adjusted
from aggregator.analysis.grids import Grid
from shared import catalogue
from shared.names import split_metric

Kind = Literal["anomaly", "change", "limit", "peer", "daily_peak", "noisy_rule"]

HOUR = 3600
DAY = 24
RECENT = 6
LEAST_DAYS = 3
SIGNIFICANT = 0.05
LEAST_SHARE, LEAST_POINTS, SMALLEST = 0.2, 5.0, 1e-6
FULL = 100.0
SOON_SECONDS = 14 * 86_400.0
FORECAST_HOURS = 72
LEAST_PEERS, FAR_FROM_PEERS = 5, 6.0
PEAK_DAYS, PEAK_SKILL, PEAK_FACTOR = 5, 0.5, 1.5
NOISY = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Evidence:
    """Where to look: history of a metric of a host from `start` to `end`, and the figures that were read from it."""

    host: str
    metric: str
    start: datetime
    end: datetime
    figures: dict[str, float | str | None]


@dataclasses.dataclass(frozen=True, slots=True)
class Insight:
    """One sentence, and what it rests on. `weight` orders insights of all kinds: 0 to 1, the larger the more urgent."""

    kind: Kind
    host: str
    text: str
    weight: float
    evidence: tuple[Evidence, ...]
    recommendation: str = ""


def changed(grid: Grid) -> list[Insight]:
    """What differs most from the same time of the days before."""
    names, values = grid.series()
    now, days = _same_hours(values)
    count = np.isfinite(days).sum(axis=1)
    some = np.maximum(count, 1)
    mean = np.where(np.isfinite(days), days, 0.0).sum(axis=1) / some
    spread = np.sqrt(np.nansum((days - mean[:, None]) ** 2, axis=1) / np.maximum(count - 1, 1))
    error = np.maximum(spread, 0.02 * np.abs(mean) + SMALLEST) * np.sqrt(1 + 1 / some)
    is_known = (count >= LEAST_DAYS) & np.isfinite(now)
    t = np.where(is_known, (now - mean) / error, 0.0)
    p = np.where(is_known, student_probability(t, np.maximum(count - 1.0, 1.0)), 1.0)
    q = np.ones_like(p)
    q[is_known] = adjusted(p[is_known])
    found = [i for i in np.argsort(-np.abs(t)).tolist() if q[i] < SIGNIFICANT and matters(names[i][1], now[i], mean[i])]
    return [_change(grid, names[i], float(now[i]), days[i], float(t[i]), float(q[i])) for i in found]


def _same_hours(values: Floats) -> tuple[Floats, Floats]:
    """Means of the last hours, and (n, days) of the same hours of each day before, yesterday first, where half is there."""
    steps = values.shape[1]
    windows = [values[:, max(0, end - RECENT):end] for end in range(steps, RECENT - 1, -DAY)]
    means = np.stack([np.where(2 * np.isfinite(part).sum(axis=1) >= RECENT,
                               np.nansum(part, axis=1) / np.maximum(np.isfinite(part).sum(axis=1), 1), np.nan)
                      for part in windows], axis=1) if windows else np.full((len(values), 1), np.nan)
    return means[:, 0], means[:, 1:8]


def matters(metric: str, now: float, then: float) -> bool:
    """Whether a difference is one that people would call a change."""
    found = catalogue.find(metric)
    size = abs(now - then)
    least = LEAST_POINTS if found is not None and found.unit == "percent" else SMALLEST
    return size >= least and size >= LEAST_SHARE * max(abs(then), abs(now))


def _change(grid: Grid, name: tuple[str, str], now: float, days: Floats, t: float, q: float) -> Insight:
    host, metric = name
    known = days[np.isfinite(days)]
    when, then = ("last week", days[6]) if len(days) > 6 and np.isfinite(days[6]) else (
        ("yesterday", days[0]) if np.isfinite(days[0]) else ("on the days before", float(known.mean())))
    rise = "more" if now > then else "less"
    by = f"{figures.three(100 * abs(now - then) / abs(then))} % {rise} than" if abs(then) > SMALLEST else "against"
    low, high = float(known.min()), float(known.max())
    text = (f"{metric} of {host} averaged {figures.value(metric, now)} over {RECENT} hours, {by} "
            f"{figures.value(metric, float(then))} at the same time {when}; on {len(known)} days it was "
            f"{figures.between(metric, low, high)}.")
    seen = {"mean": now, "then": float(then), "lowest": low, "highest": high, "days": float(len(known)), "t": t, "q": q}
    return Insight("change", host, text, _weight(0.4, abs(t) / 30),
                   (Evidence(host, metric, grid.end - timedelta(hours=RECENT), grid.end, clean(seen)),))


def limits(grid: Grid) -> list[Insight]:
    """What is full soon, at its present pace; a grid of percentages."""
    last = grid.last(FORECAST_HOURS)
    names, values = last.series()
    if not names:
        return []
    hours, now = last.hours(), last.values.shape[2] * last.step / HOUR
    found, line = forecast.forecast(hours, values, FULL, now), forecast.present_lines(hours, values, now)
    soon = [i for i in np.argsort(found.seconds).tolist() if found.seconds[i] <= SOON_SECONDS]
    return [_limit(last, names[i], float(values[i][np.isfinite(values[i])][-1]), float(line.slope[i]) * DAY,
                   (float(found.seconds[i]), float(found.low[i]), float(found.high[i]))) for i in soon]


def _limit(grid: Grid, name: tuple[str, str], now: float, slope: float, left: tuple[float, float, float]) -> Insight:
    host, metric = name
    what = (labels_of(metric).get("mount") or metric) + (" has no inodes left" if ".inodes" in metric else " is full")
    limits_ = figures.within(left[1], left[2]) if np.isfinite(left[2]) else ""
    text = (f"{what} on {host} in {figures.time_left(left[0])}{limits_} at its present pace: {figures.value(metric, now)} now, "
            f"{figures.three(slope)} points more a day." if left[0] > 0 else f"{what} on {host}: {figures.value(metric, now)}.")
    seen = {"value": now, "points_per_day": slope, "seconds_left": left[0], "low": left[1], "high": left[2], "limit": FULL}
    return Insight("limit", host, text, _weight(0.6, 1 - left[0] / SOON_SECONDS),
                   (Evidence(host, metric, grid.start, grid.end, clean(seen)),),
                   f"Make room or more space for {labels_of(metric).get('mount') or metric} on {host} "
                   f"{'before then' if left[0] > 0 else 'now'}.")


def peers(grid: Grid, groups: Mapping[str, Sequence[int]]) -> list[Insight]:
    """Hosts unlike those that should be like them; `groups`: positions in `grid.hosts` by what they have in common."""
    last = grid.last(DAY)
    known = np.isfinite(last.values).sum(axis=2)
    means = np.where(known >= DAY // 4, np.nansum(last.values, axis=2) / np.maximum(known, 1), np.nan)
    found = {(one.host, one.evidence[0].metric): one for name, members in groups.items() if len(members) > LEAST_PEERS
             for one in _strangers(last, name, np.asarray(members), means)}
    return list(found.values())


def _strangers(grid: Grid, group: str, members: Any, means: Floats) -> Iterator[Insight]:
    for m, metric in enumerate(grid.metrics):
        values = means[members, m]
        known = values[np.isfinite(values)]
        if len(known) <= LEAST_PEERS:
            continue
        low, middle, high = np.percentile(known, (25, 50, 75))
        spread = max(1.4826 * float(np.median(np.abs(known - middle))), 0.05 * abs(float(middle)), SMALLEST)
        distance = (values - middle) / spread
        for i in np.flatnonzero(np.nan_to_num(np.abs(distance)) >= FAR_FROM_PEERS).tolist():
            if matters(metric, float(values[i]), float(middle)):
                yield _stranger(grid, grid.hosts[members[i]], metric, group, float(values[i]), float(distance[i]),
                                (float(low), float(middle), float(high)), len(known) - 1)


def _stranger(grid: Grid, host: str, metric: str, group: str, now: float, distance: float, usual: tuple[float, float, float],
              count: int) -> Insight:
    kind = f" ({group})" if group else ""
    text = (f"{metric} of {host} averages {figures.value(metric, now)} over a day; its {count} peers{kind} have "
            f"{figures.value(metric, usual[1])}, half of them {figures.between(metric, usual[0], usual[2])}.")
    seen = {"mean": now, "median": usual[1], "quartile_low": usual[0], "quartile_high": usual[2], "distance": distance,
            "peers": float(count), "group": group}
    evidence = Evidence(host, metric, grid.start, grid.end, clean(seen))
    return Insight("peer", host, text, _weight(0.2, abs(distance) / 60), (evidence,))


def daily(grid: Grid) -> list[Insight]:
    """Metrics that are high at the same hour day after day. Hours are UTC."""
    names, values = grid.series()
    days = values.shape[1] // DAY
    if days < PEAK_DAYS or not names:
        return []
    whole = values[:, values.shape[1] - days * DAY:].reshape(len(values), days, DAY)
    is_known = np.isfinite(whole)
    whole = np.where(is_known.all(axis=(1, 2), keepdims=True), whole, np.nan)
    total = whole.sum(axis=1, keepdims=True)
    others = (total - whole) / (days - 1)
    centre = whole.mean(axis=(1, 2), keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        skill = 1 - ((whole - others) ** 2).sum(axis=(1, 2)) / ((whole - centre) ** 2).sum(axis=(1, 2))
    profile, mean = total[:, 0] / days, centre[:, 0, 0]
    found = [i for i in np.argsort(-np.nan_to_num(skill)).tolist() if skill[i] >= PEAK_SKILL
             and matters(names[i][1], profile[i].max(), mean[i]) and profile[i].max() >= PEAK_FACTOR * mean[i]]
    return [_peak(grid, names[i], whole[i], float(skill[i])) for i in found]


def _peak(grid: Grid, name: tuple[str, str], days: Floats, skill: float) -> Insight:
    host, metric = name
    profile, mean = days.mean(axis=0), float(days.mean())
    at = int(np.argmax(profile))
    hour = (grid.end.hour + at) % DAY
    often = int((days[:, at] > (mean + profile[at]) / 2).sum())
    text = (f"{metric} of {host} is highest at about {hour:02d}:00 UTC: {figures.value(metric, float(profile[at]))} there, "
            f"{figures.value(metric, mean)} all day long, on {often} of {len(days)} days.")
    seen = {"hour": float(hour), "peak": float(profile[at]), "mean": mean, "days": float(len(days)), "days_high": float(often),
            "explained": skill}
    return Insight("daily_peak", host, text, _weight(0.0, skill), (Evidence(
        host, metric, grid.end - timedelta(hours=DAY * len(days)), grid.end, clean(seen)),))


def noisy(rows: Sequence[Mapping[str, Any]], start: datetime, end: datetime) -> list[Insight]:
    """Rules that fired most on a host; rows of rule, host, metric, fired, short (over within five minutes) and flapping."""
    found = []
    for row in rows:
        if row["fired"] < NOISY:
            continue
        text = (f"Rule {row['rule']} fired {row['fired']} times on {row['host']}"
                + (f", {figures.times(row['short'])} for less than five minutes" if row["short"] else "")
                + (f", and flapped {figures.times(row['flapping'])}" if row["flapping"] else "") + ".")
        seen = {name: row[name] for name in ("rule", "fired", "short", "flapping")}
        found.append(Insight(
            "noisy_rule", row["host"], text, _weight(0.2, row["fired"] / 100), (
            Evidence(row["host"], row["metric"], start, end, clean(seen)),),
            f"Mend what makes {row['rule']} fire on {row['host']}, or raise its threshold or the time it has to last there."))
    return found


def unlike(row: Mapping[str, Any], until: datetime) -> Insight:
    """An anomaly as a sentence; a row of `store.anomalies`, its metrics with share and expected range."""
    end, host = row["ended_at"] or until, row["host"]
    told = "; ".join(explained(one) for one in row["metrics"][:3])
    lasted = figures.time_left((end - row["began_at"]).total_seconds()) + ("" if row["ended_at"] else " so far")
    text = f"{host} was unlike itself for {lasted} from {row['began_at']:%Y-%m-%d %H:%M} UTC on{': ' if told else ''}{told}."
    parts = tuple(Evidence(host, one["metric"], row["began_at"], end, clean({
        name: one[name] for name in ("value", "low", "high", "share")} | {"anomaly": row["id"]})) for one in row["metrics"][:3])
    return Insight("anomaly", host, text, _weight(0.5, row["peak"] / row["threshold"] / 5), parts)


def explained(one: Mapping[str, Any]) -> str:
    """One metric of an anomaly: what it was, what is usual, and its share."""
    metric = one["metric"]
    return (f"{metric} was {figures.value(metric, one['value'])} where {figures.between(metric, one['low'], one['high'])} "
            f"is usual ({100 * one['share']:.0f} %)")


def labels_of(metric: str) -> dict[str, str]:
    """Labels of a metric's instance."""
    found = split_metric(metric)
    return {} if found is None else found[1]


def clean(seen: Mapping[str, Any]) -> dict[str, float | str | None]:
    """Figures without NaN and infinity, six digits each."""
    return {name: float(f"{value:.6g}") if isinstance(value, float) and np.isfinite(value) else None
            if isinstance(value, float) else value for name, value in seen.items()}


def _weight(base: float, more: float) -> float:
    return round(base + 0.4 * float(np.clip(more, 0.0, 1.0)), 4)
