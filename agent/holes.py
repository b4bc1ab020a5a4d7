"""Seqs that a spool does not hold although later ones are there: dropped, damaged, or never written. Pure."""


class Holes:
    """Closed ranges of seqs, kept in the order in which they were noticed; the latest thousand of them."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []

    def add(self, start: int, end: int) -> bool:
        """Remember that start…end are missing; False where that is empty or known."""
        if start > end or any(first <= start and end <= last for first, last in self._ranges):
            return False
        if self._ranges and self._ranges[-1][1] + 1 == start:
            start = self._ranges.pop()[0]
        self._ranges.append((start, end))
        del self._ranges[:-1000]
        return True

    def end_of(self, seq: int) -> int | None:
        """The last seq of the hole in which `seq` lies; None where it lies in none."""
        return max((last for first, last in self._ranges if first <= seq <= last), default=None)
