"""Change of a metric over a window: 21 readings a window are remembered for each series that a rule of kind `rate` watches."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

STEPS = 20
COVERED = 0.75
"""Share of the window that must be known before a change is told."""


class Rates:
    """One row a series. Counters (metrics that only grow) are corrected for restarts: a fall counts from 0."""

    def __init__(self) -> None:
        self._rows: dict[tuple[int, str, str], int] = {}
        self._values = np.full((64, STEPS + 1), np.nan)
        self._times = np.full((64, STEPS + 1), -np.inf)
        self._last, self._offset = np.full(64, np.nan), np.zeros(64)
        self._free: list[int] = []

    def row(self, key: tuple[int, str, str]) -> int:
        """The row of (host row, rule, instance)."""
        found = self._rows.get(key)
        if found is None:
            found = self._rows[key] = self._free.pop() if self._free else len(self._rows)
            if found >= len(self._last):
                self._values = np.concatenate([self._values, np.full_like(self._values, np.nan)])
                self._times = np.concatenate([self._times, np.full_like(self._times, -np.inf)])
                self._last = np.concatenate([self._last, np.full_like(self._last, np.nan)])
                self._offset = np.concatenate([self._offset, np.zeros_like(self._offset)])
        return found

    def keep(self, rules: Collection[str]) -> None:
        """Forget the readings for all other rules."""
        for key in [key for key in self._rows if key[1] not in rules]:
            row = self._rows.pop(key)
            self._values[row], self._times[row], self._last[row], self._offset[row] = np.nan, -np.inf, np.nan, 0.0
            self._free.append(row)

    def changes(self, rows: NDArray[np.int64], values: NDArray[np.float64], ts: NDArray[np.float64],
                window: NDArray[np.float64], is_counter: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(n,) change over the window up to now, NaN while too little is known. Each row comes at most once."""
        fell = is_counter & (values < self._last[rows])
        self._offset[rows] += np.where(fell, self._last[rows], 0.0)
        self._last[rows] = values
        values = values + np.where(is_counter, self._offset[rows], 0.0)
        width = window / STEPS
        step = np.floor(ts / width)
        column = np.mod(step, STEPS + 1).astype(np.int64)
        is_new = np.floor(self._times[rows, column] / width) != step
        self._values[rows[is_new], column[is_new]] = values[is_new]
        self._times[rows[is_new], column[is_new]] = ts[is_new]
        times = self._times[rows]
        times = np.where(times > (ts - window - width)[:, None], times, np.inf)
        first = times.argmin(axis=1)
        span = ts - times[np.arange(len(rows)), first]
        change = values - self._values[rows, first]
        return np.where(span >= COVERED * window, change, np.nan)
