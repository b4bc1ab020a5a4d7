"""When a schedule fires: the next moment after a given one, for every kind, in real time zones. Pure.

Cron expressions are cronsim's (five fields, day of month OR day of week as in Debian's cron); a fixed local time that does not
exist on a day of daylight saving fires at the next moment that does, one that comes twice fires once. RRULEs are dateutil's,
worked out in local time and mapped the same way. Intervals count from their start in real time.
"""

import functools
import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from shared import cron
from shared.schedules import Schedule

FAR = timedelta(days=366 * 30)
"""What does not fire within thirty years does not fire."""
FIRST_YEAR, LAST_YEAR = 1970, 2199
_SHORTHANDS = {"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
               "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *"}

_ENDLESS = re.compile(r"[:\s]|INTERVAL=(?!0*[1-9])")
"""More than one rule, or one whose next day dateutil would look for without end."""
_TIMES = ("BYHOUR", "BYMINUTE", "BYSECOND", "FREQ=HOURLY", "FREQ=MINUTELY", "FREQ=SECONDLY")


class ScheduleError(ValueError):
    """A schedule cannot be used: `field` and what is wrong with it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field, self.message = field, message


def next_after(schedule: Schedule, after: datetime) -> datetime | None:
    """The first firing later than `after` (aware), in UTC and without jitter; None where there is none. Raises ScheduleError."""
    end = moment("end", schedule.end)
    for found in _following(schedule, after):
        return None if end is not None and found > end else found
    return None


def firings(schedule: Schedule, after: datetime, count: int) -> list[datetime]:
    """The next `count` firings later than `after`. Raises ScheduleError."""
    end, found = moment("end", schedule.end), list[datetime]()
    for at in _following(schedule, after):
        if len(found) >= count or (end is not None and at > end):
            break
        if not found or at > found[-1]:  # two local times that do not exist are one moment
            found.append(at)
    return found


def delay(schedule: Schedule, fires_at: datetime) -> float:
    """Seconds of jitter for one firing: a part of `jitter` that is the same whoever asks."""
    digest = hashlib.sha256(f"{schedule.name}\n{fires_at.timestamp():.3f}".encode()).digest()
    return schedule.jitter * int.from_bytes(digest[:4], "big") / 2**32


def moment(field: str, text: str) -> datetime | None:
    """A time of a schedule in UTC, None for none. Raises ScheduleError."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ScheduleError(field, f"{text[:40]!r} is no time; write it like 2026-12-01T04:00:00+01:00") from None
    if at.tzinfo is None:
        raise ScheduleError(field, f"{text[:40]!r} has no offset; add Z or one like +01:00")
    if not FIRST_YEAR <= at.year <= LAST_YEAR:
        raise ScheduleError(field, f"{text[:40]!r} is outside the years {FIRST_YEAR} to {LAST_YEAR}")
    return at.astimezone(UTC)


def zone(name: str) -> ZoneInfo:
    """The time zone of an IANA name. Raises ScheduleError with the nearest name."""
    if wrong := cron.wrong_zone(name[:64]):
        raise ScheduleError("timezone", wrong)
    return ZoneInfo(name)


def _following(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """Firings later than `after`, in order."""
    start = moment("start", schedule.start)
    if start is not None and after < start:
        after = start - timedelta(microseconds=1)
    if schedule.kind == "manual":
        return
    if schedule.kind == "once":
        at = moment("at", schedule.at)
        if at is None:
            raise ScheduleError("at", "missing: when it is to fire, like 2026-12-01T04:00:00+01:00")
        if at > after:
            yield at
    elif schedule.kind == "interval":
        at = after
        while (at := _next_interval(schedule, at, start or datetime(2000, 1, 1, tzinfo=UTC))) - after < FAR:
            yield at
    elif schedule.kind == "cron":
        yield from _cron(schedule, after)
    else:
        yield from _recurring(schedule, after, start)


def _next_interval(schedule: Schedule, after: datetime, start: datetime) -> datetime:
    if not 1 <= schedule.every <= 31_536_000:
        raise ScheduleError("every", f"{schedule.every:g} is outside 1 to 31536000 seconds")
    if after < start:
        return start
    steps = int((after - start).total_seconds() // schedule.every) + 1
    at = start + timedelta(seconds=steps * schedule.every)
    return at if at > after else start + timedelta(seconds=(steps + 1) * schedule.every)  # rounded to microseconds


def _cron(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    text = _SHORTHANDS.get(schedule.cron.strip(), schedule.cron)
    if wrong := _wrong_cron(text):
        raise ScheduleError("cron", f"{wrong}; or one of {', '.join(_SHORTHANDS)}")
    for at in cron.fires(text, zone(schedule.timezone), after.timestamp()):
        yield datetime.fromtimestamp(at, UTC)


@functools.lru_cache(maxsize=4096)
def _wrong_cron(text: str) -> str:
    return cron.wrong(text, datetime(2026, 1, 1, tzinfo=UTC).timestamp())


def _recurring(schedule: Schedule, after: datetime, start: datetime | None) -> Iterator[datetime]:
    own = zone(schedule.timezone)
    if start is None:
        raise ScheduleError("start", "missing: a recurring schedule counts from its start")
    hour, minute, *rest = (int(part) for part in schedule.time.split(":"))
    first = start.astimezone(own).replace(hour=hour, minute=minute, second=rest[0] if rest else 0, microsecond=0, tzinfo=None)
    before = after.astimezone(own).replace(tzinfo=None) - timedelta(days=1)
    for local in _rule(schedule.rrule, first).xafter(before, inc=True):
        at = existing(local, own)
        if at - after > FAR:
            return
        if at > after and at >= start:
            yield at


@functools.lru_cache(maxsize=4096)
def _rule(text: str, first: datetime) -> Any:
    """The RRULE from its first day on. Raises ScheduleError."""
    from dateutil.rrule import rrulestr

    if not text:
        raise ScheduleError("rrule", "missing: a rule like FREQ=WEEKLY;BYDAY=MO,TH")
    if any(word in text.upper() for word in _TIMES):
        raise ScheduleError("rrule", "hours and minutes do not go here: the time of day is `time`; or use cron or interval")
    rule = text.upper().strip().removeprefix("RRULE:")
    if _ENDLESS.search(rule):
        raise ScheduleError("rrule", f"{text[:100]!r}: one rule, whose INTERVAL is at least 1")
    try:
        if not _comes(rule):
            raise ScheduleError("rrule", f"{text[:100]!r} never comes: there is no such day")
        return rrulestr(rule, dtstart=first, ignoretz=True)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        if isinstance(error, ScheduleError):
            raise
        raise ScheduleError("rrule", f"{text[:100]!r} is no RRULE of RFC 5545 ({error}); one is FREQ=MONTHLY;BYDAY=2TU") from None


@functools.lru_cache(maxsize=4096)
def _comes(rule: str) -> bool:
    """Whether a rule names any day at all. Raises ValueError where it is none.

    dateutil looks for a day that never comes until the year 9999, for seconds. Days repeat every 400 years: it has the last 400.
    """
    from dateutil.rrule import rrulestr

    kept = [part for part in rule.split(";") if not part.startswith(("INTERVAL=", "COUNT=", "UNTIL="))]
    return next(iter(rrulestr(";".join(kept), dtstart=datetime(9600, 1, 1))), None) is not None  # noqa: DTZ001 (local time)


def existing(local: datetime, own: ZoneInfo) -> datetime:
    """A local time in UTC: the first of two, or the next moment that exists."""
    at = local.replace(tzinfo=own, fold=0).astimezone(UTC)
    if at.astimezone(own).replace(tzinfo=None) == local:
        return at
    # In a gap: its end is the second at which the offset changes.
    before, low, high = (at - timedelta(days=1)).astimezone(own).utcoffset(), int(at.timestamp()) - 86_400, int(at.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        is_before = datetime.fromtimestamp(middle, own).utcoffset() == before
        low, high = (middle, high) if is_before else (low, middle)
    return datetime.fromtimestamp(high, UTC)
