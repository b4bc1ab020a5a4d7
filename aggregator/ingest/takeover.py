"""The state of a slot put together from the tables, by whoever takes it over."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from aggregator.analysis.core_metrics import METRICS, SCORE
from aggregator.analysis.rules import Rule
from aggregator.live.alerts import Alert
from aggregator.live.hosts import Host
from aggregator.live.minutes import Rows
from aggregator.live.shard import Shard, new_shard
from aggregator.store import alerts, configuration, hosts, quiet, rollups, rules, samples, slots, streams
from shared import database, wire


def load(connection: database.Connection, lease: slots.Lease, now: float, *, detects: bool = True,
         watched: tuple[str, ...] = METRICS) -> Shard:
    """The state of a slot from the tables: hosts, checkpointed streams, and what came after the checkpoint.

    The minutes before that of now are closed: what was stored of them but not yet rolled up is marked as due. Those since
    are folded again from raw. `detects`: whether anomalies are looked for, in the metrics `watched`.
    """
    shard = new_shard(now, watched)
    shard.detects = detects
    by_id = {}
    with slots.fenced(connection, lease) as cursor:
        hosts.write_not_ahead(cursor, lease, now, now + wire.MAX_AHEAD_SECONDS)
    for host_id, name, newest, received_at, interval in hosts.fetch_slot(connection, lease):
        host = shard.hosts.add(name)
        host.id = host_id
        by_id[host_id] = host
        shard.hosts.newest_ts[host.row] = newest or 0.0
        shard.hosts.received_at[host.row] = received_at or 0.0
        shard.hosts.interval[host.row] = interval or 0.0
    for stored in streams.fetch(connection, lease):
        shard.restore(by_id[stored.host_id], stored.epoch, stored.contiguous, list(stored.ahead))
    for host_id, epoch, from_seq, to_seq in streams.fetch_since_checkpoint(connection, lease):
        shard.restore_range(by_id[host_id], epoch, from_seq, to_seq)
    for host_id, newest, received_at in streams.fetch_newest_since_checkpoint(connection, lease):
        row = by_id[host_id].row
        is_ahead = newest > now + wire.MAX_AHEAD_SECONDS  # the clock was set back
        shard.hosts.newest_ts[row] = max(shard.hosts.newest_ts[row], now if is_ahead else newest)
        shard.hosts.received_at[row] = max(shard.hosts.received_at[row], min(received_at, now))
    hour = int(now // 3600) * 3600
    shard.active_hosts[hour] = {host.id for host in shard.hosts if shard.hosts.newest_ts[host.row] >= hour}
    closed_to = datetime.fromtimestamp(max(shard.minutes.closed_to, lease.rolled_up_to.timestamp()), UTC)
    shard.minutes.closed_to = int(closed_to.timestamp())
    with slots.fenced(connection, lease) as cursor:
        rollups.write_due_since(cursor, lease, shard.minutes.closed_to, now)
        rollups.write_closed_to(cursor, lease, shard.minutes.closed_to)
        received = closed_to - timedelta(seconds=wire.MAX_AHEAD_SECONDS)
        shard.minutes.fold(_rows(*samples.fetch_since(cursor, lease.slot, lease.slots, closed_to, received)))
    _load_alerts(connection, lease, shard, now)
    return shard


def _load_alerts(connection: database.Connection, lease: slots.Lease, shard: Shard, now: float) -> None:
    """Rules, what is known of the hosts, what mutes, and the alerts that are open or held."""
    rules.ensure_packs(connection)
    shard.versions = configuration.fetch_versions(connection)
    configure(connection, lease, shard, now)
    shard.quiet = quiet.fetch_quiet(connection, now)
    engine = shard.engine
    for said in hosts.fetch_said(connection, lease):
        row = shard.hosts.add(said.name).row
        if said.state != "unknown":
            status = wire.Status(host=said.name, state=said.state, reason=said.reason,  # type: ignore[arg-type]
                                 boot_id=said.boot_id, ts=said.at)
            shard.changes += engine.status(row, status, said.at)
    snapshots = [(shard.hosts.add(name).row, _SNAPSHOTS[kind], payload)
                 for name, kind, payload in hosts.fetch_snapshots(connection, lease, list(_SNAPSHOTS))]
    for row, kind, payload in snapshots:
        if kind is wire.Sensors:
            engine.sensors(row, msgspec.convert(payload, wire.Sensors))
    engine.restore([live_alert(stored, by_name) for stored in alerts.fetch_open(connection, lease)
                    if (by_name := shard.hosts.get(stored.host)) is not None])
    for row, kind, payload in snapshots:
        if kind is wire.Containers:
            shard.changes += engine.containers(row, msgspec.convert(payload, wire.Containers))


_SNAPSHOTS: dict[str, type[wire.Containers | wire.Sensors]] = {"containers": wire.Containers, "sensors": wire.Sensors}


def configure(connection: database.Connection, lease: slots.Lease, shard: Shard, now: float) -> None:
    """Watch by the rules, overrides and labels that the tables have now."""
    for name, labels in hosts.fetch_labels(connection, lease):
        shard.engine.set_labels(shard.hosts.add(name).row, labels)
    overrides = {(host, rule): override for host, rule, override in rules.fetch_overrides(connection)}
    stored = [one for one in rules.fetch_stored(connection) if _is_measured(one.rule, shard)]
    shard.changes += shard.engine.configure(stored, overrides, now)


def _is_measured(rule: Rule, shard: Shard) -> bool:
    """Whether a rule is of any use here: those of kind baseline need the detector's score of their metric."""
    return rule.kind != "baseline" or (shard.detects and rule.metric in ("", SCORE, *shard.unusual.metrics))


def live_alert(stored: alerts.Stored, host: Host) -> Alert:
    """An alert of the table as ingest holds it in memory."""
    return Alert(
        host=host, rule=stored.rule, instance=stored.instance, type=stored.type, source=stored.source,
        revision=stored.rule_revision, severity=stored.severity,  # type: ignore[arg-type]
        started_at=stored.started_at, changed_at=stored.changed_at, state=stored.state, id=stored.id, metric=stored.metric,
        value=stored.value, threshold=stored.threshold, message=stored.message, recommendation=stored.recommendation,
        dismissible=stored.dismissible, fired_at=stored.fired_at, resolved_at=stored.resolved_at, flapping=stored.flapping,
        held=stored.held, muted_by=tuple(stored.muted_by), acknowledged_by=stored.acknowledged_by, dismissed=stored.dismissed)


def _rows(host_ids: list[int], layout_ids: list[int], times: list[float], values: "list[np.ndarray[Any, Any]]") -> Rows:
    sizes = np.array([len(each) for each in values], np.int64)
    flat = np.concatenate([np.empty(0), *values])
    return Rows(host_ids, layout_ids, np.array(times), flat, np.cumsum(sizes) - sizes, sizes)
