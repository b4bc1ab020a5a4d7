"""Rules compiled for arrays: one row a rule as some hosts have it, thresholds turned so that more is always worse."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from aggregator.analysis import matching
from aggregator.analysis.rules import Override, Rule, Stored
from shared.wire import SEVERITIES, Severity

LEVELS = len(SEVERITIES)
STOPPED, LOST = 1.0, 2.0
"""Values of a host_down condition: stopped on purpose, or gone."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a rule compares: `value * sign >= thresholds[level]`; inf where there is no such level."""

    sign: float
    thresholds: tuple[float, ...]
    margin: float = 0.0


def limits(rule: Rule) -> Limits:
    """The limits of a rule. Kinds without a measured value are 1 while they hold, and compared with 0.5."""
    if rule.kind == "event":
        return Limits(1.0, tuple(level + 0.5 for level in range(LEVELS)))
    if rule.kind == "host_down":
        levels = dict.fromkeys(("info",), STOPPED - 0.5) | {rule.severity: LOST - 0.5 if rule.severity != "info" else 0.5}
        return Limits(1.0, tuple(levels.get(severity, math.inf) for severity in SEVERITIES))
    given = rule.thresholds()
    if rule.kind in ("missing", "reboot", "composite") or (rule.kind == "state" and not given):
        return Limits(1.0, tuple(0.5 if severity == rule.severity else math.inf for severity in SEVERITIES))
    sign = -1.0 if rule.kind == "forecast" or rule.comparison.startswith("<") else 1.0
    is_strict = rule.kind != "forecast" and rule.comparison in ("<", ">")
    turned = {severity: np.nextafter(value * sign, math.inf) if is_strict else value * sign for severity, value in given.items()}
    mildest = min((value * sign for value in given.values()), default=0.0)
    margin = mildest - rule.recover_value * sign if rule.recover_value is not None and given else 0.0
    return Limits(sign, tuple(float(turned.get(severity, math.inf)) for severity in SEVERITIES), max(float(margin), 0.0))


class Variants:
    """Every rule in every form in which some host has it. Row 0 never fires.

    Arrays over rows, longer than there are rows: `sign`, `thresholds` (n, 4), `low` (the mildest threshold), `margin`, `hold`,
    `recover`, `window`; `rules` and `revisions` alike.
    """

    def __init__(self, stored: Sequence[Stored] = (), overrides: Mapping[tuple[str, str], Override] | None = None) -> None:
        self._overrides = dict(overrides or {})
        somewhere = {rule for (_, rule), override in self._overrides.items() if override.enabled is True}
        self.named: dict[str, Stored] = {one.rule.name: one for one in stored if one.rule.enabled or one.rule.name in somewhere}
        self.rules: list[Rule] = []
        self.revisions: list[int] = []
        self._known: dict[object, int] = {}
        self.sign, self.thresholds, self.low = np.ones(64), np.full((64, LEVELS), math.inf), np.full(64, math.inf)
        self.margin, self.hold, self.recover, self.window = (np.zeros(64) for _ in range(4))
        self._add(Limits(1.0, (math.inf,) * LEVELS), Rule(name="none", enabled=False), 0)

    def of(self, name: str, host: str, labels: Mapping[str, str], own: tuple[float | None, float | None] | None = None) -> int:
        """The row of rule `name` for a host: 0 where it does not apply. `own`: the high and critical limits of a sensor."""
        stored = self.named.get(name)
        if stored is None or not matching.fits_labels(stored.rule.selector, labels) \
                or not matching.fits_any(stored.rule.hosts, host):
            return 0
        override = self._overrides.get((host, name))
        key = name, host if override is not None else "", own
        found = self._known.get(key)
        if found is None:
            rule = stored.rule if override is None else override.applied(stored.rule)
            found = self._known[key] = self._add(limits(_with_own(rule, own)), rule, stored.revision) if rule.enabled else 0
        return found

    def least(self, name: str) -> float:
        """The least threshold that rule `name` has on any host, as stated; inf for a rule that is not watched."""
        stored = self.named.get(name)
        if stored is None:
            return math.inf
        own = [override.applied(stored.rule) for (_, rule), override in self._overrides.items() if rule == name]
        return min((value for rule in (stored.rule, *own) for value in rule.thresholds().values()), default=math.inf)

    def _add(self, made: Limits, rule: Rule, revision: int) -> int:
        row = len(self.rules)
        if row == len(self.sign):
            for name in ("sign", "thresholds", "low", "margin", "hold", "recover", "window"):
                old: NDArray[np.float64] = getattr(self, name)
                setattr(self, name, np.concatenate([old, np.empty_like(old)]))
        self.sign[row], self.thresholds[row], self.low[row] = made.sign, made.thresholds, min(made.thresholds)
        self.margin[row], self.hold[row], self.recover[row], self.window[row] = (
            made.margin, rule.for_, rule.recover_for, rule.window)
        self.rules.append(rule)
        self.revisions.append(revision)
        return row

    def threshold(self, row: int, severity: Severity) -> float | None:
        """The threshold of a severity as the rule states it; None for kinds that have none."""
        rule = self.rules[row]
        if rule.kind in ("event", "host_down") or not rule.thresholds():
            return None
        turned = float(self.thresholds[row, SEVERITIES.index(severity)])
        if not math.isfinite(turned):
            return None
        given = rule.thresholds().get(severity)
        stated = turned * float(self.sign[row])
        return given if given is not None and math.isclose(given, stated, rel_tol=1e-9, abs_tol=1e-12) else stated


def _with_own(rule: Rule, own: tuple[float | None, float | None] | None) -> Rule:
    """The rule with a sensor's own limits in place of warning and critical; the same distance until recovery."""
    if own is None or not rule.sensor_limits:
        return rule
    high, critical = own
    warning = high if high is not None else rule.warning
    worst = critical if critical is not None else rule.critical
    if warning is not None and worst is not None and warning >= worst:
        warning = None if high is None else high
        worst = critical if critical is not None and critical > (warning or 0.0) else None
    recover = rule.recover_value
    if recover is not None and rule.warning is not None and warning is not None:
        recover += warning - rule.warning
    elif recover is not None and warning is None:
        recover = None
    return msgspec.structs.replace(rule, warning=warning, critical=worst, recover_value=recover)
