"""Forecasts: straight lines against numpy's and closed forms, their intervals against simulated series."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from aggregator.analysis.forecast import fit, forecast, present_lines, student
from aggregator.analysis.rules import instance_of

HOURS = np.arange(72.0)
NOW = 72.0


def line(start=50.0, slope=0.5, noise=0.0, hours=HOURS, series=1, seed=1):
    return start + slope * hours + noise * np.random.default_rng(seed).standard_normal((series, len(hours)))


@settings(deadline=None)
@given(arrays.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(6, 40)), elements=st.floats(-1e6, 1e6)))
def test_the_line_is_numpys(values):
    """Slope, level and the slope's standard error are those of numpy.polyfit, series by series."""
    hours = np.arange(values.shape[1]) * 1.0
    found = fit(hours, values)
    for i, series in enumerate(values):
        (slope, level), covariance = np.polyfit(hours, series, 1, cov=True)
        scale = np.abs(series).max() * 1e-9 + 1e-9
        assert found.slope[i] == pytest.approx(slope, rel=1e-7, abs=scale)
        assert found.mean_y[i] - found.slope[i] * found.mean_x[i] == pytest.approx(level, rel=1e-6, abs=100 * scale)
        error = student(np.array([len(hours) - 2]))[0] * np.sqrt(max(covariance[0, 0], 0.0))
        assert found.error[i] == pytest.approx(error, rel=1e-5, abs=1e-4 * scale)


def test_gaps_are_left_out():
    """A series with gaps has the line of what is left of it."""
    values = line(noise=1.0, series=2)
    values[0, 10:30] = np.nan
    kept = np.isfinite(values[0])
    assert fit(HOURS, values).slope[0] == pytest.approx(np.polyfit(HOURS[kept], values[0, kept], 1)[0])
    assert fit(HOURS, values).count.tolist() == [52, 72]


@pytest.mark.parametrize(("freedom", "quantile"), [(4, 2.7764), (5, 2.5706), (10, 2.2281), (30, 2.0423), (1000, 1.9623)])
def test_students_quantile(freedom, quantile):
    """The quantiles of the tables, to a thousandth."""
    assert student(np.array([freedom]))[0] == pytest.approx(quantile, rel=1e-3)


def test_a_straight_line_is_followed_exactly():
    """50 + 0.5 a hour reaches 100 at hour 100: 28 hours from hour 72; falling towards 0 alike."""
    rising, falling = forecast(HOURS, line(), 100.0, NOW), forecast(HOURS, line(50.0, -0.5), 0.0, NOW)
    for found in (rising, falling):
        assert found.seconds == pytest.approx([28 * 3600])
        assert (found.low, found.high) == (pytest.approx([28 * 3600]), pytest.approx([28 * 3600]))


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Of 2,000 noisy lines whose crossing is known, 95 % (within 2) have it in their interval."""
    values, truth = line(noise=3.0, series=2000), 28 * 3600
    found, whole = forecast(HOURS, values, 100.0, NOW), fit(HOURS, values)
    is_long = present_lines(HOURS, values, NOW).count == whole.count
    assert is_long.mean() > 0.9
    covered = (found.low <= truth) & (truth <= found.high)
    assert covered[is_long].mean() == pytest.approx(0.95, abs=0.02)
    assert ((found.low <= found.seconds) & (found.seconds <= found.high)).all()


def test_noise_alone_is_rarely_a_forecast():
    """Of 2,000 series without a trend no more than the 2.5 % that 95 % leave on one side get an answer, next to none soon."""
    seconds = forecast(HOURS, line(slope=0.0, noise=3.0, series=2000), 100.0, NOW).seconds
    assert np.isfinite(seconds).mean() < 0.03
    assert (seconds < 24 * 3600).mean() < 0.005


def test_what_has_stopped_growing_is_left_alone():
    """Growth that ended six hours ago is no forecast; one that began then is, though the long line is flat."""
    stopped = np.minimum(line(20.0, 1.0), 20.0 + 65.0)
    begun = 20.0 + np.maximum(HOURS - 65.0, 0.0)[None, :] * 5.0
    assert forecast(HOURS, stopped, 100.0, NOW).seconds.tolist() == [np.inf]
    assert forecast(HOURS, begun, 100.0, NOW).seconds == pytest.approx([9 * 3600])


@pytest.mark.parametrize(("values", "target"), [
    (line(), 40.0), (line(90.0, -0.1), 100.0), (line(slope=0.0), 100.0), (line() + np.nan, 100.0),
    (np.where(HOURS < 67, np.nan, line()), 100.0)], ids=["beyond", "away", "flat", "empty", "five points"])
def test_without_a_pace_towards_the_target_there_is_no_answer(values, target):
    """Beyond the target, away from it, flat, without points or with too few: inf for all three figures."""
    found = forecast(HOURS, values, target, NOW)
    assert (found.seconds[0], found.low[0], found.high[0]) == (np.inf, np.inf, np.inf)


def test_what_is_full_has_no_time_left():
    """A series at its target has 0 seconds, however it came there; so has one whose line has crossed it by now."""
    full = np.minimum(line(50.0, 1.0), 100.0)
    crossed = line(29.0, 1.0)
    crossed[0, -1] = 99.9
    assert forecast(HOURS, full, 100.0, NOW).seconds.tolist() == [0.0]
    assert forecast(HOURS, crossed, 100.0, NOW).seconds.tolist() == [0.0]


def test_series_do_not_touch_each_other():
    """Many series at once come out as each alone, and a gap in the current hour is no matter."""
    values = np.concatenate([line(noise=1.0), line(10.0, 0.0), line(90.0, 0.2, noise=0.1, seed=3)])
    values[2, -1] = np.nan
    together = forecast(HOURS, values, 110.0, NOW)
    for i in range(3):
        alone = forecast(HOURS, values[i:i + 1], 110.0, NOW)
        assert (together.seconds[i], together.low[i], together.high[i]) == (alone.seconds[0], alone.low[0], alone.high[0])


@pytest.mark.parametrize(("metric", "key", "instance"), [
    ("disk.percent{mount=*}", "disk.percent{mount=/var}", "mount=/var"),
    ("disk.percent{mount=/}", "disk.percent{mount=/var}", None),
    ("memory.percent", "memory.percent", ""), ("disk.percent", "disk.percent{mount=/}", None),
    ("disk.percent{mount=*}", "disk.percent", None), ("disk.percent{mount=*}", "disk.inodes_percent{mount=/}", None),
    ("http.latency_ms{app=shop,path=*}", "http.latency_ms{app=shop,path=/}", "app=shop,path=/")])
def test_a_metric_of_a_sample_is_an_instance_of_a_rules_metric(metric, key, instance):
    """Same name, same labels, and each value the same or `*`."""
    assert instance_of(metric, key) == instance
