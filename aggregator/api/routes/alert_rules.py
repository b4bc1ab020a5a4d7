"""Alert rules: the list, one of them with its revisions, changes, overrides per host, and the preview."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Response

from aggregator.analysis import rule_problems
from aggregator.analysis.rules import Kind, Override, Rule
from aggregator.api import formats, previews, rule_models
from aggregator.api.alert_models import NoteModel
from aggregator.api.backend import Backend, Ready
from aggregator.api.formats import Wanted
from aggregator.api.parameters import PRINTABLE, HostName, Word, existing
from aggregator.api.problems import Problem, invalid, not_found, refused, sayable
from aggregator.api.security import Admin, Operator, Reader
from aggregator.store import alert_actions, rules

router = APIRouter(prefix="/api/v1", tags=["alert rules"])

_COLUMNS = tuple(rule_models.StoredRuleModel.model_fields)
_REVISION_COLUMNS = tuple(rule_models.RevisionModel.model_fields)
_OVERRIDE_COLUMNS = tuple(rule_models.OverrideModel.model_fields)
MAX_TEMPLATES = 100_000
"""Characters of templates that one call may have checked: about a second of work."""
RuleName = Annotated[str, Path(description="name of a rule", max_length=100, pattern=PRINTABLE, examples=["low_disk"])]


@router.get("/alert-rules", response_model=rule_models.RulesModel)
def list_rules(backend: Ready, _: Reader, wanted: Wanted, kind: Kind | None = None, pack: Word | None = None,
               enabled: bool | None = None, q: Annotated[Word, Query(description="part of the name")] = "") -> Response:
    """Every rule, by name. `pack` empty: own rules only."""
    found = [row for row in rules.fetch_all(backend.engine)
             if (kind is None or row["rule"].get("kind") == kind) and (pack is None or row["pack"] == pack)
             and (enabled is None or row["rule"].get("enabled") == enabled) and q.lower() in row["name"]]
    return formats.records(wanted, "rules", found, _COLUMNS, total=len(found))


@router.post("/alert-rules", response_model=rule_models.StoredRuleModel, status_code=201)
def create_rule(backend: Ready, token: Admin, body: rule_models.RuleBody) -> Response:
    """Make a rule; it is in force within seconds."""
    rule = _read(backend, body)
    try:
        rules.create(backend.engine, rule, token.name)
    except rules.RuleTakenError:
        raise Problem(409, f"there is a rule {rule.name!r}; change it with PUT /api/v1/alert-rules/{rule.name}") from None
    return formats.json_answer(_stored(backend, rule.name), 201)


@router.post("/alert-rules/validate", response_model=rule_models.CheckedRulesModel)
def validate_rules(backend: Ready, _: Reader, body: rule_models.RulesToCheckModel) -> Response:
    """Say what is wrong with rules, without storing them. They may name each other."""
    length = sum(len(text) for plain in body.rules for field in ("message", "recommendation")
                 if isinstance(text := plain.get(field), str))
    if length > MAX_TEMPLATES:
        raise invalid("rules", f"their messages and recommendations have {length} characters; at most {MAX_TEMPLATES} characters "
                               "are checked in one call")
    known = _known(backend) | {str(plain.get("name")): str(plain.get("kind", "threshold")) for plain in body.rules}
    checked = [_checked(plain, known) for plain in body.rules]
    return formats.json_answer({"valid": all(one["valid"] for one in checked), "rules": checked})


@router.post("/alert-rules/preview", response_model=rule_models.PreviewModel)
def preview_rule(backend: Ready, _: Reader, body: rule_models.AskedPreviewModel) -> Response:
    """What a rule would have done over stored history, and the `for` that would have halved it. Nothing is stored."""
    try:
        rule = rule_problems.read(body.rule, _known(backend))
    except rule_problems.RuleProblemsError as error:
        raise refused({f"rule.{field}": text for field, text in error.problems.items()}) from None
    return formats.json_answer(previews.answer(backend, rule, body))


@router.get("/alert-rules/{rule}", response_model=rule_models.StoredRuleModel)
def read_rule(backend: Ready, _: Reader, rule: RuleName) -> Response:
    """One rule."""
    return formats.json_answer(_stored(backend, rule))


@router.put("/alert-rules/{rule}", response_model=rule_models.StoredRuleModel)
def change_rule(backend: Ready, token: Admin, rule: RuleName, body: rule_models.RuleBody) -> Response:
    """Replace a rule, as a new revision; fields that are left out get their defaults. Its alerts go on under the new one."""
    _stored(backend, rule)
    new = _read(backend, {"name": rule} | body)
    if new.name != rule:
        raise invalid("name", f"the rule at this address is {rule!r}; a rule keeps its name")
    if new.kind == "composite" and (users := _composites_of(backend, rule)):
        raise invalid("kind", f"{', '.join(users)} is made of this rule, which therefore cannot be composite")
    if not rules.replace(backend.engine, new, token.name):
        raise not_found("rule", rule)
    return formats.json_answer(_stored(backend, rule))


@router.delete("/alert-rules/{rule}", status_code=204)
def delete_rule(backend: Ready, token: Admin, rule: RuleName) -> Response:
    """Delete a rule; its alerts are resolved. One of a pack does not come back by itself."""
    if users := _composites_of(backend, rule):
        raise Problem(409, f"{', '.join(users)} is made of {rule!r}; change or delete that first")
    if not rules.delete(backend.engine, rule, token.name):
        raise not_found("rule", rule)
    return Response(status_code=204)


@router.get("/alert-rules/{rule}/revisions", response_model=rule_models.RevisionsModel)
def list_revisions(backend: Ready, _: Reader, wanted: Wanted, rule: RuleName) -> Response:
    """Every revision of a rule, newest first, of deleted rules too."""
    found = rules.fetch_revisions(backend.engine, rule)
    if not found:
        raise not_found("rule", rule)
    return formats.records(wanted, "revisions", found, _REVISION_COLUMNS)


@router.post("/alert-rules/{rule}/resolutions", response_model=rule_models.ResolvedModel)
def resolve_alerts(backend: Ready, token: Operator, rule: RuleName,
                   said: Annotated[NoteModel | None, Body()] = None) -> Response:
    """Resolve every active alert of a rule. One whose condition lasts fires again only after it has passed once."""
    _stored(backend, rule)
    number = alert_actions.resolve_rule(backend.engine, rule, token.name, said.note if said else "", backend.now())
    return formats.json_answer({"resolved": number})


@router.get("/hosts/{host}/rule-overrides", response_model=rule_models.OverridesModel)
def list_overrides(backend: Ready, _: Reader, wanted: Wanted, host: HostName) -> Response:
    """What a host has otherwise than the rules say."""
    found = rules.fetch_host_overrides(backend.engine, existing(backend, host))
    return formats.records(wanted, "overrides", found, _OVERRIDE_COLUMNS)


@router.put("/hosts/{host}/rule-overrides/{rule}", response_model=rule_models.OverrideModel)
def write_override(backend: Ready, token: Admin, host: HostName, rule: RuleName, body: rule_models.OverrideBody) -> Response:
    """Give one host other thresholds or times of a rule, or switch it off there. What is left out stays as the rule says."""
    host_id, stored = existing(backend, host), _stored(backend, rule)
    try:
        override: Override = rule_problems.converted(body, Override)
        found = rule_problems.problems(override.applied(rule_problems.converted(stored["rule"], Rule)), _known(backend))
    except rule_problems.RuleProblemsError as error:
        raise refused(error.problems) from None
    if found or not body:
        raise refused(found or {"body": f"it changes nothing; allowed: {', '.join(Override.__struct_encode_fields__)}"})
    if not rules.write_override(backend.engine, host_id, host, rule, override, token.name):
        raise not_found("rule", rule)
    return formats.json_answer(next(row for row in rules.fetch_host_overrides(backend.engine, host_id) if row["rule"] == rule))


@router.delete("/hosts/{host}/rule-overrides/{rule}", status_code=204)
def delete_override(backend: Ready, token: Admin, host: HostName, rule: RuleName) -> Response:
    """Let a host have a rule as it is."""
    if not rules.delete_override(backend.engine, existing(backend, host), host, rule, token.name):
        raise not_found("override", rule)
    return Response(status_code=204)


def _stored(backend: Backend, name: str) -> dict[str, Any]:
    found = rules.fetch_one(backend.engine, name)
    if found is None:
        raise not_found("rule", name)
    return found


def _known(backend: Backend) -> dict[str, str]:
    """Kinds of the stored rules by name."""
    return {row["name"]: str(row["rule"].get("kind")) for row in rules.fetch_all(backend.engine)}


def _read(backend: Backend, plain: dict[str, Any]) -> Rule:
    try:
        return rule_problems.read(plain, _known(backend))
    except rule_problems.RuleProblemsError as error:
        raise refused(error.problems) from None


def _checked(plain: dict[str, Any], known: dict[str, str]) -> dict[str, Any]:
    found: dict[str, str] = {}
    try:
        rule_problems.read(plain, known)
    except rule_problems.RuleProblemsError as error:
        found = error.problems
    return {"name": sayable(str(plain.get("name", ""))[:100]), "valid": not found,
            "problems": [{"field": field, "message": text} for field, text in found.items()]}


def _composites_of(backend: Backend, name: str) -> list[str]:
    """Names of the composite rules that a rule is part of."""
    return [row["name"] for row in rules.fetch_all(backend.engine) if name in row["rule"].get("rules", ())]
