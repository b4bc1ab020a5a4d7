"""The daily report: facts from the tables, forecasts of disks, the text; and told to a channel."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec

from aggregator.analysis import notices, reports
from aggregator.analysis.rules import Rule
from aggregator.ingest.forecasts import seconds_left
from aggregator.store import forecasting, report
from shared.database import Connection
from shared.duties import DutyError

DISK = Rule(name="disk", kind="forecast", metric="disk.percent{mount=*}", target=100.0, window=3 * 86_400.0)
FULLEST_HOSTS, HOSTS_AT_ONCE = 200, 20
SOON_SECONDS = 14 * 86_400.0


def write(connection: Connection, now: datetime, hours: float, check: Callable[[], None]) -> str:
    """The report on the last `hours`. `check` is called now and then and may raise."""
    until = now.astimezone(UTC)
    since = until - timedelta(hours=hours)
    count, score, by_status, silent = report.fetch_fleet(connection, now)
    return reports.markdown(reports.Facts(
        since=since, until=until, hosts=count, score=score, by_status=by_status, silent=silent,
        worst=report.fetch_worst(connection, now, reports.SHOWN),
        fired=report.fetch_fired(connection, since, until, reports.SHOWN),
        active=report.fetch_active(connection, reports.SHOWN), filling=_filling(connection, now, check),
        ran=report.fetch_ran(connection, since, until)))


def queue(connection: Connection, channel: str, text: str, now: datetime) -> None:
    """Have the report told to a channel. Raises DutyError where there is none of this name."""
    content = notices.report_content(text, now.timestamp())
    if not report.queue(connection, channel, msgspec.json.encode(content), now):
        raise DutyError(f"target.arguments.channel: there is no channel {channel!r}; the report was written")


def _filling(connection: Connection, now: datetime, check: Callable[[], None]) -> list[reports.Filling]:
    """File systems of the fullest hosts that will be full within two weeks, soonest first."""
    at, names = now.timestamp(), dict(report.fetch_fullest(connection, now, FULLEST_HOSTS))
    found: list[reports.Filling] = []
    ids = list(names)
    for first in range(0, len(ids), HOSTS_AT_ONCE):
        check()
        points = forecasting.fetch_hours(connection, ids[first:first + HOSTS_AT_ONCE], "disk.percent", at - DISK.window, at)
        newest = {(host_id, metric): mean for host_id, metric, _, mean in sorted(points, key=lambda point: point[2])}
        found += [reports.Filling(names[host_id], metric, newest[host_id, metric], seconds)
                  for (host_id, metric), seconds in seconds_left(points, DISK, at).items()
                  if "{" in metric and math.isfinite(seconds) and seconds < SOON_SECONDS]
    return sorted(found, key=lambda one: one.seconds)
