"""Which numbers of a sample which rules look at: worked out once a layout, held for each host as a block of slots.

A layout's plan is a list of entries (rule, instance, position in the sample). A host that sends this layout owns a block of
slots, one an entry, in its order; a slot knows the variant of its rule, and its condition while there is something to remember.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aggregator.analysis.matching import fits_instance
from aggregator.analysis.rules import Rule, instance_text
from aggregator.live.layouts import Layout
from shared.names import split_metric

NONE = -1
PLAIN, RATE, MISSING = 0, 1, 2
_KINDS = {"threshold": PLAIN, "rate": RATE, "missing": MISSING}


class Grown:
    """Numbers that are appended to; `array` is what there is so far."""

    def __init__(self, fill: int, kind: type[np.generic] = np.int64) -> None:
        self._fill, self._used = fill, 0
        self._data: NDArray[np.int64] = np.full(256, fill, kind)

    def __len__(self) -> int:
        return self._used

    @property
    def array(self) -> NDArray[np.int64]:
        return self._data[:self._used]

    def extend(self, count: int) -> int:
        """Append `count` times the fill; where they begin."""
        start, self._used = self._used, self._used + count
        if self._used > len(self._data):
            more = np.full(max(self._used, 2 * len(self._data)) - len(self._data), self._fill, self._data.dtype)
            self._data = np.concatenate([self._data, more])
        return start


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The entries of one layout, (rule, instance) each."""

    entries: Sequence[tuple[str, str]]
    index: Mapping[tuple[str, str], int]


class Plans:
    """Plans of all layouts for one set of rules. `position`, `kind`, `entries`: flat; `first`, `count`: by layout."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._by_base: dict[str, list[tuple[Rule, dict[str, str]]]] = {}
        self._missing = [rule for rule in rules if rule.kind == "missing"]
        for rule in rules:
            split = split_metric(rule.metric) if rule.kind in ("threshold", "rate") else None
            if split is not None:
                self._by_base.setdefault(split[0], []).append((rule, split[1]))
        self._plans: dict[int, Plan] = {}
        self.entries: list[tuple[str, str]] = []
        self._position, self._kind = Grown(0), Grown(0, np.int8)
        self._first, self._count = Grown(0), Grown(NONE)

    def of(self, layout: Layout) -> Plan:
        """The plan of a layout, made when it is met."""
        plan = self._plans.get(layout.index)
        if plan is None:
            plan = self._plans[layout.index] = self._make(layout)
        return plan

    @property
    def position(self) -> NDArray[np.int64]:
        return self._position.array

    @property
    def kind(self) -> NDArray[np.int64]:
        return self._kind.array

    @property
    def first(self) -> NDArray[np.int64]:
        return self._first.array

    @property
    def count(self) -> NDArray[np.int64]:
        return self._count.array

    def _make(self, layout: Layout) -> Plan:
        found = [(rule, instance, position) for position, key in enumerate(layout.keys)
                 for rule, instance in self._matches(key)]
        where = {key: position for position, key in enumerate(layout.keys)}
        found += [(rule, "", where.get(rule.metric, NONE)) for rule in self._missing]
        start = self._position.extend(len(found))
        self._kind.extend(len(found))
        self._position.array[start:] = [position for _, _, position in found]
        self._kind.array[start:] = [_KINDS[rule.kind] for rule, _, _ in found]
        if layout.index >= len(self._first):
            missing = layout.index + 1 - len(self._first)
            self._first.extend(missing)
            self._count.extend(missing)
        self._first.array[layout.index], self._count.array[layout.index] = start, len(found)
        entries = [(rule.name, instance) for rule, instance, _ in found]
        self.entries += entries
        return Plan(entries, {entry: k for k, entry in enumerate(entries)})

    def _matches(self, key: str) -> list[tuple[Rule, str]]:
        if key.partition("{")[0] not in self._by_base:
            return []
        split = split_metric(key)
        if split is None:
            return []
        return [(rule, instance_text(split[1])) for rule, wanted in self._by_base[split[0]] if fits_instance(wanted, split[1])]


class Blocks:
    """The slots of every host: `base` and `layout` by host row (layout NONE: not bound), `variant` and `condition` by slot."""

    def __init__(self) -> None:
        self.base, self.layout = Grown(0), Grown(NONE)
        self._variant, self._condition = Grown(0), Grown(NONE)
        self._free: dict[int, list[int]] = {}
        self._sizes: dict[int, int] = {}

    @property
    def variant(self) -> NDArray[np.int64]:
        return self._variant.array

    @property
    def condition(self) -> NDArray[np.int64]:
        return self._condition.array

    def grow(self, hosts: int) -> None:
        """Room for so many hosts."""
        if hosts > len(self.base):
            self.layout.extend(hosts - len(self.base))
            self.base.extend(hosts - len(self.base))

    def bind(self, row: int, layout: int, plan: Plan, variant: Callable[[str, str], int]) -> int:
        """Give a host the block for a layout; its first slot."""
        self.unbind(row)
        size = len(plan.entries)
        free = self._free.get(size)
        base = free.pop() if free else self._extend(size)
        self.base.array[row], self.layout.array[row] = base, layout
        self._sizes[row] = size
        self.variant[base:base + size] = [variant(rule, instance) for rule, instance in plan.entries]
        return base

    def unbind(self, row: int) -> None:
        """Give the host's block back."""
        size = self._sizes.pop(row, None)
        if size is None:
            return
        base = int(self.base.array[row])
        self.condition[base:base + size] = NONE
        self._free.setdefault(size, []).append(base)
        self.layout.array[row] = NONE

    def _extend(self, size: int) -> int:
        self._condition.extend(size)
        return self._variant.extend(size)
