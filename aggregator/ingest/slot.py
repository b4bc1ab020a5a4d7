"""One slot being ingested, beat by beat: read, commit, publish, keep house."""

import logging
import time

import msgspec
import numpy as np

from aggregator.ingest import upkeep, writers
from aggregator.ingest.alerting import Alerting
from aggregator.ingest.anomalies import Anomalies
from aggregator.ingest.batch import Batch
from aggregator.ingest.collecting import Collecting
from aggregator.ingest.commit import AlertsRefusedError, Checkpoint, Committer
from aggregator.ingest.devices import Devices
from aggregator.ingest.farewells import Farewells
from aggregator.ingest.gauges import Gauges
from aggregator.ingest.intake import Receiver
from aggregator.ingest.outgoing import Publisher
from aggregator.ingest.timekeeping import Timekeeper
from aggregator.live import frame as frames
from aggregator.live.hosts import Stream
from aggregator.live.shard import Shard
from aggregator.store import rejects, slots
from shared import database, logs
from shared.bus import Client
from shared.topics import Topics

log = logs.get("ingest")

BEAT_SECONDS = 0.4
SLICE_SECONDS = 0.1
FRAME_SAMPLES = 2000
BEHIND_SAMPLES = 8000
"""Of a slot that is behind: every round trip to a busy database then serves four times as many."""
RENEW_SECONDS = 1.0
SURE_SECONDS = 2.0
"""What must be left of the lease when publishing begins: no database refuses a message that comes too late."""
DEAF_SECONDS = 5.0
"""Without a broker for so long, the slot is left to a standby that has one."""
HELD_UP_SECONDS, EXCUSED_SECONDS = 5.0, 300.0
"""After a beat that took longer, hosts are given time before they are called silent; not again within so long."""
CHECKPOINT_MAX_SECONDS = 12.0
FLEET_SECONDS = 10.0


class TimeJumpedError(Exception):
    """The database's clock was set: times held in memory are of another time, so the slot must be loaded anew."""


class DeafError(Exception):
    """No broker can be reached from here, but another process stands by that reaches one."""


class Slot:
    """One slot being ingested: the parts and the clocks of one ownership."""

    def __init__(self, connection: database.Connection, lease: slots.Lease, shard: Shard, receiver: Receiver,
                 client: Client, topics: Topics, gauges: Gauges, clock: Timekeeper, devices: Devices) -> None:
        self._connection, self._lease, self._shard, self._receiver = connection, lease, shard, receiver
        self._client, self._gauges, self._clock, self._devices = client, gauges, clock, devices
        self._committer = Committer(connection, lease, shard)
        self._publisher = Publisher(client, topics, shard)
        self._alerting = Alerting(connection, lease, shard, client, topics, gauges)
        self._anomalies = Anomalies(connection, lease, shard, client, topics, gauges, clock()) if shard.detects else None
        self._collecting = Collecting(connection, lease, shard, client, topics)
        self._farewells = Farewells(connection, lease, client, topics, devices.prefix)
        self._upkeep = upkeep.Upkeep(connection, lease, self._committer, gauges)
        self._room = FRAME_SAMPLES
        self._touched: set[Stream] = set(shard.unsaved)
        self._heard: set[int] = set()
        self._met: set[int] = set(np.flatnonzero(shard.hosts.newest_ts > 0).tolist())
        self._checkpoint_at = self._fleet_at = self._held_to = 0.0
        self._connected_at = self._listened_at = clock.steady()
        self._excused_at = self._listened_at - EXCUSED_SECONDS
        client.may_publish = self._may_publish
        self._is_unsaid = False
        self.has_committed = False
        self._upkeep.rooms_at = clock()

    def beat(self) -> None:
        """Read for a beat, commit, publish, keep house."""
        self._read()
        self._hold(slots.LEASE_SECONDS - RENEW_SECONDS)
        self._listen()
        now = self._clock()
        batch = self._receiver.take()
        self._alerting.hear(batch, now)
        self._store(batch, now)
        if not 0 <= now - self._fleet_at < FLEET_SECONDS:
            self._fleet_at = now
            self._publisher.fleet(now)
            self._gauges.hosts.set(len(self._shard.hosts))
            self._gauges.failures.set(self._client.failures)
        if self._anomalies is not None:
            self._anomalies.keep(now)
        self._devices.tell(self._connection)
        self._farewells.tell(now)
        self._collecting.tell()
        self._upkeep.run(now)

    def _hold(self, seconds: float) -> None:
        """Renew the lease where less than `seconds` of it are left. Raises LeaseLostError and TimeJumpedError."""
        asked = self._clock.steady()
        if self._held_to - asked >= seconds:
            return
        step = self._clock.hear(slots.renew(self._connection, self._lease))
        self._held_to = asked + slots.LEASE_SECONDS
        if step:
            logs.event(log, "the database's clock was set, the slot is loaded anew", logging.WARNING, seconds=round(step, 1))
            raise TimeJumpedError
        if self._is_unsaid:  # still ours: what was not said is said with a new connection
            self._is_unsaid = False
            self._client.drop()

    def _may_publish(self) -> bool:
        """Whether the lease holds now: who was stopped just before a message must not send it over those of a new owner."""
        is_held = self._clock.steady() < self._held_to
        self._is_unsaid |= not is_held
        return is_held

    def _listen(self) -> None:
        """Raises DeafError where a standby would hear more."""
        before = self._listened_at
        at = self._listened_at = self._clock.steady()
        if at - before > HELD_UP_SECONDS and at - self._excused_at > EXCUSED_SECONDS:
            self._excused_at = at
            self._alerting.excuse()
        if self._client.is_connected:
            self._connected_at = at
        elif at - self._connected_at >= DEAF_SECONDS:
            self._connected_at = at
            if slots.has_heir(self._connection):
                raise DeafError

    def finish(self) -> None:
        """Commit what has been read and say so."""
        self._checkpoint_at = 0.0
        self._store(self._receiver.take(), self._clock())
        self._client.flush(1.0)
        self._alerting.finish()
        if self._anomalies is not None:
            self._anomalies.finish()

    def _read(self) -> None:
        """Wait for the first message, then read in slices until the beat ends or the frame is full."""
        self._receiver.now = self._clock()
        if not self._client.poll(BEAT_SECONDS, self._room) and not self._receiver.batch.messages:
            return
        end = time.monotonic() + BEAT_SECONDS
        while (left := end - time.monotonic()) > 0 and len(self._receiver.batch.samples) < self._room:
            time.sleep(min(SLICE_SECONDS, left))
            self._client.poll(0.0, self._room)
        self._room = room_after(self._room, len(self._receiver.batch.samples))

    def _store(self, batch: Batch, now: float) -> None:
        frame = self._frame(batch, now)
        moved = np.empty(0, np.int64)
        newest = np.empty(0, np.int64)
        if frame is not None:
            moved, newest = frames.note_newest(self._shard.hosts, frame)
        self._touched |= batch.touched
        self._heard |= {host.row for host in frame.hosts} if frame is not None else set()
        checkpoint = self._due_checkpoint(moved, now)
        begin = time.perf_counter()
        self._committer.prepare(batch, frame)
        if self._anomalies is not None:
            self._anomalies.judge(now)
        self._alerting.judge(batch, frame, now)
        pieces = [*self._alerting.pieces(), *(self._anomalies.pieces() if self._anomalies is not None else ())]
        refused = self._committer.commit(batch, frame, checkpoint, now, self._alerting.piece(), pieces)
        if self._alerting.failed:
            raise AlertsRefusedError(self._alerting.failed)
        self.has_committed = self.has_committed or frame is not None
        self._count(batch, frame, refused, time.perf_counter() - begin)
        self._hold(SURE_SECONDS)
        told = set(batch.answers)
        if checkpoint is not None:
            told |= set(checkpoint.streams)
        if told:
            self._gauges.watermarks.inc(self._publisher.watermarks(told))
        self._devices.changed(batch.inventories)
        self._collecting.changed(batch.inventories)
        self._alerting.tell(now)
        if self._anomalies is not None:
            self._anomalies.tell(now)
        if frame is not None:
            self._publisher.health(frame, moved, newest, now)

    def _frame(self, batch: Batch, now: float) -> frames.Frame | None:
        """The frame of the batch; samples out of bounds become rejects."""
        shard = self._shard
        if not len(batch.samples):
            return None
        frame, bad = frames.build(batch.samples, shard.layouts, shard.inputs, shard.figures, shard.profile, now,
                                  shard.hosts.unusual)
        if bad.any():
            batch.rejects += [_out_of_bounds(batch.samples, i) for i in np.flatnonzero(bad).tolist()]
            batch.refused["range"] = batch.refused.get("range", 0) + int(bad.sum())
            frame = frame.part(np.flatnonzero(~bad))
        return frame if len(frame) else None

    def _due_checkpoint(self, moved: "np.ndarray[tuple[int], np.dtype[np.int64]]", now: float) -> Checkpoint | None:
        """Every second for a small fleet, every 12 s for a large one; at once for a host's first sample."""
        first = set(moved.tolist()) - self._met
        every = min(max(len(self._touched) / 200, 1.0), CHECKPOINT_MAX_SECONDS)
        if first:
            self._fleet_at = 0.0  # the fleet has changed: tell it now
        if first or (self._touched and not 0 <= now - self._checkpoint_at < every):
            self._met |= first
            self._checkpoint_at = now
            checkpoint = Checkpoint(tuple(self._touched), tuple(sorted(self._heard)))
            self._touched, self._heard = set(), set()
            return checkpoint
        return None

    def _count(self, batch: Batch, frame: frames.Frame | None, refused: int, seconds: float) -> None:
        gauges = self._gauges
        gauges.messages.inc(batch.messages)
        gauges.duplicates.inc(batch.duplicates)
        gauges.stripped.inc(batch.stripped)
        gauges.new_epochs.inc(len(batch.new_epochs))
        writers.say_new_epochs(batch.new_epochs)
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


def room_after(room: int, taken: int) -> int:
    """How many samples the next frame takes at most, after one with this room took so many: a full one tells of more. Pure."""
    return min(2 * room, BEHIND_SAMPLES) if taken >= room else FRAME_SAMPLES


def _out_of_bounds(intake: frames.Intake, i: int) -> rejects.Reject:
    """The reject of sample i, naming the metric and its bounds."""
    layout, stream = intake.layouts[i], intake.streams[i]
    start = sum(len(before.keys) for before in intake.layouts[:i])
    values = np.array(intake.values[start:start + len(layout.keys)])
    wrong = int(np.flatnonzero(frames.outside(values, layout.low, layout.high))[0])
    detail = f"{layout.keys[wrong]} = {values[wrong]:g}; allowed: {layout.low[wrong]:g} to {layout.high[wrong]:g}, finite"
    payload = msgspec.json.encode(dict(zip(layout.keys, values.tolist(), strict=True)))
    return rejects.Reject(stream.host.name, "", "range", detail, payload, stream.epoch, intake.seqs[i])
