"""Frames and open minutes: mixed layouts, health scores appended, folds equal to a plain loop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.analysis import health
from aggregator.analysis.rollup import fold, fold_samples
from aggregator.live import frame as frames
from aggregator.live.hosts import Stream
from aggregator.live.minutes import frame_rows, late
from aggregator.live.shard import new_shard
from shared.wire import WireError

NAMES = ("cpu.percent", "memory.percent", "disk.percent", "custom.a", "disk.percent{mount=/}", "containers.total")
SAMPLES = st.lists(st.tuples(
    st.integers(0, 3), st.integers(0, 239),
    st.dictionaries(st.sampled_from(NAMES), st.integers(0, 100).map(float), min_size=1)), min_size=1, max_size=40)


def _frame(shard, samples):
    intake = frames.Intake()
    for seq, (host, ts, metrics) in enumerate(samples, 1):
        stream = Stream(shard.hosts.add(f"h{host}"), 1)
        stream.host.id = host + 1
        intake.add(stream, shard.layouts.add(tuple(metrics)), seq, float(ts), 5.0, list(metrics.values()))
    made, bad = frames.build(intake, shard.layouts, shard.inputs, shard.figures, shard.profile, 0.0, shard.hosts.unusual)
    for layout in made.layouts:
        layout.id = layout.index + 1
    return made, bad


@given(SAMPLES)
def test_a_frame_keeps_every_sample_and_appends_its_scores(samples):
    """Whatever mix of layouts, each sample has its own values, then its own health scores."""
    made, bad = _frame(new_shard(0), samples)
    assert not bad.any()
    for i, (_, _, metrics) in enumerate(samples):
        values = made.told(i)[2]
        assert {name: values[name] for name in metrics} == metrics
        assessed = health.assess("a", 0, metrics)
        assert ("health.score" in values) == (assessed is not None)
        if assessed is not None:
            assert values["health.score"] == pytest.approx(assessed.score, abs=0.01)
            assert {name for name in values if name.startswith("health.")} == {
                "health.score", *(f"health.{name}" for name in assessed.components)}


@settings(deadline=None)
@given(SAMPLES, st.integers(1, 40))
def test_open_minutes_equal_a_plain_fold(samples, cut):
    """Folding frame by frame gives count, min, mean and max of each (host, minute, layout), also with repeated hosts."""
    shard = new_shard(0)
    expected = {}
    for part in (samples[:cut], samples[cut:]):
        if not part:
            continue
        made, _ = _frame(shard, part)
        shard.minutes.fold(frame_rows(made))
        for i in range(len(made)):
            key = made.hosts[i].id, made.layouts[i].id, int(made.times[i]) // 60 * 60
            expected.setdefault(key, []).append(list(made.told(i)[2].values()))
    found = {(row.host_id, row.layout_id, start): row
             for start in shard.minutes.before(10**9) for row in shard.minutes.rows(start)}
    assert set(found) == set(expected)
    for key, rows in expected.items():
        row = found[key]
        assert row.count == len(rows)
        np.testing.assert_allclose(row.low, np.min(rows, axis=0), rtol=1e-6)
        np.testing.assert_allclose(row.mean, np.mean(rows, axis=0), rtol=1e-6)
        np.testing.assert_allclose(row.high, np.max(rows, axis=0), rtol=1e-6)


def test_what_comes_after_its_minute_is_late():
    """Samples before `closed_to` are not folded; their host, hour and span of minutes are named."""
    shard = new_shard(3725.0)
    made, _ = _frame(shard, [(0, 3500, {"cpu.percent": 1.0}), (0, 3610, {"cpu.percent": 1.0}), (0, 3700, {"cpu.percent": 1.0}),
                             (1, 3790, {"cpu.percent": 1.0})])
    assert late(made, shard.minutes.closed_to) == {(1, 0): (3480, 3540), (1, 3600): (3600, 3720)}
    shard.minutes.fold(frame_rows(made))
    assert shard.minutes.before(10**9) == [3780]


@pytest.mark.parametrize("value", [100.5, -0.1, 1e300, -1e300, 3.5e38])
def test_values_out_of_bounds_are_marked_alone(value):
    """A value outside its metric's bounds, or too large for the database, marks its own sample and no other."""
    name = "cpu.percent" if abs(value) < 1000 else "custom.a"
    made, bad = _frame(new_shard(0), [(0, 1, {name: value}), (1, 1, {name: 50.0})])
    assert bad.tolist() == [True, False]
    assert np.isfinite(made.values.astype(np.float32)).all()


def test_newest_figures_move_forward_only():
    """A late sample does not overwrite what a newer one said of its host."""
    shard = new_shard(0)
    made, _ = _frame(shard, [(0, 100, {"cpu.percent": 10.0}), (0, 50, {"cpu.percent": 99.0})])
    rows, newest = frames.note_newest(shard.hosts, made)
    assert (rows.tolist(), newest.tolist()) == ([0], [0])
    older, _ = _frame(shard, [(0, 90, {"cpu.percent": 99.0})])
    assert frames.note_newest(shard.hosts, older)[0].tolist() == []
    assert shard.hosts.figures[0, 1] == 10.0


@pytest.mark.parametrize("keys", [(), ("Cpu",), ("cpu..x",), ("health.score",), ("anomaly.score",), ("a.b{}",),
                                  ("a.b{x=1,x=2}",), ("a.b{y=1,x=2}",),
                                  tuple(f"custom.m{i}" for i in range(513)), ("custom." + "x" * 130,), ("custom.a\u202eb",)])
def test_bad_names_are_refused(keys):
    """Names outside the grammar, too many, too long, or reserved are a wire error."""
    with pytest.raises(WireError):
        new_shard(0).layouts.add(keys)


@given(st.lists(st.tuples(st.floats(0, 7199), st.floats(-1e6, 1e6)), min_size=1, max_size=60))
def test_a_fold_of_folds_is_the_fold(samples):
    """Hours from minutes equal hours from raw."""
    times = np.array([at for at, _ in samples])
    values = np.array([[value] for _, value in samples])
    minutes = fold_samples(times, values, 60)
    hours = fold(minutes.starts.astype(float), minutes.counts, minutes.low, minutes.mean, minutes.high, 3600)
    direct = fold_samples(times, values, 3600)
    np.testing.assert_array_equal(hours.starts, direct.starts)
    np.testing.assert_array_equal(hours.counts, direct.counts)
    np.testing.assert_array_equal(hours.low, direct.low)
    np.testing.assert_array_equal(hours.high, direct.high)
    np.testing.assert_allclose(hours.mean, direct.mean, rtol=1e-9, atol=1e-9)
