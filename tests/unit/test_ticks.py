"""Ticks: regular, without drift, without bursts."""

from hypothesis import given
from hypothesis import strategies as st

from agent.ticks import Ticks


@given(st.floats(0, 1e9), st.floats(0.1, 3600), st.lists(st.floats(0, 1.99), min_size=1, max_size=50))
def test_ticks_never_drift_and_never_burst(start, interval, lateness):
    """However late each tick is handled (as a share of the interval), the next lies ahead, on the grid."""
    ticks, now = Ticks(start, interval), start
    for late in lateness:
        now = max(now, ticks.due_at) + late * interval
        before = ticks.due_at
        ticks.passed(now)
        assert before < ticks.due_at
        assert ticks.due_at >= now - 1e-6 * max(1.0, now)
        steps = (ticks.due_at - start) / interval
        assert abs(steps - round(steps)) < 1e-3


def test_a_suspended_laptop_skips_what_it_missed():
    """After an hour asleep there is one tick, not seven hundred."""
    ticks = Ticks(100.0, 5.0)
    ticks.passed(100.2)
    assert ticks.due_at == 105.0
    ticks.passed(3_705.1)
    assert ticks.due_at == 3_710.0
