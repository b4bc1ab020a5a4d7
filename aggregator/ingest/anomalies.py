"""Anomalies of a slot: each closed minute through the detector, incidents into the tables, and then onto the bus.

1. `judge`, before the commit: the minutes that close with it. Their means are those that become rollups, so nothing is folded
   twice, late samples are left out, and a new owner can learn from the rollups what it missed (`relearning`).
2. `pieces`: the rows that the beat's transaction writes.
3. `tell`, after the commit. A message is the whole incident, so that a repeat does no harm: what could not be said is kept and
   said later, and on every new connection, the first of an owner too, whatever is open or has ended within an hour is said again.
4. `keep`: what takes turns between beats (`relearning`).
"""

import logging
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from aggregator.analysis.core_metrics import SCORE
from aggregator.ingest.commit import MINUTE_GRACE_SECONDS, Piece
from aggregator.ingest.gauges import Gauges
from aggregator.ingest.relearning import Relearning, positions
from aggregator.live.minutes import MINUTE
from aggregator.live.shard import Shard
from aggregator.live.unusual import Incident, Judged
from aggregator.store import anomaly_rows, samples, slots
from shared import database, logs, wire
from shared.bus import Client
from shared.topics import Topics

log = logs.get("ingest")

STEPS_AT_ONCE = 10
"""Minutes without any sample are stepped over as well, so that they count; of a longer silence, the last ones."""
SILENT_SECONDS = 600.0
"""The score of a host that has been silent for so long says nothing any more."""
SAY_AGAIN_SECONDS = 3600.0
NAMED = 3
"""Metrics named in an alert."""


class Anomalies:
    """The anomalies of one ownership of a slot. What fails here stops the detection, not the samples."""

    def __init__(self, connection: database.Connection, lease: slots.Lease, shard: Shard, client: Client, topics: Topics,
                 gauges: Gauges, now: float) -> None:
        self._connection, self._shard, self._client, self._topics, self._gauges = connection, shard, client, topics, gauges
        self._positions: dict[int, NDArray[np.int64]] = {}
        self._relearning = Relearning(connection, lease, shard)
        self._changed: dict[int, Incident] = {}
        self._written: list[int] = []
        self._told: dict[int, Incident] = {}
        self._unsaid: dict[int, Incident] = {}
        self._connections = 0
        self._has_failed = False
        self._restore(anomaly_rows.fetch_recent(connection, lease, now - SAY_AGAIN_SECONDS))

    def _restore(self, rows: Sequence[anomaly_rows.Row]) -> None:
        for row in rows:
            incident = Incident(row.host_id, row.began_at, row.threshold, row.peak_at, row.peak, row.metrics, row.ended_at,
                                row.id)
            self._told[row.id] = incident
            if row.ended_at is None:
                self._shard.unusual.open[row.host_id] = incident

    def judge(self, now: float) -> None:
        """Take the minutes that close at `now` (Unix s) through the detector."""
        self._tried(self._judge, now)

    def _tried(self, part: Callable[[float], None], now: float) -> None:
        if self._has_failed:
            return
        try:
            part(now)
        except slots.LeaseLostError:
            raise
        except database.Unavailable:
            raise
        except Exception:
            logs.event(log, "anomaly detection failed, and stops until the slot is taken anew", logging.ERROR, exc_info=True)
            self._has_failed = True
            self._shard.hosts.unusual[:] = np.nan

    def _judge(self, now: float) -> None:
        minutes = self._shard.minutes
        closing = minutes.due(now, MINUTE_GRACE_SECONDS)
        if closing == minutes.closed_to:
            return
        filled = minutes.before(closing)
        empty = range(max(minutes.closed_to, closing - STEPS_AT_ONCE * MINUTE), closing, MINUTE)
        unusual = self._shard.unusual
        for start in sorted({*filled, *empty}):
            host_ids, means = (self._means(start) if start in filled else
                               (np.empty(0, np.int64), np.empty((0, len(unusual.metrics)))))
            judged, changed = unusual.step(start, host_ids, means)
            self._note(changed)
            self._show(judged)

    def _means(self, start: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        minutes = self._shard.minutes
        missing = minutes.layout_ids(start) - self._positions.keys()
        if missing:
            self._positions |= positions(self._connection, missing, self._shard.unusual.metrics)
        return minutes.means(start, self._positions)

    def _note(self, changed: Sequence[Incident]) -> None:
        """Incidents that began, grew worse or ended: to be written; those that began or ended: to be said, in health too."""
        hosts = self._shard.hosts
        rows = {host.id: host.row for host in hosts} if changed else {}
        for incident in changed:
            self._changed[id(incident)] = incident
            if (not incident.id or incident.ended_at is not None) and incident.host_id in rows:
                hosts.told_score[rows[incident.host_id]] = np.nan

    def _show(self, judged: Judged) -> None:
        """The scores as a metric, and to the rules of kind baseline."""
        hosts, engine, end = self._shard.hosts, self._shard.engine, judged.start + MINUTE
        by_id = {host.id: host.row for host in hosts}
        rows = np.array([by_id[host_id] for host_id in judged.host_ids.tolist()], np.int64)
        hosts.unusual[:len(hosts)][hosts.newest_ts[:len(hosts)] < judged.start - SILENT_SECONDS] = np.nan
        hosts.unusual[rows] = np.where(judged.scores > 0, judged.scores, np.nan)
        texts = {by_id[host_id]: _text(incident) for host_id, incident in self._shard.unusual.open.items() if host_id in by_id}
        for rule in engine.watched("baseline"):
            is_whole = rule.metric in ("", SCORE)
            scores = judged.scores if is_whole else judged.series[:, self._shard.unusual.metrics.index(rule.metric)]
            self._shard.changes += engine.unusual(rule.name, rows, scores.astype(np.float64), float(end),
                                                  texts if is_whole else {})

    # What the transaction writes

    def pieces(self) -> list[Piece]:
        """The rows of incidents that changed."""
        self._written = []
        if not self._changed:
            return []
        rows = [anomaly_rows.Row(one.id, one.host_id, one.began_at, one.ended_at, one.peak_at, one.peak, one.threshold,
                                 one.metrics) for one in self._changed.values()]

        def write(cursor: samples.Cursor) -> None:
            self._written = []
            self._written = anomaly_rows.write(cursor, rows)

        return [write]

    # After the commit

    def tell(self, now: float) -> None:
        """Say what has been written, and again what the bus may have missed."""
        changed, self._changed = list(self._changed.values()), {}
        for incident, number in zip(changed, self._written or [0] * len(changed), strict=True):
            is_news = not incident.id or incident.ended_at is not None
            incident.id = number or incident.id
            if incident.id:
                self._told[incident.id] = incident
                if is_news:
                    self._unsaid[incident.id] = incident
        self._told = {number: incident for number, incident in self._told.items()
                      if incident.ended_at is None or incident.ended_at > now - SAY_AGAIN_SECONDS}
        self._gauges.anomalies.set(len(self._shard.unusual.open))
        if not self._client.is_connected:
            return
        if self._client.connections != self._connections:
            self._connections = self._client.connections
            self._unsaid |= self._told
        names = {host.id: host.name for host in self._shard.hosts} if self._unsaid else {}
        for number, incident in list(self._unsaid.items()):
            name = names.get(incident.host_id)
            if name is None or self._client.publish(self._topics.anomaly(name), wire.encode(_message(incident, name)), qos=1):
                del self._unsaid[number]

    def keep(self, now: float) -> None:
        """A turn of what need not be done at once."""
        self._tried(self._keep, now)

    def _keep(self, now: float) -> None:
        self._note(self._relearning.turn(now))
        self._gauges.waiting.set(len(self._shard.unusual.waiting))

    def finish(self) -> None:
        """Store what has been learnt, as far as there is time."""
        if not self._has_failed:
            self._relearning.finish(time.monotonic)


def _text(incident: Incident) -> str:
    """What a message says of the metrics."""
    named = ", ".join(each.metric for each in incident.metrics[:NAMED])
    return f": {named}" if named else ""


def _message(incident: Incident, host: str) -> wire.Anomaly:
    ts = incident.ended_at if incident.ended_at is not None else incident.peak_at + MINUTE
    return wire.Anomaly(anomaly=incident.id, host=host, ts=ts, began_at=incident.began_at, ended_at=incident.ended_at,
                        peak_at=incident.peak_at, peak=round(incident.peak, 3), threshold=incident.threshold,
                        metrics=incident.metrics)
