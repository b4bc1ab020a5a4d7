"""Conditions that are not at rest: a row of arrays for each (host, rule, instance) that is pending, firing, or recovering.

Nearly all conditions of a healthy fleet are at rest and cost nothing here.
"""

import numpy as np
from numpy.typing import NDArray

from aggregator.analysis import latches
from aggregator.live.bindings import NONE
from aggregator.live.variants import LEVELS, Variants

Key = tuple[int, str, str]
"""Host row, rule, instance."""


class Conditions:
    """`on`, `since`: latches (see analysis.latches), `level`: the highest that is on; `variant`: the rule's row.

    `slot`: the slot of a sample's numbers that feeds it (see bindings), NONE for those that samples do not feed.
    `keys[i]` is whose condition row i is; freed rows are used again.
    """

    def __init__(self) -> None:
        self.keys: list[Key | None] = []
        self.of: dict[Key, int] = {}
        self.by_host: dict[int, set[int]] = {}
        self._free: list[int] = []
        self.on = np.zeros((64, LEVELS), bool)
        self.since = np.full((64, LEVELS), np.nan)
        self.level = np.zeros(64, np.int64)
        self.waits = np.zeros(64, bool)
        self.variant = np.zeros(64, np.int64)
        self.slot = np.full(64, NONE, np.int64)

    def add(self, key: Key, variant: int) -> int:
        """The row of a condition, made where it was at rest."""
        found = self.of.get(key)
        if found is not None:
            return found
        row = self._free.pop() if self._free else self._append()
        self.keys[row], self.of[key] = key, row
        self.by_host.setdefault(key[0], set()).add(row)
        self.on[row], self.since[row], self.level[row], self.waits[row] = False, np.nan, 0, False
        self.variant[row], self.slot[row] = variant, NONE
        return row

    def remove(self, row: int) -> None:
        """The condition is at rest."""
        key = self.keys[row]
        assert key is not None  # noqa: S101 (rows are removed once)
        self.keys[row], self.slot[row] = None, NONE
        del self.of[key]
        own = self.by_host[key[0]]
        own.discard(row)
        if not own:
            del self.by_host[key[0]]
        self._free.append(row)

    def _append(self) -> int:
        self.keys.append(None)
        if len(self.keys) > len(self.level):
            for name, fill in (("on", False), ("since", np.nan), ("level", 0), ("waits", False), ("variant", 0),
                               ("slot", NONE)):
                old: NDArray[np.generic] = getattr(self, name)
                setattr(self, name, np.concatenate([old, np.full_like(old, fill)]))
        return len(self.keys) - 1

    def feed(self, rows: NDArray[np.int64], values: NDArray[np.float64], ts: NDArray[np.float64],
             variants: Variants) -> NDArray[np.int64]:
        """Carry conditions (each row at most once) on by one reading; indices of `rows` whose level or waiting changed."""
        chosen = self.variant[rows]
        turned, thresholds = values * variants.sign[chosen], variants.thresholds[chosen]
        on, since = latches.step(self.on[rows], self.since[rows], turned[:, None] >= thresholds,
                                 latches.behind(turned, thresholds, variants.margin[chosen]), ts, variants.hold[chosen],
                                 variants.recover[chosen])
        level, waits = latches.levels(on), latches.waits(on, since)
        changed = np.flatnonzero((level != self.level[rows]) | (waits != self.waits[rows]))
        self.on[rows], self.since[rows], self.level[rows], self.waits[rows] = on, since, level, waits
        return changed

    def interrupt(self, rows: NDArray[np.int64]) -> None:
        """Nothing was heard for a while: what was waiting begins to wait anew."""
        self.since[rows] = np.nan
