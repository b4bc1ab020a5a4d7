"""The state of a slot put together from the tables, by whoever takes it over."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from aggregator.live.minutes import Rows
from aggregator.live.shard import Shard, new_shard
from aggregator.store import hosts, rollups, samples, slots, streams
from shared import database, wire


def load(connection: database.Connection, lease: slots.Lease, now: float) -> Shard:
    """The state of a slot from the tables: hosts, checkpointed streams, and what came after the checkpoint.

    The minutes before that of now are closed: what was stored of them but not yet rolled up is marked as due. Those since
    are folded again from raw.
    """
    shard = new_shard(now)
    by_id = {}
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
    hour = int(now // 3600) * 3600
    shard.active_hosts[hour] = {host.id for host in shard.hosts if shard.hosts.newest_ts[host.row] >= hour}
    closed_to = datetime.fromtimestamp(max(shard.minutes.closed_to, lease.rolled_up_to.timestamp()), UTC)
    shard.minutes.closed_to = int(closed_to.timestamp())
    with slots.fenced(connection, lease) as cursor:
        rollups.write_due_since(cursor, lease, shard.minutes.closed_to, now)
        rollups.write_closed_to(cursor, lease, shard.minutes.closed_to)
        received = closed_to - timedelta(seconds=wire.MAX_AHEAD_SECONDS)
        shard.minutes.fold(_rows(*samples.fetch_since(cursor, lease.slot, lease.slots, closed_to, received)))
    return shard


def _rows(host_ids: list[int], layout_ids: list[int], times: list[float], values: "list[np.ndarray[Any, Any]]") -> Rows:
    sizes = np.array([len(each) for each in values], np.int64)
    flat = np.concatenate([np.empty(0), *values])
    return Rows(host_ids, layout_ids, np.array(times), flat, np.cumsum(sizes) - sizes, sizes)
