"""Regions a series has been in: learnt once, kept while visited, moved with the baseline, and rarer the fewer are new."""

import numpy as np
import pytest

from aggregator.analysis.anomaly import regions
from aggregator.analysis.anomaly.baseline import Rates
from aggregator.analysis.anomaly.parameters import DEFAULTS
from aggregator.analysis.anomaly.state import REGIONS, State

RATES = Rates.of(DEFAULTS, 24)
THERE = np.array([True])


def placed(count=1000.0):
    """A series whose regions are relative to mean 0 and sd 1."""
    state = State.fresh(1, DEFAULTS.bar)
    state.count[:], state.per_sd[:] = count, 1.0
    return state


def at(value, hour=0.0, departure=0.0):
    coordinates = np.array([[value], [hour], [departure]]) * regions.UNIT
    size = 1 + DEFAULTS.compression * max(abs(value), abs(hour))
    return regions.Place(coordinates.astype(np.int16), np.array([1 / (regions.UNIT * size)], np.float32))


def visit(state, place, hour, *, is_slow_turn=True):
    """Novelty before the visit is learnt."""
    found = regions.search(state, place)
    regions.learn(state, place.at, found, THERE, hour, DEFAULTS, RATES, is_slow_turn=is_slow_turn)
    return found.novelty[0]


def test_a_region_is_new_once():
    """The first visit is far from everything, the second is at home."""
    state = placed()
    assert visit(state, at(3.0), 1) > 10
    assert visit(state, at(3.0), 2) == 0


@pytest.mark.parametrize("other", [(4.0, 0.0, 0.0), (3.0, 1.0, 0.0), (3.0, 0.0, 1.0)])
def test_each_axis_tells_places_apart(other):
    """A difference of one sd in value, hour's mean or departure is a distance, less by how far out the place is."""
    state = placed()
    visit(state, at(3.0), 1)
    size = 1 + DEFAULTS.compression * max(other[:2])
    assert visit(state, at(*other), 2) == pytest.approx(1 / size, rel=1e-3)


def test_what_is_visited_is_kept():
    """Sixty new regions push out each other, not the one that is visited between them."""
    state = placed()
    visit(state, at(0.0), 1)
    for i in range(1, 2 * REGIONS):
        state.bar[:] = DEFAULTS.bar
        assert visit(state, at(0.0, departure=2.0 * i), 2 * i) > 1
        assert visit(state, at(0.0), 2 * i + 1) == 0
    assert visit(state, at(0.0, departure=2.0), 1000) > 1


def test_each_new_region_lifts_the_bar_and_hours_lower_it():
    """The bar rises by its growth, falls with its time constant and never below where it began."""
    state = placed()
    for i in range(3):
        visit(state, at(10.0 * i), 1)
    assert state.bar[0] == pytest.approx(DEFAULTS.bar * DEFAULTS.bar_growth**3)
    for _ in range(24):
        regions.lower_bars(state, DEFAULTS, RATES)
    assert state.bar[0] == pytest.approx(DEFAULTS.bar * DEFAULTS.bar_growth**3 * np.exp(-1 / DEFAULTS.bar_days), rel=0.01)
    for _ in range(24 * 20):
        regions.lower_bars(state, DEFAULTS, RATES)
    assert state.bar[0] == np.float32(DEFAULTS.bar)


def test_regions_move_with_the_baseline():
    """When mean and sd have moved, the same values are where they were; the departure is in its own measure."""
    state = placed()
    for value in (-2.0, 5.0):
        visit(state, at(value, value, 0.5), 1)
    state.mean[:] = 3.0
    regions.follow(state, np.array([2.0], np.float32), RATES)
    for value in (-2.0, 5.0):
        assert visit(state, at((value - 3) / 2, (value - 3) / 2, 0.5), 2) == pytest.approx(0, abs=0.02)
    assert visit(state, at(-2.0, -2.0, 0.5), 3) > 0.1


def test_a_small_move_of_the_baseline_moves_nothing():
    """Regions stay as they are while mean and sd are within a fifth."""
    state = placed()
    visit(state, at(5.0), 1)
    before = state.regions.copy()
    state.mean[:] = 0.15
    regions.follow(state, np.array([1.1], np.float32), RATES)
    assert np.array_equal(state.regions, before)
    assert state.centre[0] == 0
