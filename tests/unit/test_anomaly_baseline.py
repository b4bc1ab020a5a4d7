"""The slow baseline against numpy on plain data: mean, variance, the hour's mean, the profile and its skill."""

import numpy as np
import pytest

from aggregator.analysis.anomaly import baseline
from aggregator.analysis.anomaly.detector import Detector
from aggregator.analysis.anomaly.parameters import DEFAULTS

DAY = 288


def run(values, steps_per_day=DAY, first=0):
    detector = Detector(values.shape[1], steps_per_day)
    for step, row in enumerate(values, first):
        detector.score(row, step)
    return detector


def plain(rows=600, seed=1):
    return np.random.default_rng(seed).normal([[10.0, -5e6, 0.002]], [[1.0, 2e3, 1e-4]], (rows, 3))


def test_young_mean_and_variance_are_numpys():
    """Until the slow rate takes over, mean and variance are those of all samples."""
    values = plain()
    state = run(values).arrays()
    assert state["mean"] + state["origin"] == pytest.approx(values.mean(axis=0), rel=1e-5)
    assert state["variance"] == pytest.approx(values.var(axis=0), rel=1e-3)
    assert state["count"].tolist() == [600, 600, 600]


def test_the_old_mean_forgets_with_the_time_constant():
    """After a step a mean of ten days has gone 1 - 1 / e of the way in ten more days, once it is as old as that."""
    levels = np.concatenate((np.random.default_rng(2).normal(0.0, 1.0, 10 * DAY), np.full(10 * DAY, 5.0)))
    state = run(levels[:, None]).arrays()
    assert state["mean"][0] + state["origin"][0] == pytest.approx(5 * (1 - np.exp(-1)), abs=0.1)


def test_a_sample_is_learnt_clipped():
    """One absurd sample moves the mean by no more than the clip allows."""
    values = plain(400)[:, :1]
    values[350:] = values[0]
    spiked = values.copy()
    spiked[390] += 1e9
    calm, shaken = run(values).arrays(), run(spiked).arrays()
    moved = shaken["mean"][0] + shaken["origin"][0] - calm["mean"][0] - calm["origin"][0]
    sd = np.sqrt(calm["variance"][0])
    assert 0 < moved < 1.5 * DEFAULTS.clip * sd / 390


def test_missing_samples_change_no_statistic():
    """Mean and variance with gaps are those of what is left."""
    values = plain()
    values[np.random.default_rng(3).random(values.shape) < 0.3] = np.nan
    state = run(values).arrays()
    assert state["mean"] + state["origin"] == pytest.approx(np.nanmean(values, axis=0), rel=1e-5)
    assert state["variance"] == pytest.approx(np.nanvar(values, axis=0), rel=1e-3)


def test_the_hours_mean_begins_anew_after_a_gap():
    """After more than an hour without samples the short mean is the first value, not that of hours ago."""
    detector = run(np.full((50, 1), 7.0))
    detector.score(np.array([9.0]), 50 + 100)
    state = detector.arrays()
    assert state["hour"][0] + state["origin"][0] == pytest.approx(9.0)


def daily(days, noise=0.5, seed=4):
    steps = np.arange(days * DAY)
    return 50 + 20 * np.sin(2 * np.pi * steps / DAY) + np.random.default_rng(seed).normal(0, noise, len(steps))


def test_the_expected_range_follows_a_daily_pattern():
    """With a week of a daily wave, what is expected is the wave, with a sd near that of the noise and not of the wave."""
    values = daily(7)
    detector = run(values[:, None])
    found = [detector.expected(7 * DAY + step) for step in range(0, DAY, 12)]
    middles = np.array([each.middle[0] for each in found])
    wave = daily(1, noise=0.0)
    assert np.abs(middles - wave[6::12]).max() < 4
    assert max(each.sd[0] for each in found) < 0.3 * values.std()


def test_a_profile_without_skill_counts_nothing():
    """Where the hour explains nothing, nothing is expected of it: noise has no skill, a daily wave has nearly all."""
    values = np.column_stack((daily(6), np.random.default_rng(5).normal(0, 1, 6 * DAY)))
    share = run(values).arrays()["skill"]
    assert share[0] > 0.9
    assert share[1] < 0.1


def test_a_spread_is_never_zero():
    """A constant has a sd of a ten-thousandth of its size, so that rounding is no deviation."""
    state = run(np.full((30, 1), 4096.0))._state
    assert baseline.spread(state)[0] == pytest.approx(0.4096, rel=1e-3)


def test_a_rise_a_little_early_or_late_is_no_surprise():
    """A value within the range of the profile's bin and those beside it is expected; one beyond it is not."""
    steps = np.arange(5 * DAY)
    values = np.where(steps % DAY < DAY // 2, 10.0, 30.0) + np.random.default_rng(6).normal(0, 0.1, len(steps))
    state = run(values[:, None])._state
    rates = baseline.Rates.of(DEFAULTS, DAY)
    early, late, night = 5 * DAY + DAY // 2 - 2, 5 * DAY + DAY // 2 + 2, 5 * DAY + DAY // 4
    assert abs(baseline.sample(state, np.array([10.0]), early, rates).surprise[0]) < 1
    assert abs(baseline.sample(state, np.array([30.0]), early, rates).surprise[0]) < 1
    assert abs(baseline.sample(state, np.array([10.0]), late, rates).surprise[0]) < 1
    assert baseline.sample(state, np.array([30.0]), night, rates).surprise[0] == pytest.approx(20, abs=1)
