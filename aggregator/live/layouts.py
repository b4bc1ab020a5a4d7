"""Layouts in memory: ordered sets of metric names, made once per distinct set, with what the hot path asks of them.

A layout as it came (`Layout`) leads to the layouts as stored: the same names plus the health scores that could be
computed, one for each combination of them (`stored`).
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from shared import catalogue
from shared.names import MAX_METRICS, split_metric
from shared.wire import WireError


@dataclasses.dataclass(slots=True, eq=False)
class Layout:
    """One ordered set of names. `index` counts layouts in this process; `id` is the database's, 0 until it has one."""

    index: int
    keys: tuple[str, ...]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    id: int = 0
    stored: dict[int, "Layout"] = dataclasses.field(default_factory=dict)

    @property
    def digest(self) -> bytes:
        return digest(self.keys)


def digest(keys: Sequence[str]) -> bytes:
    """What makes a layout unique in the database: SHA-256 of its names in their order."""
    return hashlib.sha256("\n".join(keys).encode()).digest()


class Layouts:
    """Every layout this process has met."""

    def __init__(self) -> None:
        self.all: list[Layout] = []
        self._by_keys: dict[tuple[str, ...], Layout] = {}

    def get(self, keys: tuple[str, ...]) -> Layout | None:
        return self._by_keys.get(keys)

    def add(self, keys: tuple[str, ...]) -> Layout:
        """The layout of `keys`, checked when it is new. Raises WireError naming what is wrong with them."""
        found = self._by_keys.get(keys)
        if found is not None:
            return found
        check_names(keys)
        return self._append(keys)

    def stored(self, layout: Layout, mask: int, names: Sequence[str]) -> Layout:
        """The layout of `layout` plus those `names` whose bit is set in `mask`."""
        found = layout.stored.get(mask)
        if found is None:
            keys = layout.keys + tuple(name for bit, name in enumerate(names) if mask >> bit & 1)
            found = layout.stored[mask] = self._by_keys.get(keys) or self._append(keys)
        return found

    def _append(self, keys: tuple[str, ...]) -> Layout:
        bounds = np.array([catalogue.bounds(name) for name in keys])
        layout = self._by_keys[keys] = Layout(len(self.all), keys, bounds[:, 0], bounds[:, 1])
        self.all.append(layout)
        return layout


def check_names(keys: Iterable[str]) -> None:
    """Raises WireError unless there are 1 to 512 names, each inside the grammar, none of them derived by ingest."""
    names = tuple(keys)
    if not 1 <= len(names) <= MAX_METRICS:
        raise WireError("count", f"{len(names)} metrics; a sample carries 1 to {MAX_METRICS}")
    for name in names:
        if split_metric(name) is None:
            raise WireError("name", f"metric name {name[:80]!r} is outside the grammar")
        if name.startswith(("health.", "anomaly.")):
            raise WireError("name", f"{name[:80]!r} is computed by ingest; agents do not send it")


class Columns:
    """A fixed choice of metrics, looked up in any layout: row i of `positions` is where layout i keeps them, -1: absent."""

    def __init__(self, names: Sequence[str], layouts: Layouts) -> None:
        self.names = tuple(names)
        self._layouts = layouts
        self._known = 0
        self._positions = np.empty((64, len(self.names)), np.int64)

    def positions(self) -> NDArray[np.int64]:
        """(layouts, names), grown to the layouts met so far."""
        layouts = self._layouts.all
        while self._known < len(layouts):
            if self._known == len(self._positions):
                self._positions = np.concatenate([self._positions, np.empty_like(self._positions)])
            where = {name: at for at, name in enumerate(layouts[self._known].keys)}
            self._positions[self._known] = [where.get(name, -1) for name in self.names]
            self._known += 1
        return self._positions[:self._known]
