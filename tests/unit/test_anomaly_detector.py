"""Scores of series: causal, the same after a restart, blind to units, quiet on constants and gaps, and loud on what is new."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from aggregator.analysis.anomaly import detector as detectors
from aggregator.analysis.anomaly.detector import Detector
from aggregator.analysis.anomaly.parameters import DEFAULTS

DAY = 96
ROWS = st.integers(2, 40).flatmap(
    lambda n: arrays.arrays(
        np.float64, (n, 4), elements=st.one_of(st.floats(), st.floats(-100, 100), st.sampled_from([0.0, 1.0, np.nan, 1e300]))
    )
)


def scores(detector, values, first=0):
    return np.array([detector.score(row, step).score for step, row in enumerate(values, first)])


def mixed(days=6, seed=1):
    """Noise, a daily wave, a constant, bursts, with missing samples here and there."""
    rng, n = np.random.default_rng(seed), days * DAY
    wave = 10 * np.sin(2 * np.pi * np.arange(n) / DAY) + rng.normal(0, 1, n)
    bursts = np.where(rng.random(n) < 0.02, 40.0, 1.0) + rng.normal(0, 0.1, n)
    values = np.column_stack((rng.normal(0, 1, n), wave, np.full(n, 3.0), bursts))
    values[rng.random(values.shape) < 0.05] = np.nan
    return values


def noise(days, seed=2):
    return np.random.default_rng(seed).normal(100, 2, (days * DAY, 1))


def test_a_score_depends_on_nothing_later():
    """The scores of a prefix are those of the whole, bit for bit."""
    values = mixed()
    whole = scores(Detector(4, DAY), values)
    altered = values.copy()
    altered[400:] = 1e6
    assert np.array_equal(scores(Detector(4, DAY), altered)[:400], whole[:400])
    assert whole.max() > 0


def test_it_is_no_matter_which_steps_are_left_out():
    """A series that has samples at odd steps only, with none at a full hour, is scored like one sampled always."""
    values = noise(6)
    values[5 * DAY] += 40
    detector = Detector(1, 2 * DAY)
    found = np.array([detector.score(row, 2 * step + 1).score[0] for step, row in enumerate(values)])
    assert found[5 * DAY] > DEFAULTS.alert
    assert found[4 * DAY : 5 * DAY].max() < 2


@pytest.mark.parametrize("cut", [1, 50, 333])
def test_a_restart_changes_nothing(cut):
    """Saved and restored in the middle, scores and state go on bit for bit."""
    values = mixed()
    straight = Detector(4, DAY)
    expected = scores(straight, values)
    first = Detector(4, DAY)
    scores(first, values[:cut])
    saved = {name: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape) for name, array in first.arrays().items()}
    second = Detector.restored(saved, DAY)
    assert np.array_equal(scores(second, values[cut:], cut), expected[cut:])
    for name, array in straight.arrays().items():
        assert np.array_equal(array, second.arrays()[name], equal_nan=array.dtype.kind == "f"), name


def test_what_is_no_state_is_refused():
    """A missing array, another type or another shape is named."""
    saved = Detector(4, DAY).arrays()
    with pytest.raises(ValueError, match="mean must be float32"):
        Detector.restored({**saved, "mean": saved["mean"].astype(float)}, DAY)
    with pytest.raises(ValueError, match="step must be"):
        Detector.restored({**saved, "step": np.zeros(0, np.int64)}, DAY)
    with pytest.raises(ValueError, match="regions must be"):
        Detector.restored({name: array for name, array in saved.items() if name != "regions"}, DAY)
    with pytest.raises(ValueError, match="profile must be"):
        Detector.restored({**saved, "profile": saved["profile"][:5]}, DAY)


@pytest.mark.parametrize(("factor", "offset"), [(1024.0, 0.0), (2.0**-20, 0.0), (1.0, 64.0), (-1.0, 0.0)])
def test_units_do_not_matter(factor, offset):
    """Another unit or another zero gives the same scores, as nearly as numbers of 32 bits allow."""
    values = mixed()[:, [0, 1, 3]]
    one, other = scores(Detector(3, DAY), values), scores(Detector(3, DAY), values * factor + offset)
    assert np.mean(np.isclose(one, other, atol=0.1)) > 0.98
    assert other[one > 2].min() > 1


def test_series_do_not_disturb_each_other():
    """The scores of a series are the same whatever is beside it, across the chunks that are worked on at once."""
    values = mixed(2)
    beside = np.full((len(values), detectors.CHUNK), 5.0)
    alone = scores(Detector(4, DAY), values)
    together = scores(Detector(4 + detectors.CHUNK, DAY), np.column_stack((values, beside)))
    assert np.array_equal(together[:, :4], alone)


def test_constants_and_silence_have_no_score():
    """A constant scores 0 all its life, and so does a series that never has a sample."""
    found = scores(Detector(3, DAY), np.tile([7.0, 0.0, np.nan], (4 * DAY, 1)))
    assert found.max() == 0


@settings(deadline=None, max_examples=60)
@given(ROWS)
def test_no_row_of_numbers_breaks_it(values):
    """Whatever comes, there is a finite score without a warning, 0 where there is no sample, and the state stays finite."""
    detector = Detector(4, 4)
    found = scores(detector, values)
    assert np.isfinite(found).all()
    assert (found[~np.isfinite(values)] == 0).all()
    state = detector.arrays()
    for name in ("origin", "mean", "variance", "hour", "departure", "error", "bar"):
        assert np.isfinite(state[name]).all(), name


def test_there_is_no_score_before_a_day_of_samples():
    """During warm-up nothing is new, however new it is; gaps do not count as samples."""
    values = noise(4)
    values[: 3 * DAY : 2] = np.nan
    values[DAY] = 1e6
    found = scores(Detector(1, DAY), values)
    assert found[: 2 * DAY].max() == 0
    assert found[2 * DAY + 2 :].max() > 0


def test_a_deviation_is_in_sd_of_the_baseline():
    """After warm-up it is (value - mean) / sd of what came before; 0 during warm-up, NaN without a sample."""
    values = np.column_stack((noise(2)[:, 0], noise(2)[:, 0]))
    values[-1, 1] = np.nan
    detector = Detector(2, DAY)
    first = detector.score(values[0], 0)
    scores(detector, values[1:-1], 1)
    last = detector.score(values[-1], len(values) - 1).deviation
    assert first.deviation.tolist() == [0, 0]
    assert last[0] == pytest.approx((values[-1, 0] - values[:-1, 0].mean()) / values[:-1, 0].std(), abs=0.01)
    assert np.isnan(last[1])


def test_a_daily_rise_is_no_deviation_and_its_absence_is_one():
    """Once a daily pattern has shown its skill, deviations are from the pattern."""
    steps = np.arange(8 * DAY)
    wave = 10 * np.sin(2 * np.pi * steps / DAY) + np.random.default_rng(5).normal(0, 0.2, len(steps))
    wave[7 * DAY + DAY // 4] = 0.0
    detector = Detector(1, DAY)
    found = np.array([detector.score(row, step).deviation[0] for step, row in enumerate(wave[:, None])])
    assert np.abs(found[5 * DAY : 7 * DAY]).max() < 0.5
    assert found[7 * DAY + DAY // 4] < -1


def test_something_new_scores_and_its_recurrence_less():
    """A burst never seen before is over the threshold; the same burst, hours and days later, is not."""
    values = noise(8)
    for day in (4, 5, 6, 7):
        values[day * DAY + 30 : day * DAY + 34] += 40
    found = scores(Detector(1, DAY), values)[:, 0]
    peaks = [found[day * DAY + 30 : day * DAY + 34].max() for day in (4, 5, 6, 7)]
    assert peaks[0] > 2 * DEFAULTS.alert
    assert max(peaks[1:]) < DEFAULTS.alert


def test_a_usual_value_for_an_unusual_time_is_new():
    """Bursts of one step are usual; the same value that stays for hours is not: its hour's mean is new."""
    values = noise(8)
    values[10::24] = 140
    values[7 * DAY + 40 : 7 * DAY + 60] = 140
    found = scores(Detector(1, DAY), values)[:, 0]
    assert found[5 * DAY : 7 * DAY].max() < DEFAULTS.alert
    assert found[7 * DAY + 40 : 7 * DAY + 60].max() > DEFAULTS.alert


def test_a_missing_daily_rise_is_new():
    """A level that is usual at night is new at noon, when every noon before was high."""
    steps = np.arange(9 * DAY)
    is_busy = (steps % DAY >= DAY // 3) & (steps % DAY < 2 * DAY // 3)
    values = np.where(is_busy, 80.0, 20.0) + np.random.default_rng(3).normal(0, 1, len(steps))
    values[is_busy & (steps >= 8 * DAY)] -= 60
    found = scores(Detector(1, DAY), values[:, None])[:, 0]
    assert found[8 * DAY :].max() > DEFAULTS.alert
    assert found[5 * DAY : 8 * DAY].max() < DEFAULTS.alert


def test_noise_is_quiet():
    """Series of plain noise, once five days old, have a score at the threshold less than once in three days."""
    values = np.random.default_rng(4).normal(0, 1, (10 * DAY, 20))
    found = scores(Detector(20, DAY), values)[5 * DAY :]
    assert (found >= DEFAULTS.alert).sum() < 20 * 5 / 3


def test_a_renewed_series_begins_again():
    """A place given to another series scores as a fresh one; its neighbours go on."""
    values = mixed()
    detector, fresh, old = Detector(4, DAY), Detector(4, DAY), Detector(4, DAY)
    scores(detector, values)
    scores(old, values)
    detector.renew(np.array([1]))
    found = scores(detector, values, len(values))
    assert np.array_equal(found[:, 1], scores(fresh, values, len(values))[:, 1])
    assert np.array_equal(found[:, [0, 2, 3]], scores(old, values, len(values))[:, [0, 2, 3]])


def test_a_series_takes_half_a_kilobyte():
    """The state is at most 512 bytes a series, whatever it has seen."""
    detector = Detector(1000, DAY)
    scores(detector, np.random.default_rng(6).normal(0, 1, (DAY, 1000)))
    assert sum(array.nbytes for array in detector.arrays().values()) <= 512 * 1000
