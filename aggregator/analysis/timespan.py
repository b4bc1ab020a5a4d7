"""Which history answers a question: the span, the step of its points, and the source they are made from. Pure."""

import dataclasses
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

RANGES: dict[str, timedelta] = {
    "1h": timedelta(hours=1), "6h": timedelta(hours=6), "24h": timedelta(hours=24), "7d": timedelta(days=7),
    "30d": timedelta(days=30)}

SOURCES: tuple[tuple[str, int], ...] = (("rollup_1d", 86_400), ("rollup_1h", 3_600), ("rollup_1m", 60), ("raw", 0))
"""Coarsest first, with their steps in seconds (raw: as sent)."""

LADDER = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 3600, 7200, 10_800, 21_600, 43_200, 86_400)
"""Steps for auto. After a quarter of an hour comes an hour: hours are read 60 times faster than minutes."""

USUAL_INTERVAL = 5.0
"""Seconds between raw samples, where rows are estimated."""

READILY = 400_000
"""Rows that step=auto reads at most, where a coarser history has fewer: about a second."""

LONGEST = timedelta(days=3660)
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
"""No question ends before it: what is read lies some days or years before a span, and the calendar has a first day."""

STEPS = "auto, raw, 1m, 1h, 1d, or whole seconds from 1 to 2592000"

_NAMED_STEPS = {"1m": 60, "1h": 3600, "1d": 86_400, "raw": 0}
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+ -]\d\d:\d\d)")


class SpanError(Exception):
    """A span or step cannot be used: `parameter` names which, the message says what is allowed."""

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """From `start` (included) to `end` (not), aware UTC."""

    start: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        return (self.end - self.start).total_seconds()


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """Points of `step` seconds (0: as sent), made from `source`."""

    step: int
    source: str


def instant(text: str, parameter: str) -> datetime:
    """The aware UTC time of an RFC 3339 text. Raises SpanError."""
    if _RFC3339.fullmatch(text):
        try:
            # A plus sign in a URL that was not escaped arrives as a blank; Python 3.11 reads at most microseconds.
            plain = re.sub(r" (\d\d:\d\d)$", r"+\1", text)
            plain = re.sub(r"(\.\d{6})\d+", r"\1", plain).upper().replace("Z", "+00:00")
            return datetime.fromisoformat(plain).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise SpanError(parameter, f"{text[:40]!r} is not a time; allowed: RFC 3339 with offset, like 2026-11-21T08:00:00Z")


def span(name: str | None, start: str | None, end: str | None, now: datetime, default: str = "24h") -> Span:
    """The span that `range`, or `from` and `to`, ask for; `to` is now where it is missing. Raises SpanError."""
    if name is not None and start is not None:
        raise SpanError("range", "range and from exclude each other")
    last = reachable(now if end is None else instant(end, "to"), "to")
    if start is None:
        if (name or default) not in RANGES:
            raise SpanError("range", f"{(name or '')[:40]!r} is not a range; allowed: {', '.join(RANGES)}")
        return Span(last - RANGES[name or default], last)
    first = instant(start, "from")
    if first >= last:
        raise SpanError("from", "from must lie before to")
    if last - first > LONGEST:
        raise SpanError("from", f"from and to may lie at most {LONGEST.days} days apart")
    return Span(first, last)


def reachable(at: datetime, parameter: str) -> datetime:
    """The time itself. Raises SpanError for one that no history reaches back to."""
    if at < EARLIEST:
        raise SpanError(parameter, f"no history is older than {EARLIEST.year}")
    return at


def plan(asked: Span, step: str, max_points: int, now: datetime, keep_days: Mapping[str, int], hosts: int = 1) -> Plan:
    """Step and source for a span: at most `max_points` points where `step` is auto, fewer where many hosts are read.

    The source is the coarsest whose steps fill the asked step exactly. Where it is no longer kept at the beginning of
    the span, the next coarser one answers, with its own step. Raises SpanError.
    """
    seconds = _auto_step(asked.seconds / max_points, asked.seconds * hosts) if step == "auto" else _step(step)
    for source, width in SOURCES:
        fits = width == 0 or (seconds > 0 and seconds % width == 0)
        if fits and _is_kept(source, asked, now, keep_days):
            return Plan(seconds, source)
    kept = [(source, width) for source, width in SOURCES[:-1] if _is_kept(source, asked, now, keep_days)]
    source, width = (kept or SOURCES)[-1 if kept else 0]
    return Plan(-(-max(seconds, 1) // width) * width, source)


def _is_kept(source: str, asked: Span, now: datetime, keep_days: Mapping[str, int]) -> bool:
    return asked.start >= now - timedelta(days=keep_days.get(source, 36_500), minutes=1)


def _step(text: str) -> int:
    if text in _NAMED_STEPS:
        return _NAMED_STEPS[text]
    if re.fullmatch(r"[1-9]\d{0,6}", text) and int(text) <= 2_592_000:
        return int(text)
    raise SpanError("step", f"{text[:40]!r} is not a step; allowed: {STEPS}")


def rows(source: str, seconds: float) -> float:
    """How many rows of a source so many seconds of one host are, about."""
    return seconds / (dict(SOURCES)[source] or USUAL_INTERVAL)


def _auto_step(wanted: float, host_seconds: float) -> int:
    days = max(1, -(-wanted // 86_400))
    return next((rung for rung in LADDER if rung >= wanted and rows(_coarsest(rung), host_seconds) <= READILY),
                int(days) * 86_400)


def _coarsest(step: int) -> str:
    """The coarsest source whose steps fill `step` exactly."""
    return next(source for source, width in SOURCES if width == 0 or step % width == 0)
