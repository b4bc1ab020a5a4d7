"""Channels, routes and notifications as OpenAPI shows them: what is asked for and what is answered."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from pydantic import Field, StringConstraints

from aggregator.analysis.channels import ADDRESS, MAIL_HOST, Email, Type
from aggregator.analysis.routing import Route
from aggregator.api.models import Model, example
from aggregator.api.parameters import PRINTABLE, TEXT
from aggregator.api.quiet_models import MatchModel
from shared.wire import Severity

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Url = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=PRINTABLE)]
Secret = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=PRINTABLE)]
Key = Annotated[str, StringConstraints(min_length=16, max_length=500, pattern=PRINTABLE)]
MailAddress = Annotated[str, StringConstraints(pattern=ADDRESS)]
Names = Annotated[list[Name], Field(max_length=20)]
Grouping = Annotated[str, StringConstraints(max_length=100, pattern=PRINTABLE)]

_EMAIL = {"host": "smtp.example.com", "port": 587, "user": "drumbeat", "from": "drumbeat@example.com", "to": ["ops@example.com"],
          "tls": "starttls"}
_CHANNEL = {"type": "email", "email": _EMAIL | {"password": "…"}, "min_severity": "warning"}
_SHOWN = {
    "name": "mail", "type": "email", "address": "mailtos://***@smtp.example.com:587", "email": _EMAIL, "enabled": True,
    "send_resolved": True, "min_severity": "warning", "template": "", "failing_since": None, "last_error": "",
    "delivered_at": "2026-11-21T08:00:05Z", "created_at": "2026-11-01T07:12:44Z", "changed_at": "2026-11-01T07:12:44Z",
    "changed_by": "ada-laptop"}
_ROUTE: dict[str, Any] = {
    "match": {"severity": "error"}, "channels": ["mail"], "group_by": ["type"], "wait": 30, "interval": 300, "repeat": 14400,
    "send_resolved": True, "escalate_after": 15, "escalate_to": ["pager"], "continue": False}
_SHOWN_ROUTE = _ROUTE | {"name": "serious", "position": 10, "changed_at": "2026-11-01T07:12:44Z", "changed_by": "ada-laptop"}
_ATTEMPT = {"at": "2026-11-21T08:00:05Z", "ok": False, "seconds": 0.21, "error": "answered 503 Service Unavailable"}
_NOTIFICATION = {
    "id": 41, "channel": "hook", "route": "serious", "kind": "alerts",
    "title": "[error] 2 alerts: low_disk on web-1, web-2", "state": "due", "alert_ids": [7, 9],
    "created_at": "2026-11-21T08:00:05Z", "finished_at": None, "next_attempt_at": "2026-11-21T08:00:35Z", "attempts": [_ATTEMPT]}


class EmailModel(Model):
    """A mail server, and who writes to whom."""

    model_config = example(_EMAIL)
    host: Annotated[str, StringConstraints(pattern=MAIL_HOST)]
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    user: Annotated[str, StringConstraints(max_length=200, pattern=PRINTABLE)] = ""
    from_: MailAddress = Field(alias="from")
    to: Annotated[list[MailAddress], Field(min_length=1, max_length=50)]
    tls: Literal["starttls", "tls", "none"] = Field(default="starttls", description="tls: from the first byte, as on port 465")


class EmailSettingsModel(EmailModel):
    """A mail server with its password. A change that leaves it out keeps the one that is stored, for the same host and user."""

    model_config = example(_EMAIL | {"password": "…"})
    password: Secret | None = None

    def email(self) -> Email:
        return msgspec.convert(self.model_dump(by_alias=True, exclude={"password"}), Email)


class ChannelSettingsModel(Model):
    """A channel. It needs `url` (an Apprise URL, or a webhook's), or `email`; a change that leaves `url` out keeps it."""

    model_config = example(_CHANNEL)
    type: Type = Field(description="webhook: signed JSON of drumbeat's own; other: any service that Apprise knows")
    url: Url | None = Field(default=None, description="never shown again: such URLs carry tokens")
    email: EmailSettingsModel | None = None
    secret: Key | None = Field(default=None, description="key that signs a webhook's requests; one is made where it is missing")
    enabled: bool = True
    send_resolved: bool = Field(default=True, description="whether it is told that alerts are over")
    min_severity: Severity = Field(default="info", description="milder alerts are not told")
    template: Annotated[str, StringConstraints(max_length=10_000, pattern=TEXT)] = Field(
        default="", description='of a webhook\'s requests, instead of drumbeat\'s own JSON: {"text": {{ title|json }}}')


class NewChannelModel(ChannelSettingsModel):
    model_config = example({"name": "mail"} | _CHANNEL)
    name: Name


class ChannelModel(Model):
    model_config = example(_SHOWN)
    name: str
    type: str
    address: str = Field(description="where it goes, without anything secret")
    email: EmailModel | None
    enabled: bool
    send_resolved: bool
    min_severity: str
    template: str
    failing_since: datetime | None = Field(description="null while the last attempt was delivered")
    last_error: str
    delivered_at: datetime | None
    created_at: datetime
    changed_at: datetime
    changed_by: str


class ChannelsModel(Model):
    model_config = example({"channels": [_SHOWN]})
    channels: list[ChannelModel]


class MadeChannelModel(ChannelModel):
    """The channel, and once the key that signs its requests."""

    model_config = example(_SHOWN | {"secret": None})
    secret: str | None = Field(description="of a webhook whose key was made for it; shown this once")


class RouteSettingsModel(Model):
    """Where alerts go that fit `match`, and when. Routes are tried by `position`; the first that fits takes the alert."""

    model_config = example(_ROUTE)
    position: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] | None = Field(
        default=None, description="after all others, or where it is, when missing")
    match: MatchModel = Field(default_factory=MatchModel, description="without it, every alert")
    channels: Names
    group_by: Annotated[list[Grouping], Field(max_length=8)] = Field(
        default=["type"], description="host, rule, type, severity or label:KEY: what the alerts of one message have in common")
    wait: Annotated[float, Field(ge=0, le=3600)] = Field(default=30.0, description="s that a new group gathers alerts")
    interval: Annotated[float, Field(ge=1, le=86_400)] = Field(default=300.0, description="s between messages at least")
    repeat: Annotated[float, Field(ge=60, le=2_592_000)] = Field(default=14_400.0, description="s until it is told again")
    send_resolved: bool = True
    escalate_after: Annotated[float, Field(ge=0, le=43_200)] = Field(
        default=0.0, description="minutes until an alert that nobody acknowledges goes to `escalate_to`; 0: never")
    escalate_to: Names = Field(default=[])
    continue_: bool = Field(default=False, alias="continue", description="whether routes after this one are tried too")

    def route(self) -> Route:
        fields = self.model_dump(by_alias=True, exclude={"name", "position"}, exclude_none=True)
        return msgspec.convert(fields, Route)


class NewRouteModel(RouteSettingsModel):
    model_config = example({"name": "serious"} | _ROUTE)
    name: Name


class RouteModel(RouteSettingsModel):
    model_config = example(_SHOWN_ROUTE)
    name: str
    position: int
    changed_at: datetime
    changed_by: str


class RoutesModel(Model):
    model_config = example({"routes": [_SHOWN_ROUTE]})
    routes: list[RouteModel]


class AttemptModel(Model):
    model_config = example(_ATTEMPT)
    at: datetime
    ok: bool
    seconds: float
    error: str


class NotificationModel(Model):
    model_config = example(_NOTIFICATION)
    id: int
    channel: str
    route: str
    kind: str = Field(description="alerts, repeat, escalation, test, report, or channel: that another one fails")
    title: str
    state: str = Field(description="due, delivered or failed")
    alert_ids: list[int]
    created_at: datetime
    finished_at: datetime | None
    next_attempt_at: datetime | None
    attempts: list[AttemptModel]


class NotificationsModel(Model):
    model_config = example({"notifications": [_NOTIFICATION], "next_cursor": None})
    notifications: list[NotificationModel]
    next_cursor: str | None


class QueuedModel(Model):
    model_config = example({"notification": 42})
    notification: int = Field(description="its id; `GET /notifications` tells what became of it")
