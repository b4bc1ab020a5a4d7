"""The alerts of a slot, beat by beat: what others did is taken up, the engine judges, the changes are written and then told.

1. `hear`: what others did (`hearing`).
2. `judge`: everything of the beat through the engine; what is muted.
3. `piece` and `pieces`: what the beat's transaction writes. It is one with the samples that led to it.
4. `tell`, after the commit (`telling`).
"""

import functools
import logging
import math
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from aggregator.ingest.batch import Batch
from aggregator.ingest.commit import Piece
from aggregator.ingest.forecasts import Forecasts
from aggregator.ingest.gauges import Gauges
from aggregator.ingest.hearing import Hearing
from aggregator.ingest.telling import Teller
from aggregator.live.alerts import Alert, Change
from aggregator.live.frame import Frame
from aggregator.live.quiet import remute
from aggregator.live.shard import Shard
from aggregator.store import alerts, inbox, outbox, samples, slots
from shared import database, logs, wire
from shared.bus import Client
from shared.topics import Topics

log = logs.get("ingest")

TICK_SECONDS = 1.0
QUIET_SECONDS = 5.0
ID_BLOCK = 64


class Alerting:
    """Alerts of one ownership of a slot. `failed`: why memory and table may disagree, so that the slot must be loaded anew."""

    def __init__(self, connection: database.Connection, lease: slots.Lease, shard: Shard, client: Client, topics: Topics,
                 gauges: Gauges) -> None:
        self._connection, self._lease, self._shard, self._client = connection, lease, shard, client
        self._engine, self._gauges = shard.engine, gauges
        self._teller = Teller(client, topics, shard)
        self._hearing = Hearing(connection, lease, shard, self._teller)
        self._forecasts = Forecasts(connection, shard)
        self._ticked_at = self._quieted_at = 0.0
        self._quiet = shard.quiet
        self._connected_at = math.inf
        self._connections = 0
        self._down: frozenset[str] = frozenset()
        self._ids: deque[int] = deque()
        self._changes: list[Change] = []
        self._written: list[alerts.Written | None] = []
        self.failed = ""

    def excuse(self) -> None:
        """Ingest was held up, and what hosts sent is still to be read: they are given time as after a new connection."""
        self._connections = 0

    def hear(self, batch: Batch, now: float) -> None:
        """Take up what others did since the last beat."""
        if not self._client.is_connected:
            self._connected_at = math.inf
        elif self._client.connections != self._connections:
            self._connections, self._connected_at = self._client.connections, now
        self._hearing.hear(batch, now)

    # What the beat leads to

    def judge(self, batch: Batch, frame: Frame | None, now: float) -> None:
        """Take a beat through the engine. What fails there must not keep samples from being stored: see `failed`."""
        try:
            self._changes = self._judged(batch, frame, now)
            self._changes += self._muted(self._changes, now)
        except database.Unavailable:
            raise
        except Exception as error:
            logs.event(log, "alerts could not be judged", logging.ERROR, exc_info=True)
            self.failed, self._changes = f"{type(error).__name__}: {error}", []

    def _judged(self, batch: Batch, frame: Frame | None, now: float) -> list[Change]:
        engine = self._engine
        changes, self._shard.changes = self._shard.changes, []
        changes += self._said(batch, now)
        if frame is not None:
            begin = time.perf_counter()
            changes += engine.frame(frame)
            self._gauges.judging.observe(time.perf_counter() - begin)
        for (name, _), snapshot in batch.snapshots.items():
            if isinstance(snapshot, wire.Containers):
                changes += engine.containers(self._row(name), snapshot)
        for event in (*batch.events, *self._told()):
            changes += engine.event(self._row(event.host), event)
        if not 0 <= now - self._ticked_at < TICK_SECONDS:
            self._ticked_at = now
            changes += engine.tick(now, self._connected_at)
        return changes + self._forecasts.run(now)

    def _said(self, batch: Batch, now: float) -> Iterator[Change]:
        """What hosts say of themselves; labels and limits before the samples that are judged by them."""
        for name, inventory in batch.inventories.items():
            self._engine.set_labels(self._row(name), inventory.labels)
        for (name, _), snapshot in batch.snapshots.items():
            if isinstance(snapshot, wire.Sensors):
                self._engine.sensors(self._row(name), snapshot)
        for name, hello in batch.hellos.items():
            yield from self._engine.hello(self._row(name), hello.boot_id, hello.ts)
        for name, status in batch.states.items():
            yield from self._engine.status(self._row(name), status, now)

    def _told(self) -> Iterator[wire.Event]:
        """Events told by REST, for hosts that are known."""
        for received in self._hearing.events:
            try:
                event = msgspec.convert(received.payload, wire.Event)
            except msgspec.ValidationError as error:
                logs.event(log, "stored event is unusable, dropped", logging.WARNING, id=received.id, error=str(error))
                continue
            if self._shard.hosts.get(event.host) is not None:
                yield event

    def _muted(self, changes: Sequence[Change], now: float) -> list[Change]:
        """What is muted or heard again: of alerts that changed; of all now and then, and when hosts go or come."""
        down = frozenset(self._engine.down)
        quiet = self._shard.quiet
        if down != self._down or quiet is not self._quiet or not 0 <= now - self._quieted_at < QUIET_SECONDS:
            self._down, self._quiet, self._quieted_at = down, quiet, now
            chosen = list(self._engine.alerts.values())
        else:
            chosen = _unique(changes)
        return remute(chosen, self._labels, quiet, down, now) if chosen else []

    def _labels(self, host: str) -> Mapping[str, str]:
        return self._engine.labels.get(self._row(host), {})

    def _row(self, host: str) -> int:
        return self._shard.hosts.add(host).row

    # What the transaction writes

    def piece(self) -> Piece | None:
        """The alerts and events of the beat; None where nothing changed."""
        changes, self._written = self._changes, []
        if not changes:
            return None
        fresh = [alert for alert in _unique(changes) if not alert.id]
        if len(self._ids) < len(fresh):
            self._ids.extend(alerts.take_ids(self._connection, max(len(fresh), ID_BLOCK)))
        for alert in fresh:
            alert.id = self._ids.popleft()
        is_fresh = {alert.id for alert in fresh}
        rows = _rows(changes)
        events = [_event(change) for change in changes]

        def write(cursor: samples.Cursor) -> None:
            self._written = alerts.write(cursor, [row for row in rows if row.id in is_fresh],
                                         [row for row in rows if row.id not in is_fresh], events)

        return write

    def pieces(self) -> list[Piece]:
        """What was taken up or said, and can be forgotten."""
        confirmed, taken = self._teller.take_confirmed(), [received.id for received in self._hearing.events]
        released = self._hearing.released + [alert.id for alert in self._engine.take_passed()]
        self._hearing.events, self._hearing.released = [], []
        return [functools.partial(write, ids=ids) for write, ids in (
            (outbox.delete, confirmed), (inbox.delete, taken), (alerts.write_released, released)) if ids]

    # After the commit

    def tell(self, now: float) -> None:
        """Tell what has been written; an alert that somebody resolved meanwhile is taken as the table has it."""
        changes, self._changes = self._changes, []
        if changes:
            self._teller.changes(changes, self._written)
            for change in changes:
                self._gauges.transitions.labels(change.kind).inc()
            skipped = {change.alert.id: change.alert for change, row in zip(changes, self._written, strict=True) if row is None}
            stored = self._hearing.refresh(skipped)
            for number, alert in skipped.items():
                self._teller.retain(stored.get(number, alert))
        if self._ticked_at == now:
            active = Counter(alert.severity for alert in self._engine.alerts.values() if alert.is_active)
            for severity in wire.SEVERITIES:
                self._gauges.alerts.labels(severity).set(active[severity])
        self._teller.summaries(now)

    def finish(self) -> None:
        """Forget what the broker has confirmed by now, so that the next owner does not say it again."""
        confirmed = self._teller.take_confirmed()
        if confirmed:
            with slots.fenced(self._connection, self._lease) as cursor:
                outbox.delete(cursor, confirmed)


def _unique(changes: Iterable[Change]) -> list[Alert]:
    return list({id(change.alert): change.alert for change in changes}.values())


def _rows(changes: Sequence[Change]) -> list[alerts.Row]:
    """The alerts of these changes as they are after all of them."""
    reasons = {id(change.alert): change.reason for change in changes if change.kind not in ("muted", "unmuted")}
    culprits = {id(change.alert): change.culprits for change in changes if change.culprits}
    return [alerts.Row(
        id=alert.id, host_id=alert.host.id, rule=alert.rule, instance=alert.instance, type=alert.type, source=alert.source,
        state=alert.state, severity=alert.severity, metric=alert.metric, value=alert.value, threshold=alert.threshold,
        rule_revision=alert.revision, message=alert.message, recommendation=alert.recommendation,
        reason=reasons.get(id(alert), ""), dismissible=alert.dismissible, flapping=alert.flapping, muted_by=alert.muted_by,
        started_at=alert.started_at, fired_at=alert.fired_at, resolved_at=alert.resolved_at, changed_at=alert.changed_at,
        culprits=culprits.get(id(alert), "")) for alert in _unique(changes)]


def _event(change: Change) -> alerts.Event:
    return alerts.Event(
        alert_id=change.alert.id, at=change.at, kind=change.kind, severity=change.severity, value=change.value,
        threshold=change.threshold, reason=change.reason, rule_revision=change.alert.revision,
        is_muted=bool(change.alert.muted_by), has_culprits=bool(change.culprits))
