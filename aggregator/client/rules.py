"""`drumbeat rules list|show|preview|apply|diff|test`: alert rules, one by one or as a file, through the API."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from msgspec import Meta

from aggregator.analysis import rule_files
from aggregator.analysis.rule_files import Plan, RuleFile
from aggregator.client import api, rule_texts, screen
from aggregator.client.hosts import wanted_labels
from aggregator.client.verbs import read_verb
from shared import settings

USAGE = """usage: drumbeat rules list [--name PART] [--json]
       drumbeat rules show NAME [--json]
       drumbeat rules preview NAME [--range 7d] [--host NAME] [--label KEY:VALUE] [--json]
       drumbeat rules diff FILE [--json]
       drumbeat rules apply FILE [--yes] [--json]
       drumbeat rules test FILE [--range 7d] [--json]

A file holds [[rule]] tables in TOML, or a list rules: in YAML. diff says what apply would change; test says what is
wrong with the rules and what they would have done over stored history."""

PREVIEWABLE = ("threshold", "rate")
SHOWN = 20
PREVIEW_SECONDS = 60.0


class Listing(api.Settings, frozen=True, kw_only=True):
    """Settings of `drumbeat rules list`."""

    name: Annotated[str | None, Meta(description="only rules with this in their name")] = None


class Showing(api.Settings, frozen=True, kw_only=True):
    """Settings of `drumbeat rules show`."""

    name: Annotated[str, Meta(description="name of the rule")]


class Previewing(Showing, frozen=True, kw_only=True):
    """Settings of `drumbeat rules preview`."""

    range: Annotated[str, Meta(description="history to try it on: 1h, 6h, 24h, 7d or 30d")] = "7d"
    host: Annotated[tuple[str, ...], Meta(description="only this host; may be repeated")] = ()
    label: Annotated[tuple[str, ...], Meta(description="only hosts with this label, as key:value; may be repeated")] = ()


class Comparing(api.Settings, frozen=True, kw_only=True):
    """Settings of `drumbeat rules diff`."""

    file: Annotated[Path, Meta(description="file with rules: .toml, .yaml or .yml")]


class Applying(Comparing, frozen=True, kw_only=True):
    """Settings of `drumbeat rules apply`."""

    yes: Annotated[bool, Meta(description="do not ask")] = False


class Testing(Comparing, frozen=True, kw_only=True):
    """Settings of `drumbeat rules test`."""

    range: Annotated[str, Meta(description="history to try them on: 1h, 6h, 24h, 7d or 30d")] = "7d"


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; 1 where the API cannot be asked, the file is unusable or a rule in it is wrong."""
    verb = read_verb("rules", argv, _VERBS, USAGE)
    if isinstance(verb, int):
        return verb
    kind, positional, act = _VERBS[verb]
    own = settings.load(kind, f"rules {verb}", argv[1:], environ, positional=positional)
    try:
        with api.Api(own) as connection:
            return act(connection, own)
    except (api.ApiError, rule_files.RuleFileError) as error:
        return screen.failed("rules", error)


def _list(connection: api.Api, own: Listing) -> int:
    found = connection.fetch("alert-rules", {"q": own.name})
    if own.json:
        screen.print_json(found)
    elif not found["rules"]:
        print("No rule fits." if own.name else "No rule yet.")
    else:
        screen.print_table(("rule", "kind", "watches", "thresholds", "for", "pack", "state"),
                           map(rule_texts.cells, found["rules"]), spare=("pack", "kind"))
    return 0


def _show(connection: api.Api, own: Showing) -> int:
    row = connection.fetch(_path(own.name))
    revisions = connection.fetch(f"{_path(own.name)}/revisions")["revisions"]
    if own.json:
        screen.print_json(row | {"revisions": revisions})
        return 0
    print(rule_files.toml(row["rule"]), end="")
    for one in revisions:
        what = "deleted" if one["rule"] is None else f"revision {one['revision']}"
        print(f"# {what}, {screen.instant(one['changed_at'])}, {screen.printable(one['changed_by'] or row['pack'])}")
    return 0


def _preview(connection: api.Api, own: Previewing) -> int:
    rule = connection.fetch(_path(own.name))["rule"]
    found = _tried(connection, rule, own.range, hosts=list(own.host), labels=wanted_labels(own.label))
    if own.json:
        screen.print_json(found)
        return 0
    print(f"{own.name} over {own.range}, {screen.counted(found['hosts'], 'host')}, {found['series']} series: "
          f"would have fired {screen.counted(found['fired'], 'time')}{rule_texts.suggestion(found)}.")
    if found["results"]:
        screen.print_table(("host", "instance", "fired", "severity", "longest", "in all", "worst", "last"),
                           map(rule_texts.result_cells, found["results"][:SHOWN]), right=("fired", "worst"),
                           spare=("last", "in all"))
    for note in found["notes"]:
        print(f"note: {note}")
    return 0


def _path(name: str) -> str:
    return f"alert-rules/{quote(name, safe='', errors='replace')}"


def _tried(connection: api.Api, rule: Mapping[str, Any], span: str, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = connection.publish(
        "POST", "alert-rules/preview", {"rule": rule, "range": span} | more, patience=PREVIEW_SECONDS)
    return found


def _diff(connection: api.Api, own: Comparing) -> int:
    plan = _planned(connection, own)
    _tell(plan, as_json=own.json)
    return 0


def _apply(connection: api.Api, own: Applying) -> int:
    plan = _planned(connection, own)
    if own.json and not (own.yes or plan.is_empty):
        raise rule_files.RuleFileError("--json does not ask; say --yes too")
    _tell(plan, as_json=own.json)
    if plan.is_empty or not (own.yes or _is_agreed()):
        return 0
    for rule in plan.added:
        connection.publish("POST", "alert-rules", rule)
    for changed in plan.changed:
        connection.publish("PUT", _path(changed.rule["name"]), changed.rule)
    for name in plan.removed:
        connection.publish("DELETE", _path(name))
    if not own.json:
        print("Done. ingest follows within seconds.")
    return 0


def _is_agreed() -> bool:
    if not sys.stdin.isatty():
        raise rule_files.RuleFileError("nobody can be asked here; say --yes")
    return input("Apply this? [y/N] ").strip().lower() in ("y", "yes")


def _planned(connection: api.Api, own: Comparing) -> Plan:
    """How the rules of the file, which the API finds good, differ from what is stored."""
    file = read_file(own.file)
    if wrong := rule_texts.faults(_checked(connection, file)):
        raise rule_files.RuleFileError(f"{own.file}: {'; '.join(wrong)}")
    return rule_files.plan(file, connection.fetch("alert-rules")["rules"])


def read_file(path: Path) -> RuleFile:
    """The rules of a file. Raises RuleFileError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise rule_files.RuleFileError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return rule_files.read(text, str(path))


def _checked(connection: api.Api, file: RuleFile) -> list[dict[str, Any]]:
    if not file.rules:
        return []
    checked: list[dict[str, Any]] = connection.publish("POST", "alert-rules/validate", {"rules": list(file.rules)})["rules"]
    return checked


def _tell(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        screen.print_json({"added": plan.added, "removed": plan.removed, "unchanged": plan.unchanged, "changed": [
            {"name": one.rule["name"], "fields": {name: {"before": before, "after": after}
                                                  for name, (before, after) in one.fields.items()}} for one in plan.changed]})
        return
    print("\n".join(screen.printable(line) for line in rule_texts.told(plan)))


def _test(connection: api.Api, own: Testing) -> int:
    file = read_file(own.file)
    checked = _checked(connection, file)
    tried = {rule["name"]: _tried(connection, rule, own.range)
             for rule, one in zip(file.rules, checked, strict=True)
             if one["valid"] and rule.get("kind", "threshold") in PREVIEWABLE}
    if own.json:
        screen.print_json({"rules": [dict(one) | {"preview": tried.get(one["name"])} for one in checked]})
    else:
        screen.print_table(("rule", "valid", "fired", "hosts", "longest", "better"),
                           (rule_texts.tried_cells(one, tried.get(one["name"])) for one in checked), right=("fired", "hosts"))
        for line in rule_texts.faults(checked):
            print(screen.printable(line))
    return int(not all(one["valid"] for one in checked))


_VERBS: dict[str, tuple[type[Any], Sequence[str], Callable[[api.Api, Any], int]]] = {
    "list": (Listing, (), _list), "show": (Showing, ("name",), _show), "preview": (Previewing, ("name",), _preview),
    "diff": (Comparing, ("file",), _diff), "apply": (Applying, ("file",), _apply), "test": (Testing, ("file",), _test),
}
