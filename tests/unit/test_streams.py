"""Which seqs of a stream have come: against a plain set, through any order of arrival."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.live.hosts import MAX_AHEAD, Budget, Hosts, Stream, epoch_text, signed_epoch


def _stream():
    return Stream(Hosts().add("web-1"), 1)


@given(st.lists(st.one_of(st.integers(1, 30), st.tuples(st.just("oldest"), st.integers(0, 35)))))
def test_stream_equals_a_set(events):
    """`take` is true exactly once per seq; the position is the first seq neither come nor given up, less one."""
    stream, come, gone = _stream(), set(), set()
    for event in events:
        if isinstance(event, int):
            assert stream.take(event) == (event not in come | gone)
            come.add(event)
        else:
            before = {seq for seq in range(1, event[1]) if seq not in come | gone}
            gaps = stream.forget_before(event[1], "test")
            assert {seq for gap in gaps for seq in range(gap.from_seq, gap.to_seq + 1)} == before
            gone |= before
        first_missing = next(seq for seq in range(1, 100) if seq not in come | gone)
        assert stream.contiguous == first_missing - 1
        assert stream.ahead == {seq for seq in come if seq > stream.contiguous}
        assert all(stream.has(seq) == (seq in come | gone) for seq in range(1, 40))


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 5))))
def test_ranges_equal_single_seqs(ranges):
    """Noting a range is noting each of its seqs."""
    one, many = _stream(), _stream()
    for start, length in ranges:
        many.take_range(start, start + length)
        for seq in range(start, start + length + 1):
            one.take(seq)
    assert (one.contiguous, one.ahead) == (many.contiguous, many.ahead)


def test_a_huge_jump_is_one_gap():
    """A jump by 10^12 is one range and is never enumerated."""
    stream = _stream()
    [gap] = stream.forget_before(10**12, "test")
    assert (gap.from_seq, gap.to_seq) == (1, 10**12 - 1)


def test_what_is_far_ahead_is_bounded():
    """A stream that never closes its hole cannot eat memory: what comes beyond the bound must be sent again."""
    stream = _stream()
    for seq in range(2, MAX_AHEAD + 50):
        stream.take(seq)
    assert len(stream.ahead) == MAX_AHEAD
    assert stream.take(1)
    assert stream.contiguous == MAX_AHEAD + 1


@given(st.integers(0, 2**64 - 1))
def test_epoch_round_trip(number):
    """16 hexadecimal digits ↔ signed 64-bit integer."""
    assert epoch_text(signed_epoch(f"{number:016x}")) == f"{number:016x}"


@pytest.mark.parametrize(("times", "allowed"), [((0, 1, 2), [True, True, False]), ((0, 1, 3600), [True, True, True])])
def test_budget_is_per_hour(times, allowed):
    """Something new may come so often within an hour, and again in the next."""
    budget = Budget(2)
    assert [budget.take(at) for at in times] == allowed
