"""Anomaly detection over a fleet in memory: places, incidents, what is kept of a host, and what is no anomaly."""

import msgspec
import numpy as np
import pytest
from alert_builders import START, Fleet
from anomaly_rig import LEARNT_DAYS, learnt, minute

from aggregator.analysis.core_metrics import METRICS, MetricError, with_more
from aggregator.analysis.rules import Override, Rule
from aggregator.live.minutes import OpenMinutes, Rows, pooled
from aggregator.live.unusual import PLACES, Block, Packed, Unusual
from shared import catalogue, wire

BEGIN = 1_795_219_200  # midnight


def stepped(unusual, start, *values, host_ids=None):
    """One minute of hosts 1, 2, … in turn."""
    return unusual.step(start, np.array(host_ids or range(1, len(values) + 1), np.int64), np.stack(values))


def test_the_watched_metrics_are_core_metrics():
    """Each is in the catalogue, once, and without labels."""
    assert len(set(METRICS)) == len(METRICS)
    assert set(METRICS) <= set(catalogue.CORE_NAMES)


def test_more_metrics_are_watched_after_those():
    """Their order in the setting means nothing, since a state is learnt for one order; none twice."""
    more = ("http.up{url=a}", "custom.queue_length", "disk.percent{mount=/var}", "custom.queue_length")
    assert with_more(()) == METRICS
    assert with_more(more) == with_more(more[::-1]) == (*METRICS, *sorted(set(more)))


@pytest.mark.parametrize(("names", "words"), [
    (["cpu.percent"], "'cpu.percent': it is always watched"), (["custom.queue_*"], "no full name"), (["queue"], "no full name"),
    (["custom.wait{queue=*}"], "no full name"), (["anomaly.score"], "makes it itself"), (["custom.jobs_total"], "only grows"),
    (["cpu.percnt"], "no such metric"), ([f"custom.m{i}" for i in range(31)], "31 metrics; at most 30")])
def test_what_cannot_be_watched_is_refused_with_the_mend(names, words):
    """The name at fault and what is wrong with it."""
    with pytest.raises(MetricError, match=words.replace("*", r"\*")):
        with_more(names)


def queued(start, length, *, burst=False):
    """A minute with a queue of about that length; NaN: without one."""
    return np.append(minute(start, burst=burst), length + np.random.default_rng(start).normal())


def test_a_burst_of_a_metric_of_ones_own_is_explained_by_it():
    """All else as usual: an incident of the host that has the metric, which makes it up; the range told is finite."""
    unusual, changed = Unusual(with_more(["custom.queue_length"])), []
    for i in range(-LEARNT_DAYS * 1440, 60):
        start = BEGIN + 60 * i
        changed += stepped(unusual, start, queued(start, 20.0 if i < 0 else 100.0), queued(start, np.nan))[1]
    assert {one.host_id for one in changed} == {1}
    first = changed[0].metrics[0]
    assert first.metric == "custom.queue_length"
    assert first.share > 0.9
    assert 0 < first.low < 20 < first.high < 60 < first.value
    assert msgspec.json.decode(wire.encode(first), type=wire.Explaining) == first


def test_a_host_without_a_watched_metric_is_judged_by_the_others():
    """Its score is what it is where the metric is not watched, on usual days and in a burst."""
    unusual, plain, more = Unusual(with_more([f"custom.m{i}" for i in range(5)])), learnt(BEGIN), np.full(5, np.nan)
    for i in range(-LEARNT_DAYS * 1440, 60):
        start = BEGIN + 60 * i
        values = minute(start, burst=40 <= i < 44)
        judged, changed = stepped(unusual, start, np.append(values, more))
        if i >= 0:
            expected, too = stepped(plain, start, values)
            assert judged.scores[0] == pytest.approx(expected.scores[0], rel=1e-3)
            assert not judged.series[0, len(METRICS):].any()
            assert [one.metrics[0].metric for one in changed] == [one.metrics[0].metric for one in too]
    assert unusual.open


@pytest.mark.parametrize("value", [1e25, 3e38])
def test_values_that_fill_a_real_raise_nothing_that_is_not_finite(value):
    """A metric of one's own has no bounds: scores and what is told stay numbers."""
    unusual, rng = Unusual(with_more(["custom.x"])), np.random.default_rng(1)
    for i in range(-LEARNT_DAYS * 1440, 10):
        start = BEGIN + 60 * i
        own = value * (rng.uniform(-0.01, 0.01) + (i >= 0))
        judged, changed = stepped(unusual, start, np.append(minute(start, burst=i >= 0), own))
        assert np.isfinite(judged.scores).all()
        assert all(np.isfinite([each.low, each.high, each.value]).all() for one in changed for each in one.metrics)
    assert unusual.open


def test_a_state_of_other_metrics_is_not_taken():
    """After a change of the setting a host learns anew, and its state says for which metrics."""
    more = with_more(["custom.queue_length"])
    state = learnt(BEGIN, metrics=more).blocks[0].packed(1)
    assert Block().restore({1: state}) == {1: "other metrics were watched"}
    assert Block(with_more(["custom.queue"])).restore({1: state}) == {1: "other metrics were watched"}
    assert Block(more).restore({1: state}) == {}


def test_a_burst_is_one_incident_with_begin_peak_and_end():
    """It begins with the first minute, grows worse, and ends at its last minute once some hours were calm."""
    unusual = learnt(BEGIN)
    changes = [(start, one.began_at, one.peak_at, one.ended_at, one.metrics[0].metric)
               for i in range(360) for start in [BEGIN + 60 * i]
               for one in stepped(unusual, start, minute(start, burst=10 <= i < 20))[1]]
    began, ended = changes[0], changes[-1]
    assert began == (BEGIN + 600, BEGIN + 600, BEGIN + 600, None, "disk.await_ms")
    assert {one[1] for one in changes} == {BEGIN + 600}
    assert [one[3] is None for one in changes] == [True] * (len(changes) - 1) + [False]
    assert BEGIN + 600 < ended[3] <= BEGIN + 3600 < ended[0]
    assert not unusual.open


def test_a_constant_fleet_raises_nothing():
    """Hosts whose figures never move have no score and no anomaly, whatever their figures are."""
    unusual, figures = Unusual(), [np.full(len(METRICS), value) for value in (0.0, 1e-9, 42.0, 1e12)]
    for i in range(LEARNT_DAYS * 1440):
        judged, changed = stepped(unusual, BEGIN + 60 * i, *figures)
        assert not changed
        assert not judged.scores.any()
        assert not judged.series.any()


def test_usual_days_raise_nothing():
    """A day that goes on as the days before it scores about 1 and raises nothing."""
    unusual, scores = learnt(BEGIN), []
    for i in range(1440):
        judged, changed = stepped(unusual, BEGIN + 60 * i, minute(BEGIN + 60 * i))
        assert not changed
        scores.append(judged.scores[0])
    assert 0.3 < np.mean(scores) < max(scores) < 2


def test_hosts_do_not_touch_each_other():
    """A host scores the same alone and beside others that begin later, stop, or go mad; a full block is followed by another."""
    alone, beside = learnt(BEGIN), learnt(BEGIN)
    rng = np.random.default_rng(1)
    for i in range(30):
        start = BEGIN + 60 * i
        expected = stepped(alone, start, minute(start))[0].scores[0]
        others = [rng.normal(0, 10.0 ** i, len(METRICS)) for _ in range(PLACES + 5 - i)]
        assert stepped(beside, start, minute(start), *others)[0].scores[0] == pytest.approx(expected, rel=1e-6)
    assert [len(block.places) for block in beside.blocks] == [PLACES, 6]


def test_a_restored_host_scores_as_if_nothing_had_been():
    """Packed in the middle of a burst and restored, beside another one: the same scores to the bit, and one incident."""
    unusual, after = learnt(BEGIN), Unusual()
    for i in range(5):
        stepped(unusual, BEGIN + 60 * i, minute(BEGIN + 60 * i, burst=i > 2))
    block = Block()
    assert block.restore({1: unusual.blocks[0].packed(1)}) == {}
    block.add(2)
    after.join(block)
    after.open = dict(unusual.open)
    for i in range(5, 65):
        start = BEGIN + 60 * i
        (was, _), (found, changed) = (stepped(one, start, minute(start, burst=i < 8)) for one in (unusual, after))
        assert found.scores[0] == was.scores[0]
        assert not any(one.began_at != BEGIN + 180 for one in changed)


@pytest.mark.parametrize("spoilt", [
    b"", b"\xc1", msgspec.msgpack.encode({}), msgspec.msgpack.encode(Packed(["cpu.percent"], 0, {}, {}, 0)),
    msgspec.msgpack.encode(Packed(list(METRICS), 0, {}, {}, 0))], ids=["empty", "noise", "nothing", "metrics", "arrays"])
def test_a_state_that_cannot_be_used_is_told_and_learnt_anew(spoilt):
    """The host has a place with a fresh detector, and its neighbour's state is taken all the same."""
    good, block = learnt(BEGIN).blocks[0].packed(1), Block()
    assert list(block.restore({1: good, 2: spoilt})) == [2]
    assert block.places.keys() == {1, 2}
    unusual = Unusual()
    unusual.join(block)
    scores = stepped(unusual, BEGIN, minute(BEGIN), minute(BEGIN))[0].scores
    assert scores[0] > 0
    assert scores[1] == 0


def test_states_of_other_shapes_are_refused():
    """One array cut short is no state: nothing of it is taken."""
    packed = msgspec.msgpack.decode(learnt(BEGIN).blocks[0].packed(1), type=Packed)
    kind, shape, content = packed.detector["mean"]
    packed.detector["mean"] = (kind, [*shape[:-1], shape[-1] - 1], content[:-4])
    assert "mean" in Block().restore({1: msgspec.msgpack.encode(packed)})[1]


def test_hosts_that_wait_are_not_judged():
    """Until a host's state is up to date its minutes are left to be made up for."""
    unusual = Unusual()
    unusual.waiting = {2}
    judged, _ = stepped(unusual, BEGIN, minute(BEGIN), minute(BEGIN))
    assert judged.host_ids.tolist() == [1]
    block = Block()
    block.add(2)
    unusual.join(block)
    assert stepped(unusual, BEGIN + 60, minute(BEGIN), minute(BEGIN))[0].host_ids.tolist() == [1, 2]


def test_minutes_mean_the_same_open_and_rolled_up():
    """Means of chosen metrics from the open minute are those of its rollup, two layouts of a host weighed by their samples."""
    minutes, rng = OpenMinutes(BEGIN), np.random.default_rng(3)
    samples = [(7, 1, 2), (7, 1, 2), (7, 2, 3), (8, 2, 3)]  # host, layout, metrics
    sizes = np.array([size for _, _, size in samples])
    minutes.fold(Rows([host for host, _, _ in samples], [layout for _, layout, _ in samples],
                      np.full(len(samples), BEGIN + 1.0), rng.random(int(sizes.sum())), np.cumsum(sizes) - sizes, sizes))
    places = {1: np.array([1, -1]), 2: np.array([0, 2])}
    ids, means = minutes.means(BEGIN, places)
    rows = list(minutes.rows(BEGIN))
    picked = np.array([np.where(places[row.layout_id] < 0, np.nan, row.mean[places[row.layout_id]]) for row in rows], np.float32)
    again = pooled(np.array([row.host_id for row in rows]), picked, np.array([row.count for row in rows]))
    assert ids.tolist() == again[0].tolist() == [7, 8]
    assert np.array_equal(means, again[1])
    first, second, _ = (row.mean for row in rows)
    assert means[0] == pytest.approx([(2 * first[1] + second[0]) / 3, second[2]], rel=1e-6)


RULE = Rule(name="odd", kind="baseline", info=3.0, critical=9.0, recover_value=2.0)


def told(fleet, at, *scores, texts=None):
    """(host, kind, severity) of what scores of hosts a, b, … lead to."""
    rows = np.array([fleet.row(host) for host in "abc"[:len(scores)]])
    return [(change.alert.host.name, change.kind, change.severity)
            for change in fleet.engine.unusual("odd", rows, np.array(scores), START + at, texts or {})]


def test_a_rule_of_kind_baseline_compares_scores():
    """Each host by its score, with what makes it unusual in the message; it is over below the recovery value."""
    fleet = Fleet(RULE)
    assert told(fleet, 60, 1.0, 3.5, 12.0, texts={1: ": cpu.percent"}) == [("b", "firing", "info"), ("c", "firing", "critical")]
    assert fleet.alert("odd", host="b").message == "b is unlike itself: cpu.percent (score 3.5, limit 3)"
    assert fleet.alert("odd", host="c").message == "c is unlike itself (score 12, limit 9)"
    assert told(fleet, 120, 2.5, 2.5, 2.5) == [("c", "severity", "info")]
    assert told(fleet, 180, 1.0, 1.0, 1.0) == [("b", "resolved", "info"), ("c", "resolved", "info")]


def test_a_host_may_have_thresholds_of_its_own():
    """An override below the rule's thresholds holds for its host alone."""
    fleet = Fleet(RULE, overrides={("b", "odd"): Override(info=1.5, recover_value=1.0)})
    assert told(fleet, 60, 2.0, 2.0) == [("b", "firing", "info")]


def test_samples_do_not_feed_baselines():
    """The value of a metric is no score: a rule of kind baseline on cpu.percent waits for the detector's."""
    fleet = Fleet(msgspec.structs.replace(RULE, metric="cpu.percent"))
    assert fleet.cpu([99.0] * 5) == []
    assert told(fleet, 60, 4.0) == [("a", "firing", "info")]
    assert fleet.alert("odd").message == "cpu.percent is unlike itself (score 4, limit 3)"
