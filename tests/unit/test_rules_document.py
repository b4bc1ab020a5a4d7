"""ALERTS.md on rules says what the program does."""

import re
from pathlib import Path

import msgspec

from aggregator.analysis import messages, rule_files, rule_problems
from aggregator.analysis.rule_pack import PACKS
from aggregator.analysis.rules import Kind, Rule, read_rule

TEXT = (Path(__file__).parents[2] / "aggregator" / "ALERTS.md").read_text()


def test_every_kind_and_field_is_described() -> None:
    """The guide names all kinds and fields of a rule, and what templates may name."""
    fields = [field.encode_name for field in msgspec.structs.fields(Rule)]
    for word in (*Kind.__args__, *fields, *messages.FIELDS):
        assert re.search(rf"`{word}`|`{word} = ", TEXT), word
    for name in messages.FILTERS:
        assert re.search(rf"`{name}(\(|`)", TEXT), name


def test_every_default_rule_is_listed() -> None:
    """The guide's tables have each default rule with its thresholds."""
    for rule in (rule for pack in PACKS.values() for rule in pack):
        line = next(line for line in TEXT.splitlines() if line.startswith(f"| `{rule.name}`"))
        if rule.kind != "forecast":
            assert all(f"{severity} {value:g}" in line for severity, value in rule.thresholds().items()), line


def test_examples_of_rules_are_good() -> None:
    """Each TOML example of the guide can be applied."""
    blocks = [block for block in re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL) if "[[rule]]" in block]
    assert blocks
    for block in blocks:
        for rule in rule_files.read(block, "example.toml").rules:
            assert rule_problems.problems(read_rule(rule), {}) == {}
