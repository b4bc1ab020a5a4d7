"""The minutes still open, folded as frames come: min, max, sum and count of every metric per host, minute and layout.

Within one layout every metric is in every sample, so one count per (host, minute, layout) serves all its metrics.
Nothing here needs to survive a crash: after one, the minute still open is folded again from raw history, and older ones
that were not written are marked as due.
"""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from aggregator.live.frame import Frame

MINUTE = 60


@dataclasses.dataclass(frozen=True, slots=True)
class MinuteRow:
    """One finished row of rollup_1m; arrays are in the order of the layout's keys."""

    host_id: int
    layout_id: int
    count: int
    low: NDArray[np.float32]
    mean: NDArray[np.float32]
    high: NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True)
class Rows:
    """n samples to fold: sample i owns `values[starts[i]:starts[i] + sizes[i]]`, in the order of its layout's keys."""

    host_ids: list[int]
    layout_ids: list[int]
    times: NDArray[np.float64]
    values: NDArray[np.float64]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]


def frame_rows(frame: Frame) -> Rows:
    """What a frame brings to fold, once its hosts and layouts have ids."""
    return Rows([host.id for host in frame.hosts], [layout.id for layout in frame.layouts], frame.times, frame.values,
                frame.starts, frame.sizes)


class Minute:
    """One open minute. Each (host, layout) owns a stretch of the flat arrays."""

    def __init__(self, capacity: int = 4096) -> None:
        self._pairs: dict[tuple[int, int], int] = {}
        self._starts: list[int] = []
        self._sizes: list[int] = []
        self._used = 0
        self._low = np.full(capacity, np.inf, np.float32)
        self._high = np.full(capacity, -np.inf, np.float32)
        self._sum = np.zeros(capacity)
        self._counts = np.zeros(1024, np.int64)

    def fold(self, rows: Rows, chosen: NDArray[np.int64]) -> None:
        """Fold the samples `chosen` (indices into the rows) in."""
        sizes = rows.sizes.tolist()
        pairs = np.array([self._pair(rows.host_ids[i], rows.layout_ids[i], sizes[i]) for i in chosen.tolist()], np.int64)
        for wave in waves(pairs):
            self._fold_distinct(rows, chosen[wave], pairs[wave])

    def host_ids(self) -> set[int]:
        return {host_id for host_id, _ in self._pairs}

    def rows(self) -> Iterator[MinuteRow]:
        for (host_id, layout_id), pair in self._pairs.items():
            part = slice(self._starts[pair], self._starts[pair] + self._sizes[pair])
            count = int(self._counts[pair])
            yield MinuteRow(host_id, layout_id, count, self._low[part],
                            (self._sum[part] / count).astype(np.float32), self._high[part])

    def layout_ids(self) -> set[int]:
        return {layout_id for _, layout_id in self._pairs}

    def means(self, positions: Mapping[int, NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Host ids and their means (hosts, names); `positions`: by layout id, where each name is in its samples, -1: absent."""
        pairs = np.array(list(self._pairs), np.int64)
        at = np.stack([positions[layout_id] for layout_id in pairs[:, 1].tolist()])
        sums = self._sum[np.where(at < 0, 0, at + np.array(self._starts)[:, None])]
        counts = self._counts[:len(pairs)]
        means = np.where(at < 0, np.nan, sums / counts[:, None])
        return pooled(pairs[:, 0], means.astype(np.float32), counts)

    def _fold_distinct(self, rows: Rows, chosen: NDArray[np.int64], pairs: NDArray[np.int64]) -> None:
        """Fold samples of pairs that differ, so that plain indexed assignment is right."""
        sizes = rows.sizes[chosen]
        within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        values = rows.values[np.repeat(rows.starts[chosen], sizes) + within]
        at = np.repeat(np.array([self._starts[pair] for pair in pairs], np.int64), sizes) + within
        # As real, like the stored samples, so that a rollup equals a recompute from raw.
        real = values.astype(np.float32)
        self._low[at] = np.minimum(self._low[at], real)
        self._high[at] = np.maximum(self._high[at], real)
        self._sum[at] += real
        self._counts[pairs] += 1

    def _pair(self, host_id: int, layout_id: int, size: int) -> int:
        pair = self._pairs.get((host_id, layout_id))
        if pair is None:
            pair = self._pairs[host_id, layout_id] = len(self._starts)
            self._starts.append(self._used)
            self._sizes.append(size)
            self._used += size
            self._grow()
        return pair

    def _grow(self) -> None:
        if self._used > len(self._sum):
            more = max(self._used - len(self._sum), len(self._sum) // 2)
            self._low = np.concatenate([self._low, np.full(more, np.inf, np.float32)])
            self._high = np.concatenate([self._high, np.full(more, -np.inf, np.float32)])
            self._sum = np.concatenate([self._sum, np.zeros(more)])
        if len(self._starts) > len(self._counts):
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])


def pooled(keys: NDArray[np.int64], means: NDArray[np.float32],
           counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """One mean for each distinct key, from rows of means and the number of samples behind each; NaN: there were none.

    A host that changed its layout within a minute has two rows. From rollups and from open minutes the same comes out.
    """
    found, group = np.unique(keys, return_inverse=True)
    is_there = ~np.isnan(means)
    total, weight = np.zeros((len(found), means.shape[1])), np.zeros((len(found), means.shape[1]))
    np.add.at(total, group, np.where(is_there, means, 0.0) * counts[:, None])
    np.add.at(weight, group, is_there * counts[:, None])
    mean = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
    return found, mean.astype(np.float32).astype(np.float64)


def waves(pairs: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Indices of `pairs`, split so that no part holds the same pair twice."""
    order = np.argsort(pairs, kind="stable")
    ordered = pairs[order]
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(ordered) else np.empty(0, bool)
    begin = np.flatnonzero(first)
    nth = np.arange(len(ordered)) - np.repeat(begin, np.diff(np.append(begin, len(ordered))))
    for wave in range(int(nth.max(initial=-1)) + 1):
        yield order[nth == wave]


def late(frame: Frame, closed_to: int) -> dict[tuple[int, int], tuple[int, int]]:
    """Samples that come after their minute was closed: (host id, hour start) → (first minute, end of the last)."""
    starts = _minutes(frame.times)
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for i in np.flatnonzero(starts < closed_to).tolist():
        start = int(starts[i])
        key = frame.hosts[i].id, start - start % 3600
        first, last = found.get(key, (start, start + MINUTE))
        found[key] = min(first, start), max(last, start + MINUTE)
    return found


def _minutes(times: NDArray[np.float64]) -> NDArray[np.int64]:
    return (times // MINUTE).astype(np.int64) * MINUTE


class OpenMinutes:
    """All open minutes, by their start (Unix s). What belongs before `closed_to` is late and repaired from raw."""

    def __init__(self, closed_to: int) -> None:
        self.closed_to = closed_to
        self._open: dict[int, Minute] = {}

    def fold(self, rows: Rows) -> None:
        """Fold committed samples in, all but the late ones."""
        starts = _minutes(rows.times)
        for start in np.unique(starts).tolist():
            if start < self.closed_to:
                continue
            chosen = np.flatnonzero(starts == start)
            if start not in self._open:
                self._open[start] = Minute()
            self._open[start].fold(rows, chosen)

    def due(self, now: float, grace: float) -> int:
        """Up to where minutes can be closed: those that ended `grace` seconds before `now`; never back."""
        return max(self.closed_to, int((now - grace) // MINUTE) * MINUTE)

    def before(self, up_to: int) -> list[int]:
        """Starts of the open minutes before `up_to`."""
        return sorted(start for start in self._open if start < up_to)

    def rows(self, start: int) -> Iterator[MinuteRow]:
        """The finished rows of one open minute."""
        return self._open[start].rows()

    def host_ids(self, start: int) -> set[int]:
        return self._open[start].host_ids()

    def layout_ids(self, start: int) -> set[int]:
        """Of the samples of one open minute."""
        return self._open[start].layout_ids()

    def means(self, start: int, positions: Mapping[int, NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Means of chosen metrics in one open minute, as `Minute.means` has them."""
        return self._open[start].means(positions)

    def close(self, up_to: int) -> None:
        """Forget the minutes before `up_to`; what comes for them from now on is late."""
        self.closed_to = max(self.closed_to, up_to)
        for start in [start for start in self._open if start < self.closed_to]:
            del self._open[start]
