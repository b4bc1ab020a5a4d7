"""An execution together with its schedule, as the steps of the scheduler see it."""

import dataclasses
import functools
import re
from datetime import datetime
from typing import Any

import msgspec

from shared.schedules import NAME, Schedule, State, Target
from shared.topics import Topics
from shared.wire import Execution

COLUMNS = """e.id, e.schedule_id, s.name, s.definition::text, e.parent, e.scheduled_for, e.attempt, e.host, e.cause, e.actor,
  e.state, e.reason, e.target::text, e.payload::text, e.not_after, e.fired_at, e.started_at, e.ended_at, e.lease_until,
  e.executor, e.exit_code, e.output, e.error, e.is_late, e.is_cancelling, e.hosts,
  s.deleted_at IS NOT NULL, now()"""
"""For `Run(*row)`, from `execution e JOIN schedule s`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """One execution; `at` is the time of the database. `is_deleted`: its schedule was deleted since."""

    id: str
    schedule_id: int
    name: str
    definition: str
    parent: str | None
    scheduled_for: datetime
    attempt: int
    host: str
    cause: str
    actor: str
    state: State
    reason: str
    target_text: str
    payload_text: str
    not_after: datetime
    fired_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    lease_until: datetime | None
    executor: str
    exit_code: int | None
    output: str
    error: str
    is_late: bool
    is_cancelling: bool
    hosts: int
    is_deleted: bool
    at: datetime

    @property
    def schedule(self) -> Schedule:
        """Its schedule as it is now; one that does nothing where it cannot be read."""
        return readable(self.name, self.definition)[0]

    @property
    def problem(self) -> str:
        """Why its schedule or target cannot be read; empty where they can."""
        return readable(self.name, self.definition)[1] or _target(self.target_text)[1]

    @property
    def target(self) -> Target:
        return _target(self.target_text)[0]

    @property
    def payload(self) -> dict[str, Any]:
        return dict(msgspec.json.decode(self.payload_text))

    @property
    def is_fleet(self) -> bool:
        """It stands for a whole: its hosts have executions of their own."""
        return self.target.type == "task" and not self.host

    @property
    def is_instant(self) -> bool:
        """It is over as soon as it has been said on the bus."""
        return self.target.type == "bus" and not self.target.wait

    def told(self, topics: Topics, by: str) -> tuple[str, bytes]:
        """The message that tells its state."""
        message = Execution(
            execution=self.id, schedule=self.name, state=self.state, ts=self.at.timestamp(), host=self.host,
            parent=self.parent or "", attempt=self.attempt, scheduled_at=self.scheduled_for.timestamp(),
            reason=self.reason[:1024], exit_code=self.exit_code, output=self.output, error=self.error[:1024], by=by)
        return topics.execution(self.name, self.id), msgspec.json.encode(message)


@functools.lru_cache(maxsize=4096)
def readable(name: str, definition: str) -> tuple[Schedule, str]:
    """A schedule from its JSON, and why it cannot be used (then it is one that does nothing)."""
    if re.fullmatch(NAME, name) is None:
        return Schedule(name=name, kind="once", target=Target(type="bus")), "its name cannot stand in a topic"
    try:
        return msgspec.json.decode(definition, type=Schedule), ""
    except msgspec.ValidationError as error:
        return Schedule(name=name, kind="once", target=Target(type="bus")), f"the schedule cannot be read: {error}"


@functools.lru_cache(maxsize=4096)
def _target(text: str) -> tuple[Target, str]:
    try:
        return msgspec.json.decode(text, type=Target), ""
    except msgspec.ValidationError as error:
        return Target(type="bus"), f"the target cannot be read: {error}"
