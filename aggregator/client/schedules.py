"""`drumbeat schedules`: list schedules, when each is due next and what became of it last."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta

from aggregator.client import api, schedule_texts, screen
from shared import settings

PAGE = 1000


class Settings(api.Settings, frozen=True, kw_only=True):
    """Settings of `drumbeat schedules`."""

    name: Annotated[str | None, Meta(description="only schedules with this in their name")] = None
    tag: Annotated[str | None, Meta(description="only schedules with this tag")] = None
    kind: Annotated[Literal["once", "interval", "cron", "recurring", "manual"] | None, Meta(
        description="only schedules of this kind: once, interval, cron, recurring or manual")] = None


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; 1 where the API cannot be asked."""
    own = settings.load(Settings, "schedules", argv, environ, description="List schedules.")
    try:
        with api.Api(own) as connection:
            found = fetch_schedules(connection, own)
    except api.ApiError as error:
        return screen.failed("schedules", error)
    if own.json:
        screen.print_json({"schedules": found})
    elif not found:
        is_filtered = own.name or own.tag or own.kind
        print("No schedule fits." if is_filtered else "No schedule yet: drumbeat schedule add --help says how to make one.")
    else:
        screen.print_table(("schedule", "when", "does", "next", "last", "at", "tags"), map(schedule_texts.cells, found),
                           spare=("tags", "at", "does"))
    return 0


def fetch_schedules(connection: api.Api, own: Settings) -> list[dict[str, Any]]:
    """Every schedule that fits, by name."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = connection.fetch("schedules", {"q": own.name, "tag": own.tag, "kind": own.kind, "limit": PAGE, "cursor": cursor})
        found += page["schedules"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found
