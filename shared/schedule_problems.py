"""What is wrong with a schedule, field by field, in words that say what to do instead. Pure.

The types are checked while it is read; here is what they cannot say: which fields a kind and a target need and which mean nothing
to them, and whether it ever fires.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from shared import duties
from shared.recurrence import ScheduleError, moment, next_after, zone
from shared.schedules import DUTIES, MAX_PAYLOAD_BYTES, Kind, Schedule, Target
from shared.shapes import ShapeError, converted

_NEEDED: dict[Kind, str] = {"once": "at", "interval": "every", "cron": "cron", "recurring": "rrule"}
_ALLOWED: dict[Kind, tuple[str, ...]] = {
    "once": ("at",), "interval": ("every", "start", "end"), "cron": ("cron", "timezone", "start", "end"),
    "recurring": ("rrule", "time", "timezone", "start", "end"), "manual": ()}
_TIMING = ("at", "every", "cron", "rrule", "time", "start", "end")
_OF_TARGETS = {"bus": ("wait",), "maintenance": ("duty", "arguments"),
               "task": ("task", "arguments", "hosts", "labels", "parallel")}

Found = Iterator[tuple[str, str]]


class ScheduleProblemsError(ValueError):
    """A schedule cannot be used; `problems`: field → what is wrong with it and the mend."""

    def __init__(self, found: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{field}: {text}" for field, text in found.items()))
        self.problems = dict(found)


def read(plain: Any, now: datetime | None) -> Schedule:
    """The schedule in plain data, found good. Raises ScheduleProblemsError."""
    try:
        schedule = converted(plain, Schedule)
    except ShapeError as error:
        raise ScheduleProblemsError({error.field: error.message}) from None
    if found := problems(schedule, now):
        raise ScheduleProblemsError(found)
    return schedule


def problems(schedule: Schedule, now: datetime | None) -> dict[str, str]:
    """Field → what is wrong with it and the mend; empty where nothing is. `now` None: it need not fire any more."""
    found: dict[str, str] = {}
    for field, text in (*_kind(schedule), *_target(schedule.target, schedule.kind), *_contents(schedule)):
        found.setdefault(field, text)
    return found or dict(_firing(schedule, now))


def fires_alike(one: Schedule, other: Schedule) -> bool:
    """Whether two schedules fire at the same times."""
    return all(getattr(one, name) == getattr(other, name) for name in ("kind", "enabled", "timezone", *_TIMING))


def contents_fault(plain: Any) -> str:
    """What is wrong with data that is to be kept and sent as JSON; empty where nothing is."""
    try:
        text = msgspec.json.encode(plain)
        if msgspec.json.decode(text) != plain:
            return "NaN and infinity cannot be sent as JSON"
    except (OverflowError, ValueError, TypeError, RecursionError):
        return "it cannot be sent as JSON: whole numbers have at most 64 bits, texts are Unicode"
    if b"\\u0000" in text:
        return "the character NUL cannot be kept"
    return f"it is {len(text)} bytes; at most {MAX_PAYLOAD_BYTES}" if len(text) > MAX_PAYLOAD_BYTES else ""


def _kind(schedule: Schedule) -> Found:
    kind, unset = schedule.kind, {field.name: field.default for field in msgspec.structs.fields(Schedule)}
    needed = _NEEDED.get(kind)
    if needed and kind != "interval" and getattr(schedule, needed) == unset[needed]:
        yield needed, f"is missing: a schedule of kind {kind} needs it"
    for name in _TIMING:
        if name not in _ALLOWED[kind] and getattr(schedule, name) != unset[name]:
            yield name, f"means nothing to a schedule of kind {kind}; leave it out"
    if schedule.window and not (schedule.target.hosts or schedule.target.labels):
        yield "window", "a maintenance window covers the hosts of a task; this target has none"


def _target(target: Target, kind: Kind) -> Found:
    unset = {field.name: field.default for field in msgspec.structs.fields(Target)}
    for name in msgspec.structs.asdict(target):
        if name != "type" and name not in _OF_TARGETS[target.type] and getattr(target, name) not in (unset[name], [], {}):
            yield f"target.{name}", f"means nothing to a target of type {target.type}; leave it out"
    if target.type == "maintenance" and target.duty not in DUTIES:
        yield "target.duty", (f"there is no duty {target.duty[:63]!r}" if target.duty else "is missing") + \
            f"; allowed: {', '.join(DUTIES)}"
    elif target.type == "maintenance":
        try:
            duties.read_arguments(target.duty, target.arguments)
        except duties.DutyError as error:
            field, _, text = str(error).partition(": ")
            yield field, text
    if target.type == "task" and not target.task:
        yield "target.task", "is missing: the name of a task in the agents' own configuration"
    if target.type == "task" and kind != "manual" and not (target.hosts or target.labels):
        yield "target.hosts", 'is empty, which means nobody; name hosts, patterns such as "web-*", or ["*"] for all'


def _contents(schedule: Schedule) -> Found:
    if fault := contents_fault(schedule.payload):
        yield "payload", fault
    if fault := contents_fault(schedule.target.arguments):
        yield "target.arguments", fault
    for field, text in (("name", schedule.name), ("target.task", schedule.target.task), ("time", schedule.time)):
        if text.endswith("\n"):  # which the `$` of a pattern lets pass
            yield field, "it ends with a line break"
    texts = (schedule.description, *schedule.tags, *schedule.target.hosts, *schedule.target.labels,
             *schedule.target.labels.values(), schedule.target.duty)
    if any("\0" in text or text.encode(errors="replace").decode() != text for text in texts):
        yield "body", "texts cannot hold the character NUL or halves of characters"


def _firing(schedule: Schedule, now: datetime | None) -> Found:
    try:
        zone(schedule.timezone)
        start, end = moment("start", schedule.start), moment("end", schedule.end)
        if start is not None and end is not None and start > end:
            yield "start", f"it lies after the end, {schedule.end}"
            return
        at = next_after(schedule, now or moment("start", "1970-01-01T00:00:00Z"))  # type: ignore[arg-type]
    except ScheduleError as error:
        yield error.field, error.message
        return
    if at is None and now is not None and schedule.kind != "manual":
        yield _silent(schedule, end, now)


def _silent(schedule: Schedule, end: datetime | None, now: datetime) -> tuple[str, str]:
    """The field that keeps a schedule from ever firing."""
    if schedule.kind == "once":
        return "at", f"{schedule.at} lies in the past"
    if end is not None and end <= now:
        return "end", f"{schedule.end} lies in the past"
    if end is not None:
        return "end", f"it never fires before {schedule.end}"
    return _NEEDED[schedule.kind], "it never fires again"
