"""Scores of hosts against numpy: covariance, distance, shares; causal, restartable, and quiet without samples."""

import numpy as np
import pytest

from aggregator.analysis.anomaly.hosts import HostDetector
from aggregator.analysis.anomaly.incidents import Incidents
from aggregator.analysis.anomaly.parameters import DEFAULTS

DAY = 96
MIX = np.array([[1.0, 0.0, 0.0], [0.9, 0.436, 0.0], [0.0, 0.0, 1.0]])  # the second metric follows the first


def rows(days=5, hosts=2, seed=1):
    return (np.random.default_rng(seed).normal(size=(days * DAY, hosts, 3)) @ MIX.T).astype(np.float32)


def scores(detector, deviations, first=0):
    return np.array([detector.score(row, step) for step, row in enumerate(deviations, first)])


def test_the_covariance_is_the_mean_product():
    """While it is young, the covariance is the mean of z z'."""
    deviations = rows()
    detector = HostDetector(2, 3, DAY)
    scores(detector, deviations)
    for host in range(2):
        z = deviations[:, host].astype(float)
        assert detector.arrays()["covariance"][host] == pytest.approx(z.T @ z / len(z), abs=1e-3)


def test_a_distance_is_mahalanobis():
    """The short mean of the score begins with √(z' (C + ridge)⁻¹ z / metrics) under the host's own covariance."""
    detector = HostDetector(2, 3, DAY)
    scores(detector, rows())
    z = np.array([[1.0, -1.0, 0.0], [1.0, 1.0, 0.0]], np.float32)
    state = {name: array.copy() for name, array in detector.arrays().items()}
    ridged = state["covariance"].astype(float) + DEFAULTS.ridge * np.eye(3)
    expected = [np.sqrt(each @ np.linalg.inv(c) @ each / 3) for each, c in zip(z.astype(float), ridged, strict=True)]
    weight = 1 - np.exp(-24 / (DEFAULTS.host_hours * DAY))
    found = detector.score(z, 5 * DAY)
    short = state["short"] + weight * (expected - state["short"])
    assert found == pytest.approx(short + DEFAULTS.onset * np.maximum(expected - state["short"], 0), rel=0.02)
    assert found[0] > found[1]


def test_the_metric_that_leaves_its_companion_explains_the_score():
    """Both of a pair deviate as usual, but apart: they share the blame, the third has none."""
    detector = HostDetector(1, 3, DAY)
    scores(detector, rows(hosts=1))
    shares = detector.shares(np.array([[2.0, -2.0, 0.1]], np.float32))[0]
    assert shares.sum() == pytest.approx(1)
    assert shares[2] < 0.01
    assert min(shares[:2]) > 0.3


def test_an_incident_stands_out_and_is_seen_at_once():
    """Metrics that usually agree and now disagree by 3 sd score well over anything before, from the first row."""
    deviations = rows()
    deviations[4 * DAY :, 0, 1] -= 5
    found = scores(HostDetector(2, 3, DAY), deviations)
    assert found[4 * DAY, 0] > found[2 * DAY : 4 * DAY, 0].max()
    assert found[4 * DAY :, 1].max() < 1.5 * found[2 * DAY : 4 * DAY, 1].max()


@pytest.mark.parametrize("minutes", [15, 1])
def test_a_host_restarts_bit_for_bit(minutes):
    """Saved and restored in the middle, scores go on as they were, at every cadence."""
    day = 1440 // minutes
    deviations = rows(5)
    expected = scores(HostDetector(2, 3, day), deviations)
    first = HostDetector(2, 3, day)
    scores(first, deviations[:211])
    second = HostDetector.restored({name: array.copy() for name, array in first.arrays().items()}, day)
    assert np.array_equal(scores(second, deviations[211:], 211), expected[211:])


def test_what_is_no_state_of_hosts_is_refused():
    """A missing array or another shape is named."""
    saved = HostDetector(2, 3, DAY).arrays()
    with pytest.raises(ValueError, match="covariance must have three axes"):
        HostDetector.restored({}, DAY)
    with pytest.raises(ValueError, match="step must be"):
        HostDetector.restored({name: array for name, array in saved.items() if name != "step"}, DAY)
    with pytest.raises(ValueError, match="short must be"):
        HostDetector.restored({**saved, "short": saved["short"][:1]}, DAY)


def test_missing_metrics_and_hosts_are_left_out():
    """A metric that stops adds nothing; a host that stops has no score, and learns nothing meanwhile."""
    deviations = rows()
    deviations[3 * DAY :, 0, 2] = np.nan
    deviations[3 * DAY :, 1] = np.nan
    detector = HostDetector(2, 3, DAY)
    scores(detector, deviations[: 3 * DAY])
    before = detector.arrays()["covariance"][1].copy()
    found = scores(detector, deviations[3 * DAY :], 3 * DAY)
    assert 0 < found[:, 0].min() <= found[:, 0].max() < 3
    assert found[:, 1].max() == 0
    assert np.array_equal(detector.arrays()["covariance"][1], before)


def test_a_missing_metric_counts_as_one_that_is_as_usual():
    """Its deviation is taken as 0, in the distance and in the shares."""
    missing, usual = rows(hosts=1), rows(hosts=1)
    missing[200:, :, 2], usual[200:, :, 2] = np.nan, 0.0
    one, other = HostDetector(1, 3, DAY), HostDetector(1, 3, DAY)
    assert np.array_equal(scores(one, missing), scores(other, usual))
    assert one.shares(missing[-1])[0, 2] == 0


def test_a_host_warms_up_by_its_own_rows():
    """Two days of rows make a host warm; the days in which it was silent do not count."""
    deviations = rows(4, hosts=1)
    deviations[: DAY + DAY // 2] = np.nan
    found = scores(HostDetector(1, 3, DAY), deviations)[:, 0]
    assert np.flatnonzero(found)[0] == 3 * DAY + DAY // 2 + 1


def test_the_inverse_of_a_young_host_is_an_hour_old():
    """In its first days a host is judged by what it did until an hour ago."""
    deviations = rows(2, hosts=1)
    detector = HostDetector(1, 3, DAY)
    for step, row in enumerate(deviations):
        detector.score(row, step)
        if (step + 1) % (DAY // 24) == 0:
            inverted = detector.arrays()["covariance"][0].astype(float)
        if step >= DAY // 24:
            expected = np.linalg.inv(inverted + DEFAULTS.ridge * np.eye(3))
            assert detector.arrays()["inverse"][0] == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_hosts_learn_whatever_steps_are_left_out():
    """Rows that come only at odd steps are learnt as those of every step are."""
    deviations = rows()
    every, odd = HostDetector(2, 3, 288), HostDetector(2, 3, 576)
    scores(every, deviations)
    for step, row in enumerate(deviations):
        odd.score(row, 2 * step + 1)
    assert np.array_equal(odd.arrays()["learnt"], every.arrays()["learnt"])
    assert odd.arrays()["covariance"] == pytest.approx(every.arrays()["covariance"], abs=1e-6)
    assert odd.arrays()["inverse"].any(axis=(1, 2)).all()


def test_a_renewed_host_warms_up_again():
    """A place given to another host forgets the old one."""
    detector = HostDetector(2, 3, DAY)
    scores(detector, rows())
    detector.renew(np.array([1]))
    found = scores(detector, rows(1), 5 * DAY)
    assert found[:, 1].max() == 0
    assert found[:, 0].min() > 0


def test_one_alert_for_each_incident():
    """Scores over the threshold begin one incident until none was there for the calm hours; then another may begin."""
    incidents = Incidents.none(1, threshold=1.0, calm_hours=4.0, steps_per_day=24)
    hot = [5, 6, 9, 13, 14, 30]
    begun = [step for step in range(40) if incidents.begun(np.array([2.0 if step in hot else 0.5], np.float32), step)[0]]
    assert begun == [5, 30]
    assert not incidents.is_open(40)[0]


def test_the_first_row_may_begin_an_incident():
    """Nothing is open before anything was heard, whatever the step."""
    for step in (0, 29_000_000):
        incidents = Incidents.none(2, threshold=1.0, calm_hours=4.0, steps_per_day=1440)
        assert incidents.begun(np.array([1.0, 0.0], np.float32), step).tolist() == [True, False]
        assert incidents.is_open(step + 1).tolist() == [True, False]
