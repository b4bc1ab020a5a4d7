"""The agent's memory on disk: every sample in append-only segments until the aggregator has confirmed it.

Files of the directory: `lock` (one writer), `epoch` (16 hex digits, made with the spool), `state` (bookmark), and
segments named after their first seq. Bounded by bytes and age: the oldest segment goes first and its loss is counted.
The last segment is never removed, since it holds the last seq; a seq is never used twice, whatever was trimmed or torn.
What is confirmed stays for a while, so that a database restored from a backup can be filled again.

A full disk: the oldest segment makes room; where that does not help, `append` says False, the sample travels live only,
and its seq is a hole. Ages are counted on the monotonic clock, so a clock that jumps drops nothing.
"""

import bisect
import contextlib
import dataclasses
import errno
import logging
import math
import os
import secrets
from pathlib import Path
from typing import Self

from agent import framing
from agent.bookmark import Bookmark
from agent.holes import Holes
from agent.segments import Segment, SpoolError, open_lock, read_segments, write_durably
from shared import logs, wire

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds in bytes and seconds: of all, of what is confirmed, of a segment; and how often the disk is waited for."""

    max_bytes: int = 256 << 20
    max_seconds: float = 7 * 86_400.0
    kept_bytes: int = 64 << 20
    kept_seconds: float = 86_400.0
    segment_bytes: int = 1 << 20
    fsync_seconds: float = 1.0
    fsync_records: int = 100


class Spool:
    """Use from one thread. `now` is always the monotonic clock, in seconds."""

    def __init__(self, directory: Path, limits: Limits, now: float, boot_id: str = "") -> None:
        """Open or make the spool in `directory`. Raises SpoolError."""
        self.directory, self._limits = directory, limits
        self.dropped = self.unspooled = self.damaged = 0
        self._log = logs.get("spool")
        boot_id = boot_id.replace("-", "")
        self._holes = Holes()
        self._cache: tuple[int, int, bytes, list[framing.Record]] | None = None
        self._file = -1
        self._unsynced, self._synced_at, self._is_failing = 0, -math.inf, False
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)
            self._lock = open_lock(directory / "lock")
        except OSError as error:
            raise SpoolError(f"spool {directory}: {error.strerror}; give another directory with --data") from None
        try:
            self._bookmark = Bookmark(directory / "state")
            self._segments = read_segments(directory, now)
            self.epoch = self._read_epoch()
            self._recover(boot_id)
            self._bookmark.write()
        except OSError as error:
            os.close(self._lock)
            raise SpoolError(f"spool {directory}: {error.strerror}; give another directory with --data") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def confirmed(self) -> int:
        """Everything up to this seq is stored at the aggregator, as far as is known here."""
        return self._bookmark.confirmed

    @property
    def newest(self) -> int:
        """The last seq given out; 0 when there was none."""
        return self._next - 1

    @property
    def oldest(self) -> int:
        """The lowest seq held; past a hole right after `confirmed`, so that the aggregator learns of what is lost.

        0: nothing is held and nothing was lost.
        """
        hole = self._holes.end_of(self.confirmed + 1)
        if hole is not None:
            return hole + 1
        nothing = self._next if self.pending else 0
        return next((segment.first for segment in self._segments if segment.last), nothing)

    @property
    def pending(self) -> int:
        """How many samples are not known to be stored."""
        return max(0, self.newest - self.confirmed)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(segment.size for segment in self._segments)

    def append(self, payload: bytes, now: float) -> bool:
        """Give `payload` the next seq and write it; False where the disk refuses: then it exists only here and now."""
        seq = self._next
        record = framing.framed(seq, payload)
        self._next += 1
        while not (is_written := self._written(record, seq, now)) and len(self._segments) > 1 and self._is_full:
            self._drop_oldest("disk full")
        if not is_written:
            self._miss(seq)
        self._trim(now)
        return is_written

    def confirm(self, seq: int, now: float) -> None:
        """The aggregator holds everything up to `seq` (lower than before: it was restored from a backup)."""
        if seq > self.newest:
            logs.event(self._log, "the aggregator knows later samples of this spool; going on after them",
                       logging.WARNING, newest=self.newest, stored=seq)
            self._next, self._bookmark.used = seq + 1, seq
            if self._segments and self._segments[-1].last:
                self._close_segment()
        self._bookmark.confirmed = seq
        with contextlib.suppress(OSError):
            self._bookmark.write()
        self._trim(now)

    def read(self, first: int, count: int) -> list[tuple[int, bytes]]:
        """Up to `count` records from seq `first` on, oldest first; none at the end. Damaged ones are passed over."""
        while (segment := self._segment_of(first)) is not None:
            data, found = self._indexed(segment)
            at = bisect.bisect_left(found, first, key=lambda record: record.seq)
            if at < len(found):
                return [(record.seq, data[record.start:record.end]) for record in found[at:at + count]]
            first = segment.last + 1
        self._cache = None
        return []

    def forget_cache(self) -> None:
        """Let go of the segment last read from."""
        self._cache = None

    def close(self) -> None:
        """Write everything through and let the next one in."""
        with contextlib.suppress(OSError):
            self._sync(0.0)
            self._bookmark.reserved = 0
            self._bookmark.write(is_durable=True)
        self._close_segment()
        self._bookmark.close()
        os.close(self._lock)

    _is_full = False

    def _written(self, record: bytes, seq: int, now: float) -> bool:
        self._is_full = False
        try:
            segment = self._segment_for(len(record), seq, now)
            self._write_whole(record, segment)
        except OSError as error:
            self._is_full = error.errno in _FULL
            self._report(error)
            return False
        segment.size, segment.last, segment.at = segment.size + len(record), seq, now
        try:
            self._sync_when_due(seq, now)
        except OSError as error:
            self._report(error)
        else:
            self._report(None)
        return True

    def _write_whole(self, record: bytes, segment: Segment) -> None:
        try:
            done = os.write(self._file, record)
        except OSError:
            self._cut_back(segment)
            raise
        if done < len(record):
            self._cut_back(segment)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _cut_back(self, segment: Segment) -> None:
        """Take back a record that was written in part; where not even that works, leave the file alone for good."""
        try:
            os.ftruncate(self._file, segment.size)
        except OSError:
            self._close_segment()
            if not segment.last:
                self._segments.remove(segment)

    def _segment_for(self, size: int, seq: int, now: float) -> Segment:
        last = self._segments[-1] if self._segments else None
        if last is not None and self._file >= 0 and (not last.last or (
                last.size + size <= self._limits.segment_bytes and now - last.made_at < self._limits.max_seconds / 8)):
            if not last.last:
                last.first = min(last.first, seq)
            return last
        self._sync(now)
        self._close_segment()
        path = self.directory / f"{seq:020d}.seg"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        segment = Segment(path, seq, 0, 0, now, now)
        self._segments.append(segment)
        return segment

    def _sync_when_due(self, seq: int, now: float) -> None:
        self._unsynced += 1
        if self._unsynced >= self._limits.fsync_records or now - self._synced_at >= self._limits.fsync_seconds:
            self._sync(now)
        elif self._bookmark.reserved < seq:
            self._bookmark.reserved = seq + self._limits.fsync_records
            self._bookmark.write(is_durable=True)

    def _sync(self, now: float) -> None:
        if self._file >= 0 and self._unsynced:
            os.fdatasync(self._file)
        self._unsynced, self._synced_at = 0, now

    def _miss(self, seq: int) -> None:
        self.unspooled += 1
        self._holes.add(seq, seq)
        self._bookmark.used = max(self._bookmark.used, seq)
        with contextlib.suppress(OSError):
            self._bookmark.write()

    def _report(self, error: OSError | None) -> None:
        if error is not None and not self._is_failing:
            logs.event(self._log, "cannot write; samples travel live only until this is mended", logging.WARNING,
                       directory=self.directory, error=error.strerror)
        elif error is None and self._is_failing:
            logs.event(self._log, "writes again", directory=self.directory, unspooled=self.unspooled)
        self._is_failing = error is not None

    def _trim(self, now: float) -> None:
        limits = self._limits
        while len(self._segments) > 1:
            first = self._segments[0]
            is_confirmed, age = first.last <= self.confirmed, now - first.at
            if is_confirmed and (age > limits.kept_seconds or self._confirmed_bytes() > limits.kept_bytes):
                self._unlink_oldest()
            elif self.size > limits.max_bytes or age > limits.max_seconds:
                self._drop_oldest("full" if self.size > limits.max_bytes else "too old")
            else:
                return

    def _confirmed_bytes(self) -> int:
        return sum(segment.size for segment in self._segments[:-1] if segment.last <= self.confirmed)

    def _drop_oldest(self, reason: str) -> None:
        segment = self._segments[0]
        lost = max(0, segment.last - max(self.confirmed, segment.first - 1))
        self.dropped += lost
        if lost:
            logs.event(self._log, "dropped samples that were not confirmed", logging.WARNING, reason=reason,
                       samples=lost, dropped=self.dropped)
        self._unlink_oldest()

    def _unlink_oldest(self) -> None:
        segment = self._segments.pop(0)
        with contextlib.suppress(OSError):
            segment.path.unlink()

    def _close_segment(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _segment_of(self, seq: int) -> Segment | None:
        at = bisect.bisect_left(self._segments, seq, key=lambda segment: segment.last or self._next)
        return self._segments[at] if at < len(self._segments) and self._segments[at].last else None

    def _indexed(self, segment: Segment) -> tuple[bytes, list[framing.Record]]:
        if self._cache is not None and self._cache[:2] == (segment.first, segment.size):
            return self._cache[2:]
        try:
            data = segment.path.read_bytes()[:segment.size]
        except OSError as error:
            self._report(error)
            data = b""
        found = list(framing.records(data, segment.first))
        expected = segment.first
        for record in found:
            self._add_damage(expected, record.seq - 1)
            expected = record.seq + 1
        self._add_damage(expected, segment.last)
        self._cache = (segment.first, segment.size, data, found)
        return data, found

    def _add_damage(self, start: int, end: int) -> None:
        if self._holes.add(start, end) and end > self.confirmed:
            self.damaged += end - start + 1
            logs.event(self._log, "samples are missing in the spool", logging.WARNING, first=start, last=end)

    def _read_epoch(self) -> str:
        path = self.directory / "epoch"
        with contextlib.suppress(OSError, wire.WireError, UnicodeDecodeError):
            epoch = path.read_text().strip()
            wire.check_epoch(epoch)
            return epoch
        epoch = self._epoch_of_records()
        if not epoch:
            self._start_afresh()
            epoch = secrets.token_hex(8)
        write_durably(path, epoch)
        return epoch

    def _epoch_of_records(self) -> str:
        for segment in self._segments:
            for record in framing.records(data := segment.path.read_bytes(), segment.first):
                if (found := wire.identity(data[record.start:record.end])) is not None:
                    return found[0]
        return ""

    def _start_afresh(self) -> None:
        """No epoch can be known: what is here cannot be told from another host's, and a new epoch counts from 1."""
        while self._segments:
            self._unlink_oldest()
        self._bookmark.confirmed = self._bookmark.used = self._bookmark.reserved = 0

    def _recover(self, boot_id: str) -> None:
        """Cut a torn tail, and go on after every seq that may have been used."""
        used = max(self._bookmark.used, self._bookmark.confirmed)
        if not boot_id or boot_id != self._bookmark.boot_id:
            used = max(used, self._bookmark.reserved)
        last = 0
        if self._segments:
            last, possible = self._cut_tail(self._segments[-1])
            used = max(used, possible)
            self._open_last()
        self._next = max(last, used) + 1
        self._holes.add(last + 1, self._next - 1)
        self._bookmark.boot_id, self._bookmark.used = boot_id, max(self._bookmark.used, used)

    def _cut_tail(self, segment: Segment) -> tuple[int, int]:
        data = segment.path.read_bytes()
        found = list(framing.records(data, segment.first))
        last, end = (found[-1].seq, found[-1].end) if found else (segment.first - 1, 0)
        if end < len(data):
            os.truncate(segment.path, end)
            logs.event(self._log, "cut a torn tail", logging.WARNING, file=segment.path.name, bytes=len(data) - end)
        segment.size, segment.last = end, found[-1].seq if found else 0
        return last, framing.possibly_used(data[end:], last)

    def _open_last(self) -> None:
        self._file = os.open(self._segments[-1].path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
