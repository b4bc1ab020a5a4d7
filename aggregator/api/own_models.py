"""Answers about drumbeat itself as OpenAPI shows them: storage, statistics, rejects, words, settings, tokens, probes."""

from datetime import datetime
from typing import Any

from pydantic import Field

from aggregator.api.models import Model, example
from shared.names import TOKEN_NAME


class PartitionModel(Model):
    name: str
    bytes: int
    rows: int


class TableModel(Model):
    name: str
    bytes: int = Field(description="with indexes, all partitions together")
    rows: int = Field(description="estimated")
    oldest: datetime | None = Field(description="time of the oldest row, of history only")
    newest: datetime | None
    keep_days: int | None
    partitions: list[PartitionModel]


class StorageModel(Model):
    model_config = example({
        "database_bytes": 52428800, "points": 8640000, "bytes_per_point": 5.1, "tables": [
            {"name": "sample", "bytes": 44040192, "rows": 86400, "oldest": "2026-11-14T00:00:00Z",
             "newest": "2026-11-21T08:00:05Z", "keep_days": 7,
             "partitions": [{"name": "sample_20261121", "bytes": 14680064, "rows": 28800}]}]})
    database_bytes: int
    points: int | None = Field(description="numbers in raw history, estimated")
    bytes_per_point: float | None = Field(description="raw history with its indexes")
    tables: list[TableModel]


class MetricModel(Model):
    name: str
    labels: list[str]
    kind: str = Field(description="core, instance or derived")
    unit: str
    low: float | None
    high: float | None
    help: str


class CatalogueModel(Model):
    model_config = example({"metrics": [{"name": "disk.percent", "labels": ["mount"], "unit": "percent", "low": 0.0,
                                          "high": 100.0, "kind": "instance", "help": "used on one file system"}]})
    metrics: list[MetricModel]


class SchemasModel(Model):
    model_config = example({"schemas": ["sample", "hello", "watermark"]})
    schemas: list[str]


class RejectModel(Model):
    id: int
    received_at: datetime
    host: str
    reason: str
    detail: str
    topic: str
    size: int
    sha256: str
    payload: str = Field(description="its first 2 KB, bytes that are no text as \\xff")


class RejectsModel(Model):
    model_config = example({
        "rejects": [{"id": 7, "received_at": "2026-11-21T08:00:05Z", "host": "web-1", "reason": "json",
                     "detail": "JSON is malformed", "topic": "drumbeat/v1/agent/09/web-1/up/sample", "size": 8,
                     "sha256": "…", "payload": '{"v":1}xx'}],
        "counts": {"json": 1}, "next_cursor": None})
    rejects: list[RejectModel]
    counts: dict[str, int] = Field(description="kept rejects by reason, whatever the filters")
    next_cursor: str | None


class PolicyModel(Model):
    name: str
    keep_days: int
    changed_at: datetime


class PoliciesModel(Model):
    model_config = example({"policies": [{"name": "raw", "keep_days": 7, "changed_at": "2026-11-01T07:12:44Z"}]})
    policies: list[PolicyModel]


class ProfileModel(Model):
    model_config = example({"name": "default", "changed_at": None, "profile": {"cpu_weight": 0.3}})
    name: str
    changed_at: datetime | None
    profile: dict[str, Any]


class SlotModel(Model):
    slot: int
    owner: str
    epoch: int
    held: bool
    checkpoint_at: datetime
    rolled_up_to: datetime


class StatsModel(Model):
    model_config = example({
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
    slots: list[SlotModel]


class TokenModel(Model):
    model_config = example({"name": "grafana", "scopes": ["read"], "created_at": "2026-11-01T07:12:44Z",
                             "expires_at": None, "last_used_at": None, "revoked_at": None})
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class TokensModel(Model):
    model_config = example({"tokens": [{
        "name": "grafana", "scopes": ["read"], "created_at": "2026-11-01T07:12:44Z", "expires_at": None,
        "last_used_at": None, "revoked_at": None}]})
    tokens: list[TokenModel]


class NewTokenModel(Model):
    """A token to make. `scopes`: read, operate or admin; each includes those before it."""

    model_config = example({"name": "grafana", "scopes": ["read"], "expires_at": "2027-11-21T00:00:00Z"})
    name: str = Field(pattern=TOKEN_NAME)
    scopes: list[str] = Field(default=["read"], min_length=1, max_length=3)
    expires_at: datetime | None = None


class MadeTokenModel(Model):
    """The token itself is shown this once."""

    model_config = example({"name": "grafana", "token": "dbt_…", "scopes": ["read"], "expires_at": None})
    name: str
    token: str
    scopes: list[str]
    expires_at: datetime | None


class AboutModel(Model):
    model_config = example({"name": "drumbeat", "version": "0.1.0", "links": {"hosts": "/api/v1/hosts"}})
    name: str
    version: str
    links: dict[str, str]


class ProbeModel(Model):
    model_config = example({"service": "api", "status": "ok", "uptime_seconds": 86400.0, "parts": {"database": "ok"}})
    service: str
    status: str
    uptime_seconds: float
    parts: dict[str, str]
