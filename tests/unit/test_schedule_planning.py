"""What is due, in real time zones over years with a clock that tests move; what came too late; who may begin; who tries again."""

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler import planning
from scheduler.planning import Other, admit, plan, retry_at
from shared.recurrence import next_after
from shared.schedules import Schedule, Target

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
BUS = Target(type="bus")


def schedule(**fields):
    return Schedule(name="beat", target=BUS, **({"kind": "interval", "every": 1.0} | fields))


def follow(one, start, clock):
    """Fire times of a schedule whose scheduler looks at these times."""
    fired, next_at = [], next_after(one, start)
    for now in clock:
        if next_at is not None and next_at <= now:
            planned = plan(one, next_at, now)
            fired += [firing for firing in planned.firings if not firing.missed]
            next_at = planned.next_at
    return fired


@pytest.mark.parametrize(("zone", "cron"), [
    ("Europe/Berlin", "30 2 * * *"), ("America/New_York", "30 1 * * *"), ("Australia/Lord_Howe", "45 1 * * *"),
    ("Africa/Casablanca", "15 2 * * *"), ("America/Santiago", "30 0 * * *")])
def test_a_daily_firing_comes_every_day_of_years_of_daylight_saving(zone, cron):
    """Once on each local day over six years: neither an hour that is skipped nor one that comes twice loses or doubles it."""
    own, start = ZoneInfo(zone), datetime(2024, 1, 1, 12, tzinfo=UTC)
    clock = [start + timedelta(hours=hours) for hours in range(1, 24 * 2192, 3)]
    fired = follow(schedule(kind="cron", cron=cron, timezone=zone, misfire="all", grace=86_400.0), start, clock)
    days = [firing.at.astimezone(own).date() for firing in fired]
    assert days == [days[0] + timedelta(days=place) for place in range(len(days))]
    assert len(days) >= 2190


@settings(max_examples=50)
@given(st.lists(st.floats(-3600.0, 3600.0), min_size=5, max_size=30))
def test_a_clock_that_jumps_neither_loses_nor_doubles(steps):
    """Forward and back by up to an hour, again and again: every fire time up to the latest time seen, once."""
    clock = [NOW]
    for step in steps:
        clock.append(clock[-1] + timedelta(seconds=step))
    one = schedule(every=60.0, misfire="all", grace=86_400.0)
    fired = [firing.at for firing in follow(one, NOW, clock)]
    count = int((max(clock) - NOW).total_seconds() // 60)
    assert fired == [NOW + timedelta(minutes=place) for place in range(1, count + 1)]


def test_seconds_late_is_on_time():
    """What is seen within five seconds fires as it should have, whatever the policy."""
    planned = plan(schedule(misfire="skip"), NOW - timedelta(seconds=4), NOW)
    assert [(firing.at, firing.cause, firing.missed) for firing in planned.firings] == [
        (NOW - timedelta(seconds=late), "schedule", "") for late in (4, 3, 2, 1, 0)]
    assert planned.next_at == NOW + timedelta(seconds=1)


@pytest.mark.parametrize(("misfire", "runs", "missed"), [("skip", 0, 10), ("once", 1, 10), ("all", 595, 0)])
def test_the_misfire_policy(misfire, runs, missed):
    """Ten minutes of seconds that nobody fired; the last five of them are on time."""
    late = [firing for firing in plan(schedule(misfire=misfire), NOW - timedelta(minutes=10), NOW).firings
            if firing.cause == "misfire"]
    assert (sum(not firing.missed for firing in late), sum(bool(firing.missed) for firing in late)) == (runs, missed)
    assert [firing.at for firing in late] == sorted(firing.at for firing in late)
    if misfire == "once":
        assert late[-1].at == NOW - timedelta(seconds=6)
        assert all(firing.is_settled for firing in late[:-1])
    if missed:
        assert "all before it, since 2026-11-21 11:50:00 UTC" in late[0].missed


def test_only_the_last_grace_is_made_up_for():
    """all: of ten minutes, the last; the newest before it are rows that say why they did not run."""
    late = plan(schedule(misfire="all", grace=60.0), NOW - timedelta(minutes=10), NOW).firings
    assert sum(not firing.missed for firing in late) == 61
    assert [firing.at for firing in late if firing.missed] == [NOW - timedelta(seconds=70 - place) for place in range(10)]
    assert planning.BEYOND in late[0].missed


@pytest.mark.parametrize("fields", [
    {"misfire": "all", "grace": 604_800.0}, {"kind": "cron", "cron": "* * * * *", "misfire": "all", "grace": 604_800.0},
    {"kind": "cron", "cron": "0 4 * * *", "timezone": "Europe/Berlin"},
    {"kind": "recurring", "rrule": "FREQ=DAILY", "start": "2000-01-01T00:00:00Z", "time": "04:00"}])
def test_years_of_firings_are_not_enumerated(fields):
    """Ten years without a scheduler cost well under the 315 million seconds that were missed."""
    began = time.process_time()
    planned = plan(schedule(**fields), NOW - timedelta(days=3653), NOW)
    assert time.process_time() - began < 10
    assert 1 <= len(planned.firings) <= planning.MOST_FIRINGS + planning.MOST_MISSED + 6
    assert planned.next_at > NOW


def test_nothing_is_due_that_the_schedule_does_not_name():
    """A schedule that has ended, or whose rule has changed, only learns when it is next due."""
    assert plan(schedule(end=(NOW - timedelta(hours=1)).isoformat()), NOW - timedelta(seconds=2), NOW) == planning.Plan((), None)
    assert plan(schedule(every=3600.0), NOW - timedelta(seconds=1800), NOW + timedelta(seconds=-1)).next_at == NOW


@pytest.mark.parametrize(("policy", "cause", "decision", "cancels"), [
    ("allow", "schedule", "begin", ()), ("forbid", "schedule", "missed", ()), ("forbid", "manual", "missed", ()),
    ("forbid", "misfire", "wait", ()), ("forbid", "retry", "wait", ()), ("replace", "schedule", "wait", ("x", "y"))])
def test_who_may_begin_beside_others(policy, cause, decision, cancels):
    """allow: beside them; forbid: missed, what is made up for waits its turn; replace: once the others have ended."""
    one = schedule(concurrency=policy)
    admission = admit(one, cause, [Other("x", "running"), Other("y", "pending")])
    assert (admission.decision, admission.cancel) == (decision, cancels)
    assert ("x was still under way" in admission.reason) == (decision == "missed")
    assert admit(one, cause, []).decision == "begin"


def test_a_further_attempt_replaces_nothing():
    """What runs when an earlier firing is to be tried again belongs to a later one, which goes on."""
    admission = admit(schedule(concurrency="replace"), "retry", [Other("x", "running")])
    assert (admission.decision, admission.cancel) == ("missed", ())
    assert "x of a later firing" in admission.reason


def test_each_attempt_waits_twice_as_long():
    """retry_delay, then twice as late; as often as `retries`; what was cancelled or missed is not tried again."""
    one = schedule(retries=3, retry_delay=30.0)
    waits = [retry_at(one, "failed", attempt, NOW) for attempt in (1, 2, 3, 4)]
    assert waits == [NOW + timedelta(seconds=30), NOW + timedelta(seconds=60), NOW + timedelta(seconds=120), None]
    assert retry_at(one, "timed_out", 1, NOW) == NOW + timedelta(seconds=30)
    assert retry_at(one, "cancelled", 1, NOW) is None
    assert retry_at(one, "missed", 1, NOW) is None
    assert retry_at(schedule(retries=20, retry_delay=31e6), "failed", 20, NOW) == NOW + timedelta(days=1)
