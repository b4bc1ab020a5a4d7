"""Answers about hosts as OpenAPI shows them, with examples. Answers are encoded directly; tests hold them to these models."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


def example(shown: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"example": shown})


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
    "first_seen_at": "2026-11-01T07:12:44Z", "state_reason": "", "state_at": "2026-11-20T19:03:11Z", "alerts": 2,
    "worst_alert": "warning"}


class HostModel(Model):
    """One host. `state` is its liveness, `status` the word of its newest health score."""

    model_config = example(_HOST)
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
    alerts: int = Field(description="active and not dismissed")
    worst_alert: str = Field(description="severity of the worst of them; empty: none")


class HostsModel(Model):
    model_config = example({"hosts": [_HOST], "total": 1, "next_cursor": None})
    hosts: list[HostModel]
    total: int = Field(description="hosts that fit the filters, all pages together")
    next_cursor: str | None


class LatestModel(Model):
    model_config = example({"host": "web-1", "ts": "2026-11-21T08:00:05Z", "received_at": "2026-11-21T08:00:05.210Z",
                             "metrics": {"cpu.percent": 12.5, "disk.percent{mount=/}": 64.2, "health.score": 93.4}})
    host: str
    ts: datetime
    received_at: datetime
    metrics: dict[str, float]


_CONTAINER = {
    "id": "3f2a", "name": "shop", "image": "shop:2", "state": "running", "health": "healthy", "should_run": True,
    "started_at": "2026-11-20T08:00:00Z", "uptime_seconds": 86400.0, "restarts": 0, "ports": ["0.0.0.0:80->8080/tcp"],
    "cpu_percent": 2.5, "memory_bytes": 73400320}
_COUNTS = {"total": 1, "running": 1, "stopped": 0}


class ContainerModel(Model):
    """One container. `state` and `health` are Docker's words; `should_run`: its restart policy is not `no`."""

    model_config = example(_CONTAINER)
    id: str
    name: str
    image: str
    state: str
    health: str
    should_run: bool
    started_at: datetime | None
    uptime_seconds: float | None = Field(description="up to the snapshot; null unless it runs")
    restarts: int
    ports: list[str]
    cpu_percent: float | None = Field(description="of one core")
    memory_bytes: int | None


class ContainersModel(Model):
    model_config = example({"host": "web-1", "ts": "2026-11-21T08:00:00Z", "available": True, "reason": "", **_COUNTS,
                            "containers": [_CONTAINER]})
    host: str
    ts: datetime | None = Field(description="time of the snapshot")
    available: bool
    reason: str = Field(description="why there are none")
    total: int
    running: int
    stopped: int = Field(description="ended though they should run, of those listed")
    containers: list[ContainerModel]


class FleetContainerModel(ContainerModel):
    model_config = example({"host": "web-1", "ts": "2026-11-21T08:00:00Z", **_CONTAINER})
    host: str
    ts: datetime = Field(description="time of the snapshot")


class FleetContainersModel(Model):
    model_config = example({"containers": [{"host": "web-1", "ts": "2026-11-21T08:00:00Z", **_CONTAINER}], **_COUNTS,
                            "next_cursor": None})
    containers: list[FleetContainerModel]
    total: int = Field(description="containers that fit the filters, all pages together")
    running: int
    stopped: int = Field(description="ended though they should run")
    next_cursor: str | None


_PROCESS = {
    "pid": 812, "name": "postgres", "user": "postgres", "cpu_percent": 31.0, "memory_bytes": 73400320, "memory_percent": 0.9,
    "io_bytes_per_second": 4096.0, "threads": 7, "state": "sleeping", "started_at": "2026-11-01T07:12:44Z",
    "command": "postgres -D /var/lib/postgresql"}


class ProcessModel(Model):
    model_config = example(_PROCESS)
    pid: int
    name: str
    user: str
    cpu_percent: float = Field(description="of one core, since the listing before")
    memory_bytes: int
    memory_percent: float
    io_bytes_per_second: float | None
    threads: int
    state: str
    started_at: datetime | None
    command: str


class ProcessesModel(Model):
    model_config = example({"host": "web-1", "ts": "2026-11-21T08:00:00Z", "total": 143, "sort": "cpu",
                            "processes": [_PROCESS]})
    host: str
    ts: datetime | None = Field(description="time of the snapshot")
    total: int = Field(description="processes on the host; the list holds the foremost only")
    sort: str
    processes: list[ProcessModel]


_SENSOR = {"kind": "temperature", "group": "coretemp", "label": "Package id 0", "current": 48.0, "high": 80.0,
           "critical": 100.0}


class SensorModel(Model):
    model_config = example(_SENSOR)
    kind: str = Field(description="temperature (celsius) or fan (rpm)")
    group: str = Field(description="chip; `gpu` for graphics cards")
    label: str
    current: float
    high: float | None
    critical: float | None


class SensorsModel(Model):
    model_config = example({"host": "web-1", "ts": "2026-11-21T08:00:00Z", "available": True, "reason": "",
                            "sensors": [_SENSOR]})
    host: str
    ts: datetime | None = Field(description="time of the snapshot")
    available: bool
    reason: str = Field(description="why there are none")
    sensors: list[SensorModel]


_GAP = {"id": 1, "host": "web-1", "epoch": "5f1c9a3e77b0c2d1", "from_seq": 10, "to_seq": 19, "samples": 10,
        "reason": "spool full", "noticed_at": "2026-11-21T08:00:00Z"}
_BACKFILL = {"from": "2026-11-21T05:00:00Z", "to": "2026-11-21T06:00:00Z", "samples": 720,
             "received_from": "2026-11-21T06:00:03Z", "received_to": "2026-11-21T06:00:21Z"}
_EPOCH = {"epoch": "5f1c9a3e77b0c2d1", "began_at": "2026-11-01T07:12:46Z", "heard_at": "2026-11-21T08:00:00Z",
          "stored_to": 344010}


class GapModel(Model):
    model_config = example(_GAP)
    id: int
    host: str
    epoch: str = Field(description="of the agent's spool")
    from_seq: int
    to_seq: int
    samples: int
    reason: str
    noticed_at: datetime


class BackfillModel(Model):
    """An outage that lost nothing: samples that came more than a minute after they were taken."""

    model_config = example(_BACKFILL)
    from_: datetime = Field(alias="from")
    to: datetime
    samples: int
    received_from: datetime
    received_to: datetime


class EpochModel(Model):
    """One spool of the host's agent."""

    model_config = example(_EPOCH)
    epoch: str
    began_at: datetime
    heard_at: datetime = Field(description="to the dozen seconds")
    stored_to: int = Field(description="up to this seq everything is stored, given up as a gap, or refused")


class GapsModel(Model):
    model_config = example({"gaps": [_GAP], "backfills": [_BACKFILL], "epochs": [_EPOCH], "next_cursor": None})
    gaps: list[GapModel]
    backfills: list[BackfillModel] = Field(description="of the last 24 hours, newest first, at most 100")
    epochs: list[EpochModel] = Field(description="newest first, at most 100; each but the oldest began as the spool was lost, "
                                                 "made anew or copied to another machine; what the former still held is gone")
    next_cursor: str | None


class InventoryModel(BaseModel):
    """What the host is. More fields are those of `/api/v1/schemas/inventory`."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"example": {
        "host": "web-1", "ts": "2026-11-21T08:00:00Z", "received_at": "2026-11-21T08:00:00.210Z",
        "boot_at": "2026-11-01T07:12:44Z", "os": "Debian GNU/Linux 12", "kernel": "6.1.0-18-amd64", "cpu_count": 8,
        "memory_bytes": 16777216000, "mounts": [{"mount": "/", "device": "/dev/sda1", "type": "ext4", "total_bytes": 10**11}],
        "gpus": [{"index": 0, "name": "NVIDIA L4", "uuid": "GPU-1", "memory_bytes": 24 * 2**30, "driver": "570.86"}],
        "collectors": [{"name": "docker", "up": False, "reason": "no socket at /var/run/docker.sock", "interval": 5.0}]}})
    host: str
    ts: datetime | None
    received_at: datetime | None
    boot_at: datetime | None
