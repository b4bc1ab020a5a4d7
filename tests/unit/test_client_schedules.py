"""Schedules and executions as the commands show them."""

import pytest

from aggregator.client import executions, schedule_texts, schedule_wishes

ROW = {"id": "e1", "schedule": "prune", "parent": None, "scheduled_for": "2026-11-21T01:30:00Z", "attempt": 1, "host": "",
       "hosts": 12, "cause": "schedule", "state": "failed", "reason": "11 of 12 hosts completed, 1 failed\nmore", "error": "",
       "exit_code": None,
       "started_at": "2026-11-21T01:30:00Z", "ended_at": "2026-11-21T01:30:41Z", "created_at": "2026-11-21T01:30:00Z",
       "is_late": False, "is_cancelling": False}


@pytest.mark.parametrize(("plain", "words"), [
    ({"kind": "once", "at": "2026-12-01T04:00:00+01:00"}, "once, 2026-12-01 03:00:00Z"),
    ({"kind": "interval", "every": 5400}, "every 1h 30m"), ({"kind": "manual"}, "by hand"),
    ({"kind": "cron", "cron": "@daily"}, "daily UTC"), ({"kind": "cron", "cron": "5 2 * * *"}, "daily 02:05 UTC"),
    ({"kind": "cron", "cron": "30 2 * * 7", "timezone": "Europe/Berlin"}, "Sunday 02:30 Europe/Berlin"),
    ({"kind": "cron", "cron": "30 2 * * thu"}, "Thursday 02:30 UTC"),
    ({"kind": "cron", "cron": "*/5 * * * 1-5"}, "*/5 * * * 1-5 UTC"),
    ({"kind": "recurring", "rrule": "FREQ=DAILY", "time": "04:00"}, "FREQ=DAILY 04:00 UTC")])
def test_when_is_said_in_words(plain, words):
    """What people say where it is simple, else the rule itself."""
    assert schedule_texts.when(plain) == words


@pytest.mark.parametrize(("target", "words"), [
    ({"type": "bus"}, "says it on the bus"), ({"type": "maintenance", "duty": "vacuum"}, "drumbeat's vacuum"),
    ({"type": "task", "task": "prune_docker", "hosts": ["web-*", "db-1"]}, "prune_docker on web-*, db-1"),
    ({"type": "task", "task": "x", "hosts": ["*"], "labels": {"site": "berlin"}}, "x on * with site:berlin"),
    ({"type": "task", "task": "x"}, "x on named hosts")])
def test_what_is_said_in_words(target, words):
    """Target and hosts in one line."""
    assert schedule_texts.what(target) == words


def test_an_execution_is_a_row_and_a_line():
    """Hosts, how long it took and why it ended so; what executors wrote is no markup and one line."""
    assert schedule_texts.execution_cells(ROW)[1:] == (
        "prune", "2026-11-21 01:30:00Z", "12 hosts", "1", "[red]failed[/]", "41s", "schedule",
        "11 of 12 hosts completed, 1 failed")
    assert schedule_texts.line(ROW) == "2026-11-21 01:30:41Z prune e1 failed after 41s: 11 of 12 hosts completed, 1 failed"
    odd = ROW | {"host": "web-1", "reason": "", "error": "[b]\033[2J", "state": "running", "is_cancelling": True,
                 "ended_at": None}
    assert schedule_texts.execution_cells(odd)[3:] == ("web-1", "1", "[cyan]running, stopping[/]", "-", "schedule", "\\[b]?[2J")
    assert schedule_texts.outcome(ROW | {"reason": "", "exit_code": 2}) == "exit code 2"


def test_changes_are_told_once_and_what_is_gone_is_forgotten():
    """A row is told when it is new or in another state."""
    states = {}
    assert [row["id"] for row in executions.changes(states, [ROW])] == ["e1"]
    assert executions.changes(states, [ROW]) == []
    assert [row["state"] for row in executions.changes(states, [ROW | {"state": "completed"}])] == ["completed"]
    executions.changes(states, [])
    assert states == {}


def test_flags_make_the_schedule_that_they_say():
    """Durations in seconds, labels and arguments as pairs, whole numbers as numbers; nothing that was not said."""
    own = schedule_wishes.AddSettings(name="a", every="1h30m", task="clean", host=("web-*",), label=("site:berlin", "edge"),
                                      argument=("days=7", "path=/tmp", "code=007"), parallel=2, timeout="10m", window=True)
    assert schedule_wishes.wished(own) == {
        "name": "a", "kind": "interval", "every": 5400.0, "timeout": 600.0, "window": True, "target": {
            "type": "task", "task": "clean", "hosts": ["web-*"], "labels": {"site": "berlin", "edge": "*"}, "parallel": 2,
            "arguments": {"days": 7, "path": "/tmp", "code": "007"}}}
    assert schedule_wishes.wished(schedule_wishes.AddSettings(name="b", bus=True)) == {
        "name": "b", "kind": "manual", "target": {"type": "bus"}}
