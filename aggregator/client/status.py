"""`drumbeat status`: the fleet at a glance."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aggregator.client import api, incident, screen
from shared import settings
from shared.wire import SEVERITIES

WORST = 10
WORST_ALERTS = 5
TELLING_POINTS = 20_000
"""Fewer say nothing about what a point costs: tables have a least size."""


class Settings(api.Settings, frozen=True, kw_only=True):
    """Settings of `drumbeat status`."""


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; 1 where the API cannot be asked."""
    own = settings.load(Settings, "status", argv, environ, description="The fleet at a glance.")
    try:
        with api.Api(own) as connection:
            told = fetch_status(connection)
    except api.ApiError as error:
        return screen.failed("status", error)
    if own.json:
        screen.print_json(told)
        return 0
    console = screen.open_console()
    for line in lines(told):
        console.print(line, soft_wrap=True)
    return 0


def fetch_status(connection: api.Api) -> dict[str, Any]:
    """Health of the fleet, its alerts, counts, and what is stored."""
    storage = connection.fetch("storage")
    return {"health": connection.fetch("fleet/health"), "alerts": fetch_alerts(connection), "stats": connection.fetch("stats"),
            "storage": {name: storage[name] for name in ("database_bytes", "points", "bytes_per_point")}}


def fetch_alerts(connection: api.Api) -> dict[str, Any]:
    """How many alerts are active, and the worst of them that nobody dismissed."""
    summary, worst = connection.fetch("alerts/summary"), list[Any]()
    for severity in reversed(SEVERITIES):
        if summary[severity] and len(worst) < WORST_ALERTS:
            worst += connection.fetch("alerts", {"severity": severity, "dismissed": "false",
                                                 "limit": WORST_ALERTS - len(worst)})["alerts"]
    return {"summary": summary, "worst": worst}


def lines(told: Mapping[str, Any]) -> Iterator[str]:
    """The status for people, line by line. Pure."""
    health, stats, storage = told["health"], told["stats"], told["storage"]
    score = screen.figure(health["score"])
    yield f"[bold]Score {score}[/]   {health['online']} of {health['hosts']} hosts online"
    yield "Health   " + _counts(health["by_status"])
    yield "State    " + _counts(health["by_state"])
    if not health["hosts"]:
        yield "No host yet: start drumbeat agent on one."
    unwell = [host for host in health["worst"] if host["status"] != "healthy"][:WORST]
    for host in unwell:
        yield f"  {screen.coloured(host['status'], screen.figure(host['score']))}  {screen.plain(host['host'])}"
        yield from (f"        {screen.plain(reason)}" for reason in host["reasons"][:3])
    yield from _alerts(told["alerts"])
    yield _intake(stats)
    yield _losses(stats)
    yield _stored(storage)


def _alerts(alerts: Mapping[str, Any]) -> Iterator[str]:
    summary = alerts["summary"]
    rest = {word: summary[word] for word in ("acknowledged", "muted", "dismissed")}
    active = _counts({severity: summary[severity] for severity in reversed(SEVERITIES)}) if summary["total"] else "none"
    yield f"Alerts   {active}" + (f"   ({_counts(rest)})" if any(rest.values()) else "")
    for alert in alerts["worst"]:
        yield (f"  {screen.coloured(alert['severity'])}  {screen.plain(alert['host'])}  {screen.plain(incident.name(alert))}  "
               f"{screen.plain(alert['message'])}")


def _stored(storage: Mapping[str, Any]) -> str:
    size = screen.in_bytes(storage["database_bytes"])
    if (storage["points"] or 0) < TELLING_POINTS:
        return f"Storage  {size}"
    return f"Storage  {size}, {screen.figure(storage['bytes_per_point'])} bytes a point of raw history"


def _counts(counts: Mapping[str, int]) -> str:
    return "  ".join(screen.coloured(word, f"{count} {word}") for word, count in counts.items() if count) or "-"


def _intake(stats: Mapping[str, Any]) -> str:
    idle = [slot["slot"] for slot in stats["slots"] if not slot["held"]]
    if idle or not stats["slots"]:
        writer = "[red]nobody writes: start drumbeat ingest, or ask drumbeat doctor what it lacks[/]"
    else:
        writer = f"{len(stats['slots'])} slot{'s' if len(stats['slots']) > 1 else ''} held"
    lag = "nothing has come yet" if stats["lag_seconds"] is None else f"newest {screen.duration(stats['lag_seconds'])} ago"
    return f"Ingest   {stats['recent_samples_count']} samples in the last minute, {lag}; {writer}"


def _losses(stats: Mapping[str, Any]) -> str:
    refused = f"{stats['rejects_last_hour']} refused in the last hour ({stats['rejects']} kept)"
    return f"Losses   {stats['lost_samples']:.0f} samples in {screen.counted(stats['gaps'], 'gap')}; {refused}"
