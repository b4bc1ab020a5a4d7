"""The state machine of notification groups: examples, and what holds for every course of events."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.analysis import grouping
from aggregator.analysis.grouping import Stand, State
from aggregator.analysis.matching import rank
from aggregator.analysis.routing import Route

ROUTE = Route(channels=["mail"], wait=30, interval=300, repeat=3600)
ALERTS = (1, 2, 3)
SEVERITIES = ("info", "warning", "error", "critical")


def firing(alert=1, **fields):
    return Stand(**{"alert": alert, "severity": "warning", "is_raised": True} | fields)


def over(alert=1, **fields):
    return Stand(**{"alert": alert, "severity": "warning", "is_active": False} | fields)


def step(state, now, *stands, route=ROUTE):
    return grouping.due(grouping.observe(state, stands, now, send_resolved=route.send_resolved), route, now)


def test_a_new_group_waits_and_says_when_to_ask_again():
    """Nothing is told before `wait` is over; `next_at` is that moment."""
    state, told = step(State(), 100, firing())
    assert (told, grouping.next_at(state, ROUTE)) == ([], 130)
    state, told = step(state, 130)
    assert [(one.kind, one.new, one.firing, one.resolved) for one in told] == [("alerts", (1,), (1,), ())]
    assert grouping.next_at(state, ROUTE) == 130 + 3600


def test_news_waits_for_the_interval_and_names_what_still_fires():
    """An alert that joins is told `interval` after the last message, together with those that still fire."""
    state, _ = step(step(State(), 0, firing())[0], 30)
    state, told = step(state, 60, firing(2))
    assert (told, grouping.next_at(state, ROUTE)) == ([], 330)
    _, told = step(state, 330)
    assert [(one.new, one.firing) for one in told] == [((2,), (1, 2))]


def test_a_severity_that_rises_is_news_and_one_that_falls_is_not():
    """Only what became worse is told again."""
    state, _ = step(step(State(), 0, firing())[0], 30)
    state, told = step(state, 1000, firing(severity="info"))
    assert told == []
    state, _ = step(state, 1001, firing(severity="critical"))
    state, told = step(state, 1031)
    assert [one.new for one in told] == [(1,)]


def test_what_was_over_before_the_first_message_is_told_once():
    """An alert of a few seconds is told all the same, as one that is over."""
    state, _ = step(State(), 0, firing())
    state, told = step(state, 10, over())
    assert told == []
    state, told = step(state, 30)
    assert [(one.new, one.firing, one.resolved) for one in told] == [((1,), (), (1,))]
    assert grouping.is_spent(state, ROUTE, 330)


def test_without_send_resolved_an_end_is_silent():
    """A route that does not want ends tells none."""
    route = msgspec.structs.replace(ROUTE, send_resolved=False)
    state, _ = step(step(State(), 0, firing(), route=route)[0], 30, route=route)
    state, told = step(state, 500, over(), route=route)
    assert (told, state.members) == ([], {})


def test_an_end_is_not_held_up_by_what_is_acknowledged_or_muted():
    """Others of the group that are quiet do not keep the end of this one from being told."""
    state, _ = step(step(State(), 0, firing(1), firing(2))[0], 30)
    _, told = step(state, 500, over(1), firing(2, is_acknowledged=True))
    assert [one.resolved for one in told] == [(1,)]


def test_a_state_is_the_same_after_it_was_stored():
    """What Postgres keeps of a group is all of it."""
    state, _ = step(step(State(), 0.5, firing(1), firing(2))[0], 31, over(2))
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(state)), State, strict=False) == state


ROUTES = st.builds(
    Route, channels=st.just(["mail"]), wait=st.sampled_from([0.0, 10.0, 30.0]), interval=st.sampled_from([1.0, 60.0, 300.0]),
    repeat=st.sampled_from([60.0, 600.0]), send_resolved=st.booleans(), escalate_after=st.sampled_from([0.0, 1.0, 5.0]),
    escalate_to=st.just(["pager"]))
STANDS = st.builds(Stand, alert=st.sampled_from(ALERTS), severity=st.sampled_from(SEVERITIES), is_active=st.booleans(),
                   is_raised=st.booleans(), is_muted=st.sampled_from([False, False, True]),
                   is_acknowledged=st.sampled_from([False, False, True]), is_dismissed=st.sampled_from([False] * 5 + [True]))
COURSES = st.lists(st.tuples(st.floats(0, 200, width=16), st.lists(STANDS, max_size=3, unique_by=lambda one: one.alert)),
                   max_size=15)


@settings(max_examples=60, deadline=None)
@given(ROUTES, COURSES)
def test_every_course_of_events_is_told_in_order(route, course):
    """News is told no sooner than `interval` after the last message, ends only of what was told, nothing twice as new unless it
    became worse, escalations once; nothing is due again in the same moment; and a state survives being stored."""
    state, now, told_at, told, escalated = State(), 0.0, None, {}, set()
    for seconds, stands in course:
        now += seconds
        state = grouping.observe(state, stands, now, send_resolved=route.send_resolved)
        told = {number: severity for number, severity in told.items() if number in state.members}
        escalated &= set(state.members)
        members = state.members
        state, messages = grouping.due(state, route, now)
        for message in messages:
            spoken = [members[number] for number in (*message.firing, *message.new)]
            assert not any(member.is_muted or member.is_acknowledged for member in spoken)
            if message.kind == "escalation":
                assert set(message.firing) <= set(told) - escalated
                escalated |= set(message.firing)
                continue
            if message.new and told_at is not None:
                assert now >= told_at + route.interval or _is_end(message, told)
            assert all(number not in told or rank(members[number].severity) > rank(told[number]) for number in message.new)
            assert message.new or message.kind == "repeat" or message.resolved
            told |= {number: members[number].severity for number in message.new}
            assert set(message.resolved) <= set(told)
            told_at = now
        told = {number: severity for number, severity in told.items() if number in state.members}
        assert grouping.due(state, route, now)[1] == []
        assert (at := grouping.next_at(state, route)) is None or at > now or grouping.is_spent(state, route, now)
        state = msgspec.convert(msgspec.json.decode(msgspec.json.encode(state)), State, strict=False)


def _is_end(message, told):
    """Whether a message came because all that was told is over; news rides along."""
    return any(number in told for number in message.resolved) and not message.firing


@settings(max_examples=60, deadline=None)
@given(ROUTES, COURSES)
def test_every_alert_that_is_raised_and_left_alone_is_told(route, course):
    """Once nothing more happens, everything that was raised has been told within wait + interval, if nobody silenced it."""
    state, now = State(), 0.0
    for seconds, stands in course:
        now += seconds
        state, _ = grouping.due(grouping.observe(state, stands, now, send_resolved=route.send_resolved), route, now)
    waiting = {number for number, member in state.members.items() if member.is_news}
    told = set()
    until = now + route.wait + route.interval
    while (at := grouping.next_at(state, route)) is not None and at <= until and state.members:
        now = max(now, at)
        state, messages = grouping.due(state, route, now)
        assert messages
        told |= {number for message in messages for number in message.new}
    assert waiting <= told
