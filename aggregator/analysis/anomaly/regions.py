"""Where a series has been: up to 32 regions of (value, hour's mean, departure from the profile), and how far from all it is.

1. Coordinates are deviations in sd of the baseline, compressed: sign(z) ln(1 + c |z|) / c, so that a burst of 40 sd is near one
   of 50 although 1 sd is far from 11. They are kept as 16-bit numbers, which halves the time of the search.
2. The distance to a region is the largest difference over the axes; novelty is the distance to the nearest region.
3. Novelty in bars is the score. A distance over the bar is a new region: it is learnt at once (a recurring burst is new once),
   in an empty place or in that of the region longest unvisited, and lifts the bar; the bar falls back slowly, so that a series
   which is new all the time is new to nobody.
4. Where mean or sd have moved by a tenth since the coordinates were fixed, the regions are moved over.
"""

import numpy as np
from numpy.typing import NDArray

from aggregator.analysis.anomaly.baseline import Rates, Sample
from aggregator.analysis.anomaly.parameters import Parameters
from aggregator.analysis.anomaly.state import AXES, EMPTY, Floats, State

UNIT = np.float32(512)  # of a coordinate: 1 / 512 of a compressed sd
FARTHEST = np.float32(10_240)
MOVED = np.float32(0.1)
BARS_REST_DAYS = 0.25  # what is new on a series' first morning lifts no bar

Coordinates = NDArray[np.int16]


def compressed(deviations: Floats, compression: float) -> Coordinates:
    """Coordinates of deviations in sd."""
    c = np.float32(compression)
    size = np.abs(deviations)
    size *= c
    size += np.float32(1)
    np.log(size, out=size)
    size *= UNIT / c
    np.minimum(size, FARTHEST, out=size)
    np.copysign(size, deviations, out=size)
    return size.astype(np.int16)


def expanded(coordinates: Coordinates, compression: float) -> Floats:
    """Deviations in sd of coordinates."""
    c = np.float32(compression)
    size = coordinates.astype(np.float32) * (c / UNIT)
    found: Floats = np.copysign(np.expm1(np.abs(size)) / c, size)
    return found


def place(state: State, row: Sample, parameters: Parameters) -> Coordinates:
    """Where each series is now: (AXES, series)."""
    at = np.empty((AXES, len(row.value)), np.float32)
    np.multiply(row.value - state.centre, state.per_sd, out=at[0])
    np.multiply(state.hour - state.centre, state.per_sd, out=at[1])
    at[2] = state.departure
    return compressed(at, parameters.compression)


def distances(state: State, at: Coordinates) -> Coordinates:
    """From each region of each series: (REGIONS, series)."""
    far: Coordinates = np.subtract(state.regions[0], at[0])
    np.abs(far, out=far)
    axis = np.empty_like(far)
    for i in range(1, AXES):
        np.subtract(state.regions[i], at[i], out=axis)
        np.abs(axis, out=axis)
        np.maximum(far, axis, out=far)
    return far


def learn(state: State, at: Coordinates, far: Coordinates, near: Coordinates, is_there: NDArray[np.bool_], hour: int,
          parameters: Parameters, rates: Rates) -> None:  # fmt: skip
    """Note the visit, or the new region; lift or lower the bars."""
    is_placed = is_there & (state.per_sd > 0)
    is_new = is_placed & (near > state.bar * UNIT)
    np.copyto(state.visited, np.int32(hour), where=far == np.where(is_placed ^ is_new, near, np.int16(-1)))
    new = np.flatnonzero(is_new)
    lifted = state.bar[new] * np.where(state.count[new] > BARS_REST_DAYS * rates.steps_per_day, parameters.bar_growth, 1.0)
    _lower_bars(state, is_placed, parameters, rates)
    if len(new):
        state.bar[new] = lifted
        oldest = state.visited[:, new].argmin(axis=0)
        state.regions[:, oldest, new] = at[:, new]
        state.visited[oldest, new] = hour


def _lower_bars(state: State, is_placed: NDArray[np.bool_], parameters: Parameters, rates: Rates) -> None:
    """A young series' bar falls within its own age, so that what it learnt at first is not held against it."""
    days = np.float32(rates.steps_per_day)
    age = np.minimum(np.maximum(state.count, np.float32(BARS_REST_DAYS) * days), np.float32(parameters.bar_days) * days)
    state.bar -= is_placed * state.bar / age
    np.maximum(state.bar, np.float32(parameters.bar), out=state.bar)


def follow(state: State, sd: Floats, parameters: Parameters, rates: Rates) -> None:
    """Move the regions of the series whose mean or sd have moved, and begin those that have been seen for an hour."""
    moved = np.abs(state.mean - state.centre) * state.per_sd > MOVED
    moved |= np.abs(sd * state.per_sd - np.float32(1)) > MOVED
    which = np.flatnonzero(moved & (state.count >= rates.hour_steps))
    if not len(which):
        return
    regions = state.regions[:2, :, which]
    values = expanded(regions, parameters.compression)
    values /= np.where(state.per_sd[which] > 0, state.per_sd[which], np.float32(1))
    values += state.centre[which]
    state.per_sd[which], state.centre[which] = 1 / sd[which], state.mean[which]
    values -= state.centre[which]
    values *= state.per_sd[which]
    there = compressed(values, parameters.compression)
    state.regions[:2, :, which] = np.where(regions == EMPTY, EMPTY, there)
