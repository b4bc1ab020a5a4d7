"""The loop of `drumbeat ingest`: hold a slot, read the broker in slices, commit a frame a beat, publish, keep house.

States, told by /readyz: waiting for the database → standby (all slots held) → loading → ingesting. A database that goes
away or a lease that is lost throws the in-memory state away; what was not committed is sent again by the agents.
"""

import gc
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from aggregator.ingest import upkeep
from aggregator.ingest.commit import Checkpoint, Committer
from aggregator.ingest.gauges import Gauges
from aggregator.ingest.intake import Batch, Receiver
from aggregator.ingest.outgoing import Publisher
from aggregator.live import frame as frames
from aggregator.live.hosts import Stream
from aggregator.live.minutes import Rows
from aggregator.live.shard import Shard, new_shard
from aggregator.store import hosts, rejects, rollups, samples, slots, streams
from shared import database, logs, wire
from shared.bus import Broker, Client, Tls
from shared.topics import Topics

log = logs.get("ingest")

BEAT_SECONDS = 0.4
SLICE_SECONDS = 0.1
FRAME_SAMPLES = 2000
RENEW_SECONDS = 3.0
CHECKPOINT_MAX_SECONDS = 12.0
FLEET_SECONDS = 10.0
STALL_SECONDS = 60.0
RETRY_SECONDS = 0.5


class Service:
    """One ingest process."""

    def __init__(self, database_url: str, brokers: tuple[Broker, ...], tls: Tls, topics: Topics, slot_count: int,
                 clock: Callable[[], float] = time.time) -> None:
        self._url, self._brokers, self._tls, self._topics = database_url, brokers, tls, topics
        self._slot_count, self._clock = slot_count, clock
        self._owner = f"drumbeat-ingest-{secrets.token_hex(8)}"
        self._stopping = False
        self._doing = "starting"
        self._client: Client | None = None
        self._alive_at = time.monotonic()
        self.gauges = Gauges()

    def stop(self) -> None:
        """Finish the beat, give the slot back and return from `run`."""
        self._stopping = True

    def live(self) -> Mapping[str, str]:
        stalled = time.monotonic() - self._alive_at
        return {"loop": f"no beat for {stalled:.0f} s" if stalled > STALL_SECONDS else ""}

    def ready(self) -> Mapping[str, str]:
        client = self._client
        connected = client is not None and client.is_connected
        reason = client.last_error if client is not None else ""
        return {"slot": "" if self._doing == "ingesting" else self._doing,
                "broker": "" if connected else f"not connected {reason}".strip()}

    def run(self) -> None:
        """Until `stop`. Only what nothing can be done about leaves it as an exception."""
        while not self._stopping:
            self._doing = "waiting for the database"
            if not database.wait_until_ready(self._url, self._owner, self._is_stopping):
                return
            try:
                database.migrate(self._url)
                with database.open_connection(self._url, self._owner) as connection:
                    self._own(connection)
            except slots.LeaseLostError:
                logs.event(log, "slot lost to another process", logging.WARNING)
            except database.Unavailable as error:
                logs.event(log, "database went away", logging.WARNING, error=str(error).strip().partition("\n")[0])
                time.sleep(RETRY_SECONDS)
            finally:
                self._close_client()
                self.gauges.is_owner.set(0)

    def _is_stopping(self) -> bool:
        self._alive_at = time.monotonic()
        return self._stopping

    def _own(self, connection: database.Connection) -> None:
        """Wait for a slot, then ingest for it until it is lost or the process stops."""
        connection.execute("SET idle_in_transaction_session_timeout = '5s'")
        self._doing = "standby: every slot is held"
        while (lease := slots.acquire(connection, self._owner, self._slot_count)) is None:
            if self._is_stopping():
                return
            time.sleep(0.5)
        self._doing = "loading"
        keep = upkeep.make_rooms(connection, datetime.fromtimestamp(self._clock(), UTC))
        shard = load(connection, lease, self._clock())
        shard.oldest_ts = upkeep.oldest_ts(keep, self._clock())
        shard.profile = upkeep.read_profile(connection)
        logs.event(log, "slot taken", slot=lease.slot, of=lease.slots, hosts=len(shard.hosts))
        self.gauges.is_owner.set(1)
        receiver = Receiver(shard, self._topics)
        self._client = Client(self._brokers, f"ingest-{secrets.token_hex(16)}", receiver.on_message, tls=self._tls,
                              subscriptions=self._topics.slot_filters(lease.slot, lease.slots), max_delay=5.0)
        self._doing = "ingesting"
        # Hosts, streams and layouts live long and hold no cycles: keep the collector from walking them every second.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 50, 50)
        slot = _Slot(connection, lease, shard, receiver, self._client, self._topics, self.gauges, self._clock)
        while not self._is_stopping():
            slot.beat()
        slot.finish()
        slots.release(connection, lease)

    def _close_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


class _Slot:
    """One slot being ingested: the parts and the clocks of one ownership."""

    def __init__(self, connection: database.Connection, lease: slots.Lease, shard: Shard, receiver: Receiver,
                 client: Client, topics: Topics, gauges: Gauges, clock: Callable[[], float]) -> None:
        self._connection, self._lease, self._shard, self._receiver = connection, lease, shard, receiver
        self._client, self._gauges, self._clock = client, gauges, clock
        self._committer = Committer(connection, lease, shard)
        self._publisher = Publisher(client, topics, shard)
        self._upkeep = upkeep.Upkeep(connection, lease, self._committer, gauges)
        self._touched: set[Stream] = set()
        self._moved: set[int] = set()
        self._scored: set[int] = set(np.flatnonzero(~np.isnan(shard.hosts.figures[:len(shard.hosts), 0])).tolist())
        self._checkpoint_at = self._renewed_at = self._fleet_at = 0.0
        self._upkeep.rooms_at = clock()

    def beat(self) -> None:
        """Read for a beat, commit, publish, keep house."""
        self._read()
        now = self._clock()
        if not -60 < now - self._renewed_at < RENEW_SECONDS:
            slots.renew(self._connection, self._lease)
            self._renewed_at = now
        batch = self._receiver.take()
        self._store(batch, now)
        if not 0 <= now - self._fleet_at < FLEET_SECONDS:
            self._fleet_at = now
            self._publisher.fleet(now)
            self._gauges.hosts.set(len(self._shard.hosts))
            self._gauges.failures.set(self._client.failures)
        self._upkeep.run(now)

    def finish(self) -> None:
        """Commit what has been read and say so."""
        self._checkpoint_at = 0.0
        self._store(self._receiver.take(), self._clock())
        self._client.flush(1.0)

    def _read(self) -> None:
        """Wait for the first message, then read in slices until the beat ends or the frame is full."""
        self._receiver.now = self._clock()
        if not self._client.poll(BEAT_SECONDS, FRAME_SAMPLES) and not self._receiver.batch.messages:
            return
        end = time.monotonic() + BEAT_SECONDS
        while (left := end - time.monotonic()) > 0 and len(self._receiver.batch.samples) < FRAME_SAMPLES:
            time.sleep(min(SLICE_SECONDS, left))
            self._client.poll(0.0, FRAME_SAMPLES)

    def _store(self, batch: Batch, now: float) -> None:
        frame = self._frame(batch, now)
        moved = np.empty(0, np.int64)
        newest = np.empty(0, np.int64)
        if frame is not None:
            moved, newest = frames.note_newest(self._shard.hosts, frame)
        self._touched |= batch.touched
        self._moved.update(moved.tolist())
        checkpoint = self._due_checkpoint(moved, now)
        begin = time.perf_counter()
        self._committer.prepare(batch, frame)
        refused = self._committer.commit(batch, frame, checkpoint, now)
        self._count(batch, frame, refused, time.perf_counter() - begin)
        told = set(batch.answers)
        if checkpoint is not None:
            told |= set(checkpoint.streams)
        if told:
            self._gauges.watermarks.inc(self._publisher.watermarks(told))
        if frame is not None:
            self._publisher.health(frame, moved, newest, now)

    def _frame(self, batch: Batch, now: float) -> frames.Frame | None:
        """The frame of the batch; samples out of bounds become rejects."""
        shard = self._shard
        if not len(batch.samples):
            return None
        frame, bad = frames.build(batch.samples, shard.layouts, shard.inputs, shard.figures, shard.profile, now)
        if bad.any():
            batch.rejects += [_out_of_bounds(batch.samples, i) for i in np.flatnonzero(bad).tolist()]
            batch.refused["range"] = batch.refused.get("range", 0) + int(bad.sum())
            frame = frame.part(np.flatnonzero(~bad))
        return frame if len(frame) else None

    def _due_checkpoint(self, moved: "np.ndarray[tuple[int], np.dtype[np.int64]]", now: float) -> Checkpoint | None:
        """Every second for a small fleet, every 12 s for a large one; at once for a host's first score."""
        first = set(moved.tolist()) - self._scored
        every = min(max(len(self._touched) / 200, 1.0), CHECKPOINT_MAX_SECONDS)
        if first:
            self._fleet_at = 0.0  # the fleet has changed: tell it now
        if first or (self._touched and not 0 <= now - self._checkpoint_at < every):
            self._scored |= first
            self._checkpoint_at = now
            checkpoint = Checkpoint(tuple(self._touched), tuple(sorted(self._moved)))
            self._touched, self._moved = set(), set()
            return checkpoint
        return None

    def _count(self, batch: Batch, frame: frames.Frame | None, refused: int, seconds: float) -> None:
        gauges = self._gauges
        gauges.messages.inc(batch.messages)
        gauges.duplicates.inc(batch.duplicates)
        gauges.stripped.inc(batch.stripped)
        for reason, count in batch.refused.items():
            gauges.rejects.labels(reason).inc(count)
        if refused:
            gauges.rejects.labels("database").inc(refused)
        gauges.gaps.inc(sum(gap.to_seq - gap.from_seq + 1 for gap in batch.gaps))
        if frame is not None:
            gauges.frames.inc()
            gauges.samples.inc(len(frame) - refused)
            gauges.points.inc(len(batch.samples.values))
            gauges.commit.observe(seconds)
            fresh = frame.times[frame.times > frame.received_at - 30]
            if len(fresh):
                gauges.lag.observe(max(frame.received_at + seconds - float(fresh.min()), 0.0))


def _out_of_bounds(intake: frames.Intake, i: int) -> rejects.Reject:
    """The reject of sample i, naming the metric and its bounds."""
    layout, stream = intake.layouts[i], intake.streams[i]
    start = sum(len(before.keys) for before in intake.layouts[:i])
    values = np.array(intake.values[start:start + len(layout.keys)])
    wrong = int(np.flatnonzero(frames.outside(values, layout.low, layout.high))[0])
    detail = f"{layout.keys[wrong]} = {values[wrong]:g}; allowed: {layout.low[wrong]:g} to {layout.high[wrong]:g}, finite"
    payload = msgspec.json.encode(dict(zip(layout.keys, values.tolist(), strict=True)))
    return rejects.Reject(stream.host.name, "", "range", detail, payload, stream.epoch, intake.seqs[i])


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
