"""Counters become rates over the true elapsed time, and nothing else does."""

from hypothesis import given
from hypothesis import strategies as st

from agent.sampling import Counters, bytes_per_second, per_second, percent

COUNTERS = st.dictionaries(st.sampled_from(["eth0", "eth1", "sda"]), st.tuples(st.integers(0, 2**64), st.integers(0, 2**64)))


def test_increments_are_taken_over_the_elapsed_time():
    """A step holds the increments and the seconds that passed, however long the gap was."""
    counters: Counters[str] = Counters()
    assert counters.advance(100.0, {"sda": (10, 20)}) == (0.0, {})
    assert counters.advance(107.5, {"sda": (25, 20)}) == (7.5, {"sda": (15, 0)})
    assert counters.advance(3707.5, {"sda": (26, 21)}) == (3600.0, {"sda": (1, 1)})


def test_an_instance_that_went_backwards_gives_nothing_for_one_step():
    """A reset or a wrap of one counter gives no value for that instance, and the next step is right again."""
    counters: Counters[str] = Counters()
    counters.advance(0.0, {"eth0": (2**32 - 5, 100), "eth1": (1, 1)})
    assert counters.advance(5.0, {"eth0": (10, 200), "eth1": (2, 3)}) == (5.0, {"eth1": (1, 2)})
    assert counters.advance(10.0, {"eth0": (20, 250), "eth1": (2, 3)}) == (5.0, {"eth0": (10, 50), "eth1": (0, 0)})


def test_a_device_that_is_plugged_in_counts_from_its_second_reading():
    """A new instance gives no spike, one that was away does not give what it did meanwhile."""
    counters: Counters[str] = Counters()
    counters.advance(0.0, {"sda": (5, 5)})
    assert counters.advance(5.0, {"sda": (6, 6), "usb": (900, 900)})[1] == {"sda": (1, 1)}
    assert counters.advance(10.0, {"usb": (901, 902)})[1] == {"usb": (1, 2)}
    assert counters.advance(15.0, {"sda": (90, 90), "usb": (902, 902)})[1] == {"usb": (1, 0)}


def test_a_clock_that_stands_still_or_goes_back_gives_nothing():
    """Without elapsed time there is no rate; a clock set back begins anew."""
    counters: Counters[str] = Counters()
    counters.advance(50.0, {"sda": (5, 5)})
    assert counters.advance(50.0, {"sda": (6, 6)})[1] == {}
    assert counters.advance(20.0, {"sda": (7, 7)})[1] == {}
    assert counters.advance(21.0, {"sda": (9, 9)}) == (1.0, {"sda": (2, 2)})


@given(st.lists(st.tuples(st.floats(0, 1e6), COUNTERS), min_size=2, max_size=6))
def test_no_step_is_ever_negative_or_of_an_unknown_instance(readings):
    """Whatever the counters and the clock do: increments are not negative, time is positive, instances were seen before."""
    counters: Counters[str] = Counters()
    seen: set[str] = set()
    for at, reading in readings:
        elapsed, steps = counters.advance(at, reading)
        assert not steps or elapsed > 0
        assert steps.keys() <= seen & reading.keys()
        assert all(amount >= 0 for step in steps.values() for amount in step)
        seen |= reading.keys()


@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12))
def test_a_percentage_lies_between_0_and_100(part, whole):
    """Rounding and odd inputs never leave the bounds of a percentage."""
    assert 0 <= percent(part, whole) <= 100


def test_numbers_are_rounded_to_what_they_mean():
    """Large rates carry no decimals, rare events do not vanish."""
    assert (percent(1, 3), bytes_per_second(10_000, 3)) == (33.3, 3333)
    assert [per_second(amount, 3.0) for amount in (1, 100, 1000, 100_000)] == [0.33, 33.33, 333.3, 33333]
    assert per_second(1, 3600.0) == 0.0003
