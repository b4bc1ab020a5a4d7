"""What is wrong with schedules, in words."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared import schedule_problems
from shared.recurrence import firings
from shared.schedule_problems import ScheduleProblemsError
from shared.schedules import Schedule, definition, read_schedule

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
NIGHTLY: dict[str, Any] = {"name": "nightly", "kind": "cron", "cron": "30 2 * * *", "timezone": "Europe/Berlin",
                           "target": {"type": "maintenance", "duty": "backup"}}
TASK = {"type": "task", "task": "prune_docker", "hosts": ["web-*"]}
GOOD: tuple[dict[str, Any], ...] = (
    NIGHTLY, {"name": "a", "kind": "manual", "target": {"type": "bus"}},
    {"name": "a", "kind": "once", "at": "2027-01-01T00:00:00+01:00", "target": {"type": "bus", "wait": True}},
    {"name": "a", "kind": "interval", "every": 60, "start": "2026-01-01T00:00:00Z", "target": TASK, "window": True},
    {"name": "a", "kind": "recurring", "rrule": "FREQ=MONTHLY;BYDAY=2TU", "start": "2026-01-01T00:00:00Z", "time": "04:00",
     "target": {"type": "task", "task": "x", "labels": {"site": "*"}}, "payload": {"a": [1, 2.5, None, "ü"]}})


def wrong(plain: dict[str, Any], now: datetime | None = NOW) -> dict[str, str]:
    try:
        schedule_problems.read(plain, now)
    except ScheduleProblemsError as error:
        return error.problems
    return {}


@pytest.mark.parametrize("plain", GOOD)
def test_good_schedules_have_no_problems(plain: dict[str, Any]) -> None:
    """Every kind and target is taken, and is the same after it was stored."""
    assert wrong(plain) == {}
    schedule = schedule_problems.read(plain, NOW)
    assert read_schedule(definition(schedule)) == schedule


@pytest.mark.parametrize(("change", "field", "word"), [
    ({"cron": "0 0 31 2 *"}, "cron", "never comes"), ({"cron": "60 * * * *"}, "cron", "minute"),
    ({"cron": "*/0 * * * *"}, "cron", "minute"), ({"cron": "* * * * * *"}, "cron", "five"), ({"cron": ""}, "cron", "missing"),
    ({"timezone": "Mars/X"}, "timezone", "Europe/Berlin"), ({"every": 5}, "every", "leave it out"),
    ({"at": "2027-01-01T00:00:00Z"}, "at", "kind cron"),
    ({"start": "2027-01-01T00:00:00Z", "end": "2026-12-31T00:00:00Z"}, "start", "after the end"),
    ({"end": "2026-11-20T00:00:00Z"}, "end", "past"), ({"end": "2026-11-21T12:30:00Z"}, "end", "never fires before"),
    ({"start": "tomorrow"}, "start", "2026-12-01T04:00:00+01:00"), ({"start": "2026-11-21T00:00:00"}, "start", "offset"),
    ({"start": "9999-12-31T23:59:59-12:00"}, "start", "years"), ({"start": "0001-01-01T00:00:00+14:00"}, "start", "years"),
    ({"target": {"type": "email"}}, "target.type", "invalid"),
    ({"target": {"type": "maintenance", "duty": "dance"}}, "target.duty", "vacuum"),
    ({"target": {"type": "maintenance"}}, "target.duty", "missing"),
    ({"target": {"type": "maintenance", "duty": "backup", "arguments": {"directory": "../x"}}}, "target.arguments.directory",
     "matching"),
    ({"target": {"type": "maintenance", "duty": "retention", "arguments": {"dryrun": True}}}, "target.arguments.dryrun",
     "did you mean dry_run?"),
    ({"target": {"type": "maintenance", "duty": "rollups", "arguments": {"from": "today"}}}, "target.arguments.from",
     "write it like"),
    ({"target": {"type": "bus", "task": "x"}}, "target.task", "leave it"),
    ({"target": {"type": "task", "hosts": ["*"]}}, "target.task", "missing"),
    ({"target": {"type": "task", "task": "x"}}, "target.hosts", '["*"]'),
    ({"target": {"type": "bus", "dutys": "x"}}, "target.dutys", "did you mean duty?"),
    ({"retrys": 1}, "retrys", "did you mean retries?"), ({"payload": {"a": "x" * 65_536}}, "payload", "at most 65536"),
    ({"payload": {"a": "\0"}}, "payload", "NUL"), ({"payload": {"a": float("inf")}}, "payload", "infinity"),
    ({"payload": {"a": "\ud800"}}, "payload", "Unicode"), ({"timeout": float("nan")}, "timeout", "float"),
    ({"retries": 21}, "retries", "<= 20"), ({"name": "A b"}, "name", "regex"), ({"window": True}, "window", "hosts"),
    ({"name": "a\n"}, "name", "line break"),
    ({"target": {"type": "task", "task": "x\n", "hosts": ["*"]}}, "target.task", "line break"),
    ({"target": {"type": "maintenance", "duty": "backup", "arguments": {"directory": "x\n"}}}, "target.arguments.directory",
     "line break"),
    ({"target": {"type": "maintenance", "duty": "vacuum", "arguments": {"tables": ["host\n"]}}}, "target.arguments.tables",
     "line break"),
    ({"description": "\ud800"}, "body", "halves"), ({"kind": None}, "kind", "expected")])
def test_each_fault_names_its_field_and_the_mend(change: dict[str, Any], field: str, word: str) -> None:
    """One fault is one problem, at its field, in words that tell what to do."""
    found = wrong(NIGHTLY | change)
    assert list(found) == [field]
    assert word in found[field]


@pytest.mark.parametrize("every", [0, -5, 1e9])
def test_an_interval_is_a_second_to_a_year(every: float) -> None:
    """Nothing shorter, nothing longer."""
    assert "1 to 31536000" in wrong({"name": "a", "kind": "interval", "every": every, "target": {"type": "bus"}})["every"]


def test_once_lies_ahead_unless_it_need_not() -> None:
    """A time in the past is refused for a new schedule, and left alone in one that has fired."""
    once = {"name": "a", "kind": "once", "at": "2020-01-01T00:00:00Z", "target": {"type": "bus"}}
    assert list(wrong(once)) == ["at"]
    assert wrong(once, None) == {}


@pytest.mark.parametrize("rrule", ["FREQ=DAILY;INTERVAL=0", "FREQ=NEVER", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
                                   "FREQ=DAILY;COUNT=3", "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30;COUNT=2",
                                   "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30;UNTIL=99991231", "FREQ=DAILY;INTERVAL=-1",
                                   "RRULE:FREQ=DAILY\nRDATE:20300101", "FREQ=DAILY;BYHOUR=3"])
def test_rules_that_never_come_are_refused(rrule: str) -> None:
    """No rule is looked for without end."""
    plain = {"name": "a", "kind": "recurring", "rrule": rrule, "start": "2020-01-01T00:00:00Z", "target": {"type": "bus"}}
    assert list(wrong(plain)) == ["rrule"]


def test_a_manual_schedule_never_fires() -> None:
    """Not by itself: it has no next firing, ever."""
    schedule = Schedule(name="a", kind="manual", target=read_schedule(NIGHTLY).target)
    assert firings(schedule, NOW - timedelta(days=3650), 5) == []
