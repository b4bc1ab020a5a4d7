"""Correlations: against scipy, at lags, with gaps, and how often chance is taken for a connection."""

import numpy as np
import pytest
from analytics_rows import autoregressive
from scipy import stats

from aggregator.analysis.correlation import adjusted, correlations


def test_it_is_pearsons():
    """Without lags r is scipy's; of independent points the interval and p are close to scipy's, too."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal(100), rng.standard_normal((20, 100))
    y[:10] += x
    found = correlations(x, y)
    for i, row in enumerate(y):
        expected = stats.pearsonr(x, row)
        assert found.r[i] == pytest.approx(expected.statistic)
        assert found.p[i] == pytest.approx(expected.pvalue, abs=0.15)
        low, high = expected.confidence_interval()
        assert (found.low[i], found.high[i]) == (pytest.approx(low, abs=0.06), pytest.approx(high, abs=0.06))


def test_gaps_are_left_out_pair_by_pair():
    """r is that of the pairs that both have, as scipy has it."""
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal(80), rng.standard_normal((1, 80))
    x[5:20], y[0, 40:50] = np.nan, np.nan
    both = np.isfinite(x) & np.isfinite(y[0])
    found = correlations(x, y)
    assert found.r[0] == pytest.approx(stats.pearsonr(x[both], y[0][both]).statistic)
    assert found.count[0] == both.sum() == 55


@pytest.mark.parametrize("lag", [-7, 0, 5])
def test_the_lag_at_which_it_is_strongest_is_found(lag):
    """A series that follows by 5 steps has lag 5, one that went before by 7 has -7; r is then scipy's of the shifted pairs."""
    x = autoregressive(0.5, (1, 300))[0]
    y = np.roll(x, lag) + 0.3 * autoregressive(0.0, (1, 300), seed=2)[0]
    found = correlations(x, y[None, :], lags=10)
    assert found.lag[0] == lag
    cut = slice(max(0, -lag), 300 - max(0, lag)), slice(max(0, lag), 300 + min(0, lag))
    assert found.r[0] == pytest.approx(stats.pearsonr(x[cut[0]], y[cut[1]]).statistic)
    assert found.q[0] < 1e-6


@pytest.mark.parametrize(("phi", "lags"), [(0.0, 0), (0.8, 0), (0.95, 0), (0.0, 10), (0.8, 10)])
def test_independent_series_rarely_move_together(phi, lags):
    """40 times 50 series that have nothing to do with the target: few runs name even one, however autocorrelated they are."""
    hits = 0
    for run in range(40):
        series = autoregressive(phi, (51, 120), seed=run)
        hits += bool((correlations(series[0], series[1:], lags).q < 0.05).any())
    assert hits <= 6
    r, p = stats.pearsonr(series[0], series[1])
    assert abs(r) <= 1
    assert 0 <= p <= 1


def test_plain_p_values_would_be_wrong():
    """Of autocorrelated series scipy's p calls a third connected; with effective pairs it is one in twenty at most."""
    x, y = autoregressive(0.9, (200, 120)), autoregressive(0.9, (200, 120), seed=2)
    plain = np.mean([stats.pearsonr(a, b).pvalue < 0.05 for a, b in zip(x, y, strict=True)])
    ours = np.mean([correlations(a, b[None, :]).p[0] < 0.05 for a, b in zip(x, y, strict=True)])
    assert plain > 0.3
    assert ours <= 0.05


def test_real_connections_are_found_among_many():
    """Five series that follow the target among 500 that do not: all five lead the ranking, next to nothing else is named."""
    series = autoregressive(0.5, (501, 240))
    x, y = series[0], series[1:]
    y[100:105] = 0.8 * x + 0.6 * y[100:105]
    found = correlations(x, y, lags=5)
    assert set(found.ranked()[:5].tolist()) == {100, 101, 102, 103, 104}
    assert 5 <= (found.q < 0.05).sum() <= 8


def test_constants_and_emptiness_have_none():
    """Constant, nearly constant, empty, too short: NaN with p and q of 1, and not ranked."""
    x = autoregressive(0.5, (1, 60))[0]
    y = np.stack([np.full(60, 7.0), 1e6 + 1e-4 * x, np.full(60, np.nan), np.where(np.arange(60) < 50, np.nan, x), x])
    found = correlations(x, y)
    assert np.isnan(found.r).tolist() == [True, True, True, True, False]
    assert found.q[:4].tolist() == [1.0] * 4
    assert found.ranked().tolist() == [4]
    assert np.isnan(correlations(np.full(60, 3.0), y).r).all()
    assert correlations(x, y[:0]).r.shape == (0,)


def test_benjamini_and_hochberg_is_scipys():
    """Adjusted p values are those of scipy.stats.false_discovery_control."""
    p = np.random.default_rng(1).random(50) ** 2
    assert adjusted(p) == pytest.approx(stats.false_discovery_control(p))
