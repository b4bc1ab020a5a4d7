"""Query parameters that several routes share, bounded and described once: texts, lists, labels, spans, cursors."""

import base64
import binascii
import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Depends, Path, Query
from pydantic import StringConstraints

from aggregator.analysis import timespan
from aggregator.analysis.liveness import State
from aggregator.analysis.timespan import Span
from aggregator.api.backend import Backend
from aggregator.api.problems import invalid, not_found
from aggregator.store import fleet
from shared.names import MAX_NAME_BYTES, is_host, split_metric

PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
TEXT = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"
"""Patterns of one line, and of text that may have several. A string without a pattern lets through what no database takes."""

MAX_METRICS = 100
MAX_POINTS = 5000
MAX_VALUES = 5_000_000

Word = Annotated[str, StringConstraints(max_length=200, pattern=PRINTABLE)]
HostName = Annotated[str, Path(description="name of a host", max_length=200, examples=["web-1"])]
Statuses = Literal["healthy", "degraded", "warning", "critical", "unknown"]

Limit = Annotated[int, Query(ge=1, le=1000, description="rows a page")]
Cursor = Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before")]
Metrics = Annotated[list[Word], Query(alias="metric", max_length=MAX_METRICS, examples=[["cpu.percent"]],
                                      description="metric names; `*` stands for any characters: `disk.percent{*}`")]
Rate = Annotated[bool, Query(description="growth per second instead of values, for counters such as `custom.requests_total`: "
                                          "a fall counts as a restart from 0")]
Hosts = Annotated[list[Word], Query(alias="host", max_length=1000, description="names of hosts; all where missing")]


def labels_asked(texts: Sequence[str]) -> dict[str, str | None]:
    """`key:value`, or `key` for any value → key and value, or None. Pure."""
    return {key: value if colon else None for key, colon, value in (text.partition(":") for text in texts)}


async def _chosen_hosts(
        host: Hosts = [],  # noqa: B006 (FastAPI copies it)
        state: Annotated[list[State], Query(max_length=4, description="liveness")] = [],  # noqa: B006
        status: Annotated[list[Statuses], Query(max_length=5, description="word of the health score")] = [],  # noqa: B006
        label: Annotated[list[Word], Query(max_length=20, description="`key:value`, or `key` for any value")] = [],  # noqa: B006
        q: Annotated[Word, Query(description="part of the name")] = "") -> fleet.Filter:
    return fleet.Filter(names=tuple(host), states=tuple(state), statuses=tuple(status), part=q.lower(),
                        labels=labels_asked(label))


ChosenHosts = Annotated[fleet.Filter, Depends(_chosen_hosts)]


@dataclasses.dataclass(frozen=True, slots=True)
class AskedSpan:
    """`range`, or `from` and `to`, and `step` and `max_points`, as they were asked for."""

    range: str | None
    start: str | None
    end: str | None
    step: str
    max_points: int

    def planned(self, backend: Backend, *, hosts: int = 1) -> tuple[Span, timespan.Plan]:
        """Span, beginning at a full step, and plan. Many hosts get fewer points each. Raises SpanError."""
        now = backend.now()
        span = timespan.span(self.range, self.start, self.end, now)
        points = min(self.max_points, max(24, 100_000 // max(hosts, 1)))
        plan = timespan.plan(span, self.step, points, now, backend.keep_days(), hosts)
        if plan.step and span.seconds / plan.step > 20 * MAX_POINTS:
            raise timespan.SpanError("step", f"a step of {plan.step} s gives more than {20 * MAX_POINTS} points; "
                                             "ask for a larger step or a shorter span")
        if not plan.step and span.seconds * hosts > 10 * 86_400:
            raise timespan.SpanError("step", "raw is answered for at most 10 days of one host, less for many")
        return _aligned(span, plan.step), plan


def check_size(span: Span, plan: timespan.Plan, *, hosts: int = 1, metrics: int = 1) -> None:
    """Raises SpanError where an answer would need more numbers than memory should hold."""
    values = timespan.rows(plan.source, span.seconds) * hosts * metrics
    if values > MAX_VALUES:
        raise timespan.SpanError("step", f"about {values:.2g} values of history would be read, at most {MAX_VALUES:.0e} are: ask "
                                         "for a larger step, a shorter span, fewer hosts or fewer metrics")


def _aligned(span: Span, step: int) -> Span:
    seconds = span.start.timestamp()
    return span if not step else Span(span.start - timedelta(seconds=seconds % step), span.end)


async def _asked_span(
        range_: Annotated[str | None, Query(alias="range", max_length=8, examples=["24h"],
                                            description="1h, 6h, 24h (default), 7d or 30d, until `to` or now")] = None,
        start: Annotated[str | None, Query(alias="from", max_length=40, examples=["2026-11-21T00:00:00Z"],
                                           description="RFC 3339; instead of range")] = None,
        end: Annotated[str | None, Query(alias="to", max_length=40, description="RFC 3339; now where missing")] = None,
        step: Annotated[str, Query(max_length=8, description=timespan.STEPS)] = "auto",
        max_points: Annotated[int, Query(ge=1, le=MAX_POINTS, description="points wanted at most, for step=auto")] = 500,
) -> AskedSpan:
    return AskedSpan(range_, start, end, step, max_points)


Asked = Annotated[AskedSpan, Depends(_asked_span)]


def existing(backend: Backend, name: str) -> int:
    """Id of the host `name`. Raises a 404."""
    host = fleet.fetch_id(backend.engine, name) if is_host(name) else None
    if host is None:
        raise not_found("host", name)
    return host


def cursor(parts: Sequence[Any]) -> str:
    """An opaque cursor of some parts."""
    return base64.urlsafe_b64encode(msgspec.json.encode(parts)).decode().rstrip("=")


def opened(text: str | None, kind: type[Any]) -> Any:
    """Parts of a cursor, None without one. Raises a 422 where it is none of ours."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True), type=kind)
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        raise invalid("cursor", "this is no cursor of this list; begin without one") from None


def before(text: str | None) -> int | None:
    """Row id in a cursor of a list that is newest first."""
    parts = opened(text, tuple[int])
    return None if parts is None else int(parts[0]) if abs(parts[0]) < 2**62 else None


def plain_metrics(metrics: Sequence[str]) -> None:
    """Raises a 422 for a name outside the grammar; patterns with `*` pass."""
    for metric in metrics:
        if "*" not in metric and split_metric(metric) is None:
            raise invalid("metric", f"{metric!r} is no metric name; names are like cpu.percent or disk.percent{{mount=/var}}, "
                                    f"at most {MAX_NAME_BYTES} bytes; see /api/v1/metrics")


def rfc3339(unix: float | None) -> datetime | None:
    """Unix seconds as aware UTC; None for none or nonsense."""
    try:
        return None if unix is None else datetime.fromtimestamp(unix, tz=UTC)
    except (OverflowError, OSError, ValueError):
        return None
