"""Schedules as data: when something is to happen, what, where, and what becomes of it when it does not go well. Pure.

The scheduler fires by these and the API takes them in, so they stand here. `shared.recurrence` says when they fire.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

Kind = Literal["once", "interval", "cron", "recurring", "manual"]
TargetKind = Literal["bus", "maintenance", "task"]
Concurrency = Literal["allow", "forbid", "replace"]
Misfire = Literal["skip", "once", "all"]
State = Literal["pending", "running", "completed", "failed", "cancelled", "missed", "timed_out"]
DUTIES = ("retention", "partitions", "rollups", "rejects", "vacuum", "backup", "export", "report")
"""What drumbeat does for its own upkeep: duties of maintenance targets."""
FINAL: tuple[State, ...] = ("completed", "failed", "cancelled", "missed", "timed_out")

NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
MAX_PAYLOAD_BYTES = 65_536

Word = Annotated[str, Meta(min_length=1, max_length=100)]
Seconds = Annotated[float, Meta(ge=0, le=31_536_000)]


class Target(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a firing does.

    bus: a message on `schedule/{schedule}/fire`, for whoever listens; with `wait` the execution runs until somebody reports its
    end on `execution/{schedule}/{execution}`, else it is completed once published.
    maintenance: a `duty` of drumbeat itself, with its `arguments`.
    task: the task `task` of the agents' own configuration, with `arguments`, on each of the chosen `hosts` (names or patterns
    with `*`) that have all `labels` (`*`: any value); at most `parallel` hosts at a time (0: all at once).
    """

    type: TargetKind
    wait: bool = False
    duty: str = ""
    task: Annotated[str, Meta(pattern=r"^([a-z][a-z0-9_]{0,62})?$")] = ""
    arguments: Annotated[dict[str, Any], Meta(max_length=32)] = {}
    hosts: Annotated[list[Word], Meta(max_length=200)] = []
    labels: Annotated[dict[str, str], Meta(max_length=16)] = {}
    parallel: Annotated[int, Meta(ge=0, le=10_000)] = 0


class Schedule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One schedule. Durations are seconds, times RFC 3339 with an offset.

    once: `at`. interval: `every` seconds, counted from `start`. cron: five fields or `@daily` and the like, in `timezone`.
    recurring: an RRULE of RFC 5545 (`FREQ=MONTHLY;BYDAY=2TU;COUNT=10`) at the local `time` of `timezone`, counted from `start`.
    A local time that does not exist fires at the next moment that does; one that comes twice fires once.
    manual: never by itself, only when it is started by hand or by a message.

    start, end: no firing before or after. jitter: each firing waits a part of this, the same for the same firing.
    timeout: after which a running execution is given up. retries: further attempts, the first after `retry_delay`, each
    following one twice as late. concurrency: what happens when an execution is still under way: allow another, forbid it (it
    is missed), or replace it (it is cancelled). misfire: firings that were due while nobody could fire: skip them, run one, or
    run all of the last `grace` seconds. keep: executions kept. window: a maintenance window covers its hosts while it runs.
    """

    name: Annotated[str, Meta(pattern=NAME)]
    kind: Kind
    target: Target
    description: Annotated[str, Meta(max_length=1000)] = ""
    enabled: bool = True
    at: str = ""
    every: float = 0.0
    cron: Annotated[str, Meta(max_length=200)] = ""
    rrule: Annotated[str, Meta(max_length=500)] = ""
    time: Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$")] = "00:00"
    timezone: Annotated[str, Meta(max_length=64)] = "UTC"
    start: str = ""
    end: str = ""
    jitter: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    payload: dict[str, Any] = {}
    timeout: Annotated[float, Meta(ge=1, le=604_800)] = 3600.0
    retries: Annotated[int, Meta(ge=0, le=20)] = 0
    retry_delay: Seconds = 30.0
    concurrency: Concurrency = "forbid"
    misfire: Misfire = "once"
    grace: Annotated[float, Meta(ge=1, le=604_800)] = 3600.0
    keep: Annotated[int, Meta(ge=1, le=100_000)] = 100
    window: bool = False
    tags: Annotated[list[Word], Meta(max_length=16)] = []


def read_schedule(definition: Any) -> Schedule:
    """A schedule from plain data. Raises msgspec.ValidationError, which names the field."""
    return msgspec.convert(definition, Schedule)


def definition(schedule: Schedule) -> dict[str, Any]:
    """A schedule as plain data; fields at their defaults are left out."""
    return dict(msgspec.to_builtins(schedule))
