"""The states of an execution, and what a report makes of them: in any order, any number of times. Pure.

pending → running → completed, failed, timed_out or cancelled; pending → missed or cancelled. Only the first end counts. An end
that the scheduler only supposed (nobody reported in time) is put right by a later report of the real one, once: it is late.
"""

import dataclasses
from datetime import datetime, timedelta
from typing import Literal

from shared.schedules import FINAL, State

NOT_BEGUN = "nobody began with it in time"
LOST = "its executor fell silent"
TIMED_OUT = "no end was reported in time"
SUPPOSED = (NOT_BEGUN, LOST, TIMED_OUT)
"""Reasons of ends that the scheduler supposes."""

LEASE_SECONDS = 60.0
"""An executor that was not heard of for so long has fallen silent; agents report every 10 s."""
CANCEL_SECONDS = 30.0
"""How long an executor may take to end what it was told to cancel."""

Reported = Literal["accepted", "running", "completed", "failed", "cancelled", "timed_out"]
Step = Literal["ignore", "accept", "begin", "renew", "end", "correct", "stop"]


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """Where an execution stands: what decides about it."""

    state: State
    reason: str = ""
    is_late: bool = False


def step(now: Standing, reported: Reported) -> Step:
    """What a report does: begin or end the execution, keep it alive, correct a supposed end, or nothing.

    stop: it is over here, but its executor still works on it and must be told.
    """
    is_end = reported in FINAL
    if now.state == "pending" and not is_end:
        return "accept" if reported == "accepted" else "begin"
    if now.state == "running" and not is_end:
        return "renew"
    if now.state not in FINAL:
        return "end"
    if not is_end:
        return "stop"
    return "correct" if now.reason in SUPPOSED and not now.is_late else "ignore"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """An execution that is released and not over.

    `deadline`: when a running one has had its time. `answers`: its executor can be told to stop and says when it has.
    """

    state: State
    not_after: datetime
    deadline: datetime | None
    lease_until: datetime | None
    is_cancelling: bool
    answers: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What the clock makes of an execution: an end with its reason, or None: it is to be cancelled."""

    state: State | None
    reason: str


def overdue(one: Open, now: datetime) -> Verdict | None:
    """What time has brought to an open execution; None where it may go on."""
    if one.state == "pending":
        if one.is_cancelling:
            return Verdict("cancelled", "cancelled before it began")
        return Verdict("missed", NOT_BEGUN) if now > one.not_after else None
    if one.is_cancelling and not one.answers:
        return Verdict("cancelled", "")
    if one.lease_until is not None and now > one.lease_until:
        return Verdict("cancelled" if one.is_cancelling else "failed", LOST)
    if one.deadline is None or now <= one.deadline:
        return None
    if not one.answers or now > one.deadline + timedelta(seconds=CANCEL_SECONDS):
        return Verdict("timed_out", TIMED_OUT)
    return None if one.is_cancelling else Verdict(None, "")


def whole(states: dict[State, int], *, is_cancelling: bool) -> Verdict | None:
    """The end of a fleet execution from how many of its hosts are in which state; None while one is open."""
    if any(states.get(state) for state in ("pending", "running")):
        return None
    total, good = sum(states.values()), states.get("completed", 0)
    if good == total:
        return Verdict("completed", f"{total} of {total} hosts completed")
    bad = ", ".join(f"{states[state]} {state}" for state in FINAL if state != "completed" and states.get(state))
    ended: State = "cancelled" if is_cancelling and not states.get("failed") and not states.get("timed_out") else "failed"
    return Verdict(ended, f"{good} of {total} hosts completed, {bad.replace('_', ' ')}")
