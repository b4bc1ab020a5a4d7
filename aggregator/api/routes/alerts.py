"""Alerts: the lists, one of them with its events and explanation, what is done about it, and events from outside."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Body, Depends, Path, Query, Response

from aggregator.analysis import rules, timespan
from aggregator.api import alert_models, formats
from aggregator.api.alert_models import Severities
from aggregator.api.backend import Backend, Ready
from aggregator.api.explanation import fetch_explanation
from aggregator.api.formats import Wanted
from aggregator.api.parameters import Cursor, Hosts, Limit, Word, before, cursor, labels_asked, opened
from aggregator.api.problems import Problem, invalid, not_found
from aggregator.api.security import Operator, Reader
from aggregator.store import alert_actions, alert_list, alert_summary, events, fleet
from shared import wire
from shared.names import is_host

router = APIRouter(prefix="/api/v1", tags=["alerts"])

HISTORY_COUNT_SECONDS = 10.0

_REFUSED: dict[int | str, dict[str, Any]] = {409: {"description": "the alert's state does not allow it"}}

State = Literal["active", "all", "firing", "unknown", "pending", "resolved"]
AlertId = Annotated[int, Path(ge=1, lt=2**63, alias="alert", description="id of an alert")]
Note = Annotated[alert_models.NoteModel | None, Body()]
Words = Annotated[list[Word], Query(max_length=100)]

_COLUMNS = ("id", "host", "rule", "type", "instance", "source", "state", "severity", "message", "metric", "value", "threshold",
            "recommendation", "timestamp", "started_at", "fired_at", "resolved_at", "changed_at", "dismissible", "dismissed",
            "acknowledged_by", "acknowledged_until", "note", "muted_by", "flapping", "labels")
_EVENT_COLUMNS = tuple(alert_models.AlertEventModel.model_fields)


async def _asked(
        state: Annotated[State, Query(description="active: firing or unknown; all: these, pending and resolved")] = "active",
        host: Hosts = [], rule: Words = [], type_: Annotated[Words, Query(alias="type")] = [],  # noqa: B006 (FastAPI copies it)
        severity: Annotated[list[Severities], Query(max_length=4)] = [],  # noqa: B006
        label: Annotated[list[Word], Query(max_length=20, description="`key:value`, or `key` for any value")] = [],  # noqa: B006
        source: Literal["system", "http"] | None = None,
        start: Annotated[str | None, Query(alias="from", max_length=40, description="latest change since then, RFC 3339")] = None,
        end: Annotated[str | None, Query(alias="to", max_length=40, description="latest change before, RFC 3339")] = None,
        acknowledged: bool | None = None, dismissed: bool | None = None, muted: bool | None = None,
        q: Annotated[Word, Query(description="part of host, rule, instance or message")] = "") -> alert_list.Filter:
    since, until = (timespan.instant(text, name) if text is not None else None for text, name in ((start, "from"), (end, "to")))
    return alert_list.Filter(
        state=state, hosts=tuple(host), rules=tuple(rule), types=tuple(type_), severities=tuple(severity),
        labels=labels_asked(label), source=source, since=since, until=until, acknowledged=acknowledged,
        dismissed=dismissed, muted=muted, part=q)


Asked = Annotated[alert_list.Filter, Depends(_asked)]


@router.get("/alerts", response_model=alert_models.AlertsModel)
def list_alerts(backend: Ready, _: Reader, wanted: Wanted, asked: Asked, limit: Limit = 100,
                page: Annotated[Cursor, Query(alias="cursor")] = None) -> Response:
    """Alerts, the latest change first. Without filters: those that are active now."""
    now = backend.now()
    found = alert_list.fetch_page(backend.engine, asked, now, limit=limit + 1, after=_position(page))
    rows, following = found[:limit], None
    if len(found) > limit:
        following = cursor([rows[-1]["changed_at"], rows[-1]["id"]])
    total = len(rows) if page is None and following is None else alert_list.fetch_count(backend.engine, asked, now)
    return formats.answer(
        wanted, lambda: {"alerts": [shown(row) for row in rows], "total": total, "next_cursor": following},
        lambda: formats.Table(_COLUMNS, ([(row | shown(row)).get(name) for name in _COLUMNS] for row in rows)))


@router.get("/alerts/summary", response_model=alert_models.AlertSummaryModel)
def read_summary(backend: Ready, _: Reader) -> Response:
    """How many alerts there are now, by severity."""
    count = backend.cached("alert_history", HISTORY_COUNT_SECONDS, lambda: alert_summary.fetch_history_count(backend.engine))
    return formats.json_answer(alert_summary.fetch_summary(backend.engine, backend.now()) | {"history_count": count})


@router.get("/alerts/{alert}", response_model=alert_models.OneAlertModel)
def read_alert(backend: Ready, _: Reader, alert: AlertId) -> Response:
    """One alert, with the processes that were foremost when it fired."""
    return formats.json_answer(whole(_existing(backend, alert)))


@router.get("/alerts/{alert}/events", response_model=alert_models.AlertEventsModel)
def list_events(backend: Ready, _: Reader, wanted: Wanted, alert: AlertId, limit: Limit = 100,
                page: Annotated[Cursor, Query(alias="cursor")] = None) -> Response:
    """Every transition of an alert, the first one first."""
    _existing(backend, alert)
    found = alert_list.fetch_events(backend.engine, alert, limit=limit, after=before(page) or 0)
    following = cursor([found[-1]["id"]]) if len(found) == limit else None
    return formats.records(wanted, "events", found, _EVENT_COLUMNS, next_cursor=following)


@router.get("/alerts/{alert}/explanation", response_model=alert_models.ExplanationModel)
def read_explanation(backend: Ready, _: Reader, alert: AlertId) -> Response:
    """Why it fired and what came of it: the rule as it was, samples around the firing, what muted it, every delivery attempt."""
    row = _existing(backend, alert)
    return formats.json_answer(fetch_explanation(backend, row, whole(row)))


@router.put("/alerts/{alert}/acknowledgement", response_model=alert_models.OneAlertModel, responses=_REFUSED)
def acknowledge(backend: Ready, token: Operator, alert: AlertId, said: alert_models.AcknowledgementModel) -> Response:
    """Say that you are on it: it is not notified again. `until` ends that by itself. Once more replaces note and end."""
    return _act(backend, alert, "acknowledge", token.name, said.note, said.until)


@router.delete("/alerts/{alert}/acknowledgement", response_model=alert_models.OneAlertModel, responses=_REFUSED)
def unacknowledge(backend: Ready, token: Operator, alert: AlertId) -> Response:
    """Take the acknowledgement back."""
    return _act(backend, alert, "unacknowledge", token.name)


@router.put("/alerts/{alert}/dismissal", response_model=alert_models.OneAlertModel, responses=_REFUSED)
def dismiss(backend: Ready, token: Operator, alert: AlertId, said: Note = None) -> Response:
    """Leave it out of counts and notifications until it is over. Refused (409) where its rule forbids that."""
    return _act(backend, alert, "dismiss", token.name, said.note if said else "")


@router.delete("/alerts/{alert}/dismissal", response_model=alert_models.OneAlertModel, responses=_REFUSED)
def undismiss(backend: Ready, token: Operator, alert: AlertId) -> Response:
    """Take the dismissal back."""
    return _act(backend, alert, "undismiss", token.name)


@router.put("/alerts/{alert}/resolution", response_model=alert_models.OneAlertModel, responses=_REFUSED)
def resolve(backend: Ready, token: Operator, alert: AlertId, said: Note = None) -> Response:
    """End it by hand. While its condition lasts it does not fire again."""
    return _act(backend, alert, "resolve", token.name, said.note if said else "")


@router.post("/events", response_model=alert_models.TakenEventModel, status_code=202)
def raise_event(backend: Ready, token: Operator, new: alert_models.NewEventModel) -> Response:
    """Tell of something that happened on a host. The rules of kind `event` hear it within seconds."""
    host = fleet.fetch_id(backend.engine, new.host) if is_host(new.host) else None
    if host is None:
        raise invalid("host", f"there is no host {new.host!r}")
    now = backend.now()
    event = wire.Event(type=new.type, host=new.host, message=new.message, severity=new.severity, instance=new.instance,
                       resolved=new.resolved, ts=(new.ts or now).timestamp())
    try:
        wire.check_time(event.ts, now.timestamp(), now.timestamp() - wire.MAX_EVENT_AGE_SECONDS)
    except wire.WireError as error:
        raise invalid("ts", error.detail if error.reason == "future" else "it lies more than a day back") from None
    number = events.write_event(backend.engine, host, event, token.name)
    if number is None:
        raise invalid("host", f"there is no host {new.host!r}")
    return formats.json_answer({"id": number, "rules": events.fetch_hearing(backend.engine, event.type)}, 202)


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row as lists show it."""
    details = {name: row[name] for name in ("value", "threshold", "recommendation")}
    rest = {name: value for name, value in row.items() if name not in (*details, "culprits", "host_id")}
    return rest | {"alert": rules.alert_key(row["rule"], row["instance"]), "instance": rules.instance_labels(row["instance"]),
                   "details": details, "timestamp": row["fired_at"] or row["started_at"],
                   "dismissed": row["dismissed_at"] is not None}


def whole(row: dict[str, Any]) -> dict[str, Any]:
    """A row as it is shown alone."""
    return shown(row) | {"culprits": row["culprits"]}


def _existing(backend: Backend, alert: int) -> dict[str, Any]:
    row = alert_list.fetch_one(backend.engine, alert, backend.now())
    if row is None:
        raise not_found("alert", str(alert))
    return row


def _act(backend: Backend, alert: int, action: alert_actions.Action, actor: str, note: str = "",
         until: datetime | None = None) -> Response:
    try:
        alert_actions.perform(backend.engine, alert, action, actor=actor, at=backend.now(), note=note, until=until)
    except alert_actions.UnknownAlertError:
        raise not_found("alert", str(alert)) from None
    except alert_actions.NotAllowedError as error:
        raise Problem(409, str(error)) from None
    except alert_actions.PastError as error:
        raise invalid("until", str(error)) from None
    return formats.json_answer(whole(_existing(backend, alert)))


def _position(page: str | None) -> tuple[datetime, int] | None:
    parts = opened(page, tuple[datetime, Annotated[int, msgspec.Meta(ge=0, lt=2**62)]])
    if parts is not None and parts[0].tzinfo is None:
        raise invalid("cursor", "this is no cursor of this list; begin without one")
    return None if parts is None else (parts[0], int(parts[1]))
