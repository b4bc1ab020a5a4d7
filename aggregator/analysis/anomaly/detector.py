"""Scores of many series at once: how new is where each one is now, in its own measure. Pure, causal, O(1) state a series."""

import dataclasses
from typing import Self

import numpy as np
from numpy.typing import NDArray

from aggregator.analysis.anomaly import baseline, regions
from aggregator.analysis.anomaly.parameters import DEFAULTS, Parameters
from aggregator.analysis.anomaly.state import NEVER, Arrays, Floats, State, newest

CHUNK = 16_384  # series at a time: what is worked on stays in the processor's cache


@dataclasses.dataclass(frozen=True, slots=True)
class Scores:
    """Of one row. `score`: novelty in bars, 0 during warm-up and without a sample.

    `deviation`: from what is expected at this hour (the mean, or the profile in proportion to its skill), in sd of the series;
    0 during warm-up, NaN without a sample.
    """

    score: Floats
    deviation: Floats


@dataclasses.dataclass(frozen=True, slots=True)
class Expected:
    """What a series does at a time of day: `middle` and one standard deviation of what is left; NaN before the first sample."""

    middle: NDArray[np.float64]
    sd: Floats


class Detector:
    """A fixed number of series sampled together, `steps_per_day` times a day; NaN where one has no sample."""

    def __init__(self, series: int, steps_per_day: int, parameters: Parameters = DEFAULTS) -> None:
        self.parameters = parameters
        self._rates = baseline.Rates.of(parameters, steps_per_day)
        self._before = NEVER
        self._keep(State.fresh(series, parameters.bar))

    @classmethod
    def restored(cls, arrays: Arrays, steps_per_day: int, parameters: Parameters = DEFAULTS) -> Self:
        """As it was when `arrays` was called. Raises ValueError where they are not such arrays."""
        detector = cls(0, steps_per_day, parameters)
        detector._keep(State.restored(arrays))
        detector._before = newest(arrays)
        return detector

    def arrays(self) -> Arrays:
        """The whole state, to be saved before the next row: arrays with the series last, and `step`, that of the newest row."""
        return {**self._state.arrays(), "step": np.array([self._before], np.int64)}

    def renew(self, series: NDArray[np.intp]) -> None:
        """Forget some series: others take their places."""
        self._state.renew(series, self.parameters.bar)

    def score(self, values: NDArray[np.float64], step: int) -> Scores:
        """Score a row, then learn it. `step` counts steps since any midnight; steps may be left out, never repeated."""
        found = Scores(np.zeros(len(values), np.float32), np.zeros(len(values), np.float32))
        for i, (where, part) in enumerate(self._parts):
            self._step(part, values[where], step, i, found.score[where], found.deviation[where])
        self._before = step
        return found

    def expected(self, step: int) -> Expected:
        """The range a value is expected in at `step`, by all that was learnt: the profile in proportion to its skill."""
        state, rates = self._state, self._rates
        slot = rates.slot(step)
        share = state.skill
        offset = np.where(np.isfinite(state.profile[slot]), state.profile[slot] - state.mean, np.float32(0))
        sd = np.sqrt(state.variance + share * (np.minimum(state.error, state.variance) - state.variance))
        middle = state.origin + state.mean + share * offset
        return Expected(np.where(state.count > 0, middle, np.nan), np.where(state.count > 0, sd, np.float32(np.nan)))

    def _keep(self, state: State) -> None:
        self._state = state
        wheres = [slice(begin, begin + CHUNK) for begin in range(0, len(state.count), CHUNK)]
        self._parts = [(where, state.part(where)) for where in wheres]

    def _step(self, state: State, values: NDArray[np.float64], step: int, turn: int, score: Floats, deviation: Floats) -> None:
        parameters, rates = self.parameters, self._rates
        row = baseline.sample(state, values, step, rates)
        if self._is_turn(step, turn, rates.hour_steps):
            self._hourly(state, row)
        place = regions.place(state, row, parameters)
        found = regions.search(state, place)
        is_warm = row.is_there & (state.count > rates.warm_up)
        np.copyto(score, found.novelty / state.bar, where=is_warm & (state.per_sd > 0))
        departure = row.deviation + state.skill * (row.surprise - row.deviation)
        np.copyto(deviation, departure / row.sd, where=is_warm)
        deviation[~row.is_there] = np.nan
        is_slow_turn = self._is_turn(step, turn, rates.slow_steps)
        hour = step // rates.hour_steps + 1
        regions.learn(state, place.at, found, row.is_there, hour, parameters, rates, is_slow_turn=is_slow_turn)
        baseline.learn(state, row, parameters, rates, is_slow_turn=is_slow_turn)

    def _is_turn(self, step: int, turn: int, every: int) -> bool:
        """Whether another hour, or five minutes, has begun since the row before, however many steps were left out."""
        return (step + turn) // every != (self._before + turn) // every

    def _hourly(self, state: State, row: baseline.Sample) -> None:
        baseline.judge_profile(state, self._rates)
        regions.follow(state, row.sd, self._rates)
        regions.lower_bars(state, self.parameters, self._rates)
