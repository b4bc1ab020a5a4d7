"""Rules as a file, in TOML or YAML: what it says, how that differs from what is stored, and a rule written as TOML. Pure.

A file holds `[[rule]]` tables (in YAML a list `rules`) with the fields of `rules.Rule`, and perhaps `prune = true`: own rules
that are not in the file are deleted. Rules of packs are only changed, never deleted, by a file.
"""

import dataclasses
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from aggregator.analysis.rules import Rule, definition, read_rule

LISTS = ("rule", "rules")


class RuleFileError(Exception):
    """The file cannot be read as rules; the message says where and what is allowed."""


@dataclasses.dataclass(frozen=True, slots=True)
class RuleFile:
    """The rules of a file as plain data, each with a name of its own."""

    rules: tuple[Mapping[str, Any], ...]
    prune: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Changed:
    """A rule that the file has otherwise: its new form, and every field that differs as (before, after)."""

    rule: Mapping[str, Any]
    fields: Mapping[str, tuple[Any, Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What must be done to have what the file says, in an order in which no composite rule lacks a part."""

    added: tuple[Mapping[str, Any], ...]
    changed: tuple[Changed, ...]
    removed: tuple[str, ...]
    unchanged: int

    @property
    def is_empty(self) -> bool:
        return not (self.added or self.changed or self.removed)


def read(text: str, name: str) -> RuleFile:
    """The rules in the text of a file called `name`, which ends in .toml, .yaml or .yml. Raises RuleFileError."""
    document = _parsed(text, name)
    if not isinstance(document, dict) or not any(key in document for key in LISTS):
        raise RuleFileError(f"{name}: there are no rules; write [[rule]] tables (in YAML a list rules:)")
    if unknown := sorted(str(key) for key in document if key not in (*LISTS, "prune")):
        raise RuleFileError(f"{name}: {unknown[0]!r} is not known here; allowed: [[rule]] and prune")
    prune, rules = document.get("prune", False), [rule for key in LISTS for rule in _listed(document.get(key, []), name, key)]
    if not isinstance(prune, bool):
        raise RuleFileError(f"{name}: prune must be true or false")
    names = [rule["name"] for rule in rules]
    if twice := sorted({one for one in names if names.count(one) > 1}):
        raise RuleFileError(f"{name}: the rule {twice[0]!r} is there more than once")
    return RuleFile(tuple(rules), prune)


def _parsed(text: str, name: str) -> Any:
    if name.endswith(".toml"):
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RuleFileError(f"{name}: this is not TOML: {error}") from None
    if name.endswith((".yaml", ".yml")):
        import yaml

        try:
            return yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise RuleFileError(f"{name}: this is not YAML: {' '.join(str(error).split())[:300]}") from None
    raise RuleFileError(f"{name}: a file of rules ends in .toml, .yaml or .yml")


def _listed(rules: Any, name: str, key: str) -> list[dict[str, Any]]:
    if not isinstance(rules, list):
        raise RuleFileError(f"{name}: {key} must be a list of rules: [[{key}]]")
    for number, rule in enumerate(rules, 1):
        if not isinstance(rule, dict) or not all(isinstance(field, str) for field in rule):
            raise RuleFileError(f"{name}: rule {number} is no table of fields")
        if not isinstance(rule.get("name"), str):
            raise RuleFileError(f'{name}: rule {number} has no name; give it one, like name = "busy"')
        if odd := [field for field, value in rule.items() if not _is_plain(value)]:
            raise RuleFileError(f"{name}: {rule['name']}.{odd[0]} must be text, a finite number, true, false, or a list or table "
                                "of them; put a date in quotes")
    return rules


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_scalar(one) for key, one in value.items())
    return all(map(_is_scalar, value)) if isinstance(value, list) else _is_scalar(value)


def _is_scalar(value: Any) -> bool:
    return math.isfinite(value) if isinstance(value, float) else value is None or isinstance(value, str | int)


def plan(file: RuleFile, stored: Sequence[Mapping[str, Any]]) -> Plan:
    """How the rules of the file, found good, differ from the stored ones (as the API lists them: name, pack, rule)."""
    present = {row["name"]: row for row in stored}
    wanted = {rule["name"]: definition(read_rule(rule)) for rule in file.rules}
    added = [rule for name, rule in wanted.items() if name not in present]
    changed = [Changed(rule, fields) for name, rule in wanted.items()
               if name in present and (fields := _differing(present[name]["rule"], rule))]
    removed = [row for name, row in present.items() if file.prune and not row["pack"] and name not in wanted]
    return Plan(tuple(sorted(added, key=_is_composite)), tuple(changed),
                tuple(row["name"] for row in sorted(removed, key=lambda row: not _is_composite(row["rule"]))),
                len(wanted) - len(added) - len(changed))


def _is_composite(rule: Mapping[str, Any]) -> bool:
    return rule.get("kind") == "composite"


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {field: (before.get(field), value) for field, value in after.items() if before.get(field) != value}


def toml(rule: Mapping[str, Any]) -> str:
    """One rule as a `[[rule]]` table, without the fields that have their defaults."""
    usual = definition(Rule(name=""))
    lines = [f"{field} = {_value(rule[field])}" for field in (one.encode_name for one in msgspec.structs.fields(Rule))
             if field in rule and rule[field] is not None and (field == "name" or rule[field] != usual[field])]
    return "\n".join(["[[rule]]", *lines]) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_value(key)} = {_value(one)}" for key, one in value.items()) + "}"
    is_whole = isinstance(value, float) and value == int(value) and abs(value) < 1e6
    return f"{value:g}" if is_whole else json.dumps(value, ensure_ascii=False)
