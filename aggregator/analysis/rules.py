"""Alert rules as data: what is watched, from when it is an alert, for how long, and for which hosts. Pure.

A rule is one of eleven kinds; `Rule` describes every field. `rule_problems.problems` says in words what is wrong with one.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from aggregator.analysis.matching import fits_instance
from shared.names import split_metric
from shared.wire import SEVERITIES, Severity

Kind = Literal["threshold", "rate", "missing", "host_down", "mass_silence", "reboot", "state", "forecast", "baseline", "event",
               "composite"]
Comparison = Literal[">", ">=", "<", "<="]
Subject = Literal["", "container_stopped", "container_unhealthy", "container_restarted"]
Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Seconds = Annotated[float, Meta(ge=0, le=31_536_000)]
Template = Annotated[str, Meta(max_length=1000)]

MEASURED: tuple[Kind, ...] = ("threshold", "rate", "forecast", "baseline")
"""Kinds that compare a metric with thresholds."""


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"for_": "for"}):
    """One rule. Durations are seconds.

    kinds: `threshold` compares a metric; `rate` its change over `window` (of a counter `…_total`: its growth); `forecast`
    the seconds until it reaches `target`, judged over `window`; `baseline` how unlike itself the host is (or one of its core
    metrics) by the anomaly detector's score; `missing`: the host reports, but without the metric; `host_down`: nothing comes
    from the host (`severity`; `info` after a clean stop); `mass_silence`: so many percent of the hosts went silent within
    `window` that the way to them must be gone, one alert instead of host_down for each; `reboot`; `state`: a container is
    stopped, unhealthy or was restarted (`subject`; restarts within `window` are compared with the thresholds); `event`: told
    from outside (`event`); `composite`: `all` or `any` of other `rules` are active on the host.

    metric: a full name; `*` as the value of its label means one alert for each: `disk.percent{mount=*}`. Of a baseline: a
    watched core metric, or none for the host as a whole.
    info, warning, error, critical: the thresholds; those that are left out are not raised. Kinds without a measured value have
    `severity` instead.
    for: how long a threshold must be passed without a break before the alert fires (or becomes more severe).
    recover_value: how far the value must come back before the alert is over, given for the mildest threshold (the others
    keep the same distance); recover_for: for how long.
    keep: seconds after which an alert of kind event, reboot or state (restarted) is over by itself, and a mass_silence lets
    host_down tell of each host after all; 0: never.
    selector: labels that a host must have (`*`: any value); hosts: names or patterns with `*`, empty: all.
    sensor_limits: a sensor's own high and critical limits replace warning and critical.
    message, recommendation: templates, see `analysis.messages`.
    """

    name: Name
    type: Annotated[str, Meta(pattern=r"^([a-z][a-z0-9_]{0,62})?$")] = ""
    kind: Kind = "threshold"
    metric: str = ""
    comparison: Comparison = ">="
    info: float | None = None
    warning: float | None = None
    error: float | None = None
    critical: float | None = None
    severity: Severity = "warning"
    for_: Seconds = 0.0
    recover_value: float | None = None
    recover_for: Seconds = 0.0
    window: Seconds = 0.0
    target: float | None = None
    keep: Seconds = 0.0
    subject: Subject = ""
    event: Annotated[str, Meta(pattern=r"^([a-z][a-z0-9_]{0,62})?$")] = ""
    rules: Annotated[list[str], Meta(max_length=20)] = []
    combine: Literal["all", "any"] = "all"
    selector: Annotated[dict[str, str], Meta(max_length=16)] = {}
    hosts: Annotated[list[Annotated[str, Meta(max_length=100)]], Meta(max_length=200)] = []
    enabled: bool = True
    dismissible: bool = True
    sensor_limits: bool = False
    description: Template = ""
    message: Template = ""
    recommendation: Template = ""

    @property
    def alert_type(self) -> str:
        """What kind of trouble it tells: its `type`, or its name."""
        return self.type or self.name

    @property
    def event_type(self) -> str:
        """The events that a rule of kind `event` hears: `event`, or its name."""
        return self.event or self.name

    @property
    def source(self) -> str:
        """`http` for figures of web applications, else `system`."""
        return "http" if self.metric.startswith("http.") else "system"

    @property
    def is_per_instance(self) -> bool:
        """Whether there is one alert for each instance of the metric."""
        return "=*" in self.metric

    def thresholds(self) -> dict[Severity, float]:
        """Thresholds by severity, those that are set."""
        return {severity: value for severity in SEVERITIES if (value := getattr(self, severity)) is not None}


class Override(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, rename={"for_": "for"}):
    """What one host has otherwise; fields that are unset stay as the rule says."""

    enabled: bool | msgspec.UnsetType = msgspec.UNSET
    info: float | msgspec.UnsetType | None = msgspec.UNSET
    warning: float | msgspec.UnsetType | None = msgspec.UNSET
    error: float | msgspec.UnsetType | None = msgspec.UNSET
    critical: float | msgspec.UnsetType | None = msgspec.UNSET
    severity: Severity | msgspec.UnsetType = msgspec.UNSET
    for_: Seconds | msgspec.UnsetType = msgspec.UNSET
    recover_value: float | msgspec.UnsetType | None = msgspec.UNSET
    recover_for: Seconds | msgspec.UnsetType = msgspec.UNSET

    def applied(self, rule: Rule) -> Rule:
        """The rule as this host has it."""
        fields = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not msgspec.UNSET}
        return msgspec.structs.replace(rule, **fields)


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """A rule as the table has it."""

    rule: Rule
    revision: int
    pack: str = ""


def read_rule(definition: Mapping[str, Any]) -> Rule:
    """A rule from plain data. Raises msgspec.ValidationError, which names the field."""
    return msgspec.convert(definition, Rule)


def definition(rule: Rule) -> dict[str, Any]:
    """A rule as plain data, every field given."""
    return dict(msgspec.to_builtins(rule))


def instance_text(labels: Mapping[str, str]) -> str:
    """Labels of an instance as the fingerprint has them: `mount=/var`, keys sorted; empty for none."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def instance_labels(text: str) -> dict[str, str]:
    """`mount=/var` → {mount: /var}."""
    return {name: value for name, sign, value in (pair.partition("=") for pair in text.split(",")) if sign}


def instance_of(metric: str, key: str) -> str | None:
    """The instance (`mount=/var`) that a metric of a sample is of a rule's metric (`disk.percent{mount=*}`); None: it is none."""
    wanted, found = split_metric(metric), split_metric(key)
    if wanted is None or found is None or wanted[0] != found[0] or not fits_instance(wanted[1], found[1]):
        return None
    return instance_text(found[1])


def alert_key(rule: str, instance: str) -> str:
    """What an alert is called in a topic: the rule's name, and for an instance 8 hexadecimal digits of its SHA-256."""
    return f"{rule}-{hashlib.sha256(instance.encode()).hexdigest()[:8]}" if instance else rule
