"""Latches against a naive model, one condition at a time; the share of flapping."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.analysis import flapping, latches

LEVELS = 4
readings = st.lists(st.tuples(st.floats(0.5, 90.0), st.integers(-3, 120)), max_size=60)
conditions = st.lists(st.tuples(
    st.sets(st.integers(20, 90), min_size=1, max_size=LEVELS).map(sorted),  # thresholds, mildest first
    st.sampled_from([0.0, 0.0, 5.0, 30.0]),  # margin
    st.sampled_from([0.0, 10.0, 60.0, 300.0]),  # hold
    st.sampled_from([0.0, 10.0, 60.0, 300.0])), min_size=1, max_size=4)


class Latch:
    """One level of one condition, in words as plain as can be."""

    def __init__(self, threshold: float, margin: float, hold: float, recover: float) -> None:
        self.threshold, self.margin, self.hold, self.recover = threshold, margin, hold, recover
        self.is_on, self.waiting_since = False, None

    def read(self, value: float, ts: float) -> None:
        if self.is_on:
            is_contrary = value <= self.threshold - self.margin if self.margin else value < self.threshold
        else:
            is_contrary = value >= self.threshold
        if not is_contrary:
            self.waiting_since = None
            return
        if self.waiting_since is None:
            self.waiting_since = ts
        if ts - self.waiting_since >= (self.recover if self.is_on else self.hold) - latches.ROUNDING:
            self.is_on, self.waiting_since = not self.is_on, None


@given(conditions, readings)
def test_step_is_the_naive_model_for_all_conditions_at_once(rules: list[tuple[list[int], float, float, float]],
                                                            series: list[tuple[float, int]]) -> None:
    """However readings come, every level of every condition is what a latch on its own would be."""
    models = [[Latch(level, margin, hold, recover) for level in [*levels, *[math.inf] * (LEVELS - len(levels))]]
              for levels, margin, hold, recover in rules]
    thresholds = np.array([[latch.threshold for latch in model] for model in models])
    margin, hold, recover = (np.array([rule[i] for rule in rules]) for i in (1, 2, 3))
    on, since, ts = np.zeros(thresholds.shape, bool), np.full(thresholds.shape, np.nan), 0.0
    for pause, value in series:
        ts += pause
        values, times = np.full(len(rules), float(value)), np.full(len(rules), ts)
        on, since = latches.step(on, since, values[:, None] >= thresholds, latches.behind(values, thresholds, margin), times,
                                 hold, recover)
        for model in models:
            for latch in model:
                latch.read(value, ts)
        assert on.tolist() == [[latch.is_on for latch in model] for model in models]
        assert np.isnan(since).tolist() == [[latch.waiting_since is None for latch in model] for model in models]
        assert latches.levels(on).tolist() == [max((i + 1 for i, latch in enumerate(model) if latch.is_on), default=0)
                                               for model in models]
        assert latches.waits(on, since).tolist() == [
            not any(latch.is_on for latch in model) and any(latch.waiting_since is not None for latch in model)
            for model in models]


@given(readings)
def test_milder_levels_are_on_below_a_severe_one(series: list[tuple[float, int]]) -> None:
    """While a level is on that had the same time to wait, every milder one is on: severity is the highest, without holes."""
    thresholds, times = np.array([[20.0, 40.0, 60.0, 80.0]]), 0.0
    on, since = np.zeros((1, LEVELS), bool), np.full((1, LEVELS), np.nan)
    for pause, value in series:
        times += pause
        values = np.array([float(value)])
        on, since = latches.step(on, since, values[:, None] >= thresholds,
                                 latches.behind(values, thresholds, np.array([5.0])), np.array([times]), np.array([60.0]),
                                 np.array([60.0]))
        assert sorted(on[0].tolist(), reverse=True) == on[0].tolist()


def test_the_share_is_all_when_every_minute_changed() -> None:
    """20 of 20 minutes with a change are a share of 1, whatever the weights."""
    changes = flapping.Changes()
    for minute in range(20):
        changes.note(60.0 * minute)
    assert changes.share(60.0 * 19) == pytest.approx(1.0)


@given(st.lists(st.integers(0, 4000), max_size=40).map(sorted), st.integers(0, 4000))
def test_the_share_weighs_newer_minutes_more(times: list[int], later: int) -> None:
    """The share is the weighted sum over the last 20 minutes, from 1.2 for this one to 0.8 for the oldest."""
    changes, now = flapping.Changes(), (times[-1] if times else 0) + later
    for at in times:
        changes.note(float(at))
    ages = {now // 60 - at // 60 for at in times}
    expected = sum(1.2 - 0.4 * age / 19 for age in ages if age < 20) / 20
    assert changes.share(float(now)) == pytest.approx(expected)


def test_a_time_before_the_newest_counts_as_now() -> None:
    """Time does not go back: a change that is told late counts for the newest minute."""
    changes = flapping.Changes()
    changes.note(6000.0)
    changes.note(10.0)
    assert changes.share(6000.0) == changes.share(10.0) == pytest.approx(1.2 / 20)


def test_a_lost_history_of_flapping_is_calm_after_fifteen_minutes() -> None:
    """An alert that flapped when ingest ended stays so for about a quarter of an hour without a change, and no longer."""
    changes = flapping.full(0.0)
    assert changes.share(0.0) == pytest.approx(1.0)
    calm = next(minute for minute in range(30) if changes.share(60.0 * minute) < flapping.ENDS)
    assert calm == 15
