"""`drumbeat schedule add|show|next|run|pause|resume|delete`: one schedule, through the API."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from msgspec import Meta

from aggregator.client import api, executions, schedule_texts, schedule_wishes, screen
from aggregator.client.schedule_wishes import AddSettings, Words
from aggregator.client.verbs import read_verb
from shared import settings
from shared.schedules import FINAL, NAME
from shared.settings import SettingsError

USAGE = """usage: drumbeat schedule add NAME --cron '30 2 * * *' --timezone Europe/Berlin --duty backup
       drumbeat schedule add NAME --every 6h --task prune_docker --host 'web-*'
       drumbeat schedule add --file FILE [--replace]
       drumbeat schedule show NAME
       drumbeat schedule next NAME [--count 20] [--after 2027-01-01T00:00:00Z]
       drumbeat schedule run NAME [--payload JSON] [--host NAME] [--wait]
       drumbeat schedule pause|resume|delete NAME

add --help shows every flag; drumbeat schedules lists them. All print JSON with --json."""

SHOWN_HOSTS = 20
_DETAILS = ("timeout", "retries", "jitter", "grace", "concurrency", "misfire", "keep", "window", "start", "end", "payload")


class OneSettings(api.Settings, frozen=True, kw_only=True):
    """Settings of `drumbeat schedule show|pause|resume|delete`."""

    name: Annotated[Annotated[str, Meta(pattern=NAME)], Meta(description="name of the schedule, such as nightly-prune")]


class NextSettings(OneSettings, frozen=True, kw_only=True):
    """Settings of `drumbeat schedule next`."""

    count: Annotated[int, Meta(description="how many firings", ge=1, le=1000)] = 10
    after: Annotated[str | None, Meta(description="later than this, such as 2027-01-01T00:00:00Z; now where not given")] = None


class RunSettings(OneSettings, frozen=True, kw_only=True):
    """Settings of `drumbeat schedule run`."""

    payload: Annotated[str | None, Meta(description="JSON object in place of the schedule's payload")] = None
    host: Annotated[Words, Meta(description="on this host or pattern, in place of the schedule's; may be repeated")] = ()
    wait: Annotated[bool, Meta(description="until it is over; exit 1 unless it is completed")] = False


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; 1 where the API cannot be asked or refuses, or a run that was waited for did not complete."""
    verb = read_verb("schedule", argv, _VERBS, USAGE)
    if isinstance(verb, int):
        return verb
    kind, act = _VERBS[verb]
    own = settings.load(kind, f"schedule {verb}", argv[1:], environ, positional=("name",))
    try:
        with api.Api(own) as connection:
            return act(connection, own)
    except api.ApiError as error:
        return screen.failed("schedule", error)


def _add(connection: api.Api, own: AddSettings) -> int:
    if (own.name is None) == (own.file is None):
        raise SettingsError("NAME: name the schedule, or give --file; one of them")
    wanted = [schedule_wishes.wished(own)] if own.file is None else schedule_wishes.read_file(own.file)
    made = [_put(connection, one, replaces=own.replace) for one in wanted]
    if own.json:
        screen.print_json({"schedules": made})
        return 0
    for row in made:
        upcoming = screen.instant(row["next_at"]) if row["next_at"] else "never by itself"
        when, what = schedule_texts.when(row["schedule"]), schedule_texts.what(row["schedule"]["target"])
        print(screen.printable(f"Schedule {row['name']}: {when}; {what}; next {upcoming}."))
    return 0


def _put(connection: api.Api, plain: Mapping[str, Any], *, replaces: bool) -> dict[str, Any]:
    """Make a schedule, or make the one of its name this one."""
    try:
        row: dict[str, Any] = connection.publish("POST", "schedules", plain)
    except api.ApiError as error:
        if error.status != 409 or not replaces:
            raise
        row = connection.publish("PUT", f"schedules/{plain['name']}", plain)
    return row


def _show(connection: api.Api, own: OneSettings) -> int:
    row = connection.fetch(f"schedules/{own.name}")
    if own.json:
        screen.print_json(row)
        return 0
    for name, text in described(row):
        print(f"{name:12} {screen.printable(text)}")
    return 0


def described(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A schedule in lines. Pure."""
    plain, last = row["schedule"], row["last"]
    upcoming = [screen.instant(at) for at in row["next"]]
    told = [("schedule", row["name"] + ("" if plain.get("enabled", True) else " (paused)")),
            ("purpose", plain.get("description", "")), ("when", row["problem"] or schedule_texts.when(plain)),
            ("does", schedule_texts.what(plain["target"])),
            ("arguments", _pairs(plain["target"].get("arguments", {}))),
            *((name, _pairs(plain[name]) if name == "payload" else str(plain[name])) for name in _DETAILS if name in plain),
            ("tags", " ".join(plain.get("tags", ()))), ("next", ", ".join(upcoming) or "never by itself"),
            ("last", f"{last['state'].replace('_', ' ')}, {screen.instant(last['scheduled_for'])}: {last['id']} {last['reason']}"
             if last else "never"),
            ("changed", f"revision {row['revision']}, {screen.instant(row['changed_at'])}, {row['changed_by'] or 'drumbeat'}")]
    return [(name, text.strip()) for name, text in told if text]


def _pairs(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items())


def _next(connection: api.Api, own: NextSettings) -> int:
    found = connection.fetch(f"schedules/{own.name}/next", {"count": own.count, "from": own.after})
    if own.json:
        screen.print_json(found)
        return 0
    print("\n".join(map(screen.instant, found["next"])) or "It never fires by itself again.")
    return 0


def _run(connection: api.Api, own: RunSettings) -> int:
    body = {"payload": schedule_wishes.read_payload(own.payload), "hosts": list(own.host)}
    made = connection.publish("POST", f"schedules/{own.name}/executions", body)
    row = _awaited(connection, made["id"]) if own.wait else None
    if own.json:
        screen.print_json(row or made)
    elif row is None:
        print(f"Execution {made['id']} of {own.name} begins as soon as a scheduler takes it; see: drumbeat executions "
              f"--schedule {own.name}")
    else:
        for one in (row, *_hosts(connection, row)):
            print(schedule_texts.line(one))
            print("".join(f"{screen.printable(line)}\n" for line in one["output"].splitlines()), end="")
    return int(row is not None and row["state"] != "completed")


def _hosts(connection: api.Api, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The executions of a fleet on its hosts, with their output; of many hosts those that were made last."""
    if not row["hosts"]:
        return []
    found = connection.fetch("executions", {"parent": row["id"], "limit": SHOWN_HOSTS})["executions"]
    return [connection.fetch(f"executions/{one['id']}") for one in found]


def _awaited(connection: api.Api, execution: str) -> dict[str, Any]:
    """The execution once it is over."""
    while True:
        row: dict[str, Any] = connection.fetch(f"executions/{execution}")
        if row["state"] in FINAL:
            return row
        executions.pause()


def _pause(connection: api.Api, own: OneSettings) -> int:
    return _switch(connection, own, enabled=False)


def _resume(connection: api.Api, own: OneSettings) -> int:
    return _switch(connection, own, enabled=True)


def _switch(connection: api.Api, own: OneSettings, *, enabled: bool) -> int:
    row = connection.publish("PATCH", f"schedules/{own.name}", {"enabled": enabled})
    if own.json:
        screen.print_json(row)
    elif enabled:
        print(f"Schedule {own.name} goes on; next {screen.instant(row['next_at']) if row['next_at'] else 'never by itself'}.")
    else:
        print(f"Schedule {own.name} is paused; go on with: drumbeat schedule resume {own.name}")
    return 0


def _delete(connection: api.Api, own: OneSettings) -> int:
    connection.publish("DELETE", f"schedules/{own.name}")
    if own.json:
        screen.print_json({"name": own.name, "deleted": True})
    else:
        print(f"Schedule {own.name} is deleted; its history stays.")
    return 0


_VERBS: dict[str, tuple[type[Any], Callable[[api.Api, Any], int]]] = {
    "add": (AddSettings, _add), "show": (OneSettings, _show), "next": (NextSettings, _next), "run": (RunSettings, _run),
    "pause": (OneSettings, _pause), "resume": (OneSettings, _resume), "delete": (OneSettings, _delete),
}
