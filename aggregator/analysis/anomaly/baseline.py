"""Slow mean and variance of each series, its hour's mean, and a daily profile with its skill. Pure.

Mean and variance are exponentially weighted (West 1979: the weight is 1 / count until that falls to the slow rate). What
they learn is clipped, so that an incident does not become normal. The profile is a mean for each hour of the day; the
deviation from it is that from the range of its bin and the two beside it, so that what happens ten minutes early is no surprise.
Its skill is the share of the variance that it explains, squared: a profile that explains nothing counts nothing.

Masks are multiplied rather than chosen by: numpy's `where` takes five times as long.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from aggregator.analysis.anomaly.parameters import Parameters
from aggregator.analysis.anomaly.state import BINS, Floats, State

RELATIVE_FLOOR = np.float32(1e-4)  # a sd is at least this share of the mean: rounding is no variation
FLOOR = np.float32(1e-9)
LARGEST = 1e18  # of a value; its square is still a 32-bit number
FARTHEST = np.float32(10.0)  # sd of one sample's deviation from the profile, as the short mean takes it
UNLIMITED = np.float32(1e30)
PROFILE_KNOWN_DAYS = 3.0  # a skill is measured from the third day on
ONE, NONE = np.float32(1), np.float32(0)


@dataclasses.dataclass(frozen=True, slots=True)
class Rates:
    """Weights of one sample, from time constants and steps a day."""

    steps_per_day: int
    slow: np.float32
    hour: np.float32
    profile: np.float32
    profile_bin: np.float32
    warm_up: np.float32  # samples
    hour_steps: int
    slow_steps: int  # what changes slowly is learnt from a row every five minutes

    @classmethod
    def of(cls, parameters: Parameters, steps_per_day: int) -> "Rates":
        """For a cadence."""
        slow_steps = max(1, steps_per_day // 288)
        profile_steps = parameters.profile_days * steps_per_day / slow_steps
        return cls(
            steps_per_day=steps_per_day,
            slow=np.float32(1 / (parameters.baseline_days * steps_per_day)),
            hour=np.float32(-np.expm1(-24 / (parameters.mean_hours * steps_per_day))),
            profile=np.float32(1 / profile_steps),
            profile_bin=np.float32(min(1 / 3, BINS / profile_steps)),
            warm_up=np.float32(parameters.warm_up_days * steps_per_day),
            hour_steps=max(1, steps_per_day // 24),
            slow_steps=slow_steps,
        )

    def slot(self, step: int) -> int:
        """The profile's bin at a step."""
        return step % self.steps_per_day * BINS // self.steps_per_day


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One row of values, relative to the origins, and what the baseline says of it before it is learnt."""

    is_there: NDArray[np.bool_]
    there: Floats  # the same as 1 and 0
    value: Floats  # the mean where there is no value
    sd: Floats
    deviation: Floats  # value - mean
    surprise: Floats  # value - the profile's range, 0 where there is no profile
    slot: int


def sample(state: State, values: NDArray[np.float64], step: int, rates: Rates) -> Sample:
    """Judge a row of values (NaN, infinite or absurdly large: no sample) and carry the short means on."""
    is_there = np.abs(values) < LARGEST
    begins = is_there & (state.count == 0)
    if begins.any():
        np.copyto(state.origin, values, where=begins)
    is_whole = bool(is_there.all())
    value = ((values if is_whole else np.where(is_there, values, 0.0)) - state.origin).astype(np.float32)
    if not is_whole:
        np.copyto(value, state.mean, where=~is_there)
    there = is_there.astype(np.float32)
    slot = rates.slot(step)
    found = Sample(is_there, there, value, spread(state), value - state.mean, _surprise(state, slot, value) * there, slot)
    _carry_short_means(state, found, step, rates)
    return found


def spread(state: State) -> Floats:
    """Standard deviation of each series, never quite 0."""
    floor: Floats = np.abs(state.mean + state.origin).astype(np.float32) * RELATIVE_FLOOR + FLOOR
    return np.maximum(np.sqrt(state.variance), floor)


def judge_profile(state: State, rates: Rates) -> None:
    """Make the profiles' skill anew."""
    explained = np.maximum(ONE - state.error / np.maximum(state.variance, np.float32(1e-37)), NONE)
    np.multiply(explained * explained, state.count > np.float32(PROFILE_KNOWN_DAYS * rates.steps_per_day), out=state.skill)


def _surprise(state: State, slot: int, value: Floats) -> Floats:
    before, now, after = state.profile[slot - 1], state.profile[slot], state.profile[(slot + 1) % BINS]
    if np.isnan(now).all():
        return np.zeros_like(value)
    low = np.fmin(np.fmin(before, after), now)
    high = np.fmax(np.fmax(before, after), now)
    found: Floats = value - np.minimum(np.maximum(value, low), high)
    found[np.isnan(now)] = 0
    return found


def _carry_short_means(state: State, row: Sample, step: int, rates: Rates) -> None:
    stale = row.is_there & (step - state.seen > rates.hour_steps)  # the mean of another hour says nothing of this one
    if stale.any():
        np.copyto(state.hour, row.value, where=stale)
        np.copyto(state.departure, NONE, where=stale)
    np.copyto(state.seen, step, where=row.is_there)
    weight = row.there * rates.hour
    state.hour += weight * (row.value - state.hour)
    departure = state.skill * row.surprise / row.sd
    state.departure += weight * (np.minimum(np.maximum(departure, -FARTHEST), FARTHEST) - state.departure)


def learn(state: State, row: Sample, parameters: Parameters, rates: Rates, *, is_slow_turn: bool) -> None:
    """Take the row into mean and variance, and in a slow turn into the profile."""
    limit: Floats = np.float32(parameters.clip) * row.sd
    limit[state.count <= rates.warm_up] = UNLIMITED
    step = np.minimum(np.maximum(row.deviation, -limit), limit)
    if is_slow_turn:
        _learn_profile(state, row, state.mean + step, np.minimum(np.maximum(row.surprise, -limit), limit), rates)
    weight = row.there * np.maximum(rates.slow, ONE / (state.count + ONE))
    state.mean += weight * step
    state.variance += weight * ((ONE - weight) * step * step - state.variance)
    state.count += row.there


def _learn_profile(state: State, row: Sample, value: Floats, rest: Floats, rates: Rates) -> None:
    days = np.float32(rates.steps_per_day)
    rows = np.maximum(state.count - days, NONE) * np.float32(1 / rates.slow_steps)  # the first day fills the bins
    weight = row.there * (state.count >= days) * np.maximum(rates.profile, ONE / (rows + ONE))
    state.error += weight * (rest * rest - state.error)
    now = state.profile[row.slot]
    unknown = np.isnan(now)
    if unknown.any():
        np.copyto(now, value, where=unknown & row.is_there)
    rate = rates.profile_bin * (ONE + np.float32(2) * (state.count < 2 * days))  # the first two days are soon known
    now += row.there * rate * (value - now)
