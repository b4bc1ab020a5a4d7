"""The time as ingest has it: the database's, carried on between its answers by the monotonic clock of this machine.

All ingest processes of a fleet so have one time, whatever their machines' clocks say or jump to; leases, checkpoints, minutes
and silences are compared in it. Durations of this process alone are measured by `steady`.
"""

import time
from collections.abc import Callable

FOLLOWED_SECONDS = 2.0
"""From which difference on the database's time is taken over; below it is the way of the answer."""
JUMP_SECONDS = 10.0
"""From which difference on it is a jump."""


class Timekeeper:
    """Call it for the time (Unix s). `wall` is read once, for the time before the database has been asked."""

    def __init__(self, steady: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self.steady = steady
        self._began_at = wall() - steady()

    def __call__(self) -> float:
        return self._began_at + self.steady()

    def hear(self, database_at: float) -> float:
        """The database says it is `database_at`; the seconds by which the time jumped, 0.0 where it did not."""
        step = database_at - self._began_at - self.steady()
        if abs(step) >= FOLLOWED_SECONDS:
            self._began_at += step
        return step if abs(step) >= JUMP_SECONDS else 0.0
