"""What is decided about firings: which are due, which came too late, who may begin beside whom, who tries again. Pure."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from shared.recurrence import next_after
from shared.schedules import Schedule, State

ON_TIME_SECONDS = 5.0
"""A firing seen no later than this is on time, whatever the misfire policy."""
MOST_FIRINGS = 1000
"""So many firings are made up for at most, the newest."""
MOST_MISSED = 10
"""So many missed firings get a row of their own, the newest; one more says what lies before them."""
MOST_RETRY_SECONDS = 86_400.0
_FIRST_SPAN, _TICK = timedelta(minutes=1), timedelta(microseconds=1)

SUPERSEDED = "came too late: a later firing runs instead"
SKIPPED = "came too late, and is skipped"
BEYOND = "came too late to be made up for"


@dataclasses.dataclass(frozen=True, slots=True)
class Firing:
    """One firing that is due. `missed`: why it does not run; empty where it does. `is_settled`: nobody need hear of it."""

    at: datetime
    cause: Literal["schedule", "misfire"]
    missed: str = ""
    is_settled: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What is due now, in order, and when the schedule is due next (None: never)."""

    firings: tuple[Firing, ...]
    next_at: datetime | None


def plan(schedule: Schedule, first: datetime, now: datetime) -> Plan:
    """Everything due from `first` until `now`, by the misfire policy. Raises ScheduleError for one that cannot be read.

    What it costs does not depend on how long nobody could fire.
    """
    edge = now - timedelta(seconds=ON_TIME_SECONDS)
    fresh, _ = newest(schedule, max(first, edge), now, MOST_FIRINGS)
    due = [Firing(at, "schedule") for at in fresh]
    if first < edge:
        due = [*_late(schedule, first, edge, now), *due]
    return Plan(tuple(due), next_after(schedule, now))


def _late(schedule: Schedule, first: datetime, edge: datetime, now: datetime) -> list[Firing]:
    """Firings in [first, edge), as far as they are made up for or get a row."""
    until = edge - _TICK
    if schedule.misfire == "all":
        since = max(first, now - timedelta(seconds=schedule.grace))
        runs, _ = newest(schedule, since, until, MOST_FIRINGS)
        start = runs[0] if runs else since
        missed, has_older = newest(schedule, first, min(until, start - _TICK), MOST_MISSED) if first < start else ([], False)
        reason, is_settled = BEYOND, False
    else:
        is_one = schedule.misfire == "once"
        missed, has_older = newest(schedule, first, until, MOST_MISSED + is_one)
        runs = [missed.pop()] if is_one and missed else []
        reason, is_settled = (SUPERSEDED, True) if is_one else (SKIPPED, False)
    told = [Firing(at, "misfire", reason, is_settled) for at in missed]
    if has_older and told:
        told[0] = dataclasses.replace(told[0], missed=f"{reason}; so are all before it, since {first:%Y-%m-%d %H:%M:%S} UTC")
    return [*told, *(Firing(at, "misfire") for at in runs)]


def newest(schedule: Schedule, first: datetime, until: datetime, most: int) -> tuple[list[datetime], bool]:
    """The newest firings in [first, until], at most `most`, in order; whether there are older ones."""
    span = _FIRST_SPAN
    while True:
        since = max(first, until - span)
        found, at = [], since - _TICK
        while (following := next_after(schedule, at)) is not None and following <= until:
            found.append(following)
            at = following
        if since == first or len(found) > most:
            return found[-most:], len(found) > most
        span *= 4


@dataclasses.dataclass(frozen=True, slots=True)
class Other:
    """Another execution of the same schedule (and host) that is released and not over."""

    id: str
    state: State


@dataclasses.dataclass(frozen=True, slots=True)
class Admission:
    """Whether an execution may begin, must wait, or is missed; `cancel`: the others that make room for it."""

    decision: Literal["begin", "wait", "missed"]
    reason: str = ""
    cancel: tuple[str, ...] = ()


def admit(schedule: Schedule, cause: str, others: Sequence[Other]) -> Admission:
    """By the concurrency policy. Firings that are made up for wait for each other; a replaced one has to end first.

    A further attempt replaces nothing: what is under way by then belongs to a later firing.
    """
    if not others or schedule.concurrency == "allow":
        return Admission("begin")
    if schedule.concurrency == "replace" and cause == "retry":
        return Admission("missed", f"execution {others[0].id} of a later firing was under way")
    if schedule.concurrency == "replace":
        return Admission("wait", "", tuple(other.id for other in others))
    if cause in ("misfire", "retry"):
        return Admission("wait")
    return Admission("missed", f"execution {others[0].id} was still under way")


def retry_at(schedule: Schedule, state: State, attempt: int, now: datetime) -> datetime | None:
    """When an execution that ended is tried again: the first time after `retry_delay`, then each time twice as late."""
    if state not in ("failed", "timed_out") or attempt > schedule.retries:
        return None
    return now + timedelta(seconds=min(schedule.retry_delay * 2.0 ** (attempt - 1), MOST_RETRY_SECONDS))
