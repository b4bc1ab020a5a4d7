"""Who has a turn now, where each of many has one every so many seconds, evenly spread. Pure."""

from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Rota(Generic[T]):
    """Goes round `items` once in `seconds` (0: never); times in seconds of whatever clock is passed in."""

    def __init__(self, items: Sequence[T], seconds: float, now: float) -> None:
        self._items, self._seconds, self._taken_at = items, seconds, now
        self._next = 0

    def due(self, now: float) -> list[T]:
        """Those whose turn came since the last time; at most everybody."""
        count = len(self._items)
        share = int(count * min(1.0, (now - self._taken_at) / self._seconds)) if self._seconds else 0
        if not share:
            return []
        self._taken_at = now if share == count else self._taken_at + share * self._seconds / count
        begin, self._next = self._next, (self._next + share) % count
        return [self._items[(begin + place) % count] for place in range(share)]
