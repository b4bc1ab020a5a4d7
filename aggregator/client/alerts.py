"""`drumbeat alerts`: list alerts, show why one fired, acknowledge, dismiss or resolve it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from msgspec import Meta

from aggregator.client import api, incident, screen
from shared import settings
from shared.wire import Severity

USAGE = """usage: drumbeat alerts [list] [--state active|all|…] [--host NAME] [--severity critical] [--type low_disk] [--limit N]
       drumbeat alerts show ID
       drumbeat alerts ack ID [--note TEXT] [--for 2h]
       drumbeat alerts dismiss ID [--note TEXT]
       drumbeat alerts resolve ID [--note TEXT]
       drumbeat alerts unack|undismiss ID

alerts list --help shows every filter. All print JSON with --json."""


class ListSettings(api.Settings, frozen=True, kw_only=True):
    """Settings of `drumbeat alerts list`."""

    state: Annotated[Literal["active", "all", "firing", "unknown", "pending", "resolved"], Meta(
        description="active (firing or unknown), all (history too), firing, unknown, pending or resolved")] = "active"
    host: Annotated[tuple[str, ...], Meta(description="only alerts of this host; may be repeated")] = ()
    severity: Annotated[tuple[Severity, ...], Meta(
        description="only alerts of this severity: info, warning, error or critical; may be repeated")] = ()
    type: Annotated[tuple[str, ...], Meta(description="only alerts of this type, such as low_disk; may be repeated")] = ()
    rule: Annotated[tuple[str, ...], Meta(description="only alerts of this rule; may be repeated")] = ()
    label: Annotated[tuple[str, ...], Meta(description="only hosts with this label, as key:value; may be repeated")] = ()
    limit: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="at most so many alerts")] = None


class OneSettings(api.Settings, frozen=True, kw_only=True):
    """Settings of `drumbeat alerts show|unack|undismiss`."""

    id: Annotated[Annotated[int, Meta(ge=1)], Meta(description="number of the alert, as the list shows it")]


class NoteSettings(OneSettings, frozen=True, kw_only=True):
    """Settings of `drumbeat alerts dismiss|resolve`."""

    note: Annotated[str, Meta(description="why, for whoever looks later")] = ""


class AckSettings(NoteSettings, frozen=True, kw_only=True):
    """Settings of `drumbeat alerts ack`."""

    for_: Annotated[Annotated[str, Meta(pattern=screen.DURATION)] | None, Meta(
        description="for how long: 2h, 90m or 1d12h; until the alert is over where not given")] = None


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; 1 where the API cannot be asked or refuses."""
    if argv and argv[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0
    verb, rest = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else ("list", argv)
    if verb not in _VERBS:
        raise settings.SettingsError(f"unknown verb {verb!r}\n\n{USAGE}")
    kind, positional, act = _VERBS[verb]
    own = settings.load(kind, f"alerts {verb}", rest, environ, positional=positional)
    try:
        with api.Api(own) as connection:
            act(connection, own)
    except api.ApiError as error:
        return screen.failed("alerts", error)
    return 0


def _list(connection: api.Api, own: ListSettings) -> None:
    found, total = fetch_alerts(connection, own)
    if own.json:
        screen.print_json({"alerts": found, "total": total})
        return
    if not found:
        print("No alert." if own == ListSettings(**_connection(own)) else "No alert fits.")
        return
    now = datetime.now(UTC)
    screen.print_table(("id", "severity", "host", "alert", "since", "state", "message"), (cells(one, now) for one in found),
                       right=("id",), spare=("message",))
    if len(found) != total:
        print(f"{len(found)} of {total} alerts")


def _connection(own: ListSettings) -> dict[str, Any]:
    """The settings that are no filter."""
    return {name: getattr(own, name) for name in api.Settings.__struct_fields__}


def fetch_alerts(connection: api.Api, own: ListSettings) -> tuple[list[dict[str, Any]], int]:
    """The alerts that fit, the latest change first, at most `own.limit`, and how many fit in all."""
    asked = {name: list(getattr(own, name)) for name in ("host", "severity", "type", "rule", "label")} | {"state": own.state}
    found: list[dict[str, Any]] = []
    total = 0
    for page in connection.fetch_pages("alerts", asked, own.limit):
        found += page["alerts"]
        total = page["total"]
        if own.limit is not None and len(found) >= own.limit:
            return found[:own.limit], total
    return found, total


def cells(alert: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    """One alert as a row of text. Pure."""
    since = screen.read_time(alert["timestamp"])
    age = "-" if since is None else screen.duration((now - since).total_seconds())
    return (str(alert["id"]), screen.coloured(alert["severity"]), screen.plain(alert["host"]), screen.plain(incident.name(alert)),
            age, screen.plain(", ".join(incident.flags(alert))), screen.plain(alert["message"]))


def _show(connection: api.Api, own: OneSettings) -> None:
    told = connection.fetch(f"alerts/{own.id}/explanation")
    if own.json:
        screen.print_json(told)
        return
    console = screen.open_console()
    for line in incident.lines(told, datetime.now(UTC)):
        console.print(line, soft_wrap=True)


def _acknowledge(connection: api.Api, own: AckSettings) -> None:
    until = None if own.for_ is None else end(own.for_, datetime.now(UTC))
    ends = "" if until is None else f" until {screen.instant(until)}"
    _act(connection, own, "PUT", "acknowledgement", f"acknowledged{ends}", {"note": own.note, "until": until})


def end(duration: str, now: datetime) -> str:
    """When a duration from `now` on is over, in RFC 3339. Raises SettingsError where there is no such time. Pure."""
    try:
        return (now + timedelta(seconds=screen.read_duration(duration))).isoformat()
    except OverflowError:
        raise settings.SettingsError(f"--for: {duration} is longer than time lasts") from None


def _act(connection: api.Api, own: OneSettings, method: str, what: str, done: str, body: Any = None) -> None:
    alert = connection.publish(method, f"alerts/{own.id}/{what}", body)
    if own.json:
        screen.print_json(alert)
    else:
        print(f"Alert {alert['id']} ({incident.name(alert)} on {alert['host']}) is {done}.")


def _noted(what: str, done: str) -> Callable[[api.Api, NoteSettings], None]:
    return lambda connection, own: _act(connection, own, "PUT", what, done, {"note": own.note})


def _undone(what: str, done: str) -> Callable[[api.Api, OneSettings], None]:
    return lambda connection, own: _act(connection, own, "DELETE", what, done)


_VERBS: dict[str, tuple[type[Any], Sequence[str], Callable[[api.Api, Any], None]]] = {
    "list": (ListSettings, (), _list),
    "show": (OneSettings, ("id",), _show),
    "ack": (AckSettings, ("id",), _acknowledge),
    "unack": (OneSettings, ("id",), _undone("acknowledgement", "no longer acknowledged")),
    "dismiss": (NoteSettings, ("id",), _noted("dismissal", "dismissed")),
    "undismiss": (OneSettings, ("id",), _undone("dismissal", "no longer dismissed")),
    "resolve": (NoteSettings, ("id",), _noted("resolution", "resolved")),
}
