"""`drumbeat executions`: what became of schedules; with --follow, as it happens."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from aggregator.client import api, schedule_texts, screen
from shared import settings
from shared.schedules import FINAL, State

PAGE = 1000
FOLLOW_SECONDS = 2.0
FOLLOWED = 200
"""So many of the newest executions are looked at each time."""


class Settings(api.Settings, frozen=True, kw_only=True):
    """Settings of `drumbeat executions`."""

    schedule: Annotated[str | None, Meta(description="only executions of this schedule")] = None
    host: Annotated[str | None, Meta(description="only executions on this host")] = None
    state: Annotated[tuple[State, ...], Meta(
        description="only pending, running, completed, failed, cancelled, missed or timed_out ones; may be repeated")] = ()
    tag: Annotated[str | None, Meta(description="only executions of schedules with this tag")] = None
    parent: Annotated[str | None, Meta(description="the hosts of this fleet execution, by its id")] = None
    limit: Annotated[int, Meta(description="at most so many", ge=1, le=100_000)] = 50
    follow: Annotated[bool, Meta(description="go on, and tell each change of state as it happens")] = False


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; 1 where the API cannot be asked."""
    own = settings.load(Settings, "executions", argv, environ, description="List executions, the latest first.")
    try:
        with api.Api(own) as connection:
            if own.follow:
                for row in follow(connection, own, pause):
                    print(msgspec.json.encode(row).decode() if own.json else schedule_texts.line(row), flush=True)
                return 0
            found = fetch_executions(connection, own)
    except api.ApiError as error:
        return screen.failed("executions", error)
    if own.json:
        screen.print_json({"executions": found})
    elif not found:
        print("No execution fits." if asked(own) else "No execution yet.")
    else:
        screen.print_table(("execution", "schedule", "due", "host", "attempt", "state", "took", "cause", "why"),
                           map(schedule_texts.execution_cells, found), right=("attempt", "took"),
                           spare=("cause", "attempt", "execution"))
    return 0


def asked(own: Settings) -> dict[str, Any]:
    """The filters that were given. Pure."""
    given = {"schedule": own.schedule, "host": own.host, "state": list(own.state), "tag": own.tag, "parent": own.parent}
    return {name: value for name, value in given.items() if value}


def fetch_executions(connection: api.Api, own: Settings) -> list[dict[str, Any]]:
    """The executions that fit, the latest first, at most `own.limit`."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while len(found) < own.limit:
        page = connection.fetch("executions", asked(own) | {"limit": min(own.limit - len(found), PAGE), "cursor": cursor})
        found += page["executions"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    return found


def follow(connection: api.Api, own: Settings, wait: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """Each new execution and each change of state, in order, until `wait` says that it is over.

    What is over when it begins is left out; what was told once is told to its end, also when it no longer fits `--state`.
    """
    states: dict[str, str] = {}
    wanted = asked(own) | {"limit": FOLLOWED}
    is_first = True
    while True:
        newest = connection.fetch("executions", wanted)["executions"]
        open_ones = {number for number, state in states.items() if state not in FINAL}
        rows = [*newest, *_missing(connection, open_ones - {row["id"] for row in newest})]
        yield from (row for row in changes(states, rows) if not is_first or row["state"] not in FINAL)
        is_first = False
        if not wait():
            return


def changes(states: dict[str, str], rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows that are new or in another state than `states` has them, the oldest first; then `states` holds these rows."""
    known = [dict(row) for row in rows]
    found = [row for row in known if states.get(row["id"]) != row["state"]]
    states.clear()
    states.update({row["id"]: row["state"] for row in known})
    return sorted(found, key=lambda row: (row["ended_at"] or row["started_at"] or row["created_at"], row["id"]))


def _missing(connection: api.Api, ids: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Executions that are open as far as is known, and no longer among the newest that fit."""
    for number in sorted(ids):
        try:
            yield connection.fetch(f"executions/{number}")
        except api.ApiError as error:
            if error.status != 404:
                raise


def pause() -> bool:
    """Wait until it is time to look again."""
    time.sleep(FOLLOW_SECONDS)
    return True
