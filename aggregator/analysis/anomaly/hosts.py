"""Scores of hosts: how unlike a host's own habits its metrics are together, and which of them make it so. Pure.

The distance is Mahalanobis' of the clipped deviations z (`Detector.score`) under the host's own covariance C, learnt as slowly
as the baseline: d² = z' (C + ridge)⁻¹ z. Metrics that always move together count once, one that leaves its companions much.

1. d is divided by the root of the number of metrics, so that hosts with many and with few are alike: 1 is usual. Metrics that
   are `optional` count only for hosts on which they were ever seen to move, so that the others' scores are not made smaller.
2. The score is d's short mean, plus the onset: a share of what d exceeds by now the short mean it had before.
3. Learning takes a row every 5 minutes at most; a host's inverse is made anew after an hour of them in its first days, then after
   6 hours, the hosts taking turns.

A metric without a sample (NaN), in warm-up or constant (0) adds nothing.
"""

import dataclasses
from typing import Self

import numpy as np
from numpy.typing import NDArray

from aggregator.analysis.anomaly.parameters import DEFAULTS, Parameters
from aggregator.analysis.anomaly.state import NEVER, Arrays, Floats, checked, newest

LEARNS_A_DAY = 288
YOUNG_DAYS = 3.0
INVERSES_A_DAY_YOUNG, INVERSES_A_DAY = 24, 4


@dataclasses.dataclass(slots=True)
class HostState:
    """Plain arrays, the host first."""

    count: Floats  # rows heard
    learnt: Floats  # rows taken into the covariance
    covariance: Floats  # (hosts, metrics, metrics)
    inverse: Floats
    short: Floats  # short mean of the distance

    @classmethod
    def fresh(cls, hosts: int, metrics: int) -> Self:
        """Nothing seen yet."""
        zero = [np.zeros(hosts, np.float32) for _ in range(3)]
        square = np.zeros((hosts, metrics, metrics), np.float32)
        return cls(zero[0], zero[1], square, square.copy(), zero[2])

    def arrays(self) -> Arrays:
        """The arrays themselves, by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


class HostDetector:
    """Hosts of one layout: each has the same number of metrics, sampled `steps_per_day` times a day.

    `optional`: how many of the metrics, the last ones, only some hosts are expected to have.
    """

    def __init__(self, hosts: int, metrics: int, steps_per_day: int, parameters: Parameters = DEFAULTS, *,
                 optional: int = 0) -> None:
        self.parameters = parameters
        self._first_optional = metrics - optional
        self._steps_per_day = steps_per_day
        self._learns_every = max(1, steps_per_day // LEARNS_A_DAY)
        self._weight = np.float32(-np.expm1(-24 / (parameters.host_hours * steps_per_day)))
        self._state = HostState.fresh(hosts, metrics)
        self._before = NEVER

    @classmethod
    def restored(cls, arrays: Arrays, steps_per_day: int, parameters: Parameters = DEFAULTS, *, optional: int = 0) -> Self:
        """As it was when `arrays` was called. Raises ValueError where they are not such arrays."""
        shape = np.shape(arrays.get("covariance", ()))
        if len(shape) != 3:
            raise ValueError("anomaly state of hosts: covariance must have three axes")
        detector = cls(shape[0], shape[1], steps_per_day, parameters, optional=optional)
        for name, pattern in detector._state.arrays().items():
            setattr(detector._state, name, checked(arrays, name, pattern).copy())
        detector._before = newest(arrays)
        return detector

    def arrays(self) -> Arrays:
        """The whole state, to be saved before the next row: arrays with the host first, and `step`, that of the newest row."""
        return {**self._state.arrays(), "step": np.array([self._before], np.int64)}

    def renew(self, hosts: NDArray[np.intp]) -> None:
        """Forget some hosts: others take their places."""
        for array in self._state.arrays().values():
            array[hosts] = 0

    def score(self, deviations: Floats, step: int) -> Floats:
        """Score a row of deviations (hosts, metrics), then learn it; a host of NaN only has no row. 0 during warm-up."""
        z, is_there = self._clipped(deviations)
        state = self._state
        distance = self._distance(z)
        above = np.maximum(distance - state.short, np.float32(0))
        state.short += is_there * self._weight * (distance - state.short)
        is_warm = is_there & (state.count > np.float32(2 * self.parameters.warm_up_days * self._steps_per_day))
        found = np.where(is_warm, state.short + np.float32(self.parameters.onset) * above, np.float32(0))
        state.count += is_there
        self._learn(z, is_there, step)
        return found

    def shares(self, deviations: Floats) -> Floats:
        """Each metric's share (0 to 1, a host's sum is 1) of its host's squared distance: terms z_i (P z)_i, negative as 0."""
        z, _ = self._clipped(deviations)
        terms = np.maximum(z * np.matmul(self._state.inverse, z[:, :, None])[:, :, 0], np.float32(0))
        total = terms.sum(axis=1, keepdims=True)
        found: Floats = np.divide(terms, total, out=np.zeros_like(terms), where=total > 0)
        return found

    def _clipped(self, deviations: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        limit = np.float32(self.parameters.clip)
        z: Floats = np.minimum(np.maximum(deviations, -limit), limit)
        is_known = np.isfinite(z)
        if is_known.all():
            return z, np.ones(len(z), np.bool_)
        z[~is_known] = 0
        is_there: NDArray[np.bool_] = np.asarray(is_known.any(axis=1))
        return z, is_there

    def _distance(self, z: Floats) -> Floats:
        squared = np.einsum("hi,hi->h", z, np.matmul(self._state.inverse, z[:, :, None])[:, :, 0])
        found: Floats = np.sqrt(np.maximum(squared, np.float32(0)) / self._counted())
        return found

    def _counted(self) -> Floats:
        """How many metrics each host has, at least 1."""
        variance = np.diagonal(self._state.covariance, axis1=1, axis2=2)[:, self._first_optional:]
        found: Floats = np.maximum(self._first_optional + (variance > 0).sum(axis=1), 1).astype(np.float32)
        return found

    def _learn(self, z: Floats, is_there: NDArray[np.bool_], step: int) -> None:
        if step // self._learns_every != self._before // self._learns_every:
            self._learn_covariance(z, is_there)
            self._invert(is_there)
        self._before = step

    def _learn_covariance(self, z: Floats, is_there: NDArray[np.bool_]) -> None:
        state = self._state
        state.learnt += is_there
        slow = self._learns_every / (self.parameters.baseline_days * self._steps_per_day)
        weight = is_there * np.maximum(np.float32(slow), 1 / np.maximum(state.learnt, np.float32(1)))
        state.covariance *= (1 - weight)[:, None, None]
        state.covariance += (z * weight[:, None])[:, :, None] * z[:, None, :]

    def _invert(self, is_there: NDArray[np.bool_]) -> None:
        state = self._state
        is_young = state.count < np.float32(YOUNG_DAYS * self._steps_per_day)
        a_day = max(1, self._steps_per_day // self._learns_every)
        every = np.where(is_young, max(1, a_day // INVERSES_A_DAY_YOUNG), max(1, a_day // INVERSES_A_DAY))
        is_turn = (state.learnt.astype(np.int64) + np.arange(len(every))) % every == 0
        hosts = np.flatnonzero(is_there & is_turn)
        if len(hosts):
            ridge = np.float32(self.parameters.ridge) * np.eye(state.covariance.shape[1], dtype=np.float32)
            state.inverse[hosts] = np.linalg.inv(state.covariance[hosts] + ridge)
