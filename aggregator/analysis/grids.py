"""History as a grid: means of some metrics of some hosts at even steps, NaN where nothing is known. Pure."""

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from aggregator.analysis.downsample import SECOND, Points

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class Grid:
    """`values` by host, metric and step of `step` seconds; the first step begins at `start`, an aware time."""

    hosts: tuple[str, ...]
    metrics: tuple[str, ...]
    start: datetime
    step: int
    values: Floats

    @property
    def end(self) -> datetime:
        return self.at(self.values.shape[2])

    def at(self, position: int) -> datetime:
        """When the step at a position begins."""
        return self.start + timedelta(seconds=int(position) * self.step)

    def hours(self) -> Floats:
        """The middle of each step, in hours from the first step's begin."""
        return np.asarray((np.arange(self.values.shape[2]) + 0.5) * self.step / 3600)

    def series(self) -> tuple[list[tuple[str, str]], Floats]:
        """(host, metric) and values of the series that have a point."""
        host, metric = np.nonzero(np.isfinite(self.values).any(axis=2))
        return ([(self.hosts[h], self.metrics[m]) for h, m in zip(host.tolist(), metric.tolist(), strict=True)],
                self.values[host, metric])

    def last(self, steps: int) -> "Grid":
        """The same grid from its last `steps` steps on."""
        skipped = max(0, self.values.shape[2] - steps)
        return dataclasses.replace(self, start=self.at(skipped), values=self.values[:, :, skipped:])


def beside(parts: Sequence[Grid]) -> Grid:
    """Grids of the same hosts and steps with their metrics side by side; at least one."""
    metrics = tuple(metric for part in parts for metric in part.metrics)
    return dataclasses.replace(parts[0], metrics=metrics, values=np.concatenate([part.values for part in parts], axis=1))


def grid(points: Points, hosts: Sequence[str], metrics: Sequence[str], start: datetime, step: int, steps: int) -> Grid:
    """A grid of points that were merged into buckets of `step` seconds; `points.group` is the index in `hosts`."""
    first = (start - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    values = np.full((len(hosts), steps, len(metrics)), np.nan)
    position = (points.ts - first) // (step * SECOND)
    is_inside = (position >= 0) & (position < steps)
    values[points.group[is_inside], position[is_inside]] = points.mean[is_inside]
    return Grid(tuple(hosts), tuple(metrics), start, step, np.where(np.isfinite(values), values, np.nan).transpose(0, 2, 1))
