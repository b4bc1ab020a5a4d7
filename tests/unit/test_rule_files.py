"""Rules as a file: what it says, how it differs from what is stored, and back into TOML."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.analysis import rule_files
from aggregator.analysis.rules import Rule, definition, read_rule

TOML = """
prune = true
[[rule]]
name = "busy"
metric = "cpu.percent"
warning = 80
for = 300
[rule.selector]
site = "berlin"
"""
YAML = """
prune: true
rules:
- {name: busy, metric: cpu.percent, warning: 80, for: 300, selector: {site: berlin}}
"""


def row(pack: str = "", **fields: Any) -> dict[str, Any]:
    """A stored rule as the API lists it."""
    return {"name": fields["name"], "pack": pack, "rule": definition(read_rule(fields))}


@pytest.mark.parametrize(("name", "text"), [("a.toml", TOML), ("a.yaml", YAML), ("a.yml", YAML)])
def test_toml_and_yaml_say_the_same(name: str, text: str) -> None:
    """Both forms give the same rules."""
    file = rule_files.read(text, name)
    assert file.prune
    assert file.rules == ({"name": "busy", "metric": "cpu.percent", "warning": 80, "for": 300, "selector": {"site": "berlin"}},)


@pytest.mark.parametrize(("name", "text", "words"), [
    ("a.txt", "", ".toml, .yaml or .yml"), ("a.toml", "x = ", "not TOML"), ("a.yaml", "a: [", "not YAML"),
    ("a.yaml", "", "no rules"),
    ("a.toml", "[[rule]]\nmetric = 'x'", "rule 1 has no name"), ("a.toml", "rule = 1", "must be a list"),
    ("a.toml", "[[rule]]\nname='a'\n[[rule]]\nname='a'", "more than once"), ("a.toml", "prune = 1\n[[rule]]\nname='a'", "prune"),
    ("a.toml", "prun = true\n[[rule]]\nname='a'", "'prun'"), ("a.yaml", "rules: [a]", "rule 1 is no table"),
    ("a.yaml", "rules: [{name: a, description: 2026-01-01}]", "a.description"),
    ("a.toml", "[[rule]]\nname='a'\nwarning=nan", "a.warning"),
    ("a.yaml", "rules: [{name: a, hosts: &x [*x]}]", "a.hosts"), ("a.yaml", "!!python/object:os.system {}", "not YAML")])
def test_unusable_files_say_why(name: str, text: str, words: str) -> None:
    """What cannot be read as rules says where."""
    with pytest.raises(rule_files.RuleFileError, match=f"^{name}: ") as raised:
        rule_files.read(text, name)
    assert words in str(raised.value)


def test_a_plan_has_what_differs() -> None:
    """New rules are added, others changed field by field; own rules are removed only with prune, rules of packs never."""
    busy, idle = {"name": "busy", "metric": "cpu.percent", "warning": 80}, {"name": "idle", "metric": "cpu.percent", "warning": 1}
    stored = [row(**busy), row(**idle), row("host-defaults", name="reboot", kind="reboot", keep=60)]
    same = rule_files.plan(rule_files.RuleFile((busy,)), stored)
    assert (same.is_empty, same.unchanged) == (True, 1)
    file = rule_files.RuleFile((busy | {"critical": 95}, {"name": "new", "kind": "event"}), prune=True)
    plan = rule_files.plan(file, stored)
    assert [rule["name"] for rule in plan.added] == ["new"]
    assert [(one.rule["name"], one.fields) for one in plan.changed] == [("busy", {"critical": (None, 95.0)})]
    assert plan.removed == ("idle",)


def test_composites_come_last_and_go_first() -> None:
    """At no moment does a composite rule name one that is not there."""
    both = {"name": "both", "kind": "composite", "rules": ["busy"]}
    busy = {"name": "busy", "metric": "cpu.percent", "warning": 80}
    added = rule_files.plan(rule_files.RuleFile((both, busy)), []).added
    assert [rule["name"] for rule in added] == ["busy", "both"]
    assert rule_files.plan(rule_files.RuleFile((), prune=True), [row(**busy), row(**both)]).removed == ("both", "busy")


PRINTED = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=20)


@given(st.builds(Rule, name=st.just("busy"), warning=st.none() | st.floats(allow_nan=False, allow_infinity=False),
                 for_=st.floats(0, 1e7), enabled=st.booleans(), hosts=st.lists(PRINTED, max_size=3), message=PRINTED,
                 selector=st.dictionaries(PRINTED, PRINTED, max_size=3)))
def test_a_rule_written_is_a_rule_read(rule: Rule) -> None:
    """The TOML of a rule, read again, is the rule."""
    file = rule_files.read(rule_files.toml(definition(rule)), "a.toml")
    assert read_rule(file.rules[0]) == rule
    assert tomllib.loads(rule_files.toml(definition(rule)))
