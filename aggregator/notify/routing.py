"""One pass of routing: events that nobody has taken up, and groups whose time has come → notifications, in one transaction.

1. Take up events. What happened matters less than how their alerts stand now: that is read from the table.
2. Find the groups: where alerts that were raised belong, where others already are, and those whose time has come.
3. Let each group see its alerts, and ask it what is to be told (analysis.grouping).
4. Write the notifications, one for each channel, and the groups.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from aggregator.analysis import grouping, notices
from aggregator.analysis.channels import Channel
from aggregator.analysis.grouping import Message, Stand, State
from aggregator.analysis.matching import rank
from aggregator.analysis.routing import Route, Subject, fitting, group_key, group_labels, read_group_key
from aggregator.store import notification_groups as stored
from aggregator.store import notifications
from aggregator.store.notification_groups import Alert, Event, GroupKey
from shared.database import Connection

STALE_SECONDS = 3600.0
"""What fired and was over again is told up to an hour later, not when the notifier comes back after days."""

LOOK_AGAIN_SECONDS = 86_400.0
"""After which a group is looked at in which nothing is to be expected: its alerts may have been deleted with their host."""

_RAISES = ("firing", "severity", "unmuted", "unacknowledged", "undismissed")


@dataclasses.dataclass(frozen=True, slots=True)
class Passed:
    """What a pass did. `is_full`: there may be more at once; `has_no_route`: alerts fire, and nobody is to be told."""

    events: int = 0
    notifications: int = 0
    is_full: bool = False
    has_no_route: bool = False


def route(connection: Connection, now: float) -> Passed:
    """One pass; nothing where another process is at it."""
    with connection.transaction():
        if not stored.try_lock_routing(connection):
            return Passed()
        events = stored.take_events(connection, now)
        routes = stored.fetch_routes(connection)
        alerts = stored.fetch_alerts(connection, {event.alert for event in events}, now)
        raised = raised_alerts(events, alerts, now)
        homes = _homes(routes, alerts, raised)
        wanted = {key for keys in homes.values() for key in keys}
        groups = stored.fetch_groups(connection, wanted, alerts, now)
        if not groups and not wanted:
            return Passed(len(events), 0, len(events) == stored.EVENTS_A_PASS, bool(raised and not routes))
        members = {number for state in groups.values() for number in state.members}
        alerts |= stored.fetch_alerts(connection, members - alerts.keys(), now)
        written = _Pass(connection, dict(routes), alerts, raised, homes, now).run(
            groups | {key: State() for key in wanted - groups.keys()})
        return Passed(len(events), written, len(events) == stored.EVENTS_A_PASS)


def raised_alerts(events: Iterable[Event], alerts: Mapping[int, Alert], now: float) -> set[int]:
    """Alerts of which people should hear. One that is over: if it fired a while ago only and was not muted then."""
    return {event.alert for event in events if event.kind in _RAISES and (alert := alerts.get(event.alert)) is not None
            and (alert.is_active or (event.kind == "firing" and not event.is_muted
                                     and now - event.recorded_at < STALE_SECONDS))}


def _homes(routes: Sequence[tuple[str, Route]], alerts: Mapping[int, Alert],
           raised: Iterable[int]) -> dict[int, set[GroupKey]]:
    """The groups in which each alert that was raised belongs."""
    homes: dict[int, set[GroupKey]] = {}
    for number in raised:
        alert = alerts[number]
        subject = Subject(host=alert.told.host, labels=alert.labels, rule=alert.told.rule, type=alert.told.type,
                          instance=alert.instance, severity=alert.told.severity)
        homes[number] = {(name, group_key(group_labels(one.group_by, subject))) for name, one in fitting(routes, subject)}
    return homes


def stand(alert: Alert, *, is_raised: bool) -> Stand:
    """An alert as its group sees it."""
    told = alert.told
    return Stand(alert=told.id, severity=told.severity, is_active=alert.is_active, is_raised=is_raised,
                 is_muted=bool(told.muted_by), is_acknowledged=bool(told.acknowledged_by), is_dismissed=told.dismissed)


class _Pass:
    """Groups of one pass, and what they have to say."""

    def __init__(self, connection: Connection, routes: Mapping[str, Route], alerts: Mapping[int, Alert], raised: set[int],
                 homes: Mapping[int, set[GroupKey]], now: float) -> None:
        self._connection, self._routes, self._alerts, self._raised = connection, routes, alerts, raised
        self._homes, self._now, self._written = homes, now, 0
        self._channels = stored.fetch_channels(connection)

    def run(self, groups: Mapping[GroupKey, State]) -> int:
        """Let every group see its alerts and speak; the number of notifications."""
        kept: dict[GroupKey, tuple[State, float | None]] = {}
        spent: list[GroupKey] = []
        for key, state in groups.items():
            after = self._after(key, state)
            if after is None:
                spent.append(key)
            else:
                kept[key] = after, grouping.next_at(after, self._routes[key[0]]) or self._now + LOOK_AGAIN_SECONDS
        stored.write_groups(self._connection, kept)
        stored.delete_groups(self._connection, spent)
        return self._written

    def _after(self, key: GroupKey, state: State) -> State | None:
        """A group after this pass; None where it can be forgotten."""
        route = self._routes.get(key[0])
        if route is None:
            return None
        here = [number for number, keys in self._homes.items() if key in keys]
        left = {number for number in state.members if number in self._homes and number not in here}
        # Another group of the same route tells the same channels: here nothing is left to say.
        gone = {number for number in state.members if number not in self._alerts} | {
            number for number in left if any(home[0] == key[0] for home in self._homes[number])}
        state = grouping.without(state, gone, left, self._now)
        stands = [stand(self._alerts[number], is_raised=number in here) for number in {*state.members, *here}]
        state = grouping.observe(state, stands, self._now, send_resolved=route.send_resolved)
        state, messages = grouping.due(state, route, self._now)
        for message in messages:
            self._tell(key, route, message)
        return None if grouping.is_spent(state, route, self._now) else state

    def _tell(self, key: GroupKey, route: Route, message: Message) -> None:
        numbers = {*message.new, *message.firing, *message.resolved}
        told = [self._told(number, message) for number in sorted(numbers)]
        channels = route.escalate_to if message.kind == "escalation" else route.channels
        self._write(key, message, channels, told)
        if message.was_escalated:
            others = [name for name in route.escalate_to if name not in channels]
            self._write(key, message, others, [self._told(number, message) for number in message.was_escalated])

    def _told(self, number: int, message: Message) -> notices.Told:
        alert = self._alerts[number]
        over_at = (alert.resolved_at or alert.told.changed_at) if number in message.resolved else None
        return notices.Told(alert=alert.told, is_new=number in message.new, resolved_at=over_at)

    def _write(self, key: GroupKey, message: Message, channels: Iterable[str], told: Sequence[notices.Told]) -> None:
        for name in channels:
            channel = self._channels[name][0] if name in self._channels else None
            fit = [] if channel is None else wanted_by(channel, told)
            has_news = message.kind != "alerts" or any(one.is_new or one.resolved_at is not None for one in fit)
            if not fit or not has_news:
                continue
            content = notices.content(message.kind, key[0], read_group_key(key[1]), fit, self._now)
            notifications.write(self._connection, name, key[0], message.kind, [one.alert.id for one in fit],
                                msgspec.json.encode(content), self._now)
            self._written += 1


def wanted_by(channel: Channel, told: Sequence[notices.Told]) -> list[notices.Told]:
    """What a channel is told of a message: nothing while it is off, nothing too mild, and ends only where it wants them."""
    if not channel.enabled:
        return []
    return [one for one in told if rank(one.alert.severity) >= rank(channel.min_severity)
            and (channel.send_resolved or one.resolved_at is None or one.is_new)]
