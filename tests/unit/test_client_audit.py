"""The arithmetic of an audit, and how it is told."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from aggregator.analysis.audit import Evidence, Run, judge, merged, size, within, without
from aggregator.client import audit

NOW = datetime(2026, 11, 20, tzinfo=UTC)
SEQS = st.sets(st.integers(1, 60))


def run(first, last, *, rows=None, doubled=0, at=NOW):
    return Run(first, last, rows or last - first + 1, doubled, at, at)


def runs_of(seqs):
    return [run(first, last) for first, last in merged([(seq, seq) for seq in seqs])[0]]


def test_a_stream_without_holes_is_sound():
    """count = max - min + 1 = distinct is sound."""
    verdict = judge(Evidence("web-1", "0" * 16, 100), [run(1, 100)], None)
    assert verdict.is_sound
    assert (verdict.rows, verdict.distinct, verdict.first, verdict.last) == (100, 100, 1, 100)


def test_a_hole_below_the_checkpoint_is_lost():
    """A seq that the stream says is stored, and that no row holds or explains, is lost."""
    verdict = judge(Evidence("web-1", "0" * 16, 100), [run(1, 40), run(43, 100)], None)
    assert verdict.lost == [(41, 42)]
    assert not verdict.is_sound


def test_gap_rows_and_refusals_explain_holes():
    """A hole covered by a gap row or a refusal is accounted for, each under its own name."""
    evidence = Evidence("web-1", "0" * 16, 100, gaps=[(41, 45)], refused=[(50, 50)])
    verdict = judge(evidence, [run(1, 40), run(46, 49), run(51, 100)], None)
    assert verdict.is_sound
    assert (verdict.gaps, verdict.refused) == (5, 1)


def test_a_hole_beyond_the_checkpoint_is_awaited():
    """What no watermark covers is still with the agent: not lost."""
    verdict = judge(Evidence("web-1", "0" * 16, 50), [run(1, 50), run(61, 70)], None)
    assert verdict.awaited == [(51, 60)]
    assert verdict.is_sound


def test_a_checkpoint_beyond_what_is_stored_is_a_loss():
    """A watermark that promised more than the tables hold is a loss at the end of the stream."""
    assert judge(Evidence("web-1", "0" * 16, 105), [run(1, 100)], None).lost == [(101, 105)]


def test_doubles_inside_and_across_partitions_count():
    """A seq stored twice is found within a partition and across two."""
    verdict = judge(Evidence("web-1", "0" * 16, 20), [run(1, 10, rows=12, doubled=2), run(9, 20)], None)
    assert verdict.duplicates == 4
    assert not verdict.is_sound


def test_what_retention_dropped_is_not_judged():
    """A stream older than retained history is judged from the first seq still held."""
    old = Evidence("web-1", "0" * 16, 100, created_at=NOW - timedelta(days=30))
    verdict = judge(old, [run(60, 100)], NOW - timedelta(days=7))
    assert verdict.is_sound
    assert verdict.judged_from == 60


def test_a_lost_beginning_is_found_where_nothing_was_dropped():
    """A stream that began inside retained history must begin with seq 1."""
    young = Evidence("web-1", "0" * 16, 100, created_at=NOW)
    assert judge(young, [run(4, 100)], NOW - timedelta(days=7)).lost == [(1, 3)]


@given(SEQS, SEQS)
def test_without_is_set_difference(have, taken):
    """Runs less runs hold exactly the seqs of the one set that are not in the other."""
    left = without(merged([(seq, seq) for seq in have])[0], merged([(seq, seq) for seq in taken])[0])
    assert {seq for first, last in left for seq in range(first, last + 1)} == have - taken


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 9)), max_size=12), st.integers(0, 60), st.integers(0, 60))
def test_merged_keeps_every_seq(pairs, low, high):
    """Merging runs keeps their seqs, whatever overlaps; cutting keeps those between the limits."""
    ranges = [(first, first + more) for first, more in pairs]
    seqs = {seq for first, last in ranges for seq in range(first, last + 1)}
    assert size(merged(ranges)[0]) == len(seqs)
    assert size(within(merged(ranges)[0], low, high)) == len({seq for seq in seqs if low <= seq <= high})


@given(SEQS.filter(bool), SEQS, SEQS, st.integers(0, 60))
def test_every_seq_has_exactly_one_fate(held, gone, refused, contiguous):
    """Every judged seq is held, in a gap, refused, lost or awaited, and only one of those."""
    evidence = Evidence("web-1", "0" * 16, contiguous, gaps=[(s, s) for s in gone], refused=[(s, s) for s in refused])
    verdict = judge(evidence, runs_of(held), None)
    judged = max(verdict.last, contiguous) - verdict.judged_from + 1
    assert verdict.distinct + verdict.gaps + verdict.refused + size(verdict.lost) + size(verdict.awaited) == judged


def test_the_summary_says_what_is_wrong():
    """The paragraph for people names the counts and the verdict."""
    lost = judge(Evidence("web-1", "0" * 16, 100), [run(1, 40), run(43, 100)], None)
    assert "2 lost" in audit.summary([lost])
    assert "1 of 1 streams are NOT sound" in audit.summary([lost])
    assert "nothing to judge" in audit.summary([])
