"""Answers of the API as OpenAPI shows them, with examples. Large answers are encoded directly, not validated by these."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _example(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"example": example})


class ProblemModel(BaseModel):
    """RFC 9457."""

    type: str = "about:blank"
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["limit: Input should be less than or equal to 1000"])
    errors: list[dict[str, str]] = Field(default=[], description="fields and what is wrong with them")


_HOST = {
    "name": "web-1", "state": "online", "status": "healthy", "score": 93.4, "cpu_percent": 12.5, "memory_percent": 41.0,
    "disk_percent": 64.2, "last_seen_at": "2026-11-21T08:00:05Z", "received_at": "2026-11-21T08:00:05.210Z",
    "interval_seconds": 5.0, "labels": {"site": "berlin"}, "agent_version": "0.1.0",
    "first_seen_at": "2026-11-01T07:12:44Z", "state_reason": "", "state_at": "2026-11-20T19:03:11Z"}


class HostModel(Model):
    """One host. `state` is its liveness, `status` the word of its newest health score."""

    model_config = _example(_HOST)
    name: str
    state: str = Field(description="online, draining, offline or unknown")
    status: str = Field(description="healthy, degraded, warning, critical or unknown")
    score: float | None
    cpu_percent: float | None
    memory_percent: float | None
    disk_percent: float | None
    last_seen_at: datetime | None = Field(description="time of the newest sample, by the host's clock")
    received_at: datetime | None
    interval_seconds: float | None
    labels: dict[str, str]
    agent_version: str
    first_seen_at: datetime
    state_reason: str
    state_at: datetime | None


class HostsModel(Model):
    model_config = _example({"hosts": [_HOST], "total": 1, "next_cursor": None})
    hosts: list[HostModel]
    total: int = Field(description="hosts that fit the filters, all pages together")
    next_cursor: str | None


class LatestModel(Model):
    model_config = _example({"host": "web-1", "ts": "2026-11-21T08:00:05Z", "received_at": "2026-11-21T08:00:05.210Z",
                             "metrics": {"cpu.percent": 12.5, "disk.percent{mount=/}": 64.2, "health.score": 93.4}})
    host: str
    ts: datetime
    received_at: datetime
    metrics: dict[str, float]


class ColumnModel(Model):
    unit: str | None
    min: list[float | None]
    mean: list[float | None]
    max: list[float | None]


class HistoryModel(Model):
    """History by column: the lists run alike. `step` 0 means points as they were sent."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {
        "host": "web-1", "from": "2026-11-20T08:00:00Z", "to": "2026-11-21T08:00:00Z", "step": 300, "source": "rollup_1m",
        "ts": ["2026-11-20T08:00:00Z", "2026-11-20T08:05:00Z"], "count": [60, 60],
        "metrics": {"cpu.percent": {"unit": "percent", "min": [3.1, 2.9], "mean": [12.5, 11.8], "max": [97.0, 40.2]}}}})
    host: str
    from_: datetime = Field(alias="from")
    to: datetime
    step: int
    source: str = Field(description="raw, rollup_1m, rollup_1h or rollup_1d; what it lacks is filled from finer ones")
    ts: list[datetime]
    count: list[int] = Field(description="samples in each point")
    metrics: dict[str, ColumnModel]


class LossModel(Model):
    component: str
    points: float
    text: str


class ComponentModel(Model):
    score: float
    status: str
    weight: float
    details: dict[str, float]


class HealthModel(Model):
    """Health of one host: every lost point has a reason."""

    model_config = _example({
        "host": "web-1", "ts": "2026-11-21T08:00:05Z", "score": 87.1, "status": "healthy",
        "components": {"cpu": {"score": 80.63, "status": "healthy", "weight": 0.3,
                               "details": {"cpu.percent": 45.2, "base_score": 80.63, "load_penalty": 0.0}}},
        "reasons": [{"component": "cpu", "points": 19.37, "text": "CPU is 45.2 % busy"}],
        "recommendations": ["All systems operating normally."]})
    host: str
    ts: datetime
    score: float | None
    status: str
    components: dict[str, ComponentModel]
    reasons: list[LossModel]
    recommendations: list[str]


class ContainersModel(Model):
    model_config = _example({"host": "web-1", "ts": "2026-11-21T08:00:00Z", "available": True, "reason": "", "total": 1,
                             "containers": [{"id": "3f2a", "name": "shop", "image": "shop:2", "state": "running",
                                             "health": "healthy", "cpu_percent": 2.5, "memory_bytes": 73400320}]})
    host: str
    ts: datetime | None
    available: bool
    reason: str
    total: int
    containers: list[dict[str, Any]]


class ProcessesModel(Model):
    model_config = _example({"host": "web-1", "ts": "2026-11-21T08:00:00Z", "total": 143, "sort": "cpu",
                             "processes": [{"pid": 812, "name": "postgres", "user": "postgres", "cpu_percent": 31.0,
                                            "memory_bytes": 73400320, "memory_percent": 0.9}]})
    host: str
    ts: datetime | None
    total: int = Field(description="processes on the host; the list holds the foremost only")
    sort: str
    processes: list[dict[str, Any]]


class SensorsModel(Model):
    model_config = _example({"host": "web-1", "ts": "2026-11-21T08:00:00Z", "available": True, "reason": "",
                             "sensors": [{"kind": "temperature", "group": "coretemp", "label": "Package id 0",
                                          "current": 48.0, "high": 80.0, "critical": 100.0}]})
    host: str
    ts: datetime | None
    available: bool
    reason: str
    sensors: list[dict[str, Any]]


class GapsModel(Model):
    model_config = _example({"gaps": [{"id": 1, "host": "web-1", "epoch": "5f1c9a3e77b0c2d1", "from_seq": 10,
                                       "to_seq": 19, "samples": 10, "reason": "spool full",
                                       "noticed_at": "2026-11-21T08:00:00Z"}], "next_cursor": None})
    gaps: list[dict[str, Any]]
    next_cursor: str | None


class FleetContainersModel(Model):
    model_config = _example({"containers": [{"host": "web-1", "ts": "2026-11-21T08:00:00Z", "name": "shop",
                                             "image": "shop:2", "state": "running", "health": "healthy"}]})
    containers: list[dict[str, Any]]


class FleetHealthModel(Model):
    """Score and statuses are those of the hosts that are online or draining."""

    model_config = _example({
        "ts": "2026-11-21T08:00:05Z", "score": 91.2, "hosts": 3, "online": 2,
        "by_state": {"online": 2, "draining": 0, "offline": 1, "unknown": 0},
        "by_status": {"healthy": 1, "degraded": 1, "warning": 0, "critical": 0, "unknown": 0},
        "worst": [{"host": "db-1", "score": 66.0, "status": "degraded", "reasons": ["disk: /var is 91.0 % full"]}],
        "groups": []})
    ts: datetime
    score: float | None
    hosts: int
    online: int
    by_state: dict[str, int]
    by_status: dict[str, int]
    worst: list[dict[str, Any]]
    groups: list[dict[str, Any]] = Field(description="the same figures by value of the label in group_by")


class FleetLatestModel(Model):
    model_config = _example({"metrics": ["cpu.percent"], "hosts": [
        {"host": "web-1", "ts": "2026-11-21T08:00:05Z", "values": {"cpu.percent": 12.5}}]})
    metrics: list[str]
    hosts: list[dict[str, Any]]


class SeriesModel(Model):
    """One series a host (or group): min, mean and max of each point; with `agg` one `value` for all hosts of a group."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {
        "metric": "cpu.percent", "unit": "percent", "from": "2026-11-20T08:00:00Z", "to": "2026-11-21T08:00:00Z",
        "step": 3600, "source": "rollup_1h", "agg": "mean", "group_by": "site", "hosts": 2,
        "series": [{"group": "berlin", "ts": ["2026-11-20T08:00:00Z"], "value": [12.5]}]}})
    metric: str
    unit: str | None
    from_: datetime = Field(alias="from")
    to: datetime
    step: int
    source: str
    agg: str | None
    group_by: str | None
    hosts: int
    series: list[dict[str, Any]]


class StorageModel(Model):
    model_config = _example({
        "database_bytes": 52428800, "points": 8640000, "bytes_per_point": 5.1, "tables": [
            {"name": "sample", "bytes": 44040192, "rows": 86400, "oldest": "2026-11-14T00:00:00Z",
             "newest": "2026-11-21T08:00:05Z", "keep_days": 7,
             "partitions": [{"name": "sample_20261121", "bytes": 14680064, "rows": 28800}]}]})
    database_bytes: int
    points: int | None = Field(description="numbers in raw history, estimated")
    bytes_per_point: float | None = Field(description="raw history with its indexes")
    tables: list[dict[str, Any]]


class CatalogueModel(Model):
    model_config = _example({"metrics": [{"name": "disk.percent", "labels": ["mount"], "unit": "percent", "low": 0.0,
                                          "high": 100.0, "kind": "instance", "help": "used on one file system"}]})
    metrics: list[dict[str, Any]]


class RejectsModel(Model):
    model_config = _example({
        "rejects": [{"id": 7, "received_at": "2026-11-21T08:00:05Z", "host": "web-1", "reason": "json",
                     "detail": "JSON is malformed", "topic": "drumbeat/v1/agent/09/web-1/up/sample", "size": 8,
                     "sha256": "…", "payload": '{"v":1}xx'}],
        "counts": {"json": 1}, "next_cursor": None})
    rejects: list[dict[str, Any]]
    counts: dict[str, int] = Field(description="kept rejects by reason, whatever the filters")
    next_cursor: str | None


class RecommendationsModel(Model):
    model_config = _example({"recommendations": [{"host": "db-1", "score": 66.0, "status": "degraded",
                                                  "recommendation": "/var is nearly full: remove old logs…"}]})
    recommendations: list[dict[str, Any]]


class PoliciesModel(Model):
    model_config = _example({"policies": [{"name": "raw", "keep_days": 7, "changed_at": "2026-11-01T07:12:44Z"}]})
    policies: list[dict[str, Any]]


class ProfileModel(Model):
    model_config = _example({"name": "default", "changed_at": None, "profile": {"cpu_weight": 0.3}})
    name: str
    changed_at: datetime | None
    profile: dict[str, Any]


class StatsModel(Model):
    model_config = _example({
        "ts": "2026-11-21T08:00:05Z", "version": "0.1.0", "hosts": 3, "online": 2, "recent_samples_count": 24,
        "rejects": 1, "rejects_last_hour": 0, "gaps": 0, "lost_samples": 0, "layouts": 3, "lag_seconds": 1.2,
        "slots": [{"slot": 0, "owner": "ingest-1", "epoch": 1, "held": True, "checkpoint_at": "2026-11-21T08:00:00Z",
                   "rolled_up_to": "2026-11-21T08:00:00Z"}]})
    ts: datetime
    version: str
    hosts: int
    online: int
    recent_samples_count: int = Field(description="samples received in the last minute")
    rejects: int
    rejects_last_hour: int
    gaps: int
    lost_samples: float
    layouts: int
    lag_seconds: float | None = Field(description="time since anything was received, as stored every few seconds")
    slots: list[dict[str, Any]]


class TokenModel(Model):
    model_config = _example({"name": "grafana", "scopes": ["read"], "created_at": "2026-11-01T07:12:44Z",
                             "expires_at": None, "last_used_at": None, "revoked_at": None})
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class TokensModel(Model):
    tokens: list[TokenModel]


class NewTokenModel(Model):
    """A token to make. `scopes`: read, operate or admin; each includes those before it."""

    model_config = _example({"name": "grafana", "scopes": ["read"], "expires_at": "2027-11-21T00:00:00Z"})
    name: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    scopes: list[str] = Field(default=["read"], min_length=1, max_length=3)
    expires_at: datetime | None = None


class MadeTokenModel(Model):
    """The token itself is shown this once."""

    model_config = _example({"name": "grafana", "token": "dbt_…", "scopes": ["read"], "expires_at": None})
    name: str
    token: str
    scopes: list[str]
    expires_at: datetime | None


class AboutModel(Model):
    model_config = _example({"name": "drumbeat", "version": "0.1.0", "links": {"hosts": "/api/v1/hosts"}})
    name: str
    version: str
    links: dict[str, str]


class ProbeModel(Model):
    model_config = _example({"service": "api", "status": "ok", "parts": {"database": "ok"}})
    service: str
    status: str
    parts: dict[str, str]
