"""Seqs that a spool does not hold although later ones are there: dropped, damaged, or never written. Pure."""

import bisect

MAX_RANGES = 1000
"""Beyond it those that have been told are forgotten, else the highest: they are found again where records are read."""


class Holes:
    """Closed ranges of seqs in order, none touching the next."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []

    def add(self, start: int, end: int, told: int = 0) -> bool:
        """Remember that start…end are missing; False where that is empty or known. Holes up to seq `told` have been told."""
        at = bisect.bisect_left(self._ranges, start - 1, key=lambda known: known[1])
        if start > end or (at < len(self._ranges) and self._ranges[at][0] <= start and end <= self._ranges[at][1]):
            return False
        beyond = bisect.bisect_right(self._ranges, end + 1, key=lambda known: known[0])
        touched = self._ranges[at:beyond]
        self._ranges[at:beyond] = [(min([start, *(first for first, _ in touched)]), max([end, *(last for _, last in touched)]))]
        if len(self._ranges) > MAX_RANGES:
            del self._ranges[0 if self._ranges[0][1] <= told else -1]
        return True

    def end_of(self, seq: int) -> int | None:
        """The last seq of the hole in which `seq` lies; None where it lies in none."""
        at = bisect.bisect_left(self._ranges, seq, key=lambda known: known[1])
        return self._ranges[at][1] if at < len(self._ranges) and self._ranges[at][0] <= seq else None
