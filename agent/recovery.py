"""What a spool finds in its directory when it is opened: its epoch, its segments, and which seqs may have been used."""

import dataclasses
import logging
import os
import secrets
from pathlib import Path

from agent import framing
from agent.bookmark import Bookmark
from agent.identity import Identity, read_identity, write_identity
from agent.segments import Segment, read_segments
from shared import logs, wire

log = logs.get("spool")


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """The state of a spool: `last` is the seq of the last record, `newest` the last seq that may have been used."""

    epoch: str
    segments: list[Segment]
    last: int
    newest: int


def recover(directory: Path, bookmark: Bookmark, boot_id: str, machine: str, now: float) -> Found:
    """Read the directory, cut a torn tail, and bring `bookmark` up to date. Raises OSError."""
    segments = read_segments(directory, now)
    epoch = _settled_epoch(directory, segments, bookmark, machine)
    used = max(bookmark.used, bookmark.confirmed)
    if not boot_id or boot_id != bookmark.boot_id:
        used = max(used, bookmark.reserved)
    last = 0
    if segments:
        last, tail = _cut_tail(segments[-1])
        used = max(used, framing.possibly_used(tail, max(last, bookmark.used)))
    newest = max(last, used)
    bookmark.boot_id, bookmark.used = boot_id, max(bookmark.used, used)
    return Found(epoch, segments, last, newest)


def _settled_epoch(directory: Path, segments: list[Segment], bookmark: Bookmark, machine: str) -> str:
    """The epoch of this spool on this machine: the one it has, or a new one where that cannot be known or is another's."""
    found = read_identity(directory)
    known = found or Identity(_epoch_of_records(segments))
    if machine and known.machine and machine != known.machine:
        logs.event(log, "this spool was made on another machine: it is begun anew", logging.WARNING, directory=directory,
                   former_epoch=known.epoch, unconfirmed=_unconfirmed(segments, bookmark))
        known = Identity("")
    settled = Identity(known.epoch or secrets.token_hex(8), machine or known.machine)
    if not known.epoch:
        _start_afresh(segments, bookmark)
    if settled != found:
        write_identity(directory, settled)
    return settled.epoch


def _unconfirmed(segments: list[Segment], bookmark: Bookmark) -> int:
    last = max((record.seq for segment in segments[-1:]
                for record in framing.records(segment.path.read_bytes(), segment.first)), default=0)
    return max(0, last - bookmark.confirmed)


def _epoch_of_records(segments: list[Segment]) -> str:
    for segment in segments:
        for record in framing.records(data := segment.path.read_bytes(), segment.first):
            if (found := wire.identity(data[record.start:record.end])) is not None:
                return found[0]
    return ""


def _start_afresh(segments: list[Segment], bookmark: Bookmark) -> None:
    """What is here belongs to no epoch, or to another machine's, and a new epoch counts from 1: that first."""
    for segment in segments:
        segment.path.unlink(missing_ok=True)
    segments.clear()
    bookmark.confirmed = bookmark.used = bookmark.reserved = 0
    bookmark.write(is_durable=True)


def _cut_tail(segment: Segment) -> tuple[int, bytes]:
    """(seq of the last sound record, what was cut)."""
    data = segment.path.read_bytes()
    found = list(framing.records(data, segment.first))
    last, end = (found[-1].seq, found[-1].end) if found else (segment.first - 1, 0)
    if end < len(data):
        os.truncate(segment.path, end)
        logs.event(log, "cut a torn tail", logging.WARNING, file=segment.path.name, bytes=len(data) - end)
    segment.size, segment.last = end, found[-1].seq if found else 0
    return last, data[end:]
