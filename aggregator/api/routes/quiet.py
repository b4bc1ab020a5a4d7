"""Silences, maintenance windows, and which host stands behind which: all that keeps alerts from notifying."""

import itertools
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Path, Query, Response

from aggregator.analysis import quiet
from aggregator.analysis.matching import Match
from aggregator.analysis.quiet import Window
from aggregator.api import formats, quiet_models
from aggregator.api.backend import Backend, Ready
from aggregator.api.formats import Wanted
from aggregator.api.parameters import Cursor, HostName, Limit, Word, before, cursor, existing, rfc3339
from aggregator.api.problems import Problem, invalid, not_found, refused
from aggregator.api.security import Admin, Operator, Reader
from aggregator.store import dependencies, silences, windows

router = APIRouter(prefix="/api/v1", tags=["quiet"])

SHOWN_OPENINGS = 3
_SILENCE_COLUMNS = tuple(quiet_models.SilenceModel.model_fields)
_WINDOW_COLUMNS = tuple(quiet_models.WindowModel.model_fields)
_OPENING_COLUMNS = tuple(quiet_models.OpeningModel.model_fields)

Number = Annotated[int, Path(ge=1, le=2**31 - 1, description="id of a silence")]
State = Annotated[Literal["active", "pending", "expired"] | None, Query(description="all where missing")]
Name = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="name of a window", examples=["weekly"])]


@router.get("/silences", response_model=quiet_models.SilencesModel)
def list_silences(backend: Ready, _: Reader, wanted: Wanted, state: State = None, owner: Word | None = None, limit: Limit = 100,
                  page: Annotated[Cursor, Query(alias="cursor")] = None) -> Response:
    """Silences, newest first."""
    rows = silences.fetch_page(backend.engine, backend.now(), state=state, owner=owner, before=before(page), limit=limit)
    following = cursor([rows[-1]["id"]]) if len(rows) == limit else None
    return formats.records(wanted, "silences", _silences(backend, rows), _SILENCE_COLUMNS, next_cursor=following)


@router.post("/silences", response_model=quiet_models.SilenceModel, status_code=201)
def create_silence(backend: Ready, token: Operator, new: quiet_models.NewSilenceModel) -> Response:
    """Make a silence. Alerts go on as before, but those that it covers notify nobody."""
    number = silences.create(backend.engine, _asked(new, backend.now(), token.name), token.name)
    return _silence(backend, number, 201)


@router.get("/silences/{silence}", response_model=quiet_models.SilenceModel)
def read_silence(backend: Ready, _: Reader, silence: Number) -> Response:
    """One silence."""
    return _silence(backend, silence)


@router.put("/silences/{silence}", response_model=quiet_models.SilenceModel)
def write_silence(backend: Ready, token: Operator, silence: Number, new: quiet_models.NewSilenceModel) -> Response:
    """Change a silence that has not ended; `starts_at` and `owner` stay where they are missing."""
    stored = silences.fetch_one(backend.engine, silence)
    if stored is None:
        raise not_found("silence", str(silence))
    now = backend.now()
    kept = new.model_copy(update={"starts_at": new.starts_at or stored["starts_at"]})
    try:
        silences.replace(backend.engine, silence, _asked(kept, now, stored["owner"]), now, token.name)
    except silences.EndedError:
        raise Problem(409, f"silence {silence} has ended; make a new one") from None
    return _silence(backend, silence)


@router.delete("/silences/{silence}", status_code=204)
def end_silence(backend: Ready, token: Operator, silence: Number) -> Response:
    """End a silence now. It stays in the list as expired, for 30 days."""
    if silences.fetch_one(backend.engine, silence) is None:
        raise not_found("silence", str(silence))
    silences.end(backend.engine, silence, backend.now(), token.name)
    return Response(status_code=204)


@router.get("/maintenance-windows", response_model=quiet_models.WindowsModel)
def list_windows(backend: Ready, _: Reader, wanted: Wanted) -> Response:
    """Windows by name, each with its next openings."""
    now = backend.now()
    found = [_shown_window(row, now) for row in windows.fetch_all(backend.engine)]
    return formats.records(wanted, "maintenance_windows", found, _WINDOW_COLUMNS)


@router.get("/maintenance-windows/{window}", response_model=quiet_models.WindowModel)
def read_window(backend: Ready, _: Reader, window: Name) -> Response:
    """One window."""
    return formats.json_answer(_shown_window(_stored_window(backend, window), backend.now()))


@router.put("/maintenance-windows/{window}", response_model=quiet_models.WindowModel,
            responses={201: {"model": quiet_models.WindowModel, "description": "it is new"}})
def write_window(backend: Ready, token: Operator, window: Name, new: quiet_models.NewWindowModel) -> Response:
    """Make or change a window: while it is open, alerts that fit notify nobody.

    A local time that the clocks skip opens after the skip; one that comes twice opens once.
    """
    wanted = msgspec.convert(new.model_dump(exclude={"match", "everything"}) | {"name": window, "match": {}}, Window)
    wanted = msgspec.structs.replace(wanted, match=_match(new.match, everything=new.everything))
    if wrong := quiet.problems(wanted, backend.now().timestamp()):
        raise refused(wrong)
    is_new = windows.write(backend.engine, wanted, token.name)
    return formats.json_answer(_shown_window(_stored_window(backend, window), backend.now()), 201 if is_new else 200)


@router.delete("/maintenance-windows/{window}", status_code=204)
def delete_window(backend: Ready, token: Operator, window: Name) -> Response:
    """Delete a window; what only it muted is heard again."""
    if not windows.delete(backend.engine, window, token.name):
        raise not_found("maintenance window", window)
    return Response(status_code=204)


@router.get("/maintenance-windows/{window}/openings", response_model=quiet_models.OpeningsModel)
def list_openings(backend: Ready, _: Reader, wanted: Wanted, window: Name,
                  count: Annotated[int, Query(ge=1, le=100, description="how many")] = 10) -> Response:
    """The present opening if it is open, and the next ones."""
    found = _openings(_stored_window(backend, window)["definition"], backend.now(), count)
    return formats.records(wanted, "openings", found, _OPENING_COLUMNS, window=window)


@router.get("/dependencies", response_model=quiet_models.DependenciesModel)
def read_dependencies(backend: Ready, _: Reader) -> Response:
    """Every host that stands behind others, and those directly above it."""
    return formats.json_answer({"dependencies": dependencies.fetch_all(backend.engine)})


@router.put("/dependencies", response_model=quiet_models.DependenciesModel)
def write_dependencies(backend: Ready, token: Admin, new: quiet_models.DependenciesModel) -> Response:
    """Replace the whole map, all or nothing. Hosts that are not known, and circles, are refused by name."""
    try:
        dependencies.replace_all(backend.engine, new.dependencies, token.name)
    except (dependencies.UnknownHostError, dependencies.CycleError) as error:
        raise invalid("dependencies", str(error)) from None
    return read_dependencies(backend, token)


@router.get("/hosts/{host}/dependencies", response_model=quiet_models.DependencyModel)
def read_dependency(backend: Ready, _: Reader, host: HostName) -> Response:
    """What a host stands behind, and what stands behind it."""
    existing(backend, host)
    known = dependencies.fetch_all(backend.engine)
    return formats.json_answer({"host": host, "depends_on": known.get(host, []), "upstream": sorted(quiet.upstream(host, known)),
                                "dependents": sorted(quiet.upstream(host, quiet.turned(known)))})


@router.put("/hosts/{host}/dependencies", response_model=quiet_models.DependencyModel)
def write_dependency(backend: Ready, token: Admin, host: HostName, new: quiet_models.NewDependencyModel) -> Response:
    """Say behind which hosts a host stands."""
    existing(backend, host)
    try:
        dependencies.replace(backend.engine, host, new.depends_on, token.name)
    except (dependencies.UnknownHostError, dependencies.CycleError) as error:
        raise invalid("depends_on", str(error)) from None
    return read_dependency(backend, token, host)


@router.delete("/hosts/{host}/dependencies", status_code=204)
def delete_dependency(backend: Ready, token: Admin, host: HostName) -> Response:
    """The host stands behind no other any more; those behind it stay."""
    existing(backend, host)
    dependencies.replace(backend.engine, host, (), token.name)
    return Response(status_code=204)


def _match(model: quiet_models.MatchModel, *, everything: bool) -> Match:
    match = model.match()
    if match == Match() and not everything:
        raise invalid("match", 'no field is given, so every alert would be muted; name hosts, labels, rules or types, or say '
                               '"everything": true')
    return match


def _asked(new: quiet_models.NewSilenceModel, now: datetime, owner: str) -> silences.Wanted:
    """The silence that is asked for; `owner` where none is named. Raises a 422."""
    starts_at = new.starts_at or now
    if (new.ends_at is None) == (new.duration is None):
        raise invalid("ends_at", "say either ends_at or duration (seconds)")
    longest = timedelta(days=quiet_models.LONGEST_SILENCE_DAYS)
    if not now - longest <= starts_at <= now + longest:
        raise invalid("starts_at", f"at most {longest.days} days from now")
    ends_at = new.ends_at or starts_at + timedelta(seconds=new.duration or 0.0)
    if ends_at <= max(starts_at, now):
        raise invalid("ends_at" if new.ends_at else "duration", "it would have ended before it begins or before now")
    if ends_at > starts_at + longest:
        raise invalid("ends_at", f"at most {longest.days} days after it begins; for ever: disable the rule")
    return silences.Wanted(owner=new.owner or owner, reason=new.reason, match=_match(new.match, everything=new.everything),
                           starts_at=starts_at, ends_at=ends_at)


def _silence(backend: Backend, number: int, status: int = 200) -> Response:
    row = silences.fetch_one(backend.engine, number)
    if row is None:
        raise not_found("silence", str(number))
    return formats.json_answer(_silences(backend, [row])[0], status)


def _silences(backend: Backend, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Silences as lists show them: with their state and how many alerts they cover."""
    now = backend.now()
    covered = silences.fetch_covered(backend.engine, {
        str(row["id"]): msgspec.convert(row["match"], Match) for row in rows if row["ends_at"] > now})
    return [row | {"state": _state(row, now), "alerts": covered[str(row["id"])]} for row in rows]


def _state(row: dict[str, Any], now: datetime) -> str:
    return "expired" if row["ends_at"] <= now else "pending" if row["starts_at"] > now else "active"


def _stored_window(backend: Backend, name: str) -> dict[str, Any]:
    row = windows.fetch_one(backend.engine, name)
    if row is None:
        raise not_found("maintenance window", name)
    return row


def _shown_window(row: dict[str, Any], now: datetime) -> dict[str, Any]:
    shown: dict[str, Any] = row["definition"] | {name: row[name] for name in ("created_at", "changed_at", "changed_by")}
    found = _openings(row["definition"], now, SHOWN_OPENINGS)
    return shown | {"is_open": bool(found) and found[0]["starts_at"] <= now, "openings": found}


def _openings(definition: dict[str, Any], now: datetime, count: int) -> list[dict[str, Any]]:
    """The next openings of a stored window; none of one that is disabled."""
    window = msgspec.convert(definition, Window)
    found = itertools.islice(quiet.openings(window, now.timestamp()) if window.enabled else (), count)
    return [{"starts_at": rfc3339(starts_at), "ends_at": rfc3339(ends_at)} for starts_at, ends_at in found]
