"""The z-score detector: against plain numpy, without look-ahead, and anomalies as spans."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from aggregator.analysis.zscore import LARGEST_Z, anomalies, bands


@given(arrays.arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(5, 40)), elements=st.floats(-1e3, 1e3)),
       st.integers(3, 12))
@settings(deadline=None, max_examples=60)
def test_the_band_is_that_of_the_points_before(values, width):
    """Mean and sd (n - 1) of the `width` points before, as numpy has them; z is scipy's zmap of the point on them."""
    found = bands(values, width, 2.0, least=3)
    assert np.isnan(found.z[:, :3]).all()
    for i, t in np.argwhere(np.isfinite(found.z)):
        before = values[i, max(0, t - width):t]
        assert found.mean[i, t] == pytest.approx(before.mean(), abs=1e-6)
        if before.std(ddof=1) > 0.2:
            assert found.high[i, t] == pytest.approx(before.mean() + 2 * before.std(ddof=1), rel=1e-4, abs=1e-4)
            expected = np.clip(stats.zmap(values[i, t], before, ddof=1), -1000, 1000)
            assert found.z[i, t] == pytest.approx(expected, rel=1e-3, abs=1e-3)


@given(arrays.arrays(np.float64, st.tuples(st.just(2), st.just(40)), elements=st.floats(-1e3, 1e3) | st.just(np.nan)),
       st.integers(1, 39))
@settings(deadline=None, max_examples=60)
def test_nothing_looks_ahead(values, cut):
    """A prefix is judged as in the whole, and a point does not enter its own band."""
    whole, prefix = bands(values, 10), bands(values[:, :cut], 10)
    np.testing.assert_array_equal(whole.z[:, :cut], prefix.z)
    changed = values.copy()
    changed[:, cut] += 5
    np.testing.assert_array_equal(bands(changed, 10).mean[:, :cut + 1], whole.mean[:, :cut + 1])


def test_two_sigma_flag_one_in_twenty_of_plain_noise():
    """Of normal noise 4.6 % lie outside of 2 sd (a little more, since both are estimated), 0.3 % outside of 3."""
    z = bands(np.random.default_rng(1).standard_normal((20, 2000)), 200).z
    assert (np.abs(z[:, 200:]) > 2).mean() == pytest.approx(0.046, abs=0.005)
    assert (np.abs(z[:, 200:]) > 3).mean() == pytest.approx(0.003, abs=0.001)


def test_a_spike_is_one_anomaly_with_its_peak():
    """Begin, end and peak of an incident of three points; the series with another one apart."""
    values = np.tile(np.sin(np.arange(100)), (2, 1))
    values[0, 50:53] = 20, 30, 25
    values[1, 70] = -20
    found = anomalies(bands(values, 40).z, 4.0)
    assert (found.series.tolist(), found.begin.tolist(), found.peak.tolist()) == ([0, 1], [50, 70], [50, 70])


def test_spans_of_scores():
    """Points in a row are one, a missing point does not end it, a usual one does unless `calm` spans it; series do not touch."""
    nan = np.nan
    scores = np.array([[0, 3, -5, 3, 0, 3, nan, 4, 0, 0], [3, 0, 0, 0, 0, 0, 0, 0, 0, 3]], float)
    found = anomalies(scores, 2.0)
    spans = list(zip(found.series.tolist(), found.begin.tolist(), found.end.tolist(), found.peak.tolist(), strict=True))
    assert spans == [(0, 1, 3, 2), (0, 5, 7, 7), (1, 0, 0, 0), (1, 9, 9, 9)]
    joined = anomalies(scores, 2.0, calm=2)
    assert joined.begin.tolist() == [1, 0, 9]
    assert (joined.end[0], joined.peak[0]) == (7, 2)
    assert len(anomalies(np.full((2, 5), nan), 2.0)) == len(anomalies(np.zeros((0, 5)), 2.0)) == 0


def test_a_constant_is_usual_and_its_change_is_not():
    """A constant has z 0; rounding of 4-byte floats is no anomaly; a jump is one, with a bounded z."""
    values = np.full((3, 60), 8.0)
    values[1] += np.float32(1e-6) * np.arange(60)
    values[2, 50:] = 9.0
    z = bands(values, 30).z
    assert np.nanmax(np.abs(z[:2])) < 1
    assert z[2, 50] == pytest.approx(LARGEST_Z)
