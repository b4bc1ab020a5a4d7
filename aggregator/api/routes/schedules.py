"""Schedules: the list, one of them with its next firings, changes, and starting one by hand."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Body, Header, Path, Query, Response

from aggregator.analysis import timespan
from aggregator.api import formats, schedule_models
from aggregator.api.backend import Backend, Ready
from aggregator.api.formats import Wanted
from aggregator.api.parameters import PRINTABLE, Cursor, Limit, Word, cursor, opened
from aggregator.api.problems import Problem, invalid, not_found, refused
from aggregator.api.security import Admin, Operator, Reader
from aggregator.store import runs, schedules
from shared.recurrence import ScheduleError, firings
from shared.schedule_problems import ScheduleProblemsError, contents_fault, fires_alike, read
from shared.schedules import NAME, Kind, Schedule, TargetKind, definition, read_schedule

router = APIRouter(prefix="/api/v1", tags=["schedules"])

SHOWN_FIRINGS = 5
_COLUMNS = tuple(schedule_models.StoredScheduleModel.model_fields)
_FIRING_COLUMNS = ("at",)
_LAST = ("id", "state", "scheduled_for", "ended_at", "reason")

Name = Annotated[str, Path(pattern=NAME, description="name of a schedule", examples=["nightly-prune"])]
Key = Annotated[str, Header(alias="Idempotency-Key", max_length=100, pattern=PRINTABLE,
                            description="the same key leads to the same execution, however often it comes")]


@router.get("/schedules", response_model=schedule_models.SchedulesModel)
def list_schedules(backend: Ready, _: Reader, wanted: Wanted, kind: Kind | None = None, target: TargetKind | None = None,
                   enabled: bool | None = None, tag: Word | None = None,
                   q: Annotated[Word, Query(description="part of the name")] = "", limit: Limit = 100,
                   page: Annotated[Cursor, Query(alias="cursor")] = None) -> Response:
    """Schedules by name, each with its latest execution."""
    asked = schedules.Filter(kind=kind, target=target, enabled=enabled, tag=tag, part=q.lower())
    parts = opened(page, tuple[Annotated[str, msgspec.Meta(pattern=NAME)]])
    rows = schedules.fetch_page(backend.engine, asked, after=parts[0] if parts else "", limit=limit + 1)
    following = cursor([rows[limit - 1]["name"]]) if len(rows) > limit else None
    return formats.records(wanted, "schedules", [shown(row) for row in rows[:limit]], _COLUMNS, next_cursor=following)


@router.post("/schedules", response_model=schedule_models.OneScheduleModel, status_code=201)
def create_schedule(backend: Ready, token: Admin, body: schedule_models.ScheduleBody) -> Response:
    """Make a schedule. It is due from now on."""
    schedule = _read(body, schedules.fetch_now(backend.engine))
    try:
        schedules.create(backend.engine, schedule, token.name)
    except schedules.TakenError:
        address = f"/api/v1/schedules/{schedule.name}"
        raise Problem(409, f"there is a schedule {schedule.name!r}; change it with PUT {address}") from None
    return _one(backend, schedule.name, 201)


@router.post("/schedules/validate", response_model=schedule_models.CheckedScheduleModel)
def validate_schedule(backend: Ready, _: Reader, body: schedule_models.ScheduleBody) -> Response:
    """Say what is wrong with a schedule, or when it would fire. Nothing is stored."""
    now = schedules.fetch_now(backend.engine)
    try:
        schedule = read(body, now)
    except ScheduleProblemsError as error:
        found = [{"field": field, "message": text} for field, text in error.problems.items()]
        return formats.json_answer({"valid": False, "problems": found, "next": []})
    return formats.json_answer({"valid": True, "problems": [], "next": firings(schedule, now, SHOWN_FIRINGS)})


@router.get("/schedules/{schedule}", response_model=schedule_models.OneScheduleModel)
def read_one(backend: Ready, _: Reader, schedule: Name) -> Response:
    """One schedule, with its next five firings."""
    return _one(backend, schedule)


@router.put("/schedules/{schedule}", response_model=schedule_models.OneScheduleModel)
def replace_schedule(backend: Ready, token: Admin, schedule: Name, body: schedule_models.ScheduleBody) -> Response:
    """Replace a schedule; fields that are left out get their defaults. What runs already goes on as it was."""
    return _replaced(backend, _stored(backend, schedule), body, token.name)


@router.patch("/schedules/{schedule}", response_model=schedule_models.OneScheduleModel)
def change_schedule(backend: Ready, token: Admin, schedule: Name,
                    body: Annotated[dict[str, Any], Body(examples=[{"enabled": False}])]) -> Response:
    """Change some fields of a schedule (JSON Merge Patch): `{"enabled": false}` pauses it; null gives a field its default."""
    row = _stored(backend, schedule)
    return _replaced(backend, row, merged(row["definition"], body), token.name)


@router.delete("/schedules/{schedule}", status_code=204)
def delete_schedule(backend: Ready, token: Admin, schedule: Name) -> Response:
    """Delete a schedule; what has not begun is cancelled, what runs goes on. One that came with drumbeat does not come back."""
    if not schedules.delete(backend.engine, schedule, token.name):
        raise not_found("schedule", schedule)
    return Response(status_code=204)


@router.get("/schedules/{schedule}/next", response_model=schedule_models.FiringsModel)
def list_firings(backend: Ready, _: Reader, wanted: Wanted, schedule: Name,
                 count: Annotated[int, Query(ge=1, le=1000, description="how many")] = 10,
                 start: Annotated[str | None, Query(alias="from", max_length=40, description="later than this, RFC 3339")] = None,
                 ) -> Response:
    """When a schedule would fire next, enabled or not, without jitter."""
    after = schedules.fetch_now(backend.engine) if start is None else timespan.instant(start, "from")
    found = _firings(_stored(backend, schedule), after, count)
    return formats.answer(wanted, lambda: {"schedule": schedule, "next": found},
                          lambda: formats.Table(_FIRING_COLUMNS, ([at] for at in found)))


@router.post("/schedules/{schedule}/executions", response_model=schedule_models.StartedModel, status_code=202)
def start_schedule(backend: Ready, token: Operator, schedule: Name,
                   run: Annotated[schedule_models.RunModel | None, Body()] = None, key: Key = "") -> Response:
    """Start a schedule now, enabled or not. With the header `Idempotency-Key` the same call may be made again."""
    asked = run or schedule_models.RunModel()
    row = _stored(backend, schedule)
    if problem := _unreadable(row["definition"]):
        raise Problem(409, f"the schedule cannot be read: {problem}")
    if asked.payload is not None and (fault := contents_fault(asked.payload)):
        raise invalid("payload", fault)
    if asked.hosts and row["definition"]["target"]["type"] != "task":
        raise invalid("hosts", "only a task runs on hosts; leave it out")
    try:
        started = runs.start(backend.engine, schedule, token.name, payload=asked.payload, hosts=asked.hosts, key=key)
    except runs.HostsMissingError:
        raise invalid("hosts", 'the schedule names none; name those that it is to run on, like ["web-1"]') from None
    if started is None:
        raise not_found("schedule", schedule)
    return accepted(started.id, schedule, is_new=started.is_new)


def accepted(execution: str, schedule: str, *, is_new: bool = True, note: str = "") -> Response:
    """202 with the execution."""
    answer = formats.json_answer({"id": execution, "schedule": schedule, "is_new": is_new, "note": note}, 202)
    answer.headers["Location"] = f"/api/v1/executions/{execution}"
    return answer


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as lists show it."""
    last = {name: row[f"last_{name}"] for name in _LAST}
    stored = row["definition"]
    return {name: row.get(name) for name in _COLUMNS} | {
        "last": last if last["id"] else None, "problem": _unreadable(stored), "schedule": {"enabled": True} | stored}


def merged(before: Any, patch: Any) -> Any:
    """RFC 7396: `before` with the fields of `patch`; null takes one away. Pure."""
    if not isinstance(patch, dict):
        return patch
    kept = dict(before) if isinstance(before, dict) else {}
    for name, value in patch.items():
        kept[name] = merged(kept.get(name), value)
    return {name: value for name, value in kept.items() if name not in patch or patch[name] is not None}


def _unreadable(stored: Any) -> str:
    try:
        read_schedule(stored)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


def _stored(backend: Backend, name: str) -> dict[str, Any]:
    row = schedules.fetch_one(backend.engine, name)
    if row is None:
        raise not_found("schedule", name)
    return row


def _one(backend: Backend, name: str, status: int = 200) -> Response:
    row = _stored(backend, name)
    is_enabled = row["definition"].get("enabled", True)
    upcoming = _firings(row, schedules.fetch_now(backend.engine), SHOWN_FIRINGS) if is_enabled else []
    return formats.json_answer(shown(row) | {"next": upcoming}, status)


def _firings(row: Mapping[str, Any], after: datetime, count: int) -> list[datetime]:
    """The next firings of a stored schedule; none of one that cannot be read."""
    try:
        return firings(read_schedule(row["definition"]), after, count)
    except (msgspec.ValidationError, ScheduleError):
        return []


def _replaced(backend: Backend, row: dict[str, Any], plain: dict[str, Any], actor: str) -> Response:
    name = row["name"]
    new = _read({"name": name} | plain, None)
    if new.name != name:
        raise invalid("name", f"the schedule at this address is {name!r}; a schedule keeps its name")
    if _unreadable(row["definition"]) or not fires_alike(read_schedule(row["definition"]), new):
        # What only stays as it is, or is switched off, need not fire any more.
        new = _read(definition(new), schedules.fetch_now(backend.engine) if new.enabled else None)
    try:
        schedules.replace(backend.engine, new, row["revision"], actor)
    except schedules.ChangedError:
        raise Problem(409, f"somebody else has changed or deleted {name!r} meanwhile; read it again") from None
    return _one(backend, name)


def _read(plain: Any, now: datetime | None) -> Schedule:
    try:
        return read(plain, now)
    except ScheduleProblemsError as error:
        raise refused(error.problems) from None
