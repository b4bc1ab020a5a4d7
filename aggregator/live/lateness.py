"""How late the samples of each host come, and which clocks were set back, as arrays over hosts. Pure: times are given.

A host's clock may be slow for good: what counts is how much later than usual a sample comes. What is usual is the least lateness
of the last minute in which anything came.
"""

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]

LATE_SECONDS = 120.0
"""A sample that comes later than its host's samples usually do by this much was sent again, and raises nothing."""
SET_BACK_SECONDS = 120.0
"""By how much a host's clock must have been set back to be followed at once; less is waited out."""


class Lateness:
    """`usual`: (n,) by host row, how late its samples come at least (s)."""

    def __init__(self) -> None:
        self.usual, self._least, self._old_since = np.zeros(64), np.full(64, np.inf), np.full(64, np.inf)
        self._minute = 0

    def grow(self, hosts: int) -> None:
        while hosts > len(self.usual):
            self.usual = np.concatenate([self.usual, np.zeros_like(self.usual)])
            self._least = np.concatenate([self._least, np.full_like(self._least, np.inf)])
            self._old_since = np.concatenate([self._old_since, np.full_like(self._old_since, np.inf)])

    def is_news(self, rows: Rows, late: Floats, intervals: Floats) -> NDArray[np.bool_]:
        """Which samples of hosts `rows`, so many seconds late, come as their host's samples usually do."""
        return np.asarray(late <= self.usual[rows] + np.maximum(LATE_SECONDS, 3 * intervals))

    def note(self, rows: Rows, late: Floats, received_at: float, clock: Floats, interval: Floats) -> None:
        """Samples of hosts `rows` came, so many seconds late. `clock`, `interval`: (n,) the newest event time looked at; s.

        A host of which nothing but samples older than its `clock` came for a minute, and for three intervals, has set its clock
        back: `clock` follows.
        """
        minute = int(received_at // 60)
        if minute != self._minute:
            self._turn(minute, received_at, clock, interval)
        np.minimum.at(self._least, rows, late)

    def _turn(self, minute: int, received_at: float, clock: Floats, interval: Floats) -> None:
        count = min(len(clock), len(interval))
        is_heard, latest = np.isfinite(self._least), received_at - self._least
        self.usual[is_heard] = np.maximum(self._least[is_heard], 0.0)
        is_old = is_heard[:count] & (clock[:count] > latest[:count] + SET_BACK_SECONDS)
        old_since = self._old_since[:count]
        old_since[is_heard[:count] & ~is_old] = np.inf
        old_since[is_old] = np.minimum(old_since[is_old], 60.0 * self._minute)
        is_back = np.flatnonzero(is_old & (60.0 * minute - old_since >= 3 * interval[:count]))
        clock[is_back], old_since[is_back] = latest[is_back], np.inf
        self._least[:], self._minute = np.inf, minute
