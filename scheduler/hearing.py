"""What comes from the bus: triggers, and what executors say about executions. Each message is checked alone; none can do harm.

Retained messages are ignored: a trigger that the broker keeps would start its schedule with every connection.
"""

import dataclasses
import re
from datetime import UTC, datetime

import msgspec

from scheduler.gauges import Gauges
from scheduler.states import Reported
from shared import logs, wire
from shared.schedules import MAX_PAYLOAD_BYTES, NAME
from shared.topics import Topics

log = logs.get("scheduler")

OWN_NAME = "drumbeat-scheduler"
"""Who tells the scheduler's own messages; heard again, they are passed over."""
MOST_WAITING = 50_000
_TEXT = str.maketrans({"\0": "\\0"})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an executor says. `host`: the agent that says it; empty for an executor on the bus, which names the `schedule`."""

    execution: str
    state: Reported
    host: str = ""
    schedule: str = ""
    by: str = ""
    reason: str = ""
    error: str = ""
    output: str = ""
    exit_code: int | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


class Ears:
    """Collects messages until the loop takes them."""

    def __init__(self, topics: Topics, gauges: Gauges) -> None:
        self._topics, self._gauges = topics, gauges
        self._logged: set[tuple[str, str]] = set()
        self.triggers: list[tuple[str, wire.Trigger]] = []
        self.reports: list[Report] = []

    def filters(self) -> list[str]:
        """What to subscribe to."""
        return [self._topics.trigger("+"), self._topics.execution("+", "+"),
                f"{self._topics.root}/agent/+/+/up/execution"]

    def on_message(self, topic: bytes, payload: bytes, retained: bool) -> None:
        """Take one message."""
        name = topic.decode(errors="replace")
        try:
            if retained:
                raise wire.WireError("topic", "it is retained; publish it without")
            if len(self.triggers) + len(self.reports) > MOST_WAITING:
                raise wire.WireError("count", "too many messages are waiting")
            self._take(name, payload)
        except wire.WireError as error:
            self.refuse(error.reason, name, error.detail)

    def refuse(self, reason: str, subject: str, detail: str) -> None:
        """Count what is ignored, and say so once."""
        self._gauges.refused.labels(reason).inc()
        if (reason, subject) not in self._logged and len(self._logged) < 1000:
            self._logged.add((reason, subject))
            logs.event(log, "message ignored", 30, reason=reason, subject=subject[:200], detail=detail[:200])

    def take(self) -> tuple[list[tuple[str, wire.Trigger]], list[Report]]:
        """Everything since the last time."""
        taken = self.triggers, self.reports
        self.triggers, self.reports = [], []
        return taken

    def _take(self, topic: str, payload: bytes) -> None:
        up = self._topics.read_up(topic)
        if up is not None and up[1] == "execution":
            self.reports.append(task_report(up[0], wire.decode(wire.TaskReport, payload)))
            return
        found = self._topics.read_schedule(topic)
        if found is None or re.fullmatch(NAME, found[1]) is None:
            raise wire.WireError("topic")
        if found[0] == "trigger":
            self.triggers.append((found[1], trigger(payload)))
            return
        told = wire.decode(wire.Execution, payload)
        if told.by != OWN_NAME:
            self.reports.append(bus_report(found[1], found[2], told))


def trigger(payload: bytes) -> wire.Trigger:
    """A trigger that can be acted on. Raises WireError."""
    told = wire.decode(wire.Trigger, payload or b"{}")
    if told.payload is not None:
        text = msgspec.json.encode(told.payload)
        if len(text) > MAX_PAYLOAD_BYTES:
            raise wire.WireError("size", f"payload is {len(text)} bytes; at most {MAX_PAYLOAD_BYTES}")
        if b"\\u0000" in text:
            raise wire.WireError("utf8", "payload: the character NUL cannot be kept")
    if "\0" in told.key or "\0" in told.by:
        raise wire.WireError("utf8", "key and by: the character NUL cannot be kept")
    return told


def task_report(host: str, told: wire.TaskReport) -> Report:
    """What the agent of `host` says about a task. Raises WireError."""
    if told.host != host:
        raise wire.WireError("spoof", f"host is {told.host!r}, the topic's is {host!r}")
    is_rejected = told.state == "rejected"
    return Report(
        execution=told.execution, state="failed" if told.state == "rejected" else told.state, host=host, by=host,
        reason=_clean(f"rejected by the agent: {told.reason}" if is_rejected else told.reason), output=_clean(told.output),
        exit_code=_small(told.exit_code), started_at=_moment(told.started_at), ended_at=_moment(told.ended_at))


def bus_report(schedule: str, execution: str, told: wire.Execution) -> Report:
    """What an executor on the bus says. Raises WireError."""
    if (told.schedule, told.execution) != (schedule, execution):
        raise wire.WireError("spoof", f"schedule and execution are {told.schedule!r} and {told.execution!r}, not the topic's")
    if told.state not in ("running", "completed", "failed", "cancelled"):
        raise wire.WireError("range", f"state {told.state!r} is the scheduler's to tell; tell running, completed or failed")
    return Report(
        execution=execution, state=told.state, schedule=schedule, by=_clean(told.by), reason=_clean(told.reason),
        error=_clean(told.error), output=_clean(told.output), exit_code=_small(told.exit_code))


def _clean(text: str) -> str:
    """A text that Postgres takes."""
    return text.translate(_TEXT).encode(errors="replace").decode()


def _small(number: int | None) -> int | None:
    return number if number is not None and -2**31 <= number < 2**31 else None


def _moment(ts: float | None) -> datetime | None:
    """A time between 2000 and 2100; None for anything else."""
    return datetime.fromtimestamp(ts, UTC) if ts is not None and 946_684_800 <= ts < 4_102_444_800 else None
