"""Schedules and their executions as OpenAPI shows them. What a schedule may hold is said once, by `shared.schedules`."""

import inspect
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from pydantic import AwareDatetime, Field, StringConstraints, WithJsonSchema

from aggregator.api.models import Model, example
from aggregator.api.parameters import PRINTABLE
from shared.schedules import Schedule, State

States = State
Causes = Literal["schedule", "manual", "trigger", "retry", "misfire"]
Signals = Literal["TERM", "HUP", "INT", "QUIT", "USR1", "USR2", "KILL", "STOP", "CONT"]
Word = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=PRINTABLE)]


def _schema() -> dict[str, Any]:
    """JSON Schema of a schedule without references, with an example."""
    kinds: dict[str, Any] = msgspec.json.schema(Schedule)["$defs"]
    target = kinds["Target"] | {"description": inspect.cleandoc(kinds["Target"].get("description", ""))}
    own: dict[str, Any] = kinds["Schedule"] | {"description": inspect.cleandoc(Schedule.__doc__ or ""), "example": SCHEDULE}
    return own | {"properties": own["properties"] | {"target": target}}


SCHEDULE: dict[str, Any] = {
    "name": "nightly-prune", "kind": "cron", "cron": "30 2 * * *", "timezone": "Europe/Berlin",
    "description": "Docker's leftovers", "target": {"type": "task", "task": "prune_docker", "hosts": ["web-*"], "parallel": 4},
    "retries": 2, "tags": ["docker"]}
_LAST = {"id": "8d1f0c5a7be24f31", "state": "completed", "scheduled_for": "2026-11-21T01:30:00Z",
         "ended_at": "2026-11-21T01:30:41Z", "reason": "12 of 12 hosts completed"}
_STORED = {"name": "nightly-prune", "revision": 2, "is_default": False, "next_at": "2026-11-22T01:30:00Z",
           "fired_at": "2026-11-21T01:30:00Z", "created_at": "2026-11-01T07:12:44Z", "changed_at": "2026-11-20T09:00:00Z",
           "changed_by": "anna", "last": _LAST, "problem": "", "schedule": SCHEDULE}
_NEXT = ["2026-11-22T01:30:00Z", "2026-11-23T01:30:00Z"]

ScheduleBody = Annotated[dict[str, Any], WithJsonSchema(_schema())]


class LastModel(Model):
    id: str
    state: States
    scheduled_for: datetime
    ended_at: datetime | None
    reason: str


class StoredScheduleModel(Model):
    """A schedule, when it is due next, and what became of it last."""

    model_config = example(_STORED)
    name: str
    revision: int
    is_default: bool = Field(description="it came with drumbeat")
    next_at: datetime | None = Field(description="when it is due next; null: never, or it is disabled")
    fired_at: datetime | None = Field(description="when it last was due")
    created_at: datetime
    changed_at: datetime
    changed_by: str = Field(description="name of the API token; empty where nobody has changed it")
    last: LastModel | None = Field(description="its latest execution")
    problem: str = Field(description="why it cannot be read; empty where it can")
    schedule: ScheduleBody


class OneScheduleModel(StoredScheduleModel):
    model_config = example(_STORED | {"next": _NEXT})
    next: list[datetime] = Field(description="its next five firings, without jitter")


class SchedulesModel(Model):
    model_config = example({"schedules": [_STORED], "next_cursor": None})
    schedules: list[StoredScheduleModel]
    next_cursor: str | None


class FiringsModel(Model):
    model_config = example({"schedule": "nightly-prune", "next": _NEXT})
    schedule: str
    next: list[datetime]


class FaultModel(Model):
    field: str
    message: str


class CheckedScheduleModel(Model):
    model_config = example({"valid": False, "problems": [
        {"field": "cron", "message": "'0 0 31 2 *' never comes: no such month has that day"}], "next": []})
    valid: bool
    problems: list[FaultModel]
    next: list[datetime] = Field(description="its next five firings, without jitter")


class RunModel(Model):
    """How to start it now. What is left out is as the schedule says."""

    model_config = example({"payload": {"full": True}})
    payload: dict[str, Any] | None = Field(default=None, description="instead of the schedule's")
    hosts: Annotated[list[Word], Field(max_length=200)] = Field(
        default=[], description="names or patterns, instead of those of its target; only where that is a task")


class StartedModel(Model):
    """The execution; its state is at `/api/v1/executions/{id}`."""

    model_config = example({"id": "8d1f0c5a7be24f31", "schedule": "nightly-prune", "is_new": True, "note": ""})
    id: str
    schedule: str
    is_new: bool = Field(description="false: an earlier call with the same Idempotency-Key has started it")
    note: str = Field(description="who decides whether it is done")


class CleanupModel(Model):
    model_config = example({"dry_run": True})
    dry_run: bool = Field(default=False, description="only say what would be deleted")


class SignalModel(Model):
    """The process is the one of this pid that started then; another is left alone."""

    model_config = example({"started_at": "2026-11-21T07:00:05.250Z", "signal": "TERM"})
    started_at: AwareDatetime = Field(description="as /hosts/{host}/processes shows it")
    signal: Signals = "TERM"


_EXECUTION: dict[str, Any] = {
    "id": "8d1f0c5a7be24f31", "schedule": "nightly-prune", "parent": None, "scheduled_for": "2026-11-21T01:30:00Z", "attempt": 1,
    "host": "", "cause": "schedule", "actor": "", "state": "completed", "reason": "12 of 12 hosts completed",
    "fired_at": "2026-11-21T01:30:00.021Z", "started_at": "2026-11-21T01:30:00.021Z", "ended_at": "2026-11-21T01:30:41Z",
    "exit_code": None, "error": "", "is_late": False, "is_cancelling": False, "hosts": 12,
    "created_at": "2026-11-21T01:30:00.011Z"}


class ExecutionModel(Model):
    model_config = example(_EXECUTION)
    id: str
    schedule: str
    parent: str | None = Field(description="the execution of the whole fleet, of one on a host of it")
    scheduled_for: datetime
    attempt: int
    host: str = Field(description="empty: none, or a whole fleet")
    cause: Causes
    actor: str = Field(description="who started it by hand or by a message")
    state: States
    reason: str
    fired_at: datetime | None = Field(description="when a scheduler released it")
    started_at: datetime | None
    ended_at: datetime | None
    exit_code: int | None
    error: str
    is_late: bool = Field(description="its end came after it was given up for lost")
    is_cancelling: bool
    hosts: int = Field(description="of a fleet: how many")
    created_at: datetime


class ExecutionsModel(Model):
    model_config = example({"executions": [_EXECUTION], "next_cursor": None})
    executions: list[ExecutionModel]
    next_cursor: str | None


class AttemptModel(Model):
    id: str
    attempt: int
    state: States
    reason: str
    started_at: datetime | None
    ended_at: datetime | None
    exit_code: int | None


class ProgressModel(Model):
    """How far the hosts of a fleet are, each by its last attempt."""

    total: int
    ended: int
    states: dict[str, int]


class ExecutionEventModel(Model):
    at: datetime
    state: str
    reason: str
    actor: str


class OneExecutionModel(ExecutionModel):
    model_config = example(_EXECUTION | {
        "target": SCHEDULE["target"], "payload": {}, "not_before": "2026-11-21T01:30:00Z", "not_after": "2026-11-21T02:30:00Z",
        "lease_until": None, "executor": "", "output": "", "attempts": [],
        "progress": {"total": 12, "ended": 12, "states": {"completed": 12}},
        "events": [{"at": "2026-11-21T01:30:41Z", "state": "completed", "reason": "12 of 12 hosts completed", "actor": ""}]})
    target: dict[str, Any]
    payload: dict[str, Any]
    not_before: datetime
    not_after: datetime = Field(description="what has not begun by then is missed")
    lease_until: datetime | None
    executor: str
    output: str = Field(description="the last 64 KiB")
    attempts: list[AttemptModel] = Field(description="every attempt at this firing, the first one first")
    progress: ProgressModel | None = Field(description="of a fleet")
    events: list[ExecutionEventModel]


class AnnotationModel(Model):
    kind: Literal["execution", "alert"]
    id: str
    host: str
    title: str
    state: str = Field(description="of the execution, or severity of the alert")
    starts_at: datetime
    ends_at: datetime | None = Field(description="null: not over yet")
    tags: list[str]


class AnnotationsModel(Model):
    model_config = example({"from": "2026-11-21T00:00:00Z", "to": "2026-11-21T12:00:00Z", "is_complete": True, "annotations": [
        {"kind": "execution", "id": "8d1f0c5a7be24f31", "host": "", "title": "nightly-prune", "state": "completed",
         "starts_at": "2026-11-21T01:30:00Z", "ends_at": "2026-11-21T01:30:41Z", "tags": ["docker"]}]})
    start: datetime = Field(alias="from")
    to: datetime
    is_complete: bool = Field(description="false: there are more than 1000 of a kind; ask for a shorter span or one host")
    annotations: list[AnnotationModel] = Field(description="by when they start")
