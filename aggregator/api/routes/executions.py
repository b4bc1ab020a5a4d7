"""Executions: the list, one with its attempts, hosts and events, cancelling, charts' annotations; what is started by name."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Response

from aggregator.analysis import host_tasks, timespan
from aggregator.api import formats, schedule_models
from aggregator.api.backend import Backend, Ready
from aggregator.api.formats import Wanted
from aggregator.api.parameters import PRINTABLE, Cursor, HostName, Hosts, Limit, Word, cursor, existing, opened
from aggregator.api.problems import Problem, invalid, not_found
from aggregator.api.routes.schedules import Name, accepted
from aggregator.api.security import Admin, Operator, Reader
from aggregator.store import annotations, executions, runs, schedules
from shared.schedules import FINAL, NAME, Schedule

router = APIRouter(prefix="/api/v1", tags=["executions"])

MOST_ANNOTATIONS = 1000
AGENT_DECIDES = "the agent of {host} decides: it does only what its own configuration allows; see the execution"
_COLUMNS = tuple(schedule_models.ExecutionModel.model_fields)
_ANNOTATION_COLUMNS = tuple(schedule_models.AnnotationModel.model_fields)

Id = Annotated[str, Path(alias="execution", pattern=NAME, description="id of an execution", examples=["8d1f0c5a7be24f31"])]
Asked = Annotated[list[schedule_models.States], Query(alias="state", max_length=7)]
Since = Annotated[str | None, Query(alias="from", max_length=40, description="made since then, RFC 3339")]
Until = Annotated[str | None, Query(alias="to", max_length=40, description="made before, RFC 3339")]
Page = Annotated[Cursor, Query(alias="cursor")]


@router.get("/executions", response_model=schedule_models.ExecutionsModel)
def list_executions(backend: Ready, _: Reader, wanted: Wanted, state: Asked = [],  # noqa: B006 (FastAPI copies it)
                    schedule: Word | None = None, host: Word | None = None, tag: Word | None = None,
                    parent: Annotated[Word | None, Query(description="the hosts of this fleet execution")] = None,
                    start: Since = None, end: Until = None, limit: Limit = 100, page: Page = None) -> Response:
    """Executions, the latest first; those of a fleet as one. With `host` or `parent` those on single hosts."""
    ids = executions.fetch_schedule_ids(backend.engine, schedule, tag)
    asked = executions.Filter(states=tuple(state), schedules=ids, tag=tag, host=host, parent=parent,
                              since=_instant(start, "from"), until=_instant(end, "to"))
    return _page(backend, wanted, asked, limit, page)


@router.get("/schedules/{schedule}/executions", response_model=schedule_models.ExecutionsModel, tags=["schedules"])
def list_of_schedule(backend: Ready, _: Reader, wanted: Wanted, schedule: Name, state: Asked = [],  # noqa: B006
                     limit: Limit = 100, page: Page = None) -> Response:
    """Executions of one schedule, the latest first."""
    row = schedules.fetch_one(backend.engine, schedule)
    if row is None:
        raise not_found("schedule", schedule)
    return _page(backend, wanted, executions.Filter(states=tuple(state), schedules=(row["id"],)), limit, page)


@router.get("/executions/{execution}", response_model=schedule_models.OneExecutionModel)
def read_execution(backend: Ready, _: Reader, execution: Id) -> Response:
    """One execution: its output, attempts, events, and how far the hosts of a fleet are."""
    return _one(backend, execution)


@router.put("/executions/{execution}/cancellation", response_model=schedule_models.OneExecutionModel)
def cancel_execution(backend: Ready, token: Operator, execution: Id) -> Response:
    """Cancel it: at once where it has not begun, else as soon as its executor has stopped. 409 where it is over."""
    try:
        if runs.cancel(backend.engine, execution, token.name) is None:
            raise not_found("execution", execution)
    except runs.EndedError as error:
        raise Problem(409, f"execution {execution} is over: {error}") from None
    return _one(backend, execution)


@router.get("/annotations", response_model=schedule_models.AnnotationsModel)
def list_annotations(backend: Ready, _: Reader, wanted: Wanted, host: Hosts = [],  # noqa: B006
                     range_: Annotated[str | None, Query(alias="range", max_length=8, description="1h, 6h, 24h, 7d, 30d")] = None,
                     start: Annotated[str | None, Query(alias="from", max_length=40, description="RFC 3339")] = None,
                     end: Annotated[str | None, Query(alias="to", max_length=40, description="RFC 3339")] = None) -> Response:
    """Executions and alerts as spans of time, for charts. Without `host`: executions as wholes, and alerts of all hosts."""
    span = timespan.span(range_, start, end, backend.now())
    spans = [fetch(backend.engine, host, span.start, span.end, MOST_ANNOTATIONS + 1)
             for fetch in (annotations.fetch_executions, annotations.fetch_alerts)]
    found = sorted((one for rows in spans for one in rows[:MOST_ANNOTATIONS]), key=_starts_at)
    return formats.records(wanted, "annotations", found, _ANNOTATION_COLUMNS, **{
        "from": span.start, "to": span.end, "is_complete": all(len(rows) <= MOST_ANNOTATIONS for rows in spans)})


@router.post("/cleanup-runs", response_model=schedule_models.StartedModel, status_code=202, tags=["data"])
def start_cleanup(backend: Ready, token: Admin,
                  asked: Annotated[schedule_models.CleanupModel | None, Body()] = None) -> Response:
    """Delete now what retention no longer keeps; normally its schedule does."""
    arguments = {"dry_run": True} if asked and asked.dry_run else {}
    try:
        schedule, made = runs.start_duty(backend.engine, "retention", arguments, token.name)
    except runs.DisabledError as error:
        raise Problem(409, str(error)) from None
    return accepted(made, schedule)


@router.post("/hosts/{host}/containers/{container}/restarts", response_model=schedule_models.StartedModel, status_code=202)
def restart_container(
        backend: Ready, token: Admin, host: HostName,
        container: Annotated[str, Path(max_length=200, pattern=PRINTABLE, description="name of a container")]) -> Response:
    """Restart a container, where the agent's own configuration allows it."""
    return _asked_of(backend, host, host_tasks.RESTART_CONTAINER, {"container": container}, token.name)


@router.post("/hosts/{host}/processes/{pid}/signals", response_model=schedule_models.StartedModel, status_code=202)
def signal_process(backend: Ready, token: Admin, host: HostName, asked: schedule_models.SignalModel,
                   pid: Annotated[int, Path(ge=1, le=2**31 - 1, description="process id")]) -> Response:
    """Send a signal to a process, where the agent's own configuration allows it and the process is still that one."""
    arguments = {"pid": pid, "started_at": asked.started_at.timestamp(), "signal": asked.signal}
    return _asked_of(backend, host, host_tasks.SIGNAL_PROCESS, arguments, token.name)


def _asked_of(backend: Backend, host: str, schedule: Schedule, arguments: dict[str, Any], actor: str) -> Response:
    existing(backend, host)
    try:
        made = runs.start_task(backend.engine, schedule, host, arguments, actor)
    except runs.DisabledError as error:
        raise Problem(409, str(error)) from None
    return accepted(made, schedule.name, note=AGENT_DECIDES.format(host=host))


def _page(backend: Backend, wanted: formats.Format, asked: executions.Filter, limit: int, page: str | None) -> Response:
    by, parts = executions.order(asked), opened(page, tuple[str, datetime, str])
    if parts is not None and (parts[0] != by or parts[1].tzinfo is None or "\0" in parts[2]):
        raise invalid("cursor", "this is no cursor of this list; begin without one")
    found = executions.fetch_page(backend.engine, asked, limit=limit + 1, after=parts and (parts[1], parts[2]))
    rows = found[:limit]
    following = cursor([by, rows[-1][by], rows[-1]["id"]]) if len(found) > limit else None
    return formats.records(wanted, "executions", rows, _COLUMNS, next_cursor=following)


def _one(backend: Backend, execution: str) -> Response:
    row = executions.fetch_one(backend.engine, execution)
    if row is None:
        raise not_found("execution", execution)
    states = executions.fetch_progress(backend.engine, execution) if row["hosts"] else {}
    progress = {"total": sum(states.values()), "ended": sum(states.get(state, 0) for state in FINAL), "states": states}
    shown = {name: row[name] for name in row if name != "schedule_id"}
    return formats.json_answer(shown | {
        "attempts": executions.fetch_attempts(backend.engine, row), "progress": progress if states else None,
        "events": executions.fetch_events(backend.engine, execution)})


def _instant(text: str | None, parameter: str) -> datetime | None:
    return None if text is None else timespan.instant(text, parameter)


def _starts_at(one: dict[str, Any]) -> datetime:
    at: datetime = one["starts_at"]
    return at
