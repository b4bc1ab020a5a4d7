"""Reads records back from a spool's segments, one segment kept in memory, and tells which seqs are missing there."""

import bisect
import sys
from collections.abc import Callable, Sequence

from agent import framing
from agent.segments import Segment

ATTEMPTS = 3
"""So often in a row a segment may refuse to be read before what is in it counts as missing."""


class SegmentReader:
    """`segments` is the spool's own list. `on_missing` is told of closed ranges of seqs, `on_error` of what a disk says."""

    def __init__(self, segments: Sequence[Segment], on_missing: Callable[[int, int], None],
                 on_error: Callable[[OSError], None]) -> None:
        self._segments, self._on_missing, self._on_error = segments, on_missing, on_error
        self._kept: tuple[int, int, bytes, list[framing.Record]] | None = None
        self._failed: tuple[int, int] = (0, 0)

    def read(self, first: int, count: int) -> list[tuple[int, bytes]]:
        """Up to `count` records from seq `first` on, oldest first; none at the end, and where the disk refuses for now.

        Damaged ones are passed over.
        """
        while (segment := self._segment_of(first)) is not None:
            indexed = self._indexed(segment)
            if indexed is None:
                return []
            data, found = indexed
            at = bisect.bisect_left(found, first, key=lambda record: record.seq)
            if at < len(found):
                return [(record.seq, data[record.start:record.end]) for record in found[at:at + count]]
            first = segment.last + 1
        self.forget()
        return []

    def forget(self) -> None:
        """Let go of the segment last read from."""
        self._kept = None

    def _segment_of(self, seq: int) -> Segment | None:
        at = bisect.bisect_left(self._segments, seq, key=lambda segment: segment.last or sys.maxsize)
        return self._segments[at] if at < len(self._segments) and self._segments[at].last else None

    def _indexed(self, segment: Segment) -> tuple[bytes, list[framing.Record]] | None:
        """The segment and its sound records; None where it should be tried again later."""
        if self._kept is not None and self._kept[:2] == (segment.first, segment.size):
            return self._kept[2:]
        data = self._read_whole(segment)
        if data is None:
            return None
        found = list(framing.records(data, segment.first))
        expected = segment.first
        for record in found:
            self._on_missing(expected, record.seq - 1)
            expected = record.seq + 1
        self._on_missing(expected, segment.last)
        self._kept = (segment.first, segment.size, data, found)
        return data, found

    def _read_whole(self, segment: Segment) -> bytes | None:
        """What the file holds; nothing where it is gone or cannot be read for good, None where it may be later."""
        try:
            data = segment.path.read_bytes()[:segment.size]
        except FileNotFoundError:
            return b""
        except OSError as error:
            attempts = self._failed[1] + 1 if self._failed[0] == segment.first else 1
            self._failed = segment.first, attempts
            if attempts == 1:
                self._on_error(error)
            return b"" if attempts >= ATTEMPTS else None
        self._failed = (0, 0)
        return data
