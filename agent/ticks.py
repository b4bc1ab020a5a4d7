"""When the next sample is due: tick k at start + k·interval, on one clock, so that nothing drifts. Pure."""


class Ticks:
    """Times in seconds of whatever clock is passed in. Missed ticks (a suspended laptop) are skipped, never made up."""

    def __init__(self, start: float, interval: float) -> None:
        self._start, self._interval, self._count = start, interval, 0

    @property
    def due_at(self) -> float:
        """The time of the next tick."""
        return self._start + self._count * self._interval

    def passed(self, now: float) -> None:
        """The tick that was due has been handled, and it is `now`: the next is the first one still ahead."""
        self._count = max(self._count + 1, int((now - self._start) // self._interval) + 1)
