"""`drumbeat silence list|add|end`: keep alerts from notifying for a while."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from msgspec import Meta

from aggregator.client import api, screen
from aggregator.client.hosts import labels, wanted_labels
from aggregator.client.verbs import read_verb
from shared import settings
from shared.settings import SettingsError
from shared.wire import Severity

USAGE = """usage: drumbeat silence list [--state active|pending|expired] [--json]
       drumbeat silence add --for 2h --reason TEXT [--host web-*] [--type low_disk] [--rule NAME] [--label key:value] …
       drumbeat silence end ID

A silence covers alerts that fit all that is given; silence add --help shows every flag."""

Patterns = tuple[Annotated[str, Meta(min_length=1)], ...]


class ListSettings(api.Settings, frozen=True, kw_only=True):
    """Settings of `drumbeat silence list`."""

    state: Annotated[Literal["active", "pending", "expired"] | None, Meta(
        description="only silences that are active, pending or expired; all but the expired where not given")] = None


class EndSettings(api.Settings, frozen=True, kw_only=True):
    """Settings of `drumbeat silence end`."""

    id: Annotated[Annotated[int, Meta(ge=1)], Meta(description="number of the silence, as the list shows it")]


class AddSettings(api.Settings, frozen=True, kw_only=True):
    """Settings of `drumbeat silence add`."""

    reason: Annotated[str, Meta(description="why", min_length=1)]
    host: Annotated[Patterns, Meta(description="hosts, by name or pattern such as web-*; may be repeated")] = ()
    label: Annotated[tuple[str, ...], Meta(description="hosts with this label, as key:value or key; may be repeated")] = ()
    type: Annotated[Patterns, Meta(description="types of alert, such as low_disk or *_disk; may be repeated")] = ()
    rule: Annotated[Patterns, Meta(description="rules, by name or pattern; may be repeated")] = ()
    instance: Annotated[Patterns, Meta(description="instances, by pattern such as mount=/var*; may be repeated")] = ()
    severity: Annotated[Severity | None, Meta(description="at least this severe: info, warning, error or critical")] = None
    for_: Annotated[Annotated[str, Meta(pattern=screen.DURATION)] | None, Meta(
        description="how long: 2h, 90m or 1d12h")] = None
    until: Annotated[str | None, Meta(description="until when, such as 2026-11-22T06:00:00Z, in place of --for")] = None
    begin: Annotated[str | None, Meta(description="from when, such as 2026-11-21T22:00:00Z; now where not given")] = None
    owner: Annotated[str | None, Meta(description="who answers for it; the token's name where not given")] = None
    everything: Annotated[bool, Meta(description="cover every alert: needed where nothing else is given")] = False


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; 1 where the API cannot be asked or refuses."""
    verb = read_verb("silence", argv, _VERBS, USAGE)
    if isinstance(verb, int):
        return verb
    kind, positional, act = _VERBS[verb]
    own = settings.load(kind, f"silence {verb}", argv[1:], environ, positional=positional)
    try:
        with api.Api(own) as connection:
            act(connection, own)
    except api.ApiError as error:
        return screen.failed("silence", error)
    return 0


def _list(connection: api.Api, own: ListSettings) -> None:
    states = (own.state,) if own.state else ("active", "pending")
    found = [silence for state in states for silence in fetch_silences(connection, state)]
    if own.json:
        screen.print_json({"silences": found})
    elif not found:
        print("No silence.")
    else:
        now = datetime.now(UTC)
        screen.print_table(("id", "state", "until", "owner", "matches", "alerts", "reason"), (cells(one, now) for one in found),
                           right=("id", "alerts"), spare=("reason", "state"))


def fetch_silences(connection: api.Api, state: str) -> list[dict[str, Any]]:
    """Every silence in a state, newest first."""
    return [silence for page in connection.fetch_pages("silences", {"state": state}) for silence in page["silences"]]


def _add(connection: api.Api, own: AddSettings) -> None:
    silence = connection.publish("POST", "silences", body(own))
    if own.json:
        screen.print_json(silence)
    else:
        print(f"Silence {silence['id']} covers {screen.counted(silence['alerts'], 'active alert')} ({matches(silence['match'])}) "
              f"until {screen.instant(silence['ends_at'])}; end it with: drumbeat silence end {silence['id']}")


def _end(connection: api.Api, own: EndSettings) -> None:
    connection.publish("DELETE", f"silences/{own.id}")
    if own.json:
        screen.print_json({"id": own.id, "ended": True})
    else:
        print(f"Silence {own.id} has ended.")


def body(own: AddSettings) -> dict[str, Any]:
    """What the API is asked to make. Raises SettingsError unless it is said for how long and for what. Pure."""
    if (own.for_ is None) == (own.until is None):
        raise SettingsError("--for: say how long, such as 2h, or give --until; one of them")
    match = {"hosts": own.host, "types": own.type, "rules": own.rule, "instances": own.instance, "severity": own.severity,
             "labels": wanted_labels(own.label)}
    if not any(match.values()) and not own.everything:
        raise SettingsError("--host: say what is silenced, by --host, --label, --type, --rule, --instance or --severity; "
                            "every alert there is: --everything")
    wanted = {"reason": own.reason, "owner": own.owner, "starts_at": own.begin, "ends_at": own.until,
              "duration": None if own.for_ is None else screen.read_duration(own.for_), "everything": own.everything}
    return {name: value for name, value in wanted.items() if value is not None} | {
        "match": {name: value for name, value in match.items() if value}}


def cells(silence: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    """One silence as a row of text. Pure."""
    ends_at = screen.read_time(silence["ends_at"])
    left = "" if ends_at is None or ends_at <= now else f" ({screen.duration((ends_at - now).total_seconds())} left)"
    return (str(silence["id"]), screen.coloured(silence["state"]), f"{screen.instant(silence['ends_at'])}{left}",
            screen.plain(silence["owner"]), screen.plain(matches(silence["match"])), str(silence["alerts"]),
            screen.plain(silence["reason"]))


def matches(match: Mapping[str, Any]) -> str:
    """What a match covers, in one line. Pure."""
    parts = [f"{noun} {', '.join(match[name])}" for name, noun in (
        ("hosts", "host"), ("rules", "rule"), ("types", "type"), ("instances", "instance")) if match.get(name)]
    if match.get("labels"):
        parts.append(f"label {labels(match['labels'].items())}")
    if match.get("severity"):
        parts.append(f"severity {match['severity']} or worse")
    return "; ".join(parts) or "everything"


_VERBS: dict[str, tuple[type[Any], Sequence[str], Callable[[api.Api, Any], None]]] = {
    "list": (ListSettings, (), _list),
    "add": (AddSettings, (), _add),
    "end": (EndSettings, ("id",), _end),
}
