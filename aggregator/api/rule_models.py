"""Alert rules as OpenAPI shows them. What a rule may hold is said once, by `analysis.rules`; its schema comes from there."""

import inspect
from datetime import datetime
from typing import Annotated, Any

import msgspec
from pydantic import Field, WithJsonSchema

from aggregator.analysis.rules import Override, Rule
from aggregator.api.models import Model, example
from aggregator.api.parameters import Word


def _schema(kind: type[Any], shown: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema of a struct without references, with an example."""
    own: dict[str, Any] = msgspec.json.schema(kind)["$defs"][kind.__name__]
    return own | {"description": inspect.cleandoc(kind.__doc__ or ""), "example": shown}


RULE = {"name": "low_disk", "metric": "disk.percent{mount=*}", "warning": 80.0, "critical": 90.0, "for": 300.0,
        "recover_value": 78.0, "recover_for": 300.0, "message": "{{ mount }} is {{ value|percent }} full"}
OVERRIDE = {"warning": 90.0, "critical": 97.0}
_STORED = {"name": "low_disk", "revision": 2, "pack": "host-defaults", "created_at": "2026-11-01T07:12:44Z",
           "changed_at": "2026-11-20T09:00:00Z", "changed_by": "anna", "rule": RULE}

RuleBody = Annotated[dict[str, Any], WithJsonSchema(_schema(Rule, RULE))]
OverrideBody = Annotated[dict[str, Any], WithJsonSchema(_schema(Override, OVERRIDE))]


class StoredRuleModel(Model):
    """A rule and where it came from."""

    model_config = example(_STORED)
    name: str
    revision: int
    pack: str = Field(description="the rule pack it came with; empty for own rules")
    created_at: datetime
    changed_at: datetime
    changed_by: str = Field(description="name of the API token; empty where nobody has changed it")
    rule: RuleBody


class RulesModel(Model):
    model_config = example({"rules": [_STORED], "total": 1})
    rules: list[StoredRuleModel]
    total: int


class RevisionModel(Model):
    revision: int
    changed_at: datetime
    changed_by: str
    rule: RuleBody | None = Field(description="null where it was deleted")


class RevisionsModel(Model):
    model_config = example({"revisions": [{"revision": 2, "changed_at": "2026-11-20T09:00:00Z", "changed_by": "anna",
                                           "rule": RULE}]})
    revisions: list[RevisionModel] = Field(description="newest first")


_OVERRIDE = {"rule": "low_disk", "override": OVERRIDE, "changed_at": "2026-11-20T09:00:00Z", "changed_by": "anna"}


class OverrideModel(Model):
    model_config = example(_OVERRIDE)
    rule: str
    override: OverrideBody
    changed_at: datetime
    changed_by: str


class OverridesModel(Model):
    model_config = example({"overrides": [_OVERRIDE]})
    overrides: list[OverrideModel]


class RulesToCheckModel(Model):
    """Rules that may name each other."""

    model_config = example({"rules": [RULE]})
    rules: list[RuleBody] = Field(min_length=1, max_length=500)


class FaultModel(Model):
    field: str
    message: str


class CheckedRuleModel(Model):
    name: str
    valid: bool
    problems: list[FaultModel]


class CheckedRulesModel(Model):
    model_config = example({"valid": False, "rules": [{"name": "low_disk", "valid": False, "problems": [
        {"field": "metric", "message": "there is no such metric (did you mean disk.percent?)"}]}]})
    valid: bool
    rules: list[CheckedRuleModel]


class ResolvedModel(Model):
    model_config = example({"resolved": 3})
    resolved: int = Field(description="alerts that were active")


class AskedPreviewModel(Model):
    """A rule, stored or not, and the history it is tried on."""

    model_config = example({"rule": RULE, "range": "7d", "labels": {"site": "berlin"}})
    rule: RuleBody
    range: str | None = Field(default=None, max_length=8, description="1h, 6h, 24h, 7d (default) or 30d, until `to` or now")
    start: str | None = Field(default=None, alias="from", max_length=40, description="RFC 3339; instead of range")
    to: str | None = Field(default=None, max_length=40, description="RFC 3339; now where missing")
    hosts: list[Word] = Field(default=[], max_length=1000, description="names of hosts; all that the rule selects where missing")
    labels: dict[Word, Word] = Field(default={}, max_length=16, description="labels that hosts must have; `*`: any value")


class PreviewedModel(Model):
    host: str
    instance: str = Field(description="as mount=/var; empty for the host itself")
    fired: int = Field(description="how many times an alert would have fired")
    severity: str = Field(description="the most severe it would have been")
    longest_seconds: float
    total_seconds: float
    worst_value: float | None
    first_at: datetime
    last_at: datetime
    is_active: bool = Field(description="whether it would be firing at the end")


class PreviewModel(Model):
    model_config = example({
        "from": "2026-11-14T08:00:00Z", "to": "2026-11-21T08:00:00Z", "step": 60, "source": "rollup_1m", "hosts": 100,
        "series": 212, "fired": 14, "affected_hosts": 3, "total_seconds": 16200.0, "longest_seconds": 5400.0,
        "suggested_for": 900.0, "fired_with_suggested": 6, "notes": [], "results": [{
            "host": "web-1", "instance": "mount=/var", "fired": 9, "severity": "warning", "longest_seconds": 5400.0,
            "total_seconds": 9900.0, "worst_value": 88.2, "first_at": "2026-11-15T02:10:00Z", "last_at": "2026-11-20T02:40:00Z",
            "is_active": False}]})
    start: datetime = Field(alias="from")
    to: datetime
    step: int = Field(description="seconds between the readings it was tried on")
    source: str
    hosts: int = Field(description="that the rule was tried on")
    series: int = Field(description="hosts or instances that have the metric")
    fired: int
    affected_hosts: int
    total_seconds: float
    longest_seconds: float
    suggested_for: float | None = Field(description="the `for`, in seconds, with which it would have fired half as often; null "
                                                    "where it fired less than twice or none would do")
    fired_with_suggested: int | None
    notes: list[str] = Field(description="what the preview leaves out")
    results: list[PreviewedModel] = Field(description="worst first, at most 1000")
