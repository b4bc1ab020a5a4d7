"""What is published after a commit: watermarks, the health of hosts, the health of the fleet."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from aggregator.analysis import health
from aggregator.live.frame import Frame
from aggregator.live.hosts import Hosts, Stream, epoch_text
from aggregator.live.shard import Shard
from shared import wire
from shared.bus import Client
from shared.topics import Topics

MAX_HEALTH_PER_BEAT = 12
HEALTH_STEP = 2.0
HEALTH_REPEAT_SECONDS = 60.0
WORST_HOSTS = 10


@dataclasses.dataclass(slots=True, eq=False)
class Publisher:
    """Publishes for one slot.

    Health goes out when a host's status changes, or when its score has moved by 2 points and a minute has passed; for at
    most 12 hosts a beat, changes of status first.
    """

    client: Client
    topics: Topics
    shard: Shard
    fleet_told: bytes = b""

    def watermarks(self, streams: Iterable[Stream]) -> int:
        """Tell agents what is stored; the number told."""
        return self.client.publish_all([
            (self.topics.down(stream.host.name, "watermark"),
             wire.encode(wire.Watermark(epoch=epoch_text(stream.epoch), seq=stream.contiguous))) for stream in streams])

    def health(self, frame: Frame, rows: "np.ndarray[tuple[int], np.dtype[np.int64]]",
               newest: "np.ndarray[tuple[int], np.dtype[np.int64]]", now: float) -> None:
        """Publish the health of hosts (by row) whose newest sample is at `newest` in the frame, where it is news."""
        hosts = self.shard.hosts
        news = chosen(hosts, rows, now)[:MAX_HEALTH_PER_BEAT]
        told = health.assess_all([frame.told(int(newest[at])) for at in news], self.shard.profile)
        for at, assessed in zip(news, told, strict=True):
            if assessed is not None and self.client.publish(
                    self.topics.health(assessed.host), wire.encode(self._full(assessed, int(rows[at]))), qos=1, retain=True):
                hosts.told_score[rows[at]] = hosts.figures[rows[at], 0]
                hosts.told_at[rows[at]] = now

    def _full(self, assessed: wire.Health, row: int) -> wire.Health:
        """The health of the host in `row`, its open anomaly told, too."""
        incident = self.shard.unusual.open.get(self.shard.hosts.all[row].id)
        if incident is None:
            return assessed
        return health.with_anomaly(assessed, incident.began_at, [each.metric for each in incident.metrics])

    def fleet(self, now: float) -> None:
        """Publish the fleet's health where it has changed."""
        message = fleet_health(self.shard.hosts, now)
        shape = wire.encode(_timeless(message))
        if shape != self.fleet_told and self.client.publish(
                self.topics.fleet_health(), wire.encode(message), qos=1, retain=True):
            self.fleet_told = shape


def chosen(hosts: Hosts, rows: "np.ndarray[tuple[int], np.dtype[np.int64]]", now: float) -> list[int]:
    """Which of `rows` have news to tell (places in `rows`), changes of status first."""
    score, told = hosts.figures[rows, 0], hosts.told_score[rows]
    changed = np.isnan(told) | (_band(score) != _band(told))
    moved = (np.abs(score - told) >= HEALTH_STEP) & (now - hosts.told_at[rows] >= HEALTH_REPEAT_SECONDS)
    news = np.flatnonzero(~np.isnan(score) & (changed | moved))
    return [int(at) for at in news[np.argsort(~changed[news], kind="stable")]]


def fleet_health(hosts: Hosts, now: float) -> wire.FleetHealth:
    """Mean score, hosts by status and the worst hosts of those that report."""
    count = len(hosts)
    score = hosts.figures[:count, 0]
    online = now - hosts.received_at[:count] <= np.maximum(3 * hosts.interval[:count], 15.0)
    scored = np.flatnonzero(~np.isnan(score) & online)
    worst = scored[np.argsort(score[scored], kind="stable")][:WORST_HOSTS]
    by_status = dict.fromkeys(("healthy", "degraded", "warning", "critical"), 0)
    for value in score[scored].tolist():
        by_status[health.status(value)] += 1
    return wire.FleetHealth(
        ts=now, score=round(float(score[scored].mean()), 1) if len(scored) else None, hosts=count,
        online=int(online.sum()), by_status=by_status,
        worst=[{"host": hosts.all[row].name, "score": round(float(score[row]), 1),
                "status": health.status(float(score[row]))} for row in worst.tolist()])


def _timeless(message: wire.FleetHealth) -> wire.FleetHealth:
    return wire.FleetHealth(ts=0.0, score=message.score, hosts=message.hosts, online=message.online,
                            by_status=message.by_status, worst=message.worst)


def _band(score: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.digitize(score, (40.0, 60.0, 80.0))
