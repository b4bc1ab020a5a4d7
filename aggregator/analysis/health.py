"""Health scores from metrics, vectorised for frames, and explained for people. Pure.

Formulas (shared/README.md, "Health score"): each component is a piecewise linear curve of its main metric less penalties; the
overall score is the mean of the components a host has, weighted. An absent metric means an absent component.
"""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from shared import wire

Floats = NDArray[np.float64]
StatusName = Literal["healthy", "degraded", "warning", "critical"]

INPUTS: tuple[str, ...] = (
    "cpu.percent", "cpu.load1", "cpu.count", "memory.percent", "swap.percent", "disk.percent", "disk.free_bytes",
    "containers.total", "containers.running", "containers.unhealthy", "containers.stopped",
    "network.error_percent", "network.drop_percent")
COMPONENTS: tuple[str, ...] = ("cpu", "memory", "disk", "services", "network")
OUTPUTS: tuple[str, ...] = ("health.score", *(f"health.{name}" for name in COMPONENTS))
ALL_WELL = "All systems operating normally."

Score = Annotated[float, Meta(ge=0, le=100)]
Weight = Annotated[float, Meta(ge=0, le=1)]
Points = Annotated[float, Meta(ge=0, le=100)]


class Curve(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Score over percent: 100 at 0, `at_warning` at `warning`, `at_critical` at `critical`, 0 at 100; straight between."""

    warning: Annotated[float, Meta(gt=0, lt=100)] = 70.0
    critical: Annotated[float, Meta(gt=0, lt=100)] = 90.0
    at_warning: Score = 70.0
    at_critical: Score = 30.0

    def __post_init__(self) -> None:
        if not self.warning < self.critical:
            raise ValueError("warning must be below critical")

    def score(self, percent: Floats) -> Floats:
        return np.interp(percent, (0.0, self.warning, self.critical, 100.0),
                         (100.0, self.at_warning, self.at_critical, 0.0))


class Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights and constants of the health score; the defaults are those of the protocol."""

    cpu_weight: Weight = 0.30
    memory_weight: Weight = 0.25
    disk_weight: Weight = 0.20
    services_weight: Weight = 0.15
    network_weight: Weight = 0.10
    cpu: Curve = Curve()
    load_points_per_core: Points = 10.0
    load_points_max: Points = 20.0
    memory: Curve = Curve()
    swap_from_percent: Annotated[float, Meta(ge=0, lt=100)] = 50.0
    swap_points_max: Points = 20.0
    disk: Curve = Curve(at_warning=80.0)
    disk_bonus_free_bytes: Annotated[float, Meta(ge=0)] = 100e9
    disk_bonus_points: Points = 5.0
    unhealthy_points: Points = 10.0
    stopped_points: Points = 5.0
    error_points_per_percent: Points = 20.0
    error_points_max: Points = 60.0
    drop_points_per_percent: Points = 10.0
    drop_points_max: Points = 40.0

    def weights(self) -> Floats:
        """Weights in the order of COMPONENTS."""
        return np.array([getattr(self, f"{name}_weight") for name in COMPONENTS])


DEFAULT_PROFILE = Profile()

_TERMS: dict[str, tuple[str, ...]] = {
    "cpu": ("cpu-load",), "memory": ("memory-swap",), "disk": (), "services": ("services-unhealthy", "services-stopped"),
    "network": ("network-errors", "network-drops")}
"""What is taken off each component's base, in the order in which it is told."""


def scores(inputs: Floats, profile: Profile = DEFAULT_PROFILE) -> Floats:
    """Scores of n hosts: `inputs` is (n, 13) in the order of INPUTS with NaN where absent; the result (n, 6) as OUTPUTS."""
    return _weighed(penalties(inputs, profile), profile)


def _weighed(parts: Mapping[str, Floats], profile: Profile) -> Floats:
    components = np.stack([np.clip(parts[f"{name}.base"] - sum(parts[term] for term in terms), 0.0, 100.0)
                           for name, terms in _TERMS.items()], axis=1)
    has = ~np.isnan(components)
    weights = np.where(has, profile.weights(), 0.0)
    total = weights.sum(axis=1)
    weighted = np.where(has, components, 0.0) * weights
    overall = np.divide(weighted.sum(axis=1), total, out=np.full(len(components), np.nan), where=total > 0)
    return np.column_stack([np.clip(overall, 0.0, 100.0), components])


def penalties(inputs: Floats, profile: Profile) -> dict[str, Floats]:
    """The terms of each component, (n,) each: `cpu.base`, `cpu-load`, …; NaN in a base where the component is absent."""
    column = dict(zip(INPUTS, inputs.T, strict=True))
    known = dict(zip(INPUTS, np.where(np.isnan(inputs), 0.0, inputs).T, strict=True))
    count = np.where(known["cpu.count"] >= 1, known["cpu.count"], np.inf)
    overload = np.maximum(known["cpu.load1"] / count - 1.0, 0.0)
    over_swap = np.maximum(known["swap.percent"] - profile.swap_from_percent, 0.0)
    bonus = np.where(known["disk.free_bytes"] > profile.disk_bonus_free_bytes, profile.disk_bonus_points, 0.0)
    total = np.where(column["containers.total"] >= 1, column["containers.total"], np.nan)
    has_network = ~(np.isnan(column["network.error_percent"]) & np.isnan(column["network.drop_percent"]))
    return {
        "cpu.base": profile.cpu.score(column["cpu.percent"]),
        "cpu-load": np.minimum(overload * profile.load_points_per_core, profile.load_points_max),
        "memory.base": profile.memory.score(column["memory.percent"]),
        "memory-swap": over_swap / (100.0 - profile.swap_from_percent) * profile.swap_points_max,
        "disk.base": np.minimum(profile.disk.score(column["disk.percent"]) + bonus, 100.0),
        "services.base": 100.0 * np.minimum(known["containers.running"] / total, 1.0),
        "services-unhealthy": known["containers.unhealthy"] * profile.unhealthy_points,
        "services-stopped": known["containers.stopped"] * profile.stopped_points,
        "network.base": np.where(has_network, 100.0, np.nan),
        "network-errors": np.minimum(known["network.error_percent"] * profile.error_points_per_percent,
                                     profile.error_points_max),
        "network-drops": np.minimum(known["network.drop_percent"] * profile.drop_points_per_percent,
                                    profile.drop_points_max),
    }


def status(score: float) -> StatusName:
    """Half-open bands: ≥ 80 healthy, ≥ 60 degraded, ≥ 40 warning, else critical."""
    return "healthy" if score >= 80 else "degraded" if score >= 60 else "warning" if score >= 40 else "critical"


def assess(host: str, ts: float, metrics: Mapping[str, float], profile: Profile = DEFAULT_PROFILE) -> wire.Health | None:
    """The health of one host with every lost point attributed; None where no component can be scored.

    `metrics` maps names to values, as in a sample.
    """
    return assess_all([(host, ts, metrics)], profile)[0]


def assess_all(hosts: Sequence[tuple[str, float, Mapping[str, float]]],
               profile: Profile = DEFAULT_PROFILE) -> list[wire.Health | None]:
    """`assess` for many (host, ts, metrics): the arithmetic is done for all at once."""
    inputs = np.array([[metrics.get(name, np.nan) for name in INPUTS] for _, _, metrics in hosts]).reshape(-1, len(INPUTS))
    parts = penalties(inputs, profile)
    rows = _weighed(parts, profile).tolist()
    columns = {name: values.tolist() for name, values in parts.items()}
    weights = dict(zip(COMPONENTS, profile.weights().tolist(), strict=True))
    return [_explained(*told, rows[i], {name: values[i] for name, values in columns.items()}, weights)
            for i, told in enumerate(hosts)]


def _explained(host: str, ts: float, metrics: Mapping[str, float], row: Sequence[float], terms: Mapping[str, float],
               weights: Mapping[str, float]) -> wire.Health | None:
    if math.isnan(row[0]):
        return None
    components = {name: _component(name, score, weights[name], terms, metrics)
                  for name, score in zip(COMPONENTS, row[1:], strict=True) if not math.isnan(score)}
    reasons = [loss for name, part in components.items() for loss in _losses(name, part.score, terms, metrics)]
    reasons.sort(key=lambda loss: -loss.points * weights[loss.component])
    score = round(row[0], 2)
    return wire.Health(host=host, ts=ts, score=score, status=status(score), components=components, reasons=reasons,
                       recommendations=recommendations(reasons, metrics))


def with_anomaly(found: wire.Health, began_at: float, metrics: Sequence[str]) -> wire.Health:
    """The same health with an open anomaly among its reasons, which costs no points. `began_at` in Unix s."""
    since = datetime.fromtimestamp(began_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    said = f"unlike itself since {since}" + (f": {', '.join(metrics)}" if metrics else "")
    return msgspec.structs.replace(found, reasons=[*found.reasons, wire.Loss(component="anomaly", points=0.0, text=said)])


_DETAILS: dict[str, tuple[str, ...]] = {
    "cpu": ("cpu.percent", "cpu.load1", "cpu.count"),
    "memory": ("memory.percent", "swap.percent"),
    "disk": ("disk.percent", "disk.free_bytes"),
    "services": ("containers.total", "containers.running", "containers.unhealthy", "containers.stopped"),
    "network": ("network.error_percent", "network.drop_percent"),
}


def _component(name: str, score: float, weight: float, terms: Mapping[str, float],
               metrics: Mapping[str, float]) -> wire.Component:
    details = {key: metrics[key] for key in _DETAILS[name] if key in metrics}
    details["base_score"] = round(terms[f"{name}.base"], 2)
    details |= {f"{term.partition('-')[2]}_penalty": round(terms[term], 2) for term in _TERMS[name]}
    return wire.Component(score=round(score, 2), status=status(score), weight=weight, details=details)


def _losses(name: str, score: float, terms: Mapping[str, float], metrics: Mapping[str, float]) -> list[wire.Loss]:
    """The points one component lost, term by term; together exactly 100 - score (a floor of 0 caps the last terms)."""
    left = 100.0 - score
    found = []
    asked = [("", 100.0 - terms[f"{name}.base"])]
    asked += [(term.partition("-")[2], terms[term]) for term in _TERMS[name]]
    for term, lost in asked:
        points = min(lost, left)
        left -= points
        if points >= 0.005:
            found.append(wire.Loss(component=name, points=round(points, 2), text=_text(name, term, metrics)))
    return found


_TEXTS: dict[tuple[str, str], str] = {
    ("cpu", ""): "CPU is {cpu.percent:.1f} % busy",
    ("cpu", "load"): "load {cpu.load1:.2f} exceeds {cpu.count:.0f} CPUs",
    ("memory", ""): "memory is {memory.percent:.1f} % used",
    ("memory", "swap"): "swap is {swap.percent:.1f} % used",
    ("disk", ""): "{fullest} is {disk.percent:.1f} % full",
    ("services", ""): "{containers.running:.0f} of {containers.total:.0f} containers run",
    ("services", "unhealthy"): "unhealthy containers: {containers.unhealthy:.0f}",
    ("services", "stopped"): "containers stopped that should run: {containers.stopped:.0f}",
    ("network", "errors"): "{network.error_percent:.2f} % of packets have errors",
    ("network", "drops"): "{network.drop_percent:.2f} % of packets are dropped",
}
_FIELD = re.compile(r"\{([a-z0-9_.]+?)(?::(\.\df))?\}")


def _text(name: str, term: str, metrics: Mapping[str, float]) -> str:
    def shown(field: re.Match[str]) -> str:
        return _fullest(metrics) if field[1] == "fullest" else format(metrics.get(field[1], 0.0), field[2])

    return _FIELD.sub(shown, _TEXTS[name, term])


def _fullest(metrics: Mapping[str, float]) -> str:
    mounts = [(value, key[len("disk.percent{mount="):-1]) for key, value in metrics.items()
              if key.startswith("disk.percent{mount=")]
    return max(mounts)[1] if mounts else "the fullest disk"


def recommendations(reasons: list[wire.Loss], metrics: Mapping[str, float]) -> list[str]:
    """What to do about the reasons, worst first; one sentence says so when nothing needs doing."""
    found = [advice for loss in reasons if (advice := _advice(loss, metrics))]
    return list(dict.fromkeys(found)) or [ALL_WELL]


def _advice(loss: wire.Loss, metrics: Mapping[str, float]) -> str | None:
    """Advice for one loss; None for the few points that ordinary use costs."""
    if loss.component == "cpu" and loss.text.startswith("load"):
        return "More tasks are waiting than there are CPUs: see the top processes, spread or stop some."
    if loss.component == "memory" and loss.text.startswith("swap"):
        return "Swap is in heavy use: find what outgrew memory, or add memory."
    if loss.component == "services":
        return "Containers are not all running and healthy: read their logs, then restart what should run."
    if loss.component == "network":
        return "Packets are lost or damaged: check cables, drivers, duplex settings and queue lengths."
    percent = metrics.get(f"{loss.component}.percent", 0.0)
    if percent < 70:
        return None
    urgent = percent >= 90
    mount = _fullest(metrics) if loss.component == "disk" else ""
    return {
        "cpu": "CPU is nearly saturated: see the top processes now." if urgent
        else "CPU is busy: see the top processes; plan for more capacity if this lasts.",
        "memory": "Memory is nearly exhausted: stop or limit the largest processes now, before the kernel does." if urgent
        else "Memory is filling: see the largest processes.",
        "disk": f"{mount} is nearly full: remove old logs, images and backups now, or enlarge it." if urgent
        else f"{mount} is filling: clean up or plan to enlarge it.",
    }[loss.component]
