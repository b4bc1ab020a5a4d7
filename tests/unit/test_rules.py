"""Alert rules as data: what is wrong with one is said in words, and the default packs are sound."""

import contextlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.analysis import rule_problems
from aggregator.analysis.rule_pack import PACKS
from aggregator.analysis.rules import Override, Rule, definition, read_rule
from shared import catalogue

GOLDEN = Path(__file__).parents[1] / "golden" / "rule_packs.json"
EVERY = [rule for pack in PACKS.values() for rule in pack]
KNOWN = {rule.name: rule.kind for rule in EVERY} | {"other": "composite"}

TEXTS = st.text(max_size=30)
NUMBERS = st.none() | st.floats() | st.integers(-200, 200).map(float)
SECONDS = st.floats(0, 31_536_000)
METRICS = st.sampled_from(["", "cpu.percent", "disk.percent{mount=*}", "disk.percent{*=*}", "a.b{c=*,d=*}", "custom.x_total",
                           "temperature.celsius{sensor=*}", "health.score"]) | TEXTS
RULES: st.SearchStrategy[Rule] = st.builds(
    Rule, name=st.from_regex(r"[a-z][a-z0-9_]{0,62}", fullmatch=True),
    kind=st.sampled_from(["threshold", "rate", "missing", "host_down", "mass_silence", "reboot", "state", "forecast",
                          "baseline", "event", "composite"]),
    metric=METRICS, comparison=st.sampled_from([">", ">=", "<", "<="]), info=NUMBERS, warning=NUMBERS, error=NUMBERS,
    critical=NUMBERS, for_=SECONDS, recover_value=NUMBERS, recover_for=SECONDS, window=SECONDS, target=NUMBERS, keep=SECONDS,
    subject=st.sampled_from(["", "container_stopped", "container_unhealthy", "container_restarted"]),
    event=st.sampled_from(["", "backup_failed"]), rules=st.lists(st.sampled_from(["high_cpu", "other", "nothing"]), max_size=3),
    selector=st.dictionaries(TEXTS, TEXTS, max_size=3), hosts=st.lists(TEXTS, max_size=3), sensor_limits=st.booleans(),
    message=TEXTS | st.sampled_from(["{{ value|number }}", "{% for a in b %}", "{{ x"]), recommendation=TEXTS)


@given(RULES)
def test_any_rule_is_judged(rule: Rule) -> None:
    """Whatever a rule holds, its problems are texts about its own fields; none of them is an exception."""
    fields = {field.encode_name for field in msgspec.structs.fields(Rule)}
    for field, text in rule_problems.problems(rule, KNOWN).items():
        assert field in fields
        assert text


@given(RULES)
def test_good_rules_survive_storage(rule: Rule) -> None:
    """A rule without problems is the same after JSON and back."""
    if not rule_problems.problems(rule, KNOWN):
        assert read_rule(json.loads(json.dumps(definition(rule)))) == rule


@given(st.recursive(st.none() | st.booleans() | st.floats() | TEXTS,
                    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)),
       st.sampled_from([field.encode_name for field in msgspec.structs.fields(Rule)]))
def test_any_data_is_judged(value: Any, field: str) -> None:
    """Whatever somebody sends as a field, the answer is a rule or a problem."""
    with contextlib.suppress(rule_problems.RuleProblemsError):
        assert isinstance(rule_problems.read(GOOD | {field: value}, KNOWN), Rule)


GOOD = {"name": "a", "metric": "cpu.percent", "warning": 80.0}


@pytest.mark.parametrize(("fields", "field", "words"), [
    ({"metric": "cpu.percnt"}, "metric", "did you mean cpu.percent"),
    ({"metric": "disk.busy_percent{mount=*}"}, "metric", "disk.busy_percent{device=*}"),
    ({"metric": "disk.percent{mount=/v*}"}, "metric", "whole value"),
    ({"metric": "custom.x{a=*,b=*}"}, "metric", "only once"),
    ({"metric": "disk.*"}, "metric", "no metric name"),
    ({"metric": ""}, "metric", "needs a metric"),
    ({"kind": "missing", "metric": "disk.percent{mount=*}", "warning": None}, "metric", "full name"),
    ({"kind": "reboot", "keep": 60.0, "warning": None}, "metric", "leave it out"),
    ({"warning": None}, "warning", "at least one"),
    ({"critical": 80.0}, "critical", "above warning"),
    ({"comparison": "<", "critical": 90.0}, "critical", "below warning"),
    ({"kind": "forecast", "target": 100.0, "window": 3600.0, "critical": 90.0}, "critical", "seconds that are left"),
    ({"kind": "missing"}, "warning", 'severity = "warning"'),
    ({"recover_value": 81.0}, "recover_value", "above the mildest"),
    ({"comparison": "<=", "recover_value": 79.0}, "recover_value", "below the mildest"),
    ({"kind": "rate"}, "window", "above 0"),
    ({"window": 60.0}, "window", "does not look back"),
    ({"kind": "forecast", "window": 60.0}, "target", "runs towards"),
    ({"target": 1.0}, "target", "only a forecast"),
    ({"keep": 1.0}, "keep", "leave it out"),
    ({"kind": "reboot", "metric": "", "warning": None}, "keep", "only by time"),
    ({"kind": "state", "metric": "", "warning": None}, "subject", "container_stopped"),
    ({"kind": "state", "metric": "", "warning": None, "subject": "container_restarted"}, "warning", "at least one"),
    ({"subject": "container_stopped"}, "subject", "only rules of kind state"),
    ({"event": "x"}, "event", "only rules of kind event"),
    ({"sensor_limits": True}, "sensor_limits", "sensor's own"),
    ({"kind": "baseline", "window": 60.0}, "window", "does not look back"),
    ({"kind": "baseline", "metric": "cpu.count"}, "metric", "not watched for anomalies"),
    ({"kind": "baseline", "metric": "custom.wait{queue=*}"}, "metric", "full name"),
    ({"kind": "baseline", "comparison": "<="}, "comparison", "use >= or >"),
    ({"kind": "mass_silence", "window": 60.0}, "metric", "leave it out"),
    ({"kind": "mass_silence", "metric": ""}, "window", "above 0"),
    ({"kind": "mass_silence", "warning": 130.0}, "warning", "at most 100"),
    ({"kind": "mass_silence", "comparison": "<"}, "comparison", "use >= or >"),
    ({"kind": "composite", "metric": "", "warning": None}, "rules", "name the rules"),
    ({"kind": "composite", "rules": ["a"]}, "rules", "itself"),
    ({"kind": "composite", "rules": ["high_cpo"]}, "rules", "did you mean high_cpu"),
    ({"kind": "composite", "rules": ["other"]}, "rules", "composite itself"),
    ({"rules": ["high_cpu"]}, "rules", "only rules of kind composite"),
    ({"message": "{{ valeu }}"}, "message", "did you mean value"),
    ({"recommendation": "{{ mount }}"}, "recommendation", "there is no 'mount'"),
    ({"hosts": ["WEB"]}, "hosts", "no name of a host"),
    ({"warning": float("inf")}, "warning", "finite")])
def test_problems_name_field_and_mend(fields: dict[str, Any], field: str, words: str) -> None:
    """Each fault is found at its field, and the text says what to do."""
    assert rule_problems.problems(read_rule(GOOD), KNOWN) == {}
    assert words in rule_problems.problems(read_rule(GOOD | fields), KNOWN)[field]


def test_own_metrics_need_no_catalogue() -> None:
    """What begins with custom. or http. may have any name."""
    for metric in ("custom.queue_length", "http.latency_ms{endpoint=*}"):
        assert rule_problems.problems(read_rule(GOOD | {"metric": metric}), KNOWN) == {}


def test_a_baseline_may_name_a_metric_of_ones_own() -> None:
    """Whether ingest watches it is a setting, which rules do not know."""
    for metric in ("custom.queue_length", "custom.wait{queue=mail}", "http.latency_ms"):
        assert rule_problems.problems(read_rule(GOOD | {"kind": "baseline", "metric": metric, "warning": 2.0}), KNOWN) == {}


def test_overrides_replace_what_they_set() -> None:
    """An override changes its fields alone; null takes a threshold away."""
    rule = Rule(name="a", metric="cpu.percent", warning=80.0, critical=95.0, for_=300.0)
    own = msgspec.convert({"warning": None, "for": 60}, Override).applied(rule)
    assert (own.thresholds(), own.for_, own.metric) == ({"critical": 95.0}, 60.0, "cpu.percent")


def test_packs_are_sound() -> None:
    """Every default rule is without problems, has a name of its own, waits or is told once, and says what to do."""
    assert len({rule.name for rule in EVERY}) == len(EVERY)
    for rule in EVERY:
        assert rule_problems.problems(rule, KNOWN) == {}, rule.name
        assert rule.message, rule.name
        assert rule.recommendation, rule.name
        assert rule.description, rule.name
        if rule.kind not in ("host_down", "mass_silence", "reboot", "event") and rule.subject != "container_restarted":
            assert rule.for_ >= 60, rule.name


def test_packs_cover_the_sources_types() -> None:
    """Each type of the features S0-36 to S0-46 and S1-36, S1-37 is there, with the thresholds of S0-51 to S0-55."""
    types = {rule.alert_type for rule in EVERY}
    assert types >= {"high_cpu", "low_memory", "low_disk", "service_down", "service_unhealthy", "high_temperature",
                     "network_errors",
                     "swap_usage_high", "disk_io_high", "backup_failed", "security_warning", "high_latency", "slow_database"}
    by_name = {rule.name: rule.thresholds() for rule in EVERY}
    assert by_name["high_cpu"] == by_name["low_memory"] == {"warning": 80, "critical": 95}
    assert by_name["low_disk"] == by_name["high_temperature"] == {"warning": 80, "critical": 90}
    assert by_name["network_errors"]["warning"] == 1
    assert (by_name["high_latency"]["warning"], by_name["slow_database"]["warning"]) == (1000, 500)


def test_packs_watch_what_agents_send() -> None:
    """Every metric of the host rules is in the catalogue."""
    for rule in PACKS["host-defaults"]:
        assert not rule.metric or catalogue.find(rule.metric), rule.name


def test_packs_are_as_recorded() -> None:
    """A change of a default rule is a decision: it reaches every fleet that has not changed the rule. Golden file."""
    plain = definition(Rule(name="x"))
    found = {pack: [{name: value for name, value in definition(rule).items() if value != plain[name]} for rule in rules]
             for pack, rules in PACKS.items()}
    assert found == json.loads(GOLDEN.read_text())
