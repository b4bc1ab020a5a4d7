"""The agent's memory on disk: every sample in append-only segments until the aggregator has confirmed it.

Files of the directory: `lock` (one writer), `epoch` (whose it is, see `identity`), `state` (bookmark), and segments named
after their first seq. Bounded by bytes and age: the oldest segment goes first and its loss is counted.
The last segment is never removed, since it holds the last seq; a seq is never used twice, whatever was trimmed or torn.
What is confirmed stays for a while, so that a database restored from a backup can be filled again.

A full disk: the oldest segment makes room; where that does not help, `append` says False, the sample travels live only,
and its seq is a hole. Ages are counted on the monotonic clock, so a clock that jumps drops nothing. No call waits for the
disk but the first and the last: see `durability`.
"""

import contextlib
import dataclasses
import errno
import logging
import os
from pathlib import Path
from typing import Self

from agent import framing
from agent.bookmark import Bookmark
from agent.durability import Durability
from agent.holes import Holes
from agent.recovery import recover
from agent.segment_reader import SegmentReader
from agent.segments import Segment, SpoolError, is_removed, open_lock
from shared import logs

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds in bytes and seconds: of all, of what is confirmed, of a segment; and how often the disk is waited for.

    `ahead_records`: seqs set aside at a time, so as many at most are skipped after a crash of the machine.
    """

    max_bytes: int = 256 << 20
    max_seconds: float = 7 * 86_400.0
    kept_bytes: int = 64 << 20
    kept_seconds: float = 86_400.0
    segment_bytes: int = 1 << 20
    fsync_seconds: float = 1.0
    fsync_records: int = 100
    ahead_records: int = 100


class Spool:
    """Use from one thread. `now` is always the monotonic clock, in seconds."""

    def __init__(self, directory: Path, limits: Limits, now: float, boot_id: str = "",
                 machine: str = "") -> None:
        """Open or make the spool in `directory`; `machine` as `identity.read_machine` says. Raises SpoolError."""
        self.directory, self._limits = directory, limits
        self.dropped = self.unspooled = 0
        self._log = logs.get("spool")
        self._holes = Holes()
        self._file, self._is_failing, self._is_full = -1, False, False
        self._undeleted: list[Segment] = []
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)
            self._lock = open_lock(directory / "lock")
        except OSError as error:
            raise SpoolError(f"spool {directory}: {error.strerror}; give another directory with --data") from None
        try:
            self._open(boot_id.replace("-", ""), machine, now)
        except OSError as error:
            os.close(self._lock)
            raise SpoolError(f"spool {directory}: {error.strerror}; give another directory with --data") from None

    def _open(self, boot_id: str, machine: str, now: float) -> None:
        self._bookmark = Bookmark(self.directory / "state")
        found = recover(self.directory, self._bookmark, boot_id, machine, now)
        self.epoch, self._segments, self._next = found.epoch, found.segments, found.newest + 1
        self._holes.add(found.last + 1, found.newest)
        if self._segments:
            self._file = os.open(self._segments[-1].path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self._reader = SegmentReader(self._segments, self._add_damage, self._report_unread)
        self._durability = Durability(self._bookmark, seconds=self._limits.fsync_seconds,
                                      records=self._limits.fsync_records, ahead=self._limits.ahead_records)
        self._durability.reserve(self.newest, is_waiting=True)
        if self._durability.error is not None:
            raise self._durability.error

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
    def safe(self) -> int:
        """Samples up to this seq may be sent: even after a crash of the machine theirs are not given out again.

        Behind `newest` only while the disk answers nothing for long; where it refuses, samples travel all the same.
        """
        return self.newest if self._is_failing else self._durability.safe

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
        return sum(segment.size for segment in (*self._segments, *self._undeleted))

    def append(self, payload: bytes, now: float) -> bool:
        """Give `payload` the next seq and write it; False where the disk refuses: then it exists only here and now."""
        seq = self._next
        record = framing.framed(seq, payload)
        self._next += 1
        while not (is_written := self._written(record, seq, now)) and self._may_make_room():
            self._drop_oldest("disk full")
        if not is_written:
            self._miss(seq)
        self._trim(now)
        return is_written

    def confirm(self, seq: int, now: float) -> None:
        """The aggregator holds everything up to `seq` (lower than before: it was restored from a backup)."""
        if seq > self.newest:
            logs.event(self._log, "the aggregator knows later samples of this spool; going on after them",
                       logging.WARNING, newest=self.newest, stored=seq, lost_at_most=self.pending)
            self._next, self._bookmark.used = seq + 1, seq
            if self._segments and self._segments[-1].last:
                self._close_segment()
        self._bookmark.confirmed = seq
        with contextlib.suppress(OSError):
            self._bookmark.write()
        self._durability.reserve(self.newest)
        self._trim(now)

    def read(self, first: int, count: int) -> list[tuple[int, bytes]]:
        """Up to `count` records from seq `first` on, oldest first; none at the end. Damaged ones are passed over."""
        return self._reader.read(first, count)

    def forget_cache(self) -> None:
        """Let go of the segment last read from."""
        self._reader.forget()

    def close(self) -> None:
        """Write everything through and let the next one in."""
        self._close_segment()
        with contextlib.suppress(OSError):
            self._durability.close()
        self._bookmark.close()
        os.close(self._lock)

    def _may_make_room(self) -> bool:
        """Whether dropping the oldest segment may help: a full disk, and a directory from which segments can be removed."""
        return self._is_full and len(self._segments) > 1 and not self._undeleted

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
        self._durability.written(self._file, seq, now)
        self._report(self._durability.error)
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
                self._remove(segment)

    def _segment_for(self, size: int, seq: int, now: float) -> Segment:
        last = self._segments[-1] if self._segments else None
        if last is not None and self._file >= 0 and (not last.last or (
                last.size + size <= self._limits.segment_bytes and now - last.made_at < self._limits.max_seconds / 8)):
            if not last.last:
                last.first = min(last.first, seq)
            return last
        self._close_segment()
        self._make_sure_of_room()
        path = self.directory / f"{seq:020d}.seg"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if last is not None:
            last.last = seq - 1  # what was missed since belongs to it: whoever reads it is told
        segment = Segment(path, seq, 0, 0, now, now)
        self._segments.append(segment)
        return segment

    def _make_sure_of_room(self) -> None:
        """Where segments cannot be removed, the bound is kept by writing no more."""
        self._undeleted = [segment for segment in self._undeleted if not is_removed(segment.path)]
        if self._undeleted and self.size > self._limits.max_bytes:
            raise OSError(errno.EIO, "old segments cannot be removed")

    def _miss(self, seq: int) -> None:
        self.unspooled += 1
        self._holes.add(seq, seq, self.confirmed)
        self._bookmark.used = max(self._bookmark.used, seq)
        with contextlib.suppress(OSError):
            self._bookmark.write()
        self._durability.reserve(seq)

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
            elif (is_full := sum(segment.size for segment in self._segments) > limits.max_bytes) or age > limits.max_seconds:
                self._drop_oldest("full" if is_full else "too old")
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
        self._remove(self._segments.pop(0))

    def _remove(self, segment: Segment) -> None:
        if not is_removed(segment.path):
            self._undeleted.append(segment)

    def _close_segment(self) -> None:
        if self._file >= 0:
            self._durability.finish(self._file)
        self._file = -1

    def _report_unread(self, error: OSError) -> None:
        logs.event(self._log, "cannot read; samples that are not stored yet wait", logging.WARNING, directory=self.directory,
                   error=error.strerror)

    def _add_damage(self, start: int, end: int) -> None:
        if self._holes.add(start, end, self.confirmed) and end > self.confirmed:
            logs.event(self._log, "samples are missing in the spool", logging.WARNING, first=start, last=end)
