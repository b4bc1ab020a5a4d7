"""The engine, all hosts at once, against a slow and obvious one: a condition at a time, threshold rules only."""

import dataclasses
import random

from alert_builders import START, Fleet
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.analysis import latches
from aggregator.analysis.rule_problems import problems
from aggregator.analysis.rules import Rule, instance_text
from shared.names import split_metric
from shared.wire import SEVERITIES

METRICS = ("cpu.percent", "memory.percent", "disk.percent", "disk.percent{mount=/}", "disk.percent{mount=/var}", "swap.percent")
SECONDS = 290
"""As long as this nothing can be flapping."""


@dataclasses.dataclass
class Level:
    """One threshold of one condition."""

    is_on: bool = False
    since: float | None = None


class Condition:
    """One rule for one metric of one host; `told`: (kind, severity, time) of what happened."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.levels = {severity: Level() for severity in rule.thresholds()}
        self.state, self.severity = "none", ""
        self.told: list[tuple[str, str, float]] = []

    def gap(self, ts: float) -> None:
        for level in self.levels.values():
            level.since = None
        if self.state == "pending":
            self._tell("cancelled", "none", ts)

    def read(self, value: float, ts: float) -> None:
        for severity, level in self.levels.items():
            self._turn(level, self._is_back(value, severity) if level.is_on else self._passes(value, severity), ts)
        on = [severity for severity, level in self.levels.items() if level.is_on]
        waiting = [severity for severity, level in self.levels.items() if level.since is not None]
        if on:
            self._raised(on[-1], ts)
        elif self.state == "none" and waiting:
            self.severity = waiting[-1]
            self._tell("pending", "pending", ts)
        elif self.state == "pending" and not waiting:
            self._tell("cancelled", "none", ts)
        elif self.state == "firing":
            self._tell("resolved", "none", ts)

    def _raised(self, severity: str, ts: float) -> None:
        was, self.severity = self.severity, severity
        if self.state != "firing":
            self._tell("firing", "firing", ts)
        elif was != severity:
            self._tell("severity", "firing", ts)

    def _tell(self, kind: str, state: str, ts: float) -> None:
        self.told.append((kind, self.severity, ts))
        self.state = state

    def _turn(self, level: Level, is_contrary: bool, ts: float) -> None:
        if not is_contrary:
            level.since = None
            return
        if level.since is None:
            level.since = ts
        if ts - level.since >= (self.rule.recover_for if level.is_on else self.rule.for_) - latches.ROUNDING:
            level.is_on, level.since = not level.is_on, None

    def _passes(self, value: float, severity: str) -> bool:
        limit = getattr(self.rule, severity)
        return {">": value > limit, ">=": value >= limit, "<": value < limit, "<=": value <= limit}[self.rule.comparison]

    def _is_back(self, value: float, severity: str) -> bool:
        given = self.rule.thresholds()
        mildest = next(iter(given.values()))
        if self.rule.recover_value is None or self.rule.recover_value == mildest:
            return not self._passes(value, severity)
        limit = given[severity] + self.rule.recover_value - mildest
        return value <= limit if self.rule.comparison.startswith(">") else value >= limit


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    comparison = draw(st.sampled_from([">", ">=", "<", "<="]))
    rises = comparison.startswith(">")
    levels = sorted(draw(st.sets(st.integers(2, 8), min_size=1, max_size=4)), reverse=not rises)
    chosen = sorted(draw(st.permutations(range(4)))[:len(levels)])
    back = draw(st.sampled_from([None, 0, 1, 2]))
    rule = Rule(name="r", metric=draw(st.sampled_from(["cpu.percent", "disk.percent{mount=*}", "disk.percent{mount=/}"])),
                comparison=comparison, for_=draw(st.sampled_from([0, 5, 20, 60])),
                recover_for=draw(st.sampled_from([0, 5, 20, 60])),
                recover_value=None if back is None else levels[0] * 10.0 + (-10.0 if rises else 10.0) * back,
                **{SEVERITIES[i]: level * 10.0 for i, level in zip(chosen, levels, strict=True)})
    assert problems(rule, {}) == {}
    return rule


@settings(max_examples=60, deadline=None)
@given(st.lists(rules(), min_size=1, max_size=3), st.integers(0, 2**32))
def test_the_engine_is_the_reference(chosen: list[Rule], seed: int) -> None:
    """Hosts with any layouts, in any mix of frames, with samples that come late or twice: each condition goes its own way."""
    rng = random.Random(seed)
    named = [Rule(**{field: getattr(rule, field) for field in Rule.__struct_fields__} | {"name": f"r{i}"})
             for i, rule in enumerate(chosen)]
    fleet, changes = Fleet(*named), []
    conditions: dict[tuple[str, str, str], Condition] = {}
    clocks = {f"h{i}": 0.0 for i in range(7)}
    at = 0.0
    while at < SECONDS:
        samples = []
        for host in rng.sample(sorted(clocks), rng.randint(1, len(clocks))):
            metrics = {name: float(rng.randrange(0, 101, 10)) for name in rng.sample(METRICS, rng.randint(1, len(METRICS)))}
            samples.append((host, START + at, metrics))
            if rng.random() < 0.1:
                late = rng.choice([START + at, clocks[host], clocks[host] - 5.0, clocks[host] - 30.0])
                samples.append((host, max(late, 1.0), {"cpu.percent": 99.0, "disk.percent{mount=/}": 0.0}))
            _refer(conditions, named, clocks, host, START + at, metrics)
        changes += fleet.frame(samples, START + at + 0.3)
        at += rng.choice([5.0, 5.0, 5.0, 10.0, 75.0]) if rng.random() < 0.3 else 5.0
    told: dict[tuple[str, str, str], list[tuple[str, str, float]]] = {}
    for change in changes:
        told.setdefault((change.alert.host.name, change.alert.rule, change.alert.instance), []).append(
            (change.kind, change.severity, change.at))
    assert told == {key: condition.told for key, condition in conditions.items() if condition.told}


def _refer(conditions: dict[tuple[str, str, str], Condition], named: list[Rule], clocks: dict[str, float], host: str, ts: float,
           metrics: dict[str, float]) -> None:
    is_gap, clocks[host] = ts - clocks[host] > 60, ts
    if is_gap:
        for key, condition in conditions.items():
            if key[0] == host:
                condition.gap(ts)
    for rule in named:
        for name, value in metrics.items():
            base, labels = split_metric(name) or ("", {})
            if rule.metric in (name, f"{base}{{mount=*}}") and (labels or "*" not in rule.metric):
                conditions.setdefault((host, rule.name, instance_text(labels)), Condition(rule)).read(value, ts)
