"""One batch into Postgres, in one transaction fenced by the lease.

Order inside: fence, minutes that have closed, samples, late marks, refusals, gaps, states, inventories, snapshots,
checkpoint, alerts. What the database refuses is found by bisection and becomes a reject; its neighbours are stored.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
import numpy as np

from aggregator.ingest.batch import Batch, Snapshot, state_rows
from aggregator.live.frame import Frame
from aggregator.live.hosts import Stream
from aggregator.live.minutes import MinuteRow, frame_rows, late
from aggregator.live.shard import Shard
from aggregator.store import collecting, hosts, layouts, rejects, rollups, samples, slots, streams
from shared import logs, wire
from shared.database import Connection, Refused

log = logs.get("ingest")

T = TypeVar("T")

MINUTE_GRACE_SECONDS = 15.0
"""How long after its end a minute stays open: for beats, clocks that are behind, and a short resend."""
LATE_WAIT_SECONDS = 45.0
"""How long late samples may gather before their rollups are made again."""
TOGETHER = 500
"""Inventories or snapshots written at once: after a takeover the broker repeats those of the whole fleet."""


class AlertsRefusedError(Exception):
    """What ingest holds in memory of alerts is not what the tables have: load them anew. Samples have been stored."""


@dataclasses.dataclass(frozen=True, slots=True)
class Checkpoint:
    """Positions and newest figures to write: streams touched and rows (of Hosts) moved since the last one."""

    streams: Sequence[Stream]
    rows: Sequence[int]


@dataclasses.dataclass(slots=True, eq=False)
class Committer:
    """Writes the batches of one slot.

    `late_known`: (host id, hour) marked in rollup_due with the span marked; `marking`: what the transaction under way marks.
    """

    connection: Connection
    lease: slots.Lease
    shard: Shard
    late_known: dict[tuple[int, int], tuple[int, int]] = dataclasses.field(default_factory=dict)
    marking: dict[tuple[int, int], tuple[int, int]] = dataclasses.field(default_factory=dict)

    def prepare(self, batch: Batch, frame: Frame | None) -> None:
        """Give ids to hosts and layouts met for the first time, in a transaction of their own; harmless if nothing follows."""
        known = self.shard.hosts
        missing = [name for name in sorted(batch.host_names()) if (host := known.get(name)) is None or not host.id]
        if missing:
            for name, host_id in hosts.ensure(self.connection, missing).items():
                known.add(name).id = host_id
        if frame is not None:
            new = {layout.digest: layout for layout in frame.layouts if not layout.id}
            if new:
                ids = layouts.ensure(self.connection, [(key, layout.keys) for key, layout in new.items()])
                for key, layout_id in ids.items():
                    new[key].id = layout_id

    def commit(self, batch: Batch, frame: Frame | None, checkpoint: Checkpoint | None, now: float,
               alerts: "Piece | None" = None, others: Sequence["Piece"] = ()) -> int:
        """Store everything of a batch, its changes of alerts included; the number of samples that the database refused.

        Raises LeaseLostError when the slot is another's, AlertsRefusedError, and database.Unavailable.
        """
        closing = self.shard.minutes.due(now, MINUTE_GRACE_SECONDS)
        pieces = [*self._pieces(batch, checkpoint, now), *others]
        refused, alerts_refused = 0, ""
        try:
            self._transaction([*self._minutes(closing, now), *self._samples(frame, closing, now), *pieces,
                               *([alerts] if alerts else [])])
        except Refused as error:
            logs.event(log, "database refused a batch, taking it apart", logging.WARNING, error=_first_line(error))
            refused = self._apart(closing, frame, [*self._pieces(batch, checkpoint, now, 1), *others], now)
            alerts_refused = self._alone(alerts) if alerts else ""
        self.shard.minutes.close(closing)
        self.shard.active_hosts = {hour: ids for hour, ids in self.shard.active_hosts.items() if hour + 3600 > closing}
        if frame is not None:
            self.shard.minutes.fold(frame_rows(frame))
        if alerts_refused:
            raise AlertsRefusedError(alerts_refused)
        return refused

    def _apart(self, closing: int, frame: Frame | None, pieces: Sequence["Piece"], now: float) -> int:
        """Each piece in a transaction of its own, the frame bisected."""
        self._transaction(self._minutes(closing, now))
        refused = [] if frame is None else self._bisect(frame, np.arange(len(frame)), closing, now)
        lost = [_refused_sample(frame, i, reason) for i, reason in refused] if frame is not None else []
        at = datetime.fromtimestamp(now, UTC)
        for piece in [lambda cursor: rejects.write(cursor, lost, at), *pieces]:
            self._alone(piece)
        return len(refused)

    def _alone(self, piece: "Piece") -> str:
        """One piece in a transaction of its own; why the database refused it, if it did."""
        try:
            self._transaction([piece])
        except Refused as error:
            logs.event(log, "database refused a piece", logging.ERROR, error=_first_line(error))
            return _first_line(error)
        return ""

    def _bisect(self, frame: Frame, chosen: "np.ndarray[Any, np.dtype[np.int64]]", closing: int,
                now: float) -> list[tuple[int, str]]:
        try:
            self._transaction(self._samples(frame.part(chosen), closing, now))
        except Refused as error:
            if len(chosen) == 1:
                return [(int(chosen[0]), _first_line(error))]
            middle = len(chosen) // 2
            return (self._bisect(frame, chosen[:middle], closing, now)
                    + self._bisect(frame, chosen[middle:], closing, now))
        return []

    def _transaction(self, pieces: Sequence["Piece"]) -> None:
        if not pieces:
            return
        self.marking = {}
        with slots.fenced(self.connection, self.lease) as cursor:
            for piece in pieces:
                piece(cursor)
        self.late_known |= self.marking

    def _minutes(self, closing: int, now: float) -> list["Piece"]:
        """Write the minutes before `closing`, and mark the hours that end with them."""
        minutes, shard = self.shard.minutes, self.shard
        if closing == minutes.closed_to:
            return []
        pieces: list[Piece] = []
        for start in minutes.before(closing):
            pieces.append(lambda cursor, start=start: rollups.write_minute(  # type: ignore[misc]
                cursor, start, (_minute_row(row) for row in minutes.rows(start))))
            shard.active_hosts.setdefault(start - start % 3600, set()).update(minutes.host_ids(start))
        pieces.append(lambda cursor: rollups.write_closed_to(cursor, self.lease, closing))
        for hour in rollups.hours_between(minutes.closed_to, closing):
            active = self._active(hour)
            pieces.append(lambda cursor, hour=hour, active=active: rollups.write_hour_due(  # type: ignore[misc]
                cursor, active, hour, now))
        return pieces

    def _active(self, hour: int) -> list[int]:
        """Hosts whose hour is to be rolled up; at the end of a day all of them, since the day's row is made with its hours'."""
        if (hour + 3600) % 86_400 == 0:
            return [host.id for host in self.shard.hosts if host.id]
        return sorted(self.shard.active_hosts.get(hour, ()))

    def _samples(self, frame: Frame | None, closing: int, now: float) -> list["Piece"]:
        if frame is None or not len(frame):
            return []
        fresh = {key: span for key, span in late(frame, closing).items()
                 if not _covers(self.late_known.get(key), span)}
        pieces: list[Piece] = [lambda cursor: _write_samples(cursor, frame)]
        if fresh:
            pieces.append(lambda cursor: self._mark_late(cursor, fresh, now))
        return pieces

    def _mark_late(self, cursor: samples.Cursor, fresh: dict[tuple[int, int], tuple[int, int]], now: float) -> None:
        rollups.write_due(cursor, fresh, now + LATE_WAIT_SECONDS)
        self.marking = fresh

    def _pieces(self, batch: Batch, checkpoint: Checkpoint | None, now: float, size: int = TOGETHER) -> list["Piece"]:
        """What a batch brings beside samples; what hosts say of themselves in parts of `size`."""
        at = datetime.fromtimestamp(now, UTC)
        ids = {name: host.id for name in batch.host_names() if (host := self.shard.hosts.get(name)) is not None}
        pieces: list[Piece] = []
        if batch.rejects:
            pieces.append(lambda cursor: rejects.write(cursor, batch.rejects, at))
        if batch.gaps:
            rows = [(self._host_id(gap.host_row), gap.epoch, gap.from_seq, gap.to_seq, gap.reason) for gap in batch.gaps]
            pieces.append(lambda cursor: streams.write_gaps(cursor, rows))
        if batch.states:
            pieces.append(lambda cursor: hosts.write_states(cursor, state_rows(batch, ids)))
        pieces += [functools.partial(_write_inventories, ids=ids, told=part)
                   for part in _parts(list(batch.inventories.items()), size)]
        pieces += [functools.partial(_write_snapshots, ids=ids, told=part)
                   for part in _parts(list(batch.snapshots.items()), size)]
        if checkpoint is not None:
            pieces.append(lambda cursor: self._write_checkpoint(cursor, checkpoint, at))
        return pieces

    def _write_checkpoint(self, cursor: samples.Cursor, checkpoint: Checkpoint, at: datetime) -> None:
        ordered = sorted(checkpoint.streams, key=lambda stream: (stream.host.id, stream.epoch))
        streams.checkpoint(cursor, self.lease, [
            streams.StoredStream(stream.host.id, stream.epoch, stream.contiguous, sorted(stream.ahead))
            for stream in ordered], at)
        known = self.shard.hosts
        rows = np.array(sorted(checkpoint.rows, key=lambda row: known.all[row].id), np.int64)
        hosts.write_now(cursor, hosts.Newest(
            known.ids(rows), known.newest_ts[rows].tolist(), known.received_at[rows].tolist(), known.interval[rows].tolist(),
            *known.figures[rows].T.tolist()))

    def _host_id(self, row: int) -> int:
        return self.shard.hosts.all[row].id


Piece = Callable[[samples.Cursor], None]


def _write_samples(cursor: samples.Cursor, frame: Frame) -> None:
    samples.write(cursor, [host.id for host in frame.hosts], [layout.id for layout in frame.layouts],
                  frame.times.tolist(), frame.received_at, [stream.epoch for stream in frame.streams], frame.seqs,
                  frame.values, frame.starts.tolist(), frame.sizes.tolist())


def _parts(told: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (told[start:start + size] for start in range(0, len(told), size))


def _write_inventories(cursor: samples.Cursor, ids: Mapping[str, int], told: Sequence[tuple[str, wire.Inventory]]) -> None:
    hosts.write_inventories(cursor, [(ids[name], inventory.ts, wire.encode(inventory), msgspec.json.encode(inventory.labels))
                                     for name, inventory in told])
    collecting.write_applied(cursor, [(ids[name], inventory.config_revision, inventory.config_problem)
                                      for name, inventory in told])


def _write_snapshots(cursor: samples.Cursor, ids: Mapping[str, int],
                     told: Sequence[tuple[tuple[str, str], Snapshot]]) -> None:
    hosts.write_snapshots(cursor, [(ids[name], kind, snapshot.ts, wire.encode(snapshot)) for (name, kind), snapshot in told])


def _minute_row(row: MinuteRow) -> rollups.MinuteRow:
    return row.host_id, row.layout_id, row.count, row.low, row.mean, row.high


def _refused_sample(frame: Frame, i: int, reason: str) -> rejects.Reject:
    stream = frame.streams[i]
    return rejects.Reject(stream.host.name, "", "database", reason, b"", stream.epoch, frame.seqs[i])


def _covers(known: tuple[int, int] | None, span: tuple[int, int]) -> bool:
    return known is not None and known[0] <= span[0] and known[1] >= span[1]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
