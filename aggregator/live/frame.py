"""The frame: the samples of one beat, as flat numpy arrays. Everything downstream works on whole frames.

All values of all samples lie behind each other in `values`; sample i owns `values[starts[i]:starts[i] + sizes[i]]`, in
the order of its layout's keys. Metrics are picked as a (samples, names) matrix by `matrix`, for any mix of layouts.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from aggregator.analysis import health
from aggregator.analysis.core_metrics import SCORE
from aggregator.live.hosts import Host, Hosts, Stream
from aggregator.live.layouts import Columns, Layout, Layouts

FIGURES = ("cpu.percent", "memory.percent", "disk.percent")
OUTPUTS = (*health.OUTPUTS, SCORE)
"""What ingest adds to a sample, where there is such a thing."""
REAL_MAX = float(np.finfo(np.float32).max)


class Intake:
    """A frame being filled: one `add` per accepted sample."""

    def __init__(self) -> None:
        self.hosts: list[Host] = []
        self.streams: list[Stream] = []
        self.layouts: list[Layout] = []
        self.seqs: list[int] = []
        self.times: list[float] = []
        self.intervals: list[float] = []
        self.values: list[float] = []

    def __len__(self) -> int:
        return len(self.seqs)

    def add(self, stream: Stream, layout: Layout, seq: int, ts: float, interval: float, values: list[float]) -> None:
        self.hosts.append(stream.host)
        self.streams.append(stream)
        self.layouts.append(layout)
        self.seqs.append(seq)
        self.times.append(ts)
        self.intervals.append(interval)
        self.values += values


@dataclasses.dataclass(slots=True, eq=False)
class Frame:
    """n samples. `layouts` are layouts as stored; `scores` is (n, 6) in the order of health.OUTPUTS, NaN where absent."""

    hosts: list[Host]
    streams: list[Stream]
    layouts: list[Layout]
    seqs: list[int]
    times: NDArray[np.float64]
    intervals: NDArray[np.float64]
    received_at: float
    values: NDArray[np.float64]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    scores: NDArray[np.float64]
    figures: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.seqs)

    def part(self, chosen: NDArray[np.int64]) -> "Frame":
        """The samples `chosen`, sharing the values."""
        picks = chosen.tolist()
        return Frame([self.hosts[i] for i in picks], [self.streams[i] for i in picks], [self.layouts[i] for i in picks],
                     [self.seqs[i] for i in picks], self.times[chosen], self.intervals[chosen], self.received_at,
                     self.values, self.starts[chosen], self.sizes[chosen], self.scores[chosen], self.figures[chosen])

    def told(self, i: int) -> tuple[str, float, dict[str, float]]:
        """Host, time and metrics (health scores included) of sample i."""
        values = self.values[self.starts[i]:self.starts[i] + self.sizes[i]].tolist()
        return self.hosts[i].name, float(self.times[i]), dict(zip(self.layouts[i].keys, values, strict=True))

    def rows(self) -> NDArray[np.int64]:
        """Each sample's host, as its row in the arrays of Hosts."""
        return np.array([host.row for host in self.hosts], np.int64)


def matrix(values: NDArray[np.float64], starts: NDArray[np.int64], layouts: list[Layout],
           columns: Columns) -> NDArray[np.float64]:
    """(n, names) of the chosen metrics, NaN where a sample has no such metric."""
    positions = columns.positions()[[layout.index for layout in layouts]]
    absent = positions < 0
    picked = values[np.where(absent, 0, starts[:, None] + positions)]
    picked[absent] = np.nan
    return picked


def build(intake: Intake, layouts: Layouts, inputs: Columns, figures: Columns, profile: health.Profile,
          received_at: float, unusual: NDArray[np.float64]) -> tuple[Frame, NDArray[np.bool_]]:
    """The frame of an intake (n ≥ 1) with health and anomaly scores appended to each sample, and which are out of bounds.

    `unusual`: anomaly scores by host row, NaN where there is none.

    Out of bounds: outside its metric's bounds in the catalogue, or too large for the database's real. Such samples are
    still in the frame, their wrong values zeroed; the caller takes them out.
    """
    sizes = np.array([len(layout.keys) for layout in intake.layouts], np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    values = np.fromiter(intake.values, np.float64, len(intake.values))
    wrong = out_of_bounds(values, intake.layouts)
    bad = np.logical_or.reduceat(wrong, starts)
    values[wrong] = 0.0
    scores = health.scores(matrix(values, starts, intake.layouts, inputs), profile)
    derived = np.column_stack([scores, unusual[[host.row for host in intake.hosts]]])
    has = ~np.isnan(derived)
    masks = has @ (1 << np.arange(derived.shape[1]))
    stored = [layouts.stored(layout, mask, OUTPUTS)
              for layout, mask in zip(intake.layouts, masks.tolist(), strict=True)]
    extra = has.sum(axis=1)
    all_sizes = sizes + extra
    all_starts = np.concatenate([[0], np.cumsum(all_sizes)[:-1]])
    all_values = np.empty(int(all_sizes.sum()))
    all_values[np.arange(len(values)) + np.repeat(all_starts - starts, sizes)] = values
    tail = np.repeat(all_starts + sizes, extra) + (np.arange(int(extra.sum())) - np.repeat(np.cumsum(extra) - extra, extra))
    all_values[tail] = derived[has]
    frame = Frame(intake.hosts, intake.streams, stored, intake.seqs, np.array(intake.times), np.array(intake.intervals),
                  received_at, all_values, all_starts, all_sizes, scores,
                  matrix(values, starts, intake.layouts, figures))
    return frame, bad


def out_of_bounds(values: NDArray[np.float64], layouts: list[Layout]) -> NDArray[np.bool_]:
    """Which values lie outside the bounds of their metric."""
    low = np.concatenate([layout.low for layout in layouts])
    high = np.concatenate([layout.high for layout in layouts])
    return outside(values, low, high)


def outside(values: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which values lie outside [low, high] or are too large for a real."""
    wrong: NDArray[np.bool_] = (values < low) | (values > high) | ~(np.abs(values) <= REAL_MAX)
    return wrong


def note_newest(hosts: Hosts, frame: Frame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Carry each host's newest sample of the frame into the arrays of `hosts`; whatever it sent, the host was heard.

    The rows of the hosts that moved forward, and the place of each one's newest sample in the frame.
    """
    order = np.argsort(frame.times, kind="stable")
    rows = frame.rows()[order]
    newest = np.unique(rows[::-1], return_index=True)
    last = order[len(order) - 1 - newest[1]]
    rows = newest[0]
    hosts.received_at[rows] = frame.received_at
    ahead = frame.times[last] > hosts.newest_ts[rows]
    rows, last = rows[ahead], last[ahead]
    hosts.newest_ts[rows] = frame.times[last]
    hosts.interval[rows] = frame.intervals[last]
    hosts.figures[rows, 0] = frame.scores[last, 0]
    hosts.figures[rows, 1:] = frame.figures[last]
    return rows, last
