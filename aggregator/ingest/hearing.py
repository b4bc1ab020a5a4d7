"""What others did about alerts: actions by MQTT, events by REST, acts through the API, changed rules and silences.

The tables say so, once a second; alerts in memory are brought to what the table has. Each part is a transaction of its own.
"""

from collections.abc import Collection
from datetime import UTC, datetime

from aggregator.ingest import takeover
from aggregator.ingest.batch import Asked, Batch
from aggregator.ingest.telling import Teller
from aggregator.live.alerts import Alert
from aggregator.live.shard import Shard
from aggregator.store import alert_actions, alerts, configuration, inbox, outbox, quiet, slots
from aggregator.store.rejects import Reject
from shared import database

POLL_SECONDS = 1.0
POLL_ROWS = 500
SWEEP_SECONDS = 60.0


class Hearing:
    """Takes up what others did for one slot.

    `events`: told by REST, to be judged and then deleted; `released`: ids of alerts that are held no more.
    """

    def __init__(self, connection: database.Connection, lease: slots.Lease, shard: Shard, teller: Teller) -> None:
        self._connection, self._lease, self._shard, self._teller = connection, lease, shard, teller
        self._polled_at = self._swept_at = 0.0
        self.events: list[inbox.Received] = []
        self.released: list[int] = []

    def hear(self, batch: Batch, now: float) -> None:
        """Take up what others did since the last beat. Actions that cannot be done become refused messages of the batch."""
        is_new = self._teller.begin()
        self._teller.correct(batch.echoes)
        for asked in batch.actions:
            self._act(batch, asked, now)
        if is_new or batch.actions or not 0 <= now - self._polled_at < POLL_SECONDS:
            self._polled_at = now
            self._poll(now)
        if not 0 <= now - self._swept_at < SWEEP_SECONDS:
            self._swept_at = now
            self._sweep(now)

    def _act(self, batch: Batch, asked: Asked, now: float) -> None:
        """Do what somebody asked for by MQTT; where that cannot be, it is a refused message."""
        action = asked.action
        alert = next((one for one in self._shard.engine.alerts.values()
                      if one.host.name == asked.host and one.is_active and one.key == asked.alert), None)
        try:
            if alert is None:
                raise alert_actions.UnknownAlertError(f"alert {asked.alert!r} of {asked.host} is not active")
            with slots.fenced(self._connection, self._lease) as cursor:
                alert_actions.act(cursor, alert.id, action.action, actor=f"mqtt:{action.by}", at=_time(now), note=action.note,
                                  until=None if action.until is None else _time(action.until))
        except (alert_actions.UnknownAlertError, alert_actions.NotAllowedError, alert_actions.PastError) as error:
            batch.refused["alert"] = batch.refused.get("alert", 0) + 1
            batch.rejects.append(Reject(asked.host, asked.topic, "alert", str(error), asked.payload))

    def _poll(self, now: float) -> None:
        versions = configuration.fetch_versions(self._connection)
        if versions != self._shard.versions:
            self._configure(versions, now)
        self.events = inbox.fetch(self._connection, self._lease, POLL_ROWS)
        if self._teller.is_connected:
            due = outbox.fetch(self._connection, self._lease, self._teller.said, POLL_ROWS)
            if due:
                self._teller.due(due, self.refresh({row.alert_id for row in due}))
            if POLL_ROWS in (len(due), len(self.events)):
                self._polled_at = 0.0

    def _configure(self, versions: dict[str, int], now: float) -> None:
        known, self._shard.versions = self._shard.versions, versions
        if versions.get("rules") != known.get("rules"):
            takeover.configure(self._connection, self._lease, self._shard, now)
        if versions.get("quiet") != known.get("quiet"):
            self._shard.quiet = quiet.fetch_quiet(self._connection, now)

    def _sweep(self, now: float) -> None:
        """End acknowledgements whose time is over; let go of alerts that the table has no more (of deleted hosts)."""
        with slots.fenced(self._connection, self._lease) as cursor:
            alert_actions.expire_acknowledgements(cursor, _time(now))
        active = {alert.id for alert in self._shard.engine.alerts.values() if alert.is_active}
        if active:
            self.refresh(active - alerts.fetch_active(self._connection, active))

    def refresh(self, ids: Collection[int]) -> dict[int, Alert]:
        """Bring alerts in memory to what the table has; the table's, by id."""
        if not ids:
            return {}
        stored = alerts.fetch(self._connection, ids)
        own = {alert.id: alert for alert in self._shard.engine.alerts.values()}
        for number in ids:
            alert, row = own.get(number), stored.get(number)
            if alert is None:
                if row is not None and row.held:
                    self.released.append(number)
            elif row is None or row.state not in ("pending", "firing", "unknown"):
                if not alert.held:
                    self._shard.engine.release(alert)
                self._teller.retain(alert)
            else:
                alert.acknowledged_by, alert.dismissed = row.acknowledged_by, row.dismissed
        return {number: takeover.live_alert(row, host) for number, row in stored.items()
                if (host := self._shard.hosts.get(row.host)) is not None}


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
