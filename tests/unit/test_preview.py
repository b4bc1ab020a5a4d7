"""The preview of a rule: the engine's latches over a grid of history."""

import dataclasses

import numpy as np
import pytest
from alert_builders import START, Fleet
from hypothesis import given
from hypothesis import strategies as st

from aggregator.analysis import preview
from aggregator.analysis.preview import Limits
from aggregator.analysis.rules import Rule

NAN = float("nan")


def limits(*, hold: float = 0.0, recover: float = 0.0, margin: float = 0.0, sign: float = 1.0, series: int = 1,
           thresholds: tuple[float, ...] = (np.inf, 80.0, np.inf, 95.0)) -> Limits:
    def column(value: float) -> np.ndarray:
        return np.full(series, value)

    return Limits(column(sign), column(margin), column(hold), column(recover), np.tile(np.array(thresholds), (series, 1)))


def run(values: list[float], own: Limits, high: list[float] | None = None, step: float = 60.0) -> list[int]:
    low = np.array([values])
    return preview.levels(low, low if high is None else np.array([high]), step * np.arange(len(values)), own)[:, 0].tolist()


@pytest.mark.parametrize(("values", "own", "expected"), [
    ([10, 90, 90, 10], limits(), [0, 2, 2, 0]),
    ([10, 90, 90, 90, 10], limits(hold=120), [0, 0, 0, 2, 0]),
    ([90, 90, 10, 90, 90], limits(hold=120), [0, 0, 0, 0, 0]),
    ([90, 99, 99, 90], limits(), [2, 4, 4, 2]),
    ([90, 78, 75, 90], limits(margin=5), [2, 2, 0, 2]),
    ([90, 10, 10, 10], limits(recover=120), [2, 2, 2, 0]),
    ([-90, -10], limits(sign=-1), [2, 0]),
    ([90, NAN, 90], limits(hold=120), [0, 0, 0])])
def test_levels_follow_the_latches(values: list[float], own: Limits, expected: list[int]) -> None:
    """`for`, recovery values and times, severities and the other direction work as in the engine."""
    assert run(values, own) == expected


def test_a_spike_within_a_step_counts_only_at_once() -> None:
    """The highest reading of a step fires a rule without `for`; one with `for` needs every reading of the step to pass."""
    assert run([10, 10, 10], limits(), high=[10, 90, 10]) == [0, 2, 0]
    assert run([10, 10, 10, 10], limits(hold=60), high=[90, 90, 90, 90]) == [0, 0, 0, 0]
    assert run([90, 10, 10, 10], limits(recover=60), high=[90, 90, 90, 90]) == [2, 2, 2, 2]


@given(st.lists(st.sampled_from([10.0, 78.0, 85.0, 97.0, NAN]), min_size=1, max_size=80), st.sampled_from([0.0, 60.0, 180.0]),
       st.sampled_from([0.0, 60.0, 180.0]), st.sampled_from([0.0, 5.0]))
def test_a_longer_for_never_fires_more(values: list[float], hold: float, recover: float, margin: float) -> None:
    """The number of alerts does not grow with `for`, on which the search for a better one relies."""
    low, ts = np.array([values]), 60.0 * np.arange(len(values))
    own = limits(hold=hold, recover=recover, margin=margin)
    counts = [preview.fired(preview.levels(low, low, ts, dataclasses.replace(own, hold=np.array([longer]))))
              for longer in (hold, *(rung for rung in preview.LADDER if rung > hold))]
    assert counts == sorted(counts, reverse=True)


@given(st.lists(st.sampled_from([10.0, 85.0, 97.0, NAN]), min_size=1, max_size=60))
def test_outcomes_add_up(values: list[float]) -> None:
    """Number, total and longest time of a series are those of its levels, counted one by one."""
    low, ts, own = np.array([values]), 60.0 * np.arange(len(values)), limits(hold=60)
    levels = preview.levels(low, low, ts, own)
    runs = [len(part) for part in "".join("x" if level else " " for level in levels[:, 0]).split()]
    found = preview.outcomes(levels, low, low, ts, 60.0, own)
    assert [(one.fired, one.total_seconds, one.longest_seconds, one.is_active) for one in found] == (
        [(len(runs), 60.0 * sum(runs), 60.0 * max(runs), bool(levels[-1, 0]))] if runs else [])
    assert preview.fired(levels) == len(runs)


@given(st.lists(st.sampled_from([10.0, 76.0, 78.0, 85.0, 97.0]), min_size=1, max_size=45), st.sampled_from([0.0, 5.0, 15.0]),
       st.sampled_from([0.0, 10.0]), st.sampled_from([None, 76.0]))
def test_the_preview_says_what_the_engine_does(values: list[float], hold: float, recover: float, back: float | None) -> None:
    """Over samples 5 s apart the preview has alerts from and to the very samples at which the engine fires and resolves them."""
    rule = Rule(name="busy", metric="cpu.percent", warning=80, critical=95, for_=hold, recover_for=recover, recover_value=back)
    changes = Fleet(rule).cpu(values)
    own = limits(hold=hold, recover=recover, margin=0 if back is None else 80 - back)
    turns = np.diff(np.array([0, *(level > 0 for level in run(values, own, step=5.0))]))
    assert [START + 5 * at for at in np.flatnonzero(turns == 1)] == [one.at for one in changes if one.kind == "firing"]
    assert [START + 5 * at for at in np.flatnonzero(turns == -1)] == [one.at for one in changes if one.kind == "resolved"]


def test_many_steps_are_as_few() -> None:
    """Blocks of steps join without a seam."""
    values = np.tile([90.0, 90.0, 90.0, 10.0, 10.0], 400)
    assert run(values.tolist(), limits(hold=60, recover=60)) == np.tile([0, 2, 2, 2, 0], 400).tolist()


def test_the_suggestion_is_the_shortest_that_halves() -> None:
    """The first rung of the ladder with at most half as many alerts; none where no rung does."""
    assert preview.suggested_for(lambda hold: 4 if hold >= 900 else 9, 60.0, 9) == (900.0, 4)
    assert preview.suggested_for(lambda _: 3, 0.0, 9) == (30.0, 3)
    assert preview.suggested_for(lambda _: 9, 0.0, 9) is None


def test_gaps_are_closed_up_to_a_limit() -> None:
    """A missing reading is as the one before, for as long as the engine waits."""
    found = preview.filled(np.array([[NAN, 1.0, NAN, NAN, NAN, 2.0]]), np.array([2]))
    np.testing.assert_array_equal(found, [[NAN, 1.0, 1.0, 1.0, NAN, 2.0]])


def test_changes_of_counters_survive_a_restart() -> None:
    """A counter that began again at 0 has grown by what it counts since."""
    values = np.array([100.0, 110.0, NAN, 5.0, 15.0])
    np.testing.assert_array_equal(preview.changes(values, 1, is_counter=True), [10.0, NAN, NAN, 10.0])
    np.testing.assert_array_equal(preview.changes(values, 3, is_counter=True), [15.0, 15.0])
    np.testing.assert_array_equal(preview.changes(values, 3, is_counter=False), [-95.0, -95.0])
