"""One alert for each incident: it begins with a score at the threshold and lasts until none was there for some hours. Pure."""

import dataclasses
from typing import Self

import numpy as np
from numpy.typing import NDArray

from aggregator.analysis.anomaly.state import NEVER, Floats


@dataclasses.dataclass(slots=True)
class Incidents:
    """Of many series or hosts. `hot`: the last step with a score at the threshold; the one array to save and restore."""

    hot: NDArray[np.int64]
    threshold: float
    calm_steps: int

    @classmethod
    def none(cls, series: int, threshold: float, calm_hours: float, steps_per_day: int) -> Self:
        """No incident is open."""
        return cls(np.full(series, NEVER, np.int64), threshold, max(1, round(calm_hours * steps_per_day / 24)))

    def is_open(self, step: int) -> NDArray[np.bool_]:
        """Whose incident is not over at `step`, before its scores are known."""
        return step - self.hot <= self.calm_steps

    def begun(self, scores: Floats, step: int) -> NDArray[np.bool_]:
        """Note a row of scores; where an incident begins with it."""
        is_hot = scores >= np.float32(self.threshold)
        begins: NDArray[np.bool_] = is_hot & ~self.is_open(step)
        self.hot[is_hot] = step
        return begins
