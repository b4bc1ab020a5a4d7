"""Hosts of a slot in memory: their streams (which seqs have come) and their newest figures, as arrays over all hosts."""

import dataclasses
import itertools
import math
from array import array
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

MAX_AHEAD = 20_000
MAX_NEW_EPOCHS_PER_HOUR = 20
MAX_NEW_LAYOUTS_PER_HOUR = 120
MAX_NEW_HOSTS_PER_HOUR = 60_000
"""Of a slot; the largest fleet may begin at once, and garbage does not fill the memory."""
MAX_EVENTS_PER_HOUR = 1000
"""Each may be an alert of its own."""


@dataclasses.dataclass(frozen=True, slots=True)
class Gap:
    """Seqs that will never come, both ends included, and why. `host_row` is the host's place in Hosts."""

    host_row: int
    epoch: int
    from_seq: int
    to_seq: int
    reason: str


RECENT = 16
"""Of so many samples of a stream the times are known."""


@dataclasses.dataclass(slots=True, eq=False)
class Stream:
    """What has come of one (host, epoch): every seq up to `contiguous`, and those in `ahead`.

    `recent`: seq and ts (Unix s) of the last samples, seq s at place s % RECENT. `is_successor`: the host had another epoch
    when this one came; `has_written`: since this process took the slot.
    """

    host: "Host"
    epoch: int
    contiguous: int = 0
    ahead: set[int] = dataclasses.field(default_factory=set)
    recent: "array[float]" = dataclasses.field(default_factory=lambda: array("d", bytes(16 * RECENT)))
    is_successor: bool = False
    has_written: bool = False

    def note_time(self, seq: int, ts: float) -> None:
        """The sample `seq` was of `ts`."""
        place = 2 * (seq % RECENT)
        self.recent[place], self.recent[place + 1] = seq, ts

    def time_of(self, seq: int) -> float | None:
        """The ts of one of the last samples; None where it is not known."""
        place = 2 * (seq % RECENT)
        return self.recent[place + 1] if self.recent[place] == seq else None

    def has(self, seq: int) -> bool:
        """Whether `seq` has come before."""
        return seq <= self.contiguous or seq in self.ahead

    def take(self, seq: int) -> bool:
        """Note `seq`; False where it had come before, or is so far out of order that it must be sent again later."""
        if seq == self.contiguous + 1:
            self.contiguous = seq
            if self.ahead:
                self._absorb()
            return True
        if seq <= self.contiguous or seq in self.ahead or len(self.ahead) >= MAX_AHEAD:
            return False
        self.ahead.add(seq)
        return True

    def take_range(self, from_seq: int, to_seq: int) -> None:
        """Note all of `from_seq` … `to_seq`, however many."""
        if from_seq <= self.contiguous + 1:
            self.contiguous = max(self.contiguous, to_seq)
            self.ahead = {seq for seq in self.ahead if seq > self.contiguous}
            self._absorb()
        else:
            self.ahead.update(range(from_seq, min(to_seq, from_seq + MAX_AHEAD) + 1))

    def forget_before(self, oldest: int, reason: str) -> list[Gap]:
        """The sender holds nothing before `oldest`: what is missing there becomes gaps and is waited for no more."""
        if oldest <= self.contiguous + 1:
            return []
        present = sorted(seq for seq in self.ahead if seq < oldest)
        edges = [self.contiguous, *present, oldest]
        gaps = [Gap(self.host.row, self.epoch, before + 1, after - 1, reason)
                for before, after in itertools.pairwise(edges) if after - before > 1]
        self.contiguous = oldest - 1
        self.ahead.difference_update(present)
        self._absorb()
        return gaps

    def _absorb(self) -> None:
        while self.contiguous + 1 in self.ahead:
            self.contiguous += 1
            self.ahead.discard(self.contiguous)


@dataclasses.dataclass(slots=True, eq=False)
class Budget:
    """How often something new may come within an hour."""

    limit: int
    hour: int = 0
    used: int = 0

    def take(self, now: float) -> bool:
        """Spend one at `now`; False where the hour's share is spent."""
        hour = int(now // 3600)
        if hour != self.hour:
            self.hour, self.used = hour, 0
        self.used += 1
        return self.used <= self.limit


@dataclasses.dataclass(slots=True, eq=False)
class Host:
    """One host: `row` is its place in the arrays of `Hosts`; `id` is the database's, 0 until it has one.

    `writer`: the stream of its last sample; `turns`: how often an epoch came back after another, `turned_at`: when last;
    `twins_at`: when it was last told that two agents speak as this host (Unix s).
    """

    name: str
    row: int
    id: int = 0
    streams: dict[str, Stream] = dataclasses.field(default_factory=dict)
    new_epochs: Budget = dataclasses.field(default_factory=lambda: Budget(MAX_NEW_EPOCHS_PER_HOUR))
    new_layouts: Budget = dataclasses.field(default_factory=lambda: Budget(MAX_NEW_LAYOUTS_PER_HOUR))
    events: Budget = dataclasses.field(default_factory=lambda: Budget(MAX_EVENTS_PER_HOUR))
    writer: Stream | None = None
    turns: int = 0
    turned_at: float = -math.inf
    twins_at: float = -math.inf


class Hosts:
    """All hosts of the slot. Arrays have one element (or row) per host and grow with them.

    `newest_ts`, `received_at` (Unix s), `interval` (s), `figures` (n, 4: score, cpu, memory, disk; NaN where absent),
    `told_score`, `told_at`: what was last published as the host's health; `unusual`: its anomaly score, NaN where there is none.
    """

    def __init__(self) -> None:
        self._by_name: dict[str, Host] = {}
        self.all: list[Host] = []
        self.newest_ts = np.zeros(64)
        self.received_at = np.zeros(64)
        self.interval = np.zeros(64)
        self.figures = np.full((64, 4), np.nan)
        self.told_score = np.full(64, np.nan)
        self.told_at = np.zeros(64)
        self.unusual = np.full(64, np.nan)

    def __iter__(self) -> Iterator[Host]:
        return iter(self.all)

    def __len__(self) -> int:
        return len(self.all)

    def get(self, name: str) -> Host | None:
        return self._by_name.get(name)

    def add(self, name: str) -> Host:
        found = self._by_name.get(name)
        if found is None:
            found = self._by_name[name] = Host(name, len(self.all))
            self.all.append(found)
            if len(self.all) > len(self.newest_ts):
                self._grow()
        return found

    def ids(self, rows: NDArray[np.int64]) -> list[int]:
        return [self.all[row].id for row in rows]

    def _grow(self) -> None:
        for name in ("newest_ts", "received_at", "interval", "figures", "told_score", "told_at", "unusual"):
            old = getattr(self, name)
            fresh = np.full_like(old, np.nan) if name in ("figures", "told_score", "unusual") else np.zeros_like(old)
            setattr(self, name, np.concatenate([old, fresh]))


def signed_epoch(epoch: str) -> int:
    """16 hexadecimal digits as the signed 64-bit integer that the database keeps."""
    return int.from_bytes(bytes.fromhex(epoch), "big", signed=True)


def epoch_text(epoch: int) -> str:
    """The 16 hexadecimal digits of a signed 64-bit epoch."""
    return epoch.to_bytes(8, "big", signed=True).hex()
