"""Alert rules as people read them: rows of tables, plans and problems in lines. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from aggregator.analysis.rule_files import Plan
from aggregator.analysis.rules import Rule, definition
from aggregator.client import screen
from shared.wire import SEVERITIES

USUAL = definition(Rule(name="rule"))
"""Fields of a rule that its server, of another version, does not tell."""


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One rule as a row of text. Pure."""
    rule = USUAL | row["rule"]
    state = "off" if not rule["enabled"] else f"changed by {row['changed_by']}" if row["pack"] and row["changed_by"] else "on"
    return tuple(screen.plain(text) for text in (
        row["name"], rule["kind"], watched(rule), thresholds(rule), screen.duration(rule["for"]) if rule["for"] else "-",
        row["pack"] or "own", state))


def watched(rule: Mapping[str, Any]) -> str:
    """What a rule looks at. Pure."""
    if rule["kind"] == "composite":
        return f" {'and' if rule['combine'] == 'all' else 'or'} ".join(rule["rules"])
    return str(rule["metric"] or rule["subject"] or (rule["kind"] == "event" and (rule["event"] or rule["name"])) or "host")


def thresholds(rule: Mapping[str, Any]) -> str:
    """`>= warning 80, critical 95`, `<= warning 1d` of a forecast; what is not measured has only a severity. Pure."""
    written = screen.duration if rule["kind"] == "forecast" else "{:g}".format
    given = [f"{severity} {written(rule[severity])}" for severity in SEVERITIES if rule[severity] is not None]
    return f"{'<=' if rule['kind'] == 'forecast' else rule['comparison']} {', '.join(given)}" if given else str(rule["severity"])


def suggestion(found: Mapping[str, Any]) -> str:
    """What would have halved the noise. Pure."""
    if found["suggested_for"] is None:
        return ""
    return f"; with for = {found['suggested_for']:g} {screen.counted(found['fired_with_suggested'], 'time')}"


def result_cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    """One host or instance of a preview as a row of text. Pure."""
    return (screen.plain(one["host"]), screen.plain(one["instance"] or "-"), str(one["fired"]), screen.coloured(one["severity"]),
            screen.duration(one["longest_seconds"]), screen.duration(one["total_seconds"]), screen.figure(one["worst_value"]),
            one["last_at"][:16].replace("T", " ") + "Z")


def faults(checked: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is wrong with rules, one line each: `busy.metric: there is no such metric`. Pure."""
    return [f"{one['name']}.{problem['field']}: {problem['message']}" for one in checked for problem in one["problems"]]


def told(plan: Plan) -> list[str]:
    """A plan in lines. Pure."""
    lines = [f"+ {rule['name']}: {watched(rule)} {thresholds(rule)}" for rule in plan.added]
    for changed in plan.changed:
        lines.append(f"~ {changed.rule['name']}")
        lines += [f"    {name}: {_shown(before)} → {_shown(after)}" for name, (before, after) in changed.fields.items()]
    lines += [f"- {name}" for name in plan.removed]
    lines.append(f"{len(plan.added)} to add, {len(plan.changed)} to change, {len(plan.removed)} to remove, "
                 f"{plan.unchanged} unchanged")
    return lines


def _shown(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else repr(value)


def tried_cells(one: Mapping[str, Any], tried: Mapping[str, Any] | None) -> tuple[str, ...]:
    """One rule of a file as a row of text: whether it is valid, and what it would have done. Pure."""
    valid = screen.coloured("ok" if one["valid"] else "fail", "yes" if one["valid"] else "no")
    if tried is None:
        return screen.plain(one["name"]), valid, "-", "-", "-", "-"
    return (screen.plain(one["name"]), valid, str(tried["fired"]), str(tried["affected_hosts"]),
            screen.duration(tried["longest_seconds"]) if tried["fired"] else "-", suggestion(tried).removeprefix("; ") or "-")
