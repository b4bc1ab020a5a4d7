"""When the scheduler wakes: every second, when it is due, and in spite of a clock that jumps."""

import select
import threading
import time

import pytest

from scheduler.ticking import Bell, Ticker


@pytest.fixture
def bell():
    made = Bell()
    yield made
    made.close()


def await_ring(bell, name, seconds):
    """Whether it rings for this within so many seconds."""
    deadline, rung = time.monotonic() + seconds, set()
    while name not in rung and time.monotonic() < deadline:
        select.select([bell.wake], [], [], deadline - time.monotonic())
        rung = bell.take()
    return name in rung


def test_it_rings_when_something_is_due(bell):
    """At once for what starts, then at the moment it is armed for; what lies beyond the next tick needs no ring."""
    with Ticker(bell, lambda: None) as ticker:
        assert await_ring(bell, "tick", 5)
        ticker.arm(0.05)
        assert await_ring(bell, "due", 5)
        ticker.arm(0.3)
        ticker.arm(0.05)
        assert await_ring(bell, "due", 5)
        ticker.arm(5.0)
        assert len(ticker._apscheduler.get_jobs()) == 2


def test_a_clock_put_back_does_not_stop_it(bell):
    """An hour back: the ticker starts anew, and rings on."""
    with Ticker(bell, lambda: None) as ticker:
        assert await_ring(bell, "tick", 5)
        assert not ticker.follow_clock()
        ticker._offset += 3600.0
        assert ticker.follow_clock()
        assert await_ring(bell, "tick", 5)
        ticker.arm(0.05)
        assert await_ring(bell, "due", 5)


def test_ringing_and_taking_at_once_do_no_harm(bell):
    """One thread rings ten thousand times while another takes: nothing is raised, and no ring is lost."""
    ringer = threading.Thread(target=lambda: [bell.ring(str(number)) for number in range(10_000)])
    ringer.start()
    taken = set()
    while ringer.is_alive():
        taken |= bell.take()
    assert len(taken | bell.take()) == 10_000
    assert select.select([bell.wake], [], [], 0)[0] == []


def test_rings_for_the_same_are_taken_once(bell):
    """However often it was rung, the loop wakes once; then it is quiet."""
    for _ in range(3):
        bell.ring("due")
    assert bell.take() == {"due"}
    assert bell.take() == set()
    other = Bell()
    other.close()
    other.ring("due")
    assert other.take() == set()
    assert select.select([bell.wake], [], [], 0)[0] == []
