"""Downsampling keeps extremes and counts, whatever the points are."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aggregator.analysis import downsample
from aggregator.analysis.downsample import SECOND, Points

VALUES = st.one_of(st.just(float("nan")), st.floats(-1e6, 1e6, width=32))


@st.composite
def points(draw: st.DrawFn) -> Points:
    rows = draw(st.integers(0, 40))
    column = lambda kind: np.array(draw(st.lists(kind, min_size=rows, max_size=rows)))  # noqa: E731
    mean = np.array([column(VALUES), column(VALUES)], np.float64).T.reshape(rows, 2)
    spread = np.abs(np.nan_to_num(np.array([column(VALUES), column(VALUES)], np.float64).T.reshape(rows, 2)))
    return Points(column(st.integers(0, 2)).astype(np.int64), column(st.integers(0, 10**9)).astype(np.int64),
                  column(st.integers(1, 1000)).astype(np.int64), mean - spread, mean, mean + spread)


@given(points(), st.sampled_from([0, 1, 60, 3600]))
def test_extremes_counts_and_sums_survive(before: Points, step: int) -> None:
    """Of every host and metric the least, the greatest, the count and the weighted sum are the same after as before."""
    after = downsample.bucketed(before, step)
    assert after.count.sum() == before.count.sum()
    for group in range(3):
        old, new = before.group == group, after.group == group
        for metric in range(2):
            if np.isnan(before.mean[old, metric]).all():
                assert np.isnan(after.mean[new, metric]).all()
                continue
            assert np.nanmin(after.low[new, metric]) == np.nanmin(before.low[old, metric])
            assert np.nanmax(after.high[new, metric]) == np.nanmax(before.high[old, metric])


@given(points(), st.sampled_from([1, 60, 3600]))
def test_buckets_are_full_steps_in_order(before: Points, step: int) -> None:
    """Buckets begin at multiples of the step, each host's in order of time and once, with low ≤ mean ≤ high."""
    after = downsample.bucketed(before, step)
    assert (after.ts % (step * SECOND) == 0).all()
    keys = list(zip(after.group.tolist(), after.ts.tolist(), strict=True))
    assert keys == sorted(set(keys))
    known = ~np.isnan(after.mean)
    slack = 1e-6 * (1 + np.abs(after.mean[known]))
    assert (after.low[known] <= after.mean[known] + slack).all()
    assert (after.mean[known] <= after.high[known] + slack).all()


def test_the_mean_is_weighted_by_count() -> None:
    """Ten samples at 1 and thirty at 5 are 4 on average, and a point without the metric has no say."""
    values = np.array([[1.0], [5.0], [np.nan]])
    three = Points(np.zeros(3, np.int64), np.arange(3) * SECOND, np.array([10, 30, 100]), values, values, values)
    whole = downsample.bucketed(three, 60)
    assert (whole.low.tolist(), whole.mean.tolist(), whole.high.tolist()) == ([[1.0]], [[4.0]], [[5.0]])
    assert whole.count.tolist() == [140]


@given(st.floats(-1e15, 1e15).map(lambda value: float(f"{value:.6g}")))
def test_numbers_are_shown_as_they_were_sent(sent: float) -> None:
    """A number of up to 6 digits comes back from 4-byte storage as it was written."""
    stored = np.array([np.float32(sent)], np.float64)
    shown = downsample.shown(stored)[0]
    assert shown == sent or (abs(sent) >= 1e7 and shown == stored[0]) or abs(sent) < 1e-13


@given(st.lists(st.floats(0, 1000), min_size=2, max_size=30), st.integers(1, 29))
def test_rates_add_up_to_what_was_counted(steps: list[float], restart: int) -> None:
    """Whatever a counter counts, with one restart at 0, its rates times the time are its growth; hosts are kept apart."""
    steps, counted, values = [round(step, 3) for step in steps], 0.0, []
    for number, step in enumerate(steps):
        counted = step if number == restart else counted + step
        values.append(counted)
    assume(restart >= len(steps) or values[restart] < values[restart - 1])
    mean = np.array([values * 2]).T
    rows = len(values)
    found = downsample.rates(Points(np.repeat([0, 1], rows), np.tile(np.arange(rows) * 5 * SECOND, 2),
                                    np.ones(2 * rows, np.int64), mean, mean, mean))
    assert len(found) == 2 * (rows - 1)
    for group in (0, 1):
        assert found.mean[found.group == group].sum() * 5 == pytest.approx(sum(steps[1:]), abs=1e-6)


@pytest.mark.parametrize(("how", "values"), [
    ("mean", [2.0, 5.0]), ("sum", [4.0, 5.0]), ("count", [2.0, 1.0]), ("min", [0.0, 4.0]), ("max", [4.0, 6.0])])
def test_hosts_are_combined_by_group(how: str, values: list[float]) -> None:
    """min and max combine extremes, mean, sum and count the hosts' means; an absent value does not count."""
    mean = np.array([[1.0], [3.0], [5.0], [np.nan]])
    hosts = Points(np.arange(4), np.zeros(4, np.int64), np.ones(4, np.int64), mean - 1, mean, mean + 1)
    group, _, value = downsample.across(hosts, np.array([0, 0, 1, 1]), how)
    assert (group.tolist(), value.tolist()) == ([0, 1], values)
