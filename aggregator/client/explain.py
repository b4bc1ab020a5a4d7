"""`drumbeat explain HOST --at TIME`: what was unusual on a host at a time, what moved together, and what else happened then."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote

from msgspec import Meta

from aggregator.client import anomalies, api, screen
from shared import settings


class Settings(api.Settings, frozen=True, kw_only=True):
    """Settings of `drumbeat explain`."""

    host: Annotated[str, Meta(description="name of a host")]
    at: Annotated[str | None, Meta(description="the time, like 2026-11-21T08:00:00Z; now where not given")] = None
    window: Annotated[str, Meta(description="length of the span around it: 30m, 1h or 6h")] = "1h"


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; 1 where the API cannot be asked."""
    own = settings.load(Settings, "explain", argv, environ, positional=("host",), description="Explain a time on a host.")
    try:
        with api.Api(own) as connection:
            told = connection.fetch(f"hosts/{quote(own.host, safe='')}/explanation", {"at": own.at, "window": own.window})
    except api.ApiError as error:
        return screen.failed("explain", error)
    if own.json:
        screen.print_json(told)
        return 0
    console = screen.open_console()
    for line in lines(told):
        console.print(line, soft_wrap=True)
    return 0


def lines(told: Mapping[str, Any]) -> Iterator[str]:
    """The answer as lines with markup. Pure."""
    yield f"[bold]{screen.plain(told['host'])}[/] from {screen.instant(told['from'])} to {screen.instant(told['to'])}"
    yield from _listed("Unusual", [one["text"] for one in told["unusual"]] or ["nothing"])
    together = [one["text"] for one in told["together"]]
    if together:
        yield from _listed(f"With {told['unusual'][0]['metric']}", together)
    yield from _listed("Anomalies", [_anomaly(one) for one in told["anomalies"]] or ["none"])
    yield from _listed("Alerts", [_entry(one) for one in told["alerts"]] or ["none"])
    yield from _listed("Executions", [_entry(one) for one in told["executions"]] or ["none"])


def _listed(title: str, texts: Sequence[str]) -> Iterator[str]:
    yield f"[bold]{screen.plain(title)}[/]"
    yield from (f"  {screen.plain(text)}" for text in texts)


def _anomaly(one: Mapping[str, Any]) -> str:
    end = screen.instant(one["ended_at"]) if one["ended_at"] else "now"
    because = "; ".join(anomalies.explaining(metric) for metric in one["metrics"][:anomalies.EXPLAINING])
    return f"{screen.instant(one['began_at'])} to {end}  score {one['peak']:.1f}  {because}".rstrip()


def _entry(one: Mapping[str, Any]) -> str:
    end = screen.instant(one["ends_at"]) if one["ends_at"] else "now"
    return f"{screen.instant(one['starts_at'])} to {end}  {one['state']:9}  {one['title']}"
