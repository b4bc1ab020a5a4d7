"""Trends: against scipy and statsmodels, and how often chance is taken for a trend."""

import numpy as np
import pytest
import statsmodels.api as sm
from analytics_rows import autoregressive
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from aggregator.analysis import autocorrelation, forecast, trends

HOURS = np.arange(168) + 0.5
FLOATS = st.floats(-1e6, 1e6)


@given(arrays.arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 40)), elements=FLOATS), st.integers(1, 45))
@settings(deadline=None, max_examples=50)
def test_a_moving_average_is_the_mean_of_the_latest_points(values, width):
    """At every point, of all series: numpy's mean of the slice; NaN before there are so many."""
    found = trends.moving_average(values, width)
    assert np.isnan(found[:, :width - 1]).all()
    for t in range(width - 1, values.shape[1]):
        assert found[:, t] == pytest.approx(values[:, t + 1 - width:t + 1].mean(axis=1), abs=1e-6)


def test_a_moving_average_leaves_gaps_out():
    """The mean of what is there; NaN where nothing is."""
    values = np.array([[1.0, np.nan, 3.0, np.nan, np.nan]])
    assert trends.moving_average(values, 2).tolist()[0][1:4] == [1.0, 3.0, 3.0]
    assert np.isnan(trends.moving_average(values, 2)[0, 4])


def test_independent_points_give_the_line_of_scipy():
    """Slope as scipy's; its error and p are close to ordinary least squares', since the points are worth nearly their number."""
    values = 0.02 * HOURS[:60] + np.random.default_rng(1).standard_normal((20, 60))
    found = trends.trends(HOURS[:60], values)
    for i, row in enumerate(values):
        expected = stats.linregress(HOURS[:60], row)
        assert found.slope[i] / 24 == pytest.approx(expected.slope)
        assert found.p[i] >= 0.9 * expected.pvalue
    plain = np.array([stats.linregress(HOURS[:60], row).pvalue for row in values])
    assert np.median(np.abs(found.p - plain)) < 0.06


def test_what_is_not_known_is_not_counted():
    """A series with gaps has the slope of what is left of it, as scipy has it."""
    values = np.random.default_rng(2).standard_normal((1, 60))
    values[0, 10:30] = np.nan
    kept = np.isfinite(values[0])
    expected = stats.linregress(HOURS[:60][kept], values[0][kept])
    assert trends.trends(HOURS[:60], values).slope[0] / 24 == pytest.approx(expected.slope)


def test_gaps_hide_no_autocorrelation():
    """Where half of the points are missing, the neighbours that are left resemble each other as much; chance is no trend."""
    values = autoregressive(0.95, (600, 168))
    whole = autocorrelation.autocorrelation(values, 1)[:, 1].mean()
    values[np.random.default_rng(5).random(values.shape) < 0.5] = np.nan
    assert autocorrelation.autocorrelation(values, 1)[:, 1].mean() == pytest.approx(whole, abs=0.06)
    assert (trends.trends(HOURS, values).direction != 0).mean() < 0.07


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8, 0.9])
def test_what_only_wanders_is_rarely_a_trend(phi):
    """Of 600 series without a trend, each hour keeping `phi` of the one before, at most 7 % get a direction; plain least squares
    call up to 60 % a trend.
    """
    found = trends.trends(HOURS, autoregressive(phi, (600, 168)))
    assert (found.direction != 0).mean() <= 0.07
    naive = forecast.fit(HOURS, autoregressive(phi, (600, 168)))
    assert (np.abs(naive.slope) > naive.error).mean() > (0.5 if phi == 0.9 else 0.03)


def test_slow_waves_below_fast_noise_are_rarely_a_trend():
    """A wandering level under as much noise hides from the correlation of neighbours; at most 1 in 10 gets a direction."""
    values = autoregressive(0.9, (600, 168)) + autoregressive(0.0, (600, 168), seed=2)
    assert (trends.trends(HOURS, values).direction != 0).mean() <= 0.10


def test_a_daily_wave_is_no_trend_and_hides_none():
    """A week with a large daily wave: no direction without a slope, and the right one with it, the slope in its interval."""
    wave = 10 * np.sin(2 * np.pi * HOURS / 24)
    noise = autoregressive(0.5, (400, 168))
    assert (trends.trends(HOURS, wave + noise).direction != 0).mean() <= 0.07
    found = trends.trends(HOURS, wave + noise + 0.02 * HOURS)
    assert (found.direction == 1).mean() > 0.95
    assert ((found.low <= 0.48) & (found.high >= 0.48)).mean() == pytest.approx(0.95, abs=0.03)


def test_the_forecast_covers_what_comes():
    """Of 400 noisy lines about 95 % of the points a day later lie in the interval that was told."""
    values = 0.05 * np.arange(192) + np.random.default_rng(3).standard_normal((400, 192))
    ahead = trends.outlook(trends.trends(np.arange(168.0), values[:, :168]), 191.0)
    assert ((ahead.low <= values[:, 191]) & (values[:, 191] <= ahead.high)).mean() == pytest.approx(0.95, abs=0.03)
    reference = sm.OLS(values[0, :168], sm.add_constant(np.arange(168.0))).fit()
    frame = reference.get_prediction([[1.0, 191.0]]).summary_frame(alpha=0.05)
    assert ahead.high[0] - ahead.low[0] == pytest.approx(float((frame.obs_ci_upper - frame.obs_ci_lower).iloc[0]), rel=0.1)


def test_time_to_a_threshold():
    """50 + 0.1 an hour reaches 100 at hour 500; nothing that is flat or goes the other way does."""
    values = np.array([50 + 0.1 * HOURS, 50 - 0.1 * HOURS, np.full(168, 50.0)])
    found = trends.trends(HOURS, values)
    assert found.direction.tolist() == [1, -1, 0]
    assert trends.hours_until(found, 100.0, 168.0).value.tolist() == [pytest.approx(332.0), np.inf, np.inf]


@pytest.mark.parametrize("phi", [0.0, 0.8, 0.95])
def test_the_time_to_a_threshold_lies_within_its_limits(phi):
    """Of 2,000 lines with noise that resembles its past, those that have limits have the true time in them at least 94 times
    in 100.
    """
    found = trends.trends(HOURS, 60 + 0.2 * HOURS + autoregressive(phi, (2000, 168)))
    left = trends.hours_until(found, 100.0, 168.0)
    is_bounded = np.isfinite(left.low) & np.isfinite(left.high)
    assert is_bounded.mean() > 0.4
    assert ((left.low <= 32) & (left.high >= 32))[is_bounded].mean() > 0.94


@pytest.mark.parametrize("values", [np.full((2, 30), np.nan), np.zeros((2, 30)), np.full((2, 30), 1e30), np.full((2, 3), 5.0),
                                    np.where(np.arange(30) < 27, np.nan, 1.0)[None, :]])
def test_constants_and_emptiness_have_no_direction(values):
    """No warning, no direction, p of 1."""
    found = trends.trends(np.arange(values.shape[1]) + 0.5, values)
    assert not found.direction.any()
    assert (found.p == 1).all()


@given(arrays.arrays(np.float64, st.tuples(st.just(2), st.integers(8, 60)), elements=st.floats(-1e3, 1e3)),
       st.floats(0.1, 100), st.floats(-100, 100))
@settings(deadline=None, max_examples=50)
def test_scale_and_offset_do_not_change_a_verdict(values, scale, offset):
    """Bytes or mebibytes, celsius or kelvin: the same p; mirrored in time: the opposite slope."""
    hours = np.arange(values.shape[1]) + 0.5
    one, other = trends.trends(hours, values), trends.trends(hours, values * scale + offset)
    spread = values.std(axis=1)
    is_clear = spread > 1e-3
    assert other.p[is_clear] == pytest.approx(one.p[is_clear], abs=1e-4)
    assert trends.trends(hours, values[:, ::-1]).slope[is_clear] == pytest.approx(-one.slope[is_clear], rel=1e-6, abs=1e-6)


def test_autocorrelation_is_statsmodels():
    """Lag by lag, as statsmodels estimates it."""
    values = autoregressive(0.7, (3, 200))
    found = autocorrelation.autocorrelation(values, 20)
    for i, row in enumerate(values):
        assert found[i] == pytest.approx(sm.tsa.acf(row, nlags=20, fft=False), abs=1e-9)


@pytest.mark.parametrize("freedom", [3.0, 5.0, 10.0, 30.0, 200.0])
def test_students_t_is_scipys(freedom):
    """Quantiles within 1.5 %, probabilities within 0.004."""
    assert autocorrelation.student_quantile(np.array([freedom]))[0] == pytest.approx(stats.t.ppf(0.975, freedom), rel=0.015)
    t = np.array([0.1, 1.0, 2.0, 4.0])
    found = autocorrelation.student_probability(t, np.full(4, freedom))
    assert found == pytest.approx(2 * stats.t.sf(t, freedom), abs=0.004)
