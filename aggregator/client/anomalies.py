"""`drumbeat anomalies`: list the times at which hosts were unlike themselves, and what explains them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from msgspec import Meta

from aggregator.analysis import figures
from aggregator.client import api, screen
from shared import settings

EXPLAINING = 3


class Settings(api.Settings, frozen=True, kw_only=True):
    """Settings of `drumbeat anomalies`."""

    host: Annotated[tuple[str, ...], Meta(description="only anomalies of this host; may be repeated")] = ()
    open: Annotated[bool, Meta(description="only those that last")] = False
    since: Annotated[Annotated[str, Meta(pattern=screen.DURATION)], Meta(
        description="not over before so much time ago: 90m, 24h or 7d")] = "7d"
    limit: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="at most so many")] = None


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; 1 where the API cannot be asked."""
    own = settings.load(Settings, "anomalies", argv, environ, description="List anomalies, the latest first.")
    now = datetime.now(UTC)
    try:
        with api.Api(own) as connection:
            found = fetch_anomalies(connection, own, now)
    except api.ApiError as error:
        return screen.failed("anomalies", error)
    if own.json:
        screen.print_json({"anomalies": found})
    elif not found:
        print(f"No anomaly fits in the last {own.since}.")
    else:
        screen.print_table(("id", "host", "began", "lasted", "score", "because"), (cells(one, now) for one in found),
                           right=("id", "score"), spare=("because",))
    return 0


def fetch_anomalies(connection: api.Api, own: Settings, now: datetime) -> list[dict[str, Any]]:
    """The anomalies that fit, the latest begin first. Raises SettingsError where `since` is before all time."""
    try:
        since = now - timedelta(seconds=screen.read_duration(own.since))
    except OverflowError:
        raise settings.SettingsError(f"--since: {own.since} is longer than time lasts") from None
    asked = {"host": list(own.host), "open": "true" if own.open else None, "from": since.isoformat()}
    found: list[dict[str, Any]] = []
    for page in connection.fetch_pages("anomalies", asked, own.limit):
        found += page["anomalies"]
        if own.limit is not None and len(found) >= own.limit:
            return found[:own.limit]
    return found


def cells(anomaly: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    """One anomaly as a row of text. Pure."""
    began, ended = screen.read_time(anomaly["began_at"]), screen.read_time(anomaly["ended_at"])
    lasted = "-" if began is None else screen.duration(((ended or now) - began).total_seconds())
    because = "; ".join(explaining(one) for one in anomaly["metrics"][:EXPLAINING])
    return (str(anomaly["id"]), screen.plain(anomaly["host"]), screen.instant(anomaly["began_at"]),
            screen.coloured("running", f"{lasted} so far") if ended is None else lasted, f"{anomaly['peak']:.1f}",
            screen.plain(because))


def explaining(one: Mapping[str, Any]) -> str:
    """`cpu.percent 93 % (8 % to 31 %)`: one metric of an anomaly, and what was expected. Pure."""
    metric = one["metric"]
    return f"{metric} {figures.value(metric, one['value'])} ({figures.between(metric, one['low'], one['high'])})"
