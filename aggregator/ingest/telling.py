"""What the bus hears about alerts, after the commit: every transition, every active alert (retained), a summary of each host.

The retained topics equal the table, whatever the broker forgets or remembers: they are published anew with every connection, and
what comes back on them (ingest listens to them too) is corrected where it is not what was last published. Events are said at
least once: a row leaves the outbox only once the broker has confirmed the message.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from aggregator.analysis.matching import rank
from aggregator.live.alerts import Alert, Change
from aggregator.live.shard import Shard
from aggregator.store.alerts import Written
from aggregator.store.outbox import Due
from shared import wire
from shared.bus import Client
from shared.topics import Topics

SUMMARIES_A_BEAT = 250
SUMMARY_MESSAGES = 5


class Teller:
    """Tells the alerts of one slot. `said`: rows of the outbox that wait for the broker's confirmation or their deletion."""

    def __init__(self, client: Client, topics: Topics, shard: Shard) -> None:
        self._client, self._topics, self._shard = client, topics, shard
        self._connections = 0
        self._known = 0
        self._retained: dict[str, bytes] = {}
        self._waiting: deque[tuple[int, int]] = deque()
        self._changed: set[int] = set()
        self._summaries: dict[int, wire.AlertSummary] = {}

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, and everything has been said on it once."""
        return self._client.is_connected and self._client.connections == self._connections

    @property
    def said(self) -> list[int]:
        return [outbox_id for _, outbox_id in self._waiting]

    def begin(self) -> bool:
        """Say everything anew on a new connection; whether there is one. Call it at every beat."""
        if not self._client.is_connected or self.is_connected:
            return False
        self._connections = self._client.connections
        self._retained.clear()
        self._waiting.clear()
        self._summaries.clear()
        self._known = 0
        for alert in self._shard.engine.alerts.values():
            if alert.id:
                self.retain(alert)
        return True

    def take_confirmed(self) -> list[int]:
        """Rows of the outbox that the broker has for sure; they must be deleted before the outbox is read again."""
        confirmed = []
        while self.is_connected and self._waiting and self._waiting[0][0] <= self._client.confirmed:
            confirmed.append(self._waiting.popleft()[1])
        return confirmed

    def changes(self, changes: Sequence[Change], written: Sequence[Written | None]) -> None:
        """Tell what has been committed; `written` says what became of each change."""
        for change, row in zip(changes, written, strict=True):
            if row is None:
                continue
            self._changed.add(change.alert.host.row)
            if row.outbox_id is not None:
                told = msgspec.structs.replace(
                    change.alert.told(), severity=change.severity, value=change.value, threshold=change.threshold,
                    message=change.message, recommendation=change.recommendation, changed_at=change.at,
                    state=change.state if change.state in ("firing", "unknown") else "resolved")
                self._event(row.outbox_id, wire.AlertEvent(
                    event=row.event_id, ts=change.at, kind=change.kind, reason=change.reason, alert=told))
        for alert in {id(change.alert): change.alert for change, row in zip(changes, written, strict=True) if row}.values():
            self.retain(alert)

    def due(self, rows: Iterable[Due], alerts: Mapping[int, Alert]) -> None:
        """Tell rows of the outbox that others wrote, or that an earlier owner left behind; `alerts` as the table has them."""
        for row in rows:
            alert = alerts.get(row.alert_id)
            if alert is None or row.event_id is None:  # its host is gone
                self._waiting.append((0, row.id))
                continue
            self._changed.add(alert.host.row)
            self.retain(alert, is_sure=False)
            told = msgspec.structs.replace(alert.told(), severity=row.severity, value=row.value, threshold=row.threshold)
            self._event(row.id, wire.AlertEvent(event=row.event_id, ts=row.at, kind=row.kind,  # type: ignore[arg-type]
                                                reason=row.reason, actor=row.actor, alert=told))

    def retain(self, alert: Alert, *, is_sure: bool = True) -> None:
        """Bring the retained topic of an alert to what the alert is; empty once it is over, unless its condition came anew.

        `is_sure`: what was not told by this process is not there.
        """
        current = self._shard.engine.alerts.get((alert.host.row, alert.rule, alert.instance))
        if not alert.is_active and current is not None and current.is_active and current.id:
            alert = current
        topic, payload = self._topics.alert(alert.host.name, alert.key), wire.encode(alert.told()) if alert.is_active else b""
        if not self.is_connected or (self._retained.get(topic, b"" if is_sure else None) == payload):
            return
        if self._client.publish(topic, payload, qos=1, retain=True):
            if payload:
                self._retained[topic] = payload
            else:
                self._retained.pop(topic, None)

    def correct(self, heard: Mapping[str, bytes]) -> None:
        """Topics of alerts with what the broker has (or sent) for them: what was not said last is put right."""
        if not self.is_connected:
            return
        for topic, payload in heard.items():
            right = self._retained.get(topic, b"")
            if payload != right:
                self._client.publish(topic, right, qos=1, retain=True)

    def summaries(self, now: float) -> None:
        """Tell the summaries that are owed: of hosts with changes, and once on each connection of every host."""
        if not self.is_connected:
            return
        until = min(self._known + SUMMARIES_A_BEAT, len(self._shard.hosts))
        found: dict[int, list[Alert]] = {row: [] for row in (*self._changed, *range(self._known, until))}
        self._changed, self._known = set(), until
        if not found:
            return
        for alert in self._shard.engine.alerts.values():
            if alert.is_active and not alert.dismissed and alert.host.row in found:
                found[alert.host.row].append(alert)
        for row, alerts in found.items():
            self._summarise(row, alerts, now)

    def _summarise(self, row: int, alerts: Sequence[Alert], now: float) -> None:
        """Tell a host's summary, unless it says what was said on this connection: pending alerts and notes change nothing."""
        host = self._shard.hosts.all[row].name
        message, before = summary(host, alerts, now), self._summaries.get(row)
        if before is not None and msgspec.structs.replace(message, ts=before.ts) == before:
            return
        if self._client.publish(self._topics.alert_summary(host), wire.encode(message), qos=1, retain=True):
            self._summaries[row] = message

    def _event(self, outbox_id: int, event: wire.AlertEvent) -> None:
        topic = self._topics.alert_event(event.alert.severity, event.alert.host)
        if self.is_connected and self._client.publish(topic, wire.encode(event), qos=1):
            self._waiting.append((self._client.handed, outbox_id))


def summary(host: str, alerts: Sequence[Alert], now: float) -> wire.AlertSummary:
    """The summary of a host with these active alerts, dismissed ones left out."""
    ordered = sorted(alerts, key=lambda alert: (-rank(alert.severity), alert.started_at))
    counts = Counter(alert.severity for alert in alerts)
    return wire.AlertSummary(
        host=host, ts=now, active=len(alerts), worst=ordered[0].severity if ordered else "", critical=counts["critical"],
        error=counts["error"], warning=counts["warning"], info=counts["info"],
        messages=[alert.message for alert in ordered[:SUMMARY_MESSAGES]])
