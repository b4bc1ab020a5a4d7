"""Silences, maintenance windows and dependencies as OpenAPI shows them: what is asked for and what is answered."""

from typing import Annotated, Any

import msgspec
from pydantic import AwareDatetime, Field, StringConstraints

from aggregator.analysis.matching import Match
from aggregator.api.models import Model, example
from aggregator.api.parameters import PRINTABLE
from shared.wire import Severity

LONGEST_SILENCE_DAYS = 366

Word = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=PRINTABLE)]
Line = Annotated[str, StringConstraints(max_length=1000, pattern=PRINTABLE)]
Words = Annotated[list[Word], Field(max_length=200)]

_MATCH: dict[str, Any] = {"hosts": ["web-*"], "types": ["low_disk"]}
_TIMES = {"starts_at": "2026-11-21T08:00:00Z", "ends_at": "2026-11-21T10:00:00Z"}
_SILENCE = {"id": 12, "state": "active", "owner": "ada", "reason": "new disks", "match": _MATCH, **_TIMES,
            "created_at": "2026-11-21T07:59:12Z", "created_by": "ada-laptop", "alerts": 3}
_WINDOW = {"cron": "30 2 * * SUN", "duration": 7200.0, "timezone": "Europe/Berlin", "match": {"labels": {"site": "berlin"}},
           "reason": "weekly updates", "enabled": True}
_OPENING = {"starts_at": "2026-11-22T01:30:00Z", "ends_at": "2026-11-22T03:30:00Z"}
_SHOWN_WINDOW = {"name": "weekly", **_WINDOW, "is_open": False, "openings": [_OPENING], "created_at": "2026-11-01T07:12:44Z",
                 "changed_at": "2026-11-01T07:12:44Z", "changed_by": "ada-laptop"}


class MatchModel(Model):
    """Alerts that fit all of its fields; an empty field fits any. Names may be patterns with `*`."""

    model_config = example(_MATCH)
    hosts: Words = Field(default=[])
    labels: Annotated[dict[Word, Word], Field(max_length=16)] = Field(default={}, description="of the host; `*` is any value")
    rules: Words = Field(default=[])
    types: Words = Field(default=[])
    instances: Words = Field(default=[], description="patterns of `mount=/var`")
    severity: Severity | None = Field(default=None, description="at least this one")

    def match(self) -> Match:
        return msgspec.convert(self.model_dump(), Match)


class NewSilenceModel(Model):
    """A silence to make, or what one is to become. `ends_at` or `duration` (s) says how long."""

    model_config = example({"match": _MATCH, "duration": 7200, "reason": "new disks", "owner": "ada"})
    match: MatchModel
    reason: Annotated[Line, Field(min_length=1)]
    owner: Annotated[str, StringConstraints(max_length=100, pattern=PRINTABLE)] = Field(
        default="", description="who answers for it; the token's name where missing")
    starts_at: AwareDatetime | None = Field(default=None, description="now where missing")
    ends_at: AwareDatetime | None = None
    duration: Annotated[float, Field(ge=1, le=LONGEST_SILENCE_DAYS * 86_400)] | None = Field(default=None, description="seconds")
    everything: bool = Field(default=False, description="must be true for a match without any field: it mutes every alert")


class SilenceModel(Model):
    model_config = example(_SILENCE)
    id: int
    state: str = Field(description="pending, active or expired")
    owner: str
    reason: str
    match: MatchModel
    starts_at: AwareDatetime
    ends_at: AwareDatetime
    created_at: AwareDatetime
    created_by: str = Field(description="the token that made it")
    alerts: int = Field(description="alerts active now that it covers, or would cover once it begins; 0 when it has ended")


class SilencesModel(Model):
    model_config = example({"silences": [_SILENCE], "next_cursor": None})
    silences: list[SilenceModel]
    next_cursor: str | None


class NewWindowModel(Model):
    """A window to make, or what one is to become."""

    model_config = example(_WINDOW)
    match: MatchModel
    cron: Annotated[str, StringConstraints(max_length=200, pattern=PRINTABLE)] = Field(
        description="five fields: minute hour day-of-month month day-of-week")
    duration: float = Field(ge=60, le=604_800, description="seconds that it stays open")
    timezone: Annotated[str, StringConstraints(max_length=64, pattern=PRINTABLE)] = "UTC"
    reason: Line = ""
    enabled: bool = True
    everything: bool = Field(default=False, description="must be true for a match without any field: it mutes every alert")


class OpeningModel(Model):
    starts_at: AwareDatetime
    ends_at: AwareDatetime


class WindowModel(Model):
    model_config = example(_SHOWN_WINDOW)
    name: str
    match: MatchModel
    cron: str
    duration: float
    timezone: str
    reason: str
    enabled: bool
    is_open: bool = Field(description="whether it mutes now")
    openings: list[OpeningModel] = Field(description="three: the present one if it is open, and the next; none where disabled")
    created_at: AwareDatetime
    changed_at: AwareDatetime
    changed_by: str


class WindowsModel(Model):
    model_config = example({"maintenance_windows": [_SHOWN_WINDOW]})
    maintenance_windows: list[WindowModel]


class OpeningsModel(Model):
    model_config = example({"window": "weekly", "openings": [_OPENING]})
    window: str
    openings: list[OpeningModel]


class DependenciesModel(Model):
    """Host → the hosts that it stands behind: while one of them is down, the host's alerts notify nobody."""

    model_config = example({"dependencies": {"web-1": ["switch-1"], "switch-1": ["router-1"]}})
    dependencies: Annotated[dict[Word, Annotated[list[Word], Field(max_length=100)]], Field(max_length=20_000)]


class NewDependencyModel(Model):
    model_config = example({"depends_on": ["switch-1"]})
    depends_on: Annotated[list[Word], Field(max_length=100)]


class DependencyModel(Model):
    model_config = example({"host": "web-1", "depends_on": ["switch-1"], "upstream": ["router-1", "switch-1"], "dependents": []})
    host: str
    depends_on: list[str]
    upstream: list[str] = Field(description="all hosts that it stands behind, directly or not")
    dependents: list[str] = Field(description="all hosts that stand behind it, directly or not")
