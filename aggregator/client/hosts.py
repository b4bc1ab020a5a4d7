"""`drumbeat hosts`: list hosts with their health."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from msgspec import Meta

from aggregator.client import api, screen
from shared import settings

LARGEST_FIRST = ("cpu", "memory", "disk", "last_seen")


class Settings(api.Settings, frozen=True, kw_only=True):
    """Settings of `drumbeat hosts`."""

    sort: Annotated[Literal["name", "score", "last_seen", "cpu", "memory", "disk"], Meta(
        description="order: name, score (worst first), last_seen (newest), cpu, memory or disk (largest first)")] = "name"
    reverse: Annotated[bool, Meta(description="the other way round")] = False
    state: Annotated[Literal["online", "draining", "offline", "unknown"] | None, Meta(
        description="only hosts in this state: online, draining, offline or unknown")] = None
    status: Annotated[Literal["healthy", "degraded", "warning", "critical", "unknown"] | None, Meta(
        description="only hosts of this health: healthy, degraded, warning, critical or unknown")] = None
    label: Annotated[tuple[str, ...], Meta(description="only hosts with this label, as key:value; may be repeated")] = ()
    name: Annotated[str | None, Meta(description="only hosts with this in their name")] = None
    limit: Annotated[int | None, Meta(description="at most so many hosts")] = None


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; 1 where the API cannot be asked."""
    own = settings.load(Settings, "hosts", argv, environ, description="List hosts with their health.")
    if own.limit is not None and own.limit < 1:
        raise settings.SettingsError("--limit: at least 1")
    try:
        with api.Api(own) as connection:
            found, total = fetch_hosts(connection, own)
    except api.ApiError as error:
        return screen.failed("hosts", error)
    if own.json:
        screen.print_json({"hosts": found, "total": total})
        return 0
    if not found:
        print("No host fits." if is_filtered(own) else "No host yet: start drumbeat agent on one.")
        return 0
    now = datetime.now(UTC)
    figures = ("score", "cpu %", "memory %", "disk %")
    screen.print_table(("host", "state", "health", *figures, "alerts", "seen", "labels"), (cells(host, now) for host in found),
                       right=(*figures, "alerts"), spare=("labels",))
    if len(found) != total:
        print(f"{len(found)} of {total} hosts")
    return 0


def is_filtered(own: Settings) -> bool:
    """Whether only some hosts are asked for. Pure."""
    return bool(own.state or own.status or own.label or own.name)


def fetch_hosts(connection: api.Api, own: Settings) -> tuple[list[dict[str, Any]], int]:
    """The hosts that fit, at most `own.limit`, and how many fit in all."""
    asked = {"sort": order(own.sort, is_reversed=own.reverse), "state": own.state, "status": own.status,
             "label": list(own.label), "q": own.name}
    found: list[dict[str, Any]] = []
    total = 0
    for page in connection.fetch_pages("hosts", asked, own.limit):
        found += page["hosts"]
        total = page["total"]
        if own.limit is not None and len(found) >= own.limit:
            return found[:own.limit], total
    return found, total


def order(sort: str, *, is_reversed: bool) -> str:
    """The API's sort key: what matters most comes first. Pure."""
    return f"-{sort}" if (sort in LARGEST_FIRST) != is_reversed else sort


def cells(host: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    """One host as a row of text. Pure."""
    seen = screen.read_time(host["last_seen_at"])
    age = "never" if seen is None else f"{screen.duration((now - seen).total_seconds())} ago"
    figures = (host["score"], host["cpu_percent"], host["memory_percent"], host["disk_percent"])
    return (screen.plain(host["name"]), screen.coloured(host["state"]), screen.coloured(host["status"]),
            *(screen.figure(value) for value in figures), screen.coloured(host["worst_alert"], str(host["alerts"])), age,
            screen.plain(labels(host["labels"].items())))


def labels(pairs: Iterable[tuple[str, str]]) -> str:
    """Labels in one line. Pure."""
    return " ".join(f"{key}:{value}" if value else key for key, value in sorted(pairs))


def wanted_labels(texts: Iterable[str]) -> dict[str, str]:
    """What `--label` asks for, `key:value`, or `key` for any value, as matches have it: any value is `*`. Pure."""
    return {key: value if colon else "*" for key, colon, value in (text.partition(":") for text in texts)}
