"""When a group of alerts is told, and what: a state, what is known of its alerts, and the time → messages. Pure.

1. `observe` takes up what is known of alerts: those that were raised become members; those that are over, muted,
   acknowledged or dismissed are marked or leave.
2. `due` says what is to be told at a time. A new group waits `wait`; later news wait at least until `interval` after the
   last message; what still fires is told again after `repeat`; once nothing fires any more that is told, at once.
3. `next_at` says when to ask again.

Every alert that was raised and not silenced is told at least once, even if it was over before the first message; only of
what was told is the end told.
"""

from collections.abc import Collection, Iterable
from typing import Literal

import msgspec
from msgspec import Struct

from aggregator.analysis.matching import rank
from aggregator.analysis.routing import Route


class Stand(Struct, frozen=True, kw_only=True):
    """What is known of an alert now. `is_raised`: something has happened that people should hear of."""

    alert: int
    severity: str
    is_active: bool = True
    is_raised: bool = False
    is_muted: bool = False
    is_acknowledged: bool = False
    is_dismissed: bool = False


class Member(Struct, kw_only=True, omit_defaults=True):
    """One alert of a group. `since`: when it was raised; `told`: the severity that was told, empty before.

    `is_elsewhere`: another route has it by now; of what was told here only the end is told.
    """

    since: float
    severity: str
    told: str = ""
    told_at: float = 0.0
    is_over: bool = False
    is_muted: bool = False
    is_acknowledged: bool = False
    is_escalated: bool = False
    is_elsewhere: bool = False

    @property
    def is_loud(self) -> bool:
        """Whether it fires and nothing says to be quiet about it."""
        return not (self.is_over or self.is_muted or self.is_acknowledged or self.is_elsewhere)

    @property
    def is_news(self) -> bool:
        """Whether people should hear of it and have not."""
        return not (self.is_muted or self.is_acknowledged or self.is_elsewhere) and (
            not self.told or (not self.is_over and rank(self.severity) > rank(self.told)))


class State(Struct, kw_only=True, omit_defaults=True):
    """A group between messages. `news_at`: when the oldest news came that was not told; Unix s, as all times."""

    members: dict[int, Member] = {}
    told_at: float | None = None
    news_at: float | None = None


class Message(Struct, frozen=True, kw_only=True):
    """What is to be told: ids of alerts. `was_escalated`: of those resolved, the ones that were escalated."""

    kind: Literal["alerts", "repeat", "escalation"]
    new: tuple[int, ...] = ()
    firing: tuple[int, ...] = ()
    resolved: tuple[int, ...] = ()
    was_escalated: tuple[int, ...] = ()


def observe(state: State, stands: Iterable[Stand], now: float, *, send_resolved: bool = True) -> State:
    """The group after what is known now; a member of which nothing is known is left as it is."""
    members = {number: msgspec.structs.replace(member) for number, member in state.members.items()}
    for stand in stands:
        member = members.get(stand.alert)
        if member is None and stand.is_raised and not (stand.is_muted or stand.is_dismissed or stand.is_acknowledged):
            member = members[stand.alert] = Member(since=now, severity=stand.severity)
        if member is not None and not _updated(member, stand, send_resolved=send_resolved):
            del members[stand.alert]
    return _timed(State(members=members, told_at=state.told_at, news_at=state.news_at), now)


def _updated(member: Member, stand: Stand, *, send_resolved: bool) -> bool:
    """Carry what is known over to a member; False where it leaves the group untold."""
    member.severity, member.is_over = stand.severity, not stand.is_active
    member.is_muted, member.is_acknowledged = stand.is_muted, stand.is_acknowledged
    member.is_elsewhere = member.is_elsewhere and not stand.is_raised
    if stand.is_dismissed or (not member.told and (stand.is_muted or stand.is_acknowledged)):
        return False
    return not (member.is_over and (member.is_muted or (member.told and not send_resolved)))


def without(state: State, gone: Collection[int], moved: Collection[int], now: float) -> State:
    """The group without alerts that are gone; of those that moved to another route, what was told stays to be ended."""
    kept = {number: msgspec.structs.replace(member, is_elsewhere=member.is_elsewhere or number in moved)
            for number, member in state.members.items() if number not in gone and (member.told or number not in moved)}
    return _timed(State(members=kept, told_at=state.told_at, news_at=state.news_at), now)


def _timed(state: State, now: float) -> State:
    has_news = any(member.is_news for member in state.members.values())
    state.news_at = (now if state.news_at is None else state.news_at) if has_news else None
    return state


def next_at(state: State, route: Route) -> float | None:
    """When something may be due, or the group can be forgotten; None where only a change can bring anything."""
    if not state.members:
        return None if state.told_at is None else state.told_at + route.interval
    times = [at for at in (_news_at(state, route), _over_at(state, route), _repeat_at(state, route)) if at is not None]
    return min([*times, *_escalations(state, route).values()], default=None)


def due(state: State, route: Route, now: float) -> tuple[State, list[Message]]:
    """What is to be told now, and the group after that."""
    told: list[Message] = []
    if any(at is not None and at <= now for at in (_news_at(state, route), _over_at(state, route))):
        told.append(_message("alerts", state))
    elif (at := _repeat_at(state, route)) is not None and at <= now:
        told.append(_message("repeat", state))
    members = {number: msgspec.structs.replace(member) for number, member in state.members.items()}
    if told:
        members = {number: member for number, member in members.items() if not _mark_told(member, now)}
    after = State(members=members, told_at=now if told else state.told_at, news_at=None if told else state.news_at)
    if late := tuple(number for number, at in _escalations(after, route).items() if at <= now):
        told.append(Message(kind="escalation", firing=late))
        for number in late:
            members[number].is_escalated = True
    return after, told


def is_spent(state: State, route: Route, now: float) -> bool:
    """Whether the group can be forgotten: it has no members, and new ones would not come too soon after the last message."""
    return not state.members and (state.told_at is None or now >= state.told_at + route.interval)


def _message(kind: Literal["alerts", "repeat"], state: State) -> Message:
    members = state.members.items()
    resolved = tuple(number for number, member in members if member.is_over)
    return Message(
        kind=kind, new=tuple(number for number, member in members if member.is_news),
        firing=tuple(number for number, member in members if member.is_loud), resolved=resolved,
        was_escalated=tuple(number for number in resolved if state.members[number].is_escalated))


def _mark_told(member: Member, now: float) -> bool:
    """Mark what a message has told; whether that was the end of it."""
    if member.is_news:
        member.told, member.told_at = member.severity, member.told_at or now
    return member.is_over


def _news_at(state: State, route: Route) -> float | None:
    if state.news_at is None:
        return None
    waited = state.news_at + route.wait
    return waited if state.told_at is None else max(waited, state.told_at + route.interval)


def _over_at(state: State, route: Route) -> float | None:
    """When to tell that all is over: not in the same breath as the message before."""
    over = [member for member in state.members.values() if member.is_over and member.told]
    if not over or state.told_at is None or any(member.is_loud for member in state.members.values()):
        return None
    return state.told_at + min(route.wait, route.interval)


def _repeat_at(state: State, route: Route) -> float | None:
    is_told = any(member.is_loud and member.told for member in state.members.values())
    return state.told_at + max(route.repeat, route.interval) if is_told and state.told_at is not None else None


def _escalations(state: State, route: Route) -> dict[int, float]:
    """When each alert is escalated that was told and that nobody acknowledges."""
    if not route.escalate_after:
        return {}
    return {number: member.since + route.escalate_after * 60 for number, member in state.members.items()
            if member.is_loud and member.told and not member.is_escalated}
