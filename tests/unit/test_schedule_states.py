"""The states of an execution: reports in any order and number, cancellation, time."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler import states
from scheduler.hearing import Report
from scheduler.judging import Heard, judge
from scheduler.store.runs import Run
from shared.schedules import FINAL

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
REPORTED = ("accepted", "running", "completed", "failed", "cancelled", "timed_out")


def run(**fields):
    """An execution of a task on web-1, released and pending unless a test says otherwise."""
    return Run(**{
        "id": "aa", "schedule_id": 1, "name": "restart",
        "definition": '{"name":"restart","kind":"once","target":{"type":"task"}}',
        "parent": None, "scheduled_for": NOW, "attempt": 1, "host": "web-1", "cause": "schedule", "actor": "", "state": "pending",
        "reason": "", "target_text": '{"type":"task","task":"restart"}', "payload_text": "{}", "not_after": NOW, "fired_at": NOW,
        "started_at": None, "ended_at": None, "lease_until": None, "executor": "", "exit_code": None, "output": "", "error": "",
        "is_late": False, "is_cancelling": False, "hosts": 0, "is_deleted": False, "at": NOW} | fields)


def open_one(**fields):
    return states.Open(**{"state": "running", "not_after": NOW, "deadline": NOW + timedelta(60), "lease_until": None,
                          "is_cancelling": False, "answers": True} | fields)


@given(st.lists(st.sampled_from(REPORTED), max_size=12), st.integers(0, 12), st.sampled_from(states.SUPPOSED))
def test_the_first_real_end_counts_whatever_else_is_told(told, cut, supposed):
    """Reports out of order, twice, and around an end that was only supposed: the first real end stays, and is late only then."""
    standing = states.Standing("pending")
    ends = [one for one in told if one in FINAL]
    for place, one in enumerate([*told, *told]):
        if place == cut and standing.state not in FINAL:
            standing = states.Standing("timed_out", supposed)
        did = states.step(standing, one)
        assert (did == "stop") == (standing.state in FINAL and one not in FINAL)
        if did in ("end", "correct"):
            standing = states.Standing(one, "", did == "correct")
        elif did == "begin":
            standing = states.Standing("running")
    if ends:
        assert standing.state == ends[0] or (cut > 0 and standing.state in ends)
        assert standing.reason == ""
        before = standing
        assert all(states.step(before, one) in ("ignore", "stop") for one in REPORTED)


@given(st.lists(st.tuples(st.sampled_from(REPORTED), st.sampled_from(["web-1", "web-2"])), min_size=1, max_size=8))
def test_every_end_is_acknowledged_and_only_to_its_host(told):
    """Each report of an end by the host of the execution is acknowledged; another host hears nothing and changes nothing."""
    heard = Heard()
    for state, host in told:
        judge(heard, run(), Report(execution="aa", state=state, host=host))
    own = [state for state, host in told if host == "web-1"]
    acknowledged = [answer for answer in heard.answers if answer[2] == "acknowledge"]
    assert acknowledged == [("web-1", "aa", "acknowledge")] * sum(state in FINAL for state in own)
    assert len(heard.refused) == sum(host == "web-2" for _, host in told)
    assert (heard.written["aa"].state if own else None) == next(
        (state for state in own if state in FINAL), "running" if "running" in own else "pending" if own else None)


def test_what_is_over_here_is_told_to_stop():
    """A host that works on what was cancelled or replaced hears that it must stop."""
    heard = Heard()
    judge(heard, run(state="cancelled"), Report(execution="aa", state="running", host="web-1"))
    judge(heard, run(is_cancelling=True), Report(execution="aa", state="running", host="web-1"))
    assert heard.answers == [("web-1", "aa", "cancel")] * 2
    assert [one.state for one in heard.written.values()] == ["running"]


@pytest.mark.parametrize(("one", "seconds", "state"), [
    (open_one(state="pending"), 0, "on"), (open_one(state="pending"), 1, "missed"),
    (open_one(state="pending", is_cancelling=True), 0, "cancelled"),
    (open_one(lease_until=NOW), 0, "on"), (open_one(lease_until=NOW), 1, "failed"),
    (open_one(lease_until=NOW, is_cancelling=True), 1, "cancelled"),
    (open_one(deadline=NOW), 1, None), (open_one(deadline=NOW, is_cancelling=True), 1, "on"),
    (open_one(deadline=NOW), 31, "timed_out"), (open_one(deadline=NOW, answers=False), 1, "timed_out"),
    (open_one(answers=False, is_cancelling=True), 0, "cancelled"), (open_one(deadline=None), 1e6, "on")])
def test_what_time_brings(one, seconds, state):
    """Not begun: missed. Silent: lost. Too long: told to stop, then timed out. Cancelled at once where nobody answers."""
    verdict = states.overdue(one, NOW + timedelta(seconds=seconds))
    assert ("on" if verdict is None else verdict.state) == state


@given(st.dictionaries(st.sampled_from(["pending", "running", *FINAL]), st.integers(1, 5), min_size=1), st.booleans())
def test_a_fleet_is_as_good_as_its_hosts(counts, is_cancelling):
    """Open while one is; completed only when all are; cancelled only when it was wanted and none failed."""
    verdict = states.whole(counts, is_cancelling=is_cancelling)
    assert (verdict is None) == bool({"pending", "running"} & counts.keys())
    if verdict is not None:
        assert (verdict.state == "completed") == (counts.keys() == {"completed"})
        assert verdict.state != "cancelled" or (is_cancelling and not {"failed", "timed_out"} & counts.keys())
        assert str(sum(counts.values())) in verdict.reason
