"""Where a series has been: up to 32 regions of (value, hour's mean, departure from the profile), and how far from all it is.

1. Coordinates are deviations in sd of the baseline, kept as 16-bit numbers, which halves the time of the search.
2. The distance to a region is the largest difference over the axes; novelty is the distance to the nearest region, divided by
   1 + c |z| where z is the larger of the value's and the mean's deviation: what is far out varies more.
3. Novelty in bars is the score. A distance over the bar is a new region: it is learnt at once (a recurring burst is new once),
   in an empty place or in that of the region longest unvisited, and lifts the bar; the bar falls back slowly, so that a series
   which is new all the time is new to nobody.
4. Where mean or sd have moved by a fifth since the coordinates were fixed, the regions are moved over.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from aggregator.analysis.anomaly.baseline import Rates, Sample
from aggregator.analysis.anomaly.parameters import Parameters
from aggregator.analysis.anomaly.state import AXES, EMPTY, Floats, State

UNIT = np.float32(64)  # of a coordinate: 1 / 64 sd
FARTHEST = np.float32(10_240)
MOVED = np.float32(0.2)
BARS_REST_DAYS = 0.25  # what is new on a series' first morning lifts no bar

Coordinates = NDArray[np.int16]


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where each series is now, (AXES, series), and what a difference of one unit there counts, in sd."""

    at: Coordinates
    worth: Floats


def place(state: State, row: Sample, parameters: Parameters) -> Place:
    """From a row and the short means that include it."""
    at = np.empty((AXES, len(row.value)), np.float32)
    np.multiply(row.value - state.centre, state.per_sd, out=at[0])
    np.multiply(state.hour - state.centre, state.per_sd, out=at[1])
    at[2] = state.departure
    size = np.maximum(np.abs(at[0]), np.abs(at[1])) * (np.float32(parameters.compression) * UNIT) + UNIT
    return Place(_rounded(at), np.float32(1) / size)


def _rounded(deviations: Floats) -> Coordinates:
    deviations *= UNIT
    np.minimum(deviations, FARTHEST, out=deviations)
    np.maximum(deviations, -FARTHEST, out=deviations)
    return deviations.astype(np.int16)


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """Distances in units: to each region (REGIONS, series), to the nearest; and the novelty that makes."""

    far: Coordinates
    near: Coordinates
    novelty: Floats


def search(state: State, place: Place) -> Found:
    """How far each series is from each of its regions."""
    far: Coordinates = np.subtract(state.regions[0], place.at[0])
    np.abs(far, out=far)
    axis = np.empty_like(far)
    for i in range(1, AXES):
        np.subtract(state.regions[i], place.at[i], out=axis)
        np.abs(axis, out=axis)
        np.maximum(far, axis, out=far)
    near = far.min(axis=0)
    return Found(far, near, near * place.worth)


def learn(state: State, at: Coordinates, found: Found, is_there: NDArray[np.bool_], hour: int,
          parameters: Parameters, rates: Rates, *, is_slow_turn: bool) -> None:  # fmt: skip
    """Learn new regions, which lift the bars; in a slow turn note which of the others are visited."""
    is_placed = is_there & (state.per_sd > 0)
    is_new = is_placed & (found.novelty > state.bar)
    if is_slow_turn:
        np.copyto(state.visited, np.int32(hour), where=found.far == np.where(is_placed ^ is_new, found.near, np.int16(-1)))
    new = np.flatnonzero(is_new)
    if len(new):
        oldest = state.visited[:, new].argmin(axis=0)
        state.regions[:, oldest, new] = at[:, new]
        state.visited[oldest, new] = hour
        state.bar[new[state.count[new] > BARS_REST_DAYS * rates.steps_per_day]] *= np.float32(parameters.bar_growth)


def lower_bars(state: State, parameters: Parameters, rates: Rates) -> None:
    """By what an hour takes. A young series' bar falls within its own age: its first lessons are not held against it."""
    days = np.float32(rates.steps_per_day)
    age = np.minimum(np.maximum(state.count, np.float32(BARS_REST_DAYS) * days), np.float32(parameters.bar_days) * days)
    state.bar -= state.bar * np.float32(rates.hour_steps) / age
    np.maximum(state.bar, np.float32(parameters.bar), out=state.bar)


def follow(state: State, sd: Floats, rates: Rates) -> None:
    """Move the regions of the series whose mean or sd have moved, and begin those that have been seen for an hour."""
    moved = np.abs(state.mean - state.centre) * state.per_sd > MOVED
    moved |= np.abs(sd * state.per_sd - np.float32(1)) > MOVED
    which = np.flatnonzero(moved & (state.count >= rates.hour_steps))
    if not len(which):
        return
    regions = state.regions[:2, :, which]
    old_centre, old_per_sd = state.centre[which], np.where(state.per_sd[which] > 0, state.per_sd[which], np.float32(1))
    state.per_sd[which], state.centre[which] = 1 / sd[which], state.mean[which]
    values = regions.astype(np.float32) / (UNIT * old_per_sd) + (old_centre - state.centre[which])
    state.regions[:2, :, which] = np.where(regions == EMPTY, EMPTY, _rounded(values * state.per_sd[which]))
