"""Cron expressions and time zones by name: when they fire, and what is wrong with them in words. Pure.

Windows of maintenance and schedules share it. Expressions are cronsim's, whose rules are those of Debian's cron.
"""

import difflib
from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

CRON_FIELDS = "minute hour day-of-month month day-of-week, such as 30 2 * * SUN"


def fires(cron: str, zone: ZoneInfo, after: float) -> Iterator[float]:
    """Times (Unix s) that a cron expression of five fields names later than `after`, in order, as far as 50 years on.

    A fixed local time that the clocks skip is the moment after the skip; one that comes twice is its first. Hours with
    `*` go on in real time. These are Debian cron's rules.
    """
    told = after
    for at in CronSim(cron, datetime.fromtimestamp(after, zone)):
        moment = at.astimezone(UTC).timestamp()
        if moment > told:  # asked within the hour that comes twice, cronsim names times of its first pass
            told = moment
            yield moment


def is_zone(name: str) -> bool:
    """Whether there is a time zone of this name."""
    try:
        ZoneInfo(name)
    except (ValueError, KeyError, OSError):
        return False
    return True


def wrong_zone(name: str) -> str:
    """What is wrong with the name of a time zone, with the nearest that there is; empty where it is well."""
    if is_zone(name):
        return ""
    by_lower = {zone.lower(): zone for zone in available_timezones()}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    hint = f"did you mean {by_lower[near[0]]}?" if near else "names are like Europe/Berlin or UTC"
    return f"there is no time zone {name!r}; {hint}"


def wrong(cron: str, now: float) -> str:
    """What is wrong with a cron expression; empty where it is well."""
    fields = cron.split()
    if len(fields) != 5:
        return f"{len(fields)} fields, not five: {CRON_FIELDS}"
    try:
        if next(fires(cron, ZoneInfo("UTC"), now), None) is not None:
            return ""
    except CronSimError as error:
        if not _is_cron(" ".join([*fields[:3], "*", fields[4]])):
            return f"{str(error).lower()}; the fields are {CRON_FIELDS}"
    return f"{cron!r} never comes: no such month has that day"


def _is_cron(cron: str) -> bool:
    try:
        CronSim(cron, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError:
        return False
    return True
