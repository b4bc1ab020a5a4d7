"""Counters → what happened between two readings, and the rounding of numbers to what they mean. Pure.

Rates are taken over the true elapsed time of a clock that stands still while the machine is suspended, as the counters
do. An instance whose counters went backwards (reset, wrap, another device under the same name) or that is new gives
nothing for that step: no negative rate, no spike.
"""

from collections.abc import Mapping
from typing import Generic, TypeVar

K = TypeVar("K")

SHORTEST_SECONDS = 0.001


class Counters(Generic[K]):
    """The previous reading of some counters, by instance; each instance has the same tuple of counters."""

    def __init__(self) -> None:
        self._at: float | None = None
        self._before: dict[K, tuple[int, ...]] = {}

    def advance(self, at: float, counters: Mapping[K, tuple[int, ...]]) -> tuple[float, dict[K, tuple[int, ...]]]:
        """Seconds since the previous reading, and the increments of every instance that has a valid step.

        Without a previous reading, or less than a millisecond after it, there are none.
        """
        elapsed = 0.0 if self._at is None else at - self._at
        if self._at is not None and 0 <= elapsed < SHORTEST_SECONDS:
            return elapsed, {}
        before, self._before, self._at = self._before, dict(counters), at
        if elapsed <= 0:
            return elapsed, {}
        steps = ((key, _step(before.get(key), now)) for key, now in counters.items())
        return elapsed, {key: step for key, step in steps if step is not None}


def _step(before: tuple[int, ...] | None, now: tuple[int, ...]) -> tuple[int, ...] | None:
    if before is None or len(before) != len(now):
        return None
    step = tuple(new - old for new, old in zip(now, before, strict=True))
    return None if min(step, default=0) < 0 else step


def percent(part: float, whole: float, digits: int = 1) -> float:
    """`part` of `whole` in percent, 0 to 100; 0 where there is no whole."""
    return round(min(100.0, max(0.0, 100.0 * part / whole)), digits) if whole > 0 else 0.0


def per_second(amount: float, seconds: float) -> float:
    """A rate with two decimals below 100, one below 10,000, none above; of rare events four decimals remain."""
    rate = amount / seconds
    return round(rate) if rate >= 10_000 else round(rate, 1) if rate >= 100 else round(rate, 2 if rate >= 0.1 else 4)


def bytes_per_second(amount: float, seconds: float) -> float:
    """A rate in whole bytes."""
    return round(amount / seconds)
