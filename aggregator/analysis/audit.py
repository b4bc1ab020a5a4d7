"""The arithmetic of an audit: which seqs of a stream are held, explained, awaited, lost or doubled. Pure.

A stream is one (host, epoch): the seqs of one agent's spool. Seqs are handled as inclusive runs, never one by one.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

Range = tuple[int, int]
"""First and last seq, both included."""


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """Seqs held without a hole in one partition: `rows` of them, `doubled` of those a repetition of another row."""

    first: int
    last: int
    rows: int
    doubled: int
    first_at: datetime
    last_at: datetime


@dataclasses.dataclass(frozen=True, slots=True)
class Evidence:
    """What the tables say about one stream besides its samples.

    `contiguous_seq` is the stream's checkpoint: up to there everything is said to be stored; None where there is none.
    """

    host: str
    epoch: str
    contiguous_seq: int | None = None
    created_at: datetime | None = None
    gaps: Sequence[Range] = ()
    refused: Sequence[Range] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """The audit of one stream. Counts are of seqs; `lost` and `awaited` list the runs that no row explains."""

    host: str
    epoch: str
    rows: int
    distinct: int
    first: int
    last: int
    duplicates: int
    gaps: int
    refused: int
    lost: Sequence[Range]
    awaited: Sequence[Range]
    first_at: datetime
    last_at: datetime
    judged_from: int

    @property
    def is_sound(self) -> bool:
        """Whether nothing is lost without a row that says so, and nothing is stored twice."""
        return not self.lost and not self.duplicates


def judge(evidence: Evidence, runs: Iterable[Run], oldest_at: datetime | None) -> Verdict:
    """The verdict on one stream with at least one run.

    `oldest_at` is where retained history begins. Only the seqs within it are judged: retention drops the old ones, so a
    stream is judged from its first seq held, or from 1 where nothing of it can have been dropped.
    """
    ordered = sorted(runs, key=lambda run: run.first)
    held, overlap = merged([(run.first, run.last) for run in ordered])
    first, last = held[0][0], held[-1][1]
    first_at = min(run.first_at for run in ordered)
    start = 1 if _is_whole(evidence, first_at, oldest_at) else first
    end = max(last, evidence.contiguous_seq or 0)
    holes = without([(start, end)], held)
    after_gaps = without(holes, merged(evidence.gaps)[0])
    unexplained = without(after_gaps, merged(evidence.refused)[0])
    limit = last if evidence.contiguous_seq is None else evidence.contiguous_seq
    return Verdict(
        host=evidence.host, epoch=evidence.epoch, rows=sum(run.rows for run in ordered), distinct=size(held),
        first=first, last=last, duplicates=overlap + sum(run.doubled for run in ordered),
        gaps=size(holes) - size(after_gaps), refused=size(after_gaps) - size(unexplained),
        lost=within(unexplained, 0, limit), awaited=within(unexplained, limit + 1, end),
        first_at=first_at, last_at=max(run.last_at for run in ordered), judged_from=start)


def _is_whole(evidence: Evidence, first_at: datetime, oldest_at: datetime | None) -> bool:
    """Whether retention cannot have dropped the stream's beginning: its first sample lies well inside."""
    if oldest_at is None or evidence.created_at is None:
        return False
    return evidence.created_at >= oldest_at and first_at >= oldest_at + timedelta(days=1)


def merged(ranges: Iterable[Range]) -> tuple[list[Range], int]:
    """The ranges joined where they touch, in order, and how many seqs lay in more than one of them."""
    result: list[Range] = []
    overlap = 0
    for first, last in sorted(ranges):
        if result and first <= result[-1][1] + 1:
            overlap += max(0, min(last, result[-1][1]) - first + 1)
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return result, overlap


def without(ranges: Sequence[Range], taken: Sequence[Range]) -> list[Range]:
    """`ranges` less `taken`; both in order and without overlap."""
    result: list[Range] = []
    at = 0
    for first, last in ranges:
        while at < len(taken) and taken[at][1] < first:
            at += 1
        start, k = first, at
        while k < len(taken) and taken[k][0] <= last:
            if taken[k][0] > start:
                result.append((start, taken[k][0] - 1))
            start = taken[k][1] + 1
            k += 1
        if start <= last:
            result.append((start, last))
    return result


def within(ranges: Iterable[Range], low: int, high: int) -> list[Range]:
    """The parts of `ranges` between `low` and `high`, both included."""
    cut = ((max(first, low), min(last, high)) for first, last in ranges)
    return [(first, last) for first, last in cut if first <= last]


def size(ranges: Iterable[Range]) -> int:
    """How many seqs the ranges hold."""
    return sum(last - first + 1 for first, last in ranges)
