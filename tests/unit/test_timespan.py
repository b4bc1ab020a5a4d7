"""Spans, steps and the history that answers them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.analysis import timespan
from aggregator.analysis.timespan import Plan, Span, SpanError

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEEP = {"raw": 7, "rollup_1m": 30, "rollup_1h": 400, "rollup_1d": 3650}


@pytest.mark.parametrize(("text", "at"), [
    ("2026-11-21T12:00:00Z", NOW), ("2026-11-21t13:00:00.000000123+01:00", NOW), ("2026-11-21T13:00:00 01:00", NOW),
    ("2026-11-21T12:00:00.5z", NOW + timedelta(seconds=0.5))])
def test_times_are_rfc_3339(text: str, at: datetime) -> None:
    """Offsets, fractions and a plus sign that the URL turned into a blank are understood."""
    assert timespan.instant(text, "from") == at


@pytest.mark.parametrize("text", [
    "", "now", "2026-11-21", "2026-11-21T12:00:00", "2026-11-21T12:00:60Z", "2026-11-21T12:00:00+25:00",
    "0001-01-01T00:00:00+23:59", "1763668800"])
def test_other_times_are_refused_by_name(text: str) -> None:
    """What is no RFC 3339 time with an offset is refused, naming the parameter."""
    with pytest.raises(SpanError, match="RFC 3339") as caught:
        timespan.instant(text, "to")
    assert caught.value.parameter == "to"


@pytest.mark.parametrize(("days_ago", "step", "plan"), [
    (1, "auto", Plan(300, "rollup_1m")), (1, "raw", Plan(0, "raw")), (1, "10", Plan(10, "raw")),
    (1, "1h", Plan(3600, "rollup_1h")),
    (20, "10", Plan(60, "rollup_1m")), (100, "raw", Plan(3600, "rollup_1h")), (100, "5400", Plan(7200, "rollup_1h")),
    (1000, "60", Plan(86400, "rollup_1d")), (5000, "1h", Plan(86400, "rollup_1d")), (1, "172800", Plan(172800, "rollup_1d"))])
def test_the_coarsest_history_that_fits_and_is_kept_answers(days_ago: int, step: str, plan: Plan) -> None:
    """A step is made from the coarsest source it is a multiple of; where that is gone, from a coarser one."""
    end = NOW - timedelta(days=days_ago - 1)
    assert timespan.plan(Span(end - timedelta(days=1), end), step, 500, NOW, KEEP) == plan


@given(st.floats(60, 30 * 86400), st.integers(1, 20_000))
def test_many_hosts_are_read_from_coarse_history(seconds: float, hosts: int) -> None:
    """step=auto reads few enough rows to answer at once, or days where nothing is coarser; for one host nothing changes."""
    span = Span(NOW - timedelta(seconds=seconds), NOW)
    plan = timespan.plan(span, "auto", 100, NOW, KEEP, hosts)
    assert timespan.rows(plan.source, seconds * hosts) <= timespan.READILY or plan.source == "rollup_1d"
    assert timespan.plan(span, "auto", 100, NOW, KEEP).step <= plan.step
    assert plan.step >= seconds / 100 * 0.999999


@given(st.floats(1, 3660 * 86400), st.integers(1, 5000))
def test_auto_gives_at_most_max_points_in_steps_of_their_source(seconds: float, max_points: int) -> None:
    """Whatever the span, step=auto keeps within max_points, and its source fills each step exactly."""
    plan = timespan.plan(Span(NOW - timedelta(seconds=seconds), NOW), "auto", max_points, NOW, KEEP)
    assert seconds / plan.step <= max_points * 1.000001
    width = dict(timespan.SOURCES)[plan.source]
    assert width == 0 or plan.step % width == 0


@pytest.mark.parametrize(("name", "start", "end"), [
    (None, None, "0001-01-01T00:00:00Z"), ("30d", None, "1999-12-31T23:59:59Z"),
    (None, "0001-01-01T00:00:00Z", "0001-01-31T00:00:00Z")])
def test_a_span_that_ends_before_all_history_is_refused(name: str | None, start: str | None, end: str) -> None:
    """What lies before a span is read, too: at the calendar's first days there is nothing before."""
    with pytest.raises(SpanError, match="older than 2000") as caught:
        timespan.span(name, start, end, NOW)
    assert caught.value.parameter == "to"
