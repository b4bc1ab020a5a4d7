"""Alerts as OpenAPI shows them, with examples: lists, one of them, its explanation, what is done to it, events, the audit log."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from aggregator.api.models import Model, example
from aggregator.api.parameters import TEXT

Severities = Literal["info", "warning", "error", "critical"]
Text = Annotated[str, StringConstraints(max_length=1024, pattern=TEXT)]
Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
InstanceValue = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^{},=\"\x00-\x1f\x7f]+$")]

_DETAILS = {"value": 91.5, "threshold": 90.0, "recommendation": "Remove what is not needed, or grow the file system."}
_ALERT: dict[str, Any] = {
    "id": 812, "alert": "low_disk-427bd331", "host": "web-1", "labels": {"site": "berlin"}, "rule": "low_disk",
    "type": "low_disk", "instance": {"mount": "/var"}, "source": "system", "state": "firing", "severity": "critical",
    "message": "/var is 91.5 % full", "details": _DETAILS, "timestamp": "2026-11-21T08:00:05Z", "reason": "91.5 is at least 90",
    "metric": "disk.percent{mount=/var}", "rule_revision": 1, "dismissible": True, "dismissed": False, "dismissed_by": None,
    "dismissed_at": None, "acknowledged": True, "acknowledged_by": "anna", "acknowledged_at": "2026-11-21T08:04:00Z",
    "acknowledged_until": None, "note": "new disk ordered", "muted_by": [], "flapping": False,
    "started_at": "2026-11-21T07:55:05Z", "fired_at": "2026-11-21T08:00:05Z", "resolved_at": None,
    "changed_at": "2026-11-21T08:00:05Z"}
_CULPRIT = {"pid": 812, "name": "postgres", "user": "postgres", "cpu_percent": 31.0, "memory_bytes": 73400320}
_EVENT = {
    "id": 4711, "at": "2026-11-21T08:00:05Z", "recorded_at": "2026-11-21T08:00:05.4Z", "kind": "firing", "severity": "critical",
    "value": 91.5, "threshold": 90.0, "reason": "91.5 is at least 90", "rule_revision": 1, "actor": "", "note": "",
    "muted": False, "culprits": [_CULPRIT]}


class DetailsModel(Model):
    value: float | None
    threshold: float | None
    recommendation: str


class AlertModel(Model):
    """One alert: one incident, from its first sign to its end."""

    model_config = example(_ALERT)
    id: int
    alert: str = Field(description="its name in MQTT topics; the same each time this condition comes")
    host: str
    labels: dict[str, str] = Field(description="of the host")
    rule: str
    type: str
    instance: dict[str, str] = Field(description="which mount, device, container, …; empty: the host itself")
    source: str = Field(description="system or http")
    state: str = Field(description="pending, firing, unknown (the host is silent), resolved or cancelled (it never fired)")
    severity: str
    message: str
    details: DetailsModel
    timestamp: datetime = Field(description="when it fired; before that, when its condition began")
    reason: str = Field(description="of its latest transition")
    metric: str
    rule_revision: int
    dismissible: bool
    dismissed: bool
    dismissed_by: str | None
    dismissed_at: datetime | None
    acknowledged: bool
    acknowledged_by: str | None
    acknowledged_at: datetime | None
    acknowledged_until: datetime | None
    note: str = Field(description="of the acknowledgement")
    muted_by: list[str] = Field(description="why nobody is notified: `silence 12`, `window nightly`, `host_down router-1`")
    flapping: bool
    started_at: datetime
    fired_at: datetime | None
    resolved_at: datetime | None
    changed_at: datetime


class AlertsModel(Model):
    model_config = example({"alerts": [_ALERT], "total": 1, "next_cursor": None})
    alerts: list[AlertModel]
    total: int = Field(description="alerts that fit the filters, all pages together; counted up to 100000")
    next_cursor: str | None


class OneAlertModel(AlertModel):
    model_config = example(_ALERT | {"culprits": [_CULPRIT]})
    culprits: list[dict[str, Any]] = Field(description="the foremost processes when it fired")


class AlertSummaryModel(Model):
    model_config = example({"total": 3, "critical": 1, "error": 0, "warning": 2, "info": 0, "acknowledged": 1, "muted": 0,
                            "unknown": 0, "dismissed": 1, "history_count": 40})
    total: int = Field(description="active and not dismissed; the next seven count among them")
    critical: int
    error: int
    warning: int
    info: int
    acknowledged: int
    muted: int
    unknown: int
    dismissed: int = Field(description="active, but dismissed")
    history_count: int = Field(description="alerts that are over and still kept; counted up to 100000")


class AlertEventModel(Model):
    model_config = example(_EVENT)
    id: int
    at: datetime = Field(description="when it happened, by the host's clock")
    recorded_at: datetime
    kind: str
    severity: str
    value: float | None
    threshold: float | None
    reason: str
    rule_revision: int
    actor: str = Field(description="the API token, or mqtt:NAME; empty: the rule")
    note: str
    muted: bool
    culprits: list[dict[str, Any]]


class AlertEventsModel(Model):
    model_config = example({"events": [_EVENT], "next_cursor": None})
    events: list[AlertEventModel]
    next_cursor: str | None


class RuleThenModel(Model):
    name: str
    revision: int
    definition: dict[str, Any] | None
    changed_at: datetime
    changed_by: str
    current_revision: int | None = Field(description="null: the rule is deleted")


class AlertSamplesModel(Model):
    metric: str
    unit: str | None
    threshold: float | None
    since: datetime = Field(alias="from")
    to: datetime
    step: int
    ts: list[datetime]
    min: list[float | None]
    mean: list[float | None]
    max: list[float | None]


class MutedModel(Model):
    since: datetime = Field(alias="from")
    to: datetime | None = Field(description="null: it still is")
    by: str


class AttemptModel(Model):
    at: datetime
    ok: bool
    seconds: float
    error: str


class ToldModel(Model):
    id: int
    channel: str
    route: str
    kind: str = Field(description="alerts, repeat, escalation, test, channel or report")
    state: str = Field(description="due, delivered or failed")
    created_at: datetime
    finished_at: datetime | None
    next_attempt_at: datetime | None
    attempts: list[AttemptModel]


class ExplanationModel(Model):
    """Why an alert fired and what came of it."""

    model_config = example({
        "alert": _ALERT | {"culprits": [_CULPRIT]},
        "rule": {"name": "low_disk", "revision": 1, "definition": {"name": "low_disk", "critical": 90.0, "for": 300.0},
                 "changed_at": "2026-11-01T07:00:00Z", "changed_by": "", "current_revision": 2},
        "samples": {"metric": "disk.percent{mount=/var}", "unit": "percent", "threshold": 90.0, "from": "2026-11-21T07:45:05Z",
                    "to": "2026-11-21T08:10:05Z", "step": 60, "ts": ["2026-11-21T08:00:00Z"], "min": [91.0], "mean": [91.4],
                    "max": [91.5]},
        "events": [_EVENT], "muted_now": [],
        "muted": [{"from": "2026-11-21T08:01:00Z", "to": "2026-11-21T08:02:00Z", "by": "silence 12"}],
        "notifications": [{"id": 9, "channel": "mail", "route": "default", "kind": "alerts", "state": "delivered",
                           "created_at": "2026-11-21T08:00:35Z", "finished_at": "2026-11-21T08:00:36Z", "next_attempt_at": None,
                           "attempts": [{"at": "2026-11-21T08:00:36Z", "ok": True, "seconds": 0.4, "error": ""}]}]})
    alert: OneAlertModel
    rule: RuleThenModel | None = Field(description="as it was when the alert last changed; null where that is no longer kept")
    samples: AlertSamplesModel | None = Field(description="around the firing; null for alerts without a metric")
    events: list[AlertEventModel] = Field(description="the first 500")
    muted_now: list[str]
    muted: list[MutedModel]
    notifications: list[ToldModel] = Field(description="the latest 100")


class NoteModel(Model):
    model_config = example({"note": "replaced the disk"})
    note: Text = ""


class AcknowledgementModel(Model):
    model_config = example({"note": "new disk ordered", "until": "2026-11-22T08:00:00Z"})
    note: Text = ""
    until: AwareDatetime | None = Field(default=None, description="RFC 3339; until the alert is over where missing")


class NewEventModel(Model):
    """Something that happened on a host: raises, or with `resolved` ends, the alerts of rules of kind `event`."""

    model_config = example({"type": "backup_failed", "host": "web-1", "message": "nightly: disk full", "severity": "error",
                            "instance": {"job": "nightly"}})
    type: Word
    host: Annotated[str, StringConstraints(min_length=1, max_length=63)]
    message: Text = ""
    severity: Severities | None = Field(default=None, description="instead of the rule's")
    instance: dict[Word, InstanceValue] = Field(default={}, max_length=8, description="one alert for each: `job=nightly`")
    resolved: bool = False
    ts: AwareDatetime | None = Field(default=None, description="RFC 3339; now where missing")


class TakenEventModel(Model):
    model_config = example({"id": 17, "rules": ["backup_failed"]})
    id: int
    rules: list[str] = Field(description="enabled rules that hear events of this type; none: nothing will come of it")


_ENTRY = {"id": 31, "at": "2026-11-21T08:04:00Z", "actor": "anna", "action": "acknowledge", "kind": "alert", "object": "812",
          "detail": {"host": "web-1", "rule": "low_disk", "note": "new disk ordered"}}


class AuditModel(Model):
    model_config = example(_ENTRY)
    id: int
    at: datetime
    actor: str = Field(description="the API token, or mqtt:NAME")
    action: str
    kind: str = Field(description="of the object: alert, rule, silence, …")
    object: str
    detail: dict[str, Any]


class AuditLogModel(Model):
    model_config = example({"entries": [_ENTRY], "next_cursor": None})
    entries: list[AuditModel]
    next_cursor: str | None
