"""Flap detection: how much of the last 20 minutes saw a change, newer ones weighing more. Pure.

Icinga's measure (icinga2, lib/icinga/checkable-flapping.cpp): the share of the last 20 readings that changed, weighted from
0.8 for the oldest to 1.2 for the newest; flapping begins at 30 % and ends below 25 %. A reading here is a minute of event time.
"""

import dataclasses

STEPS = 20
STEP_SECONDS = 60.0
BEGINS, ENDS = 0.30, 0.25

_ALL = (1 << STEPS) - 1
_WEIGHTS = [1.2 - 0.4 * age / (STEPS - 1) for age in range(STEPS)]


@dataclasses.dataclass(slots=True)
class Changes:
    """The minutes of the last 20 in which a condition began or ended: bit `age` of `bits`, seen from minute `step`."""

    bits: int = 0
    step: int = 0

    def note(self, at: float) -> None:
        """Something changed at `at` (Unix s)."""
        self._move(at)
        self.bits |= 1

    def share(self, at: float) -> float:
        """Weighted share (0 to 1) of the 20 minutes up to `at` that saw a change."""
        self._move(at)
        return sum(weight for age, weight in enumerate(_WEIGHTS) if self.bits >> age & 1) / STEPS

    def _move(self, at: float) -> None:
        step = int(at // STEP_SECONDS)
        if step > self.step:
            self.bits = (self.bits << min(step - self.step, STEPS)) & _ALL
            self.step = step


def full(at: float) -> Changes:
    """What is assumed of a condition that was flapping when its history was lost."""
    return Changes(_ALL, int(at // STEP_SECONDS))
