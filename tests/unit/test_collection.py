"""Collectors that fail, hang or are not there, and the others beside them."""

import logging
import threading
import time

import pytest
from msgspec import Struct

from agent.collection import Collection
from agent.collectors import Reading
from shared.names import MAX_METRICS


class Snapshot(Struct):
    number: int


class Counting:
    """A collector that counts its readings; `answers` are taken in turn: a reason, an exception or a number."""

    def __init__(self, name="counting", interval=0.0, may_block=False, reasons=(), errors=()):
        self.name, self.interval, self.may_block = name, interval, may_block
        self.reasons, self.errors = list(reasons), list(errors)
        self.opened = self.read = self.closed = 0

    def open(self):
        self.opened += 1
        return self.reasons.pop(0) if self.reasons else None

    def collect(self, now, monotonic):
        self.read += 1
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error
        return Reading({f"custom.{self.name}": self.read}, {self.name: Snapshot(self.read)})

    def close(self):
        self.closed += 1


class Stuck(Counting):
    """A collector that does not answer until it is let go."""

    def __init__(self, **given):
        super().__init__(may_block=True, **given)
        self.gate = threading.Event()

    def collect(self, now, monotonic):
        self.gate.wait(10)
        return super().collect(now, monotonic)


def state_of(collection, name):
    return next(state for state in collection.states() if state.name == name)


def test_a_slow_collector_is_carried_and_its_snapshot_is_given_once():
    """Between its readings a collector's numbers stay in every sample, its snapshot comes only when it is new."""
    slow = Counting("slow", interval=10.0)
    collection = Collection([slow])
    seen = [collection.collect(0.0, 5.0 * tick) for tick in range(5)]
    assert [metrics["custom.slow"] for metrics, _ in seen] == [1, 1, 2, 2, 3]
    assert [len(snapshots) for _, snapshots in seen] == [1, 0, 1, 0, 1]


def test_a_collector_that_raises_harms_no_other_and_is_logged_once(caplog):
    """A failure is the number 0 and one line in the log per change; the others' numbers are there all the same."""
    bad = Counting("bad", errors=[OSError("torn"), OSError("torn"), None])
    collection = Collection([bad, Counting("good")])
    with caplog.at_level(logging.INFO, "drumbeat.collect"):
        seen = [collection.collect(0.0, float(tick))[0] for tick in range(3)]
    assert [metrics["agent.collector_up{collector=bad}"] for metrics in seen] == [0, 0, 1]
    assert [metrics["custom.good"] for metrics in seen] == [1, 2, 3]
    assert "custom.bad" not in seen[0]
    assert [record.getMessage() for record in caplog.records] == ["collector failed", "collector fails no more"]
    assert (bad.opened, bad.closed) == (3, 2)


def test_a_failing_collector_takes_its_old_numbers_along():
    """Numbers that can no longer be read are absent, not repeated."""
    collection = Collection([Counting("bad", errors=[None, OSError("gone")])])
    assert "custom.bad" in collection.collect(0.0, 0.0)[0]
    assert "custom.bad" not in collection.collect(0.0, 5.0)[0]


def test_nothing_here_is_not_broken_and_is_tried_again():
    """What is not available gives neither numbers nor a 0, says why, and is looked for every minute."""
    late = Counting("late", reasons=["no socket; start it"])
    collection = Collection([late])
    for tick in range(11):
        metrics, _ = collection.collect(0.0, 5.0 * tick)
        assert not [name for name in metrics if "late" in name]
    assert (state_of(collection, "late").up, state_of(collection, "late").reason) == (False, "no socket; start it")
    assert collection.collect(0.0, 60.0)[0]["agent.collector_up{collector=late}"] == 1
    assert state_of(collection, "late").up


def test_a_stuck_collector_never_delays_the_others():
    """A tick lasts its budget at most once for a hanging collector, and not at all while it goes on hanging."""
    stuck = Stuck(name="stuck", interval=10.0)
    collection = Collection([stuck, Counting("good")], budget_seconds=1.5)
    lasted = []
    for tick in range(4):
        begun = time.perf_counter()
        metrics, _ = collection.collect(0.0, 5.0 * tick)
        lasted.append(time.perf_counter() - begun)
        assert metrics["custom.good"] == tick + 1
        assert metrics.get("agent.collector_up{collector=stuck}") == (None if tick < 2 else 0)
    assert lasted[0] > 1.4
    assert max(lasted[1:]) < 1.4, "a tick waited again for what hangs"
    assert state_of(collection, "stuck").reason == "it does not answer"
    stuck.gate.set()
    deadline = time.monotonic() + 5
    while "custom.stuck" not in metrics and time.monotonic() < deadline:
        metrics, _ = collection.collect(0.0, 21.0)
    assert metrics["agent.collector_up{collector=stuck}"] == 1
    assert stuck.read >= 1
    assert state_of(collection, "stuck").up


def test_several_that_may_block_share_one_budget():
    """Three hanging collectors do not cost three budgets."""
    stuck = [Stuck(name=f"stuck{number}") for number in range(3)]
    collection = Collection(stuck, budget_seconds=1.0)
    begun = time.perf_counter()
    collection.collect(0.0, 0.0)
    assert time.perf_counter() - begun < 2.5, "each took its own budget"
    for one in stuck:
        one.gate.set()


def test_a_machine_without_room_for_a_thread_keeps_its_other_numbers(monkeypatch):
    """Where no thread can be started (a limit on tasks), only the collectors that need one fail."""
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    collection = Collection([Counting("blocking", may_block=True), Counting("good")])
    metrics, _ = collection.collect(0.0, 0.0)
    assert (metrics["agent.collector_up{collector=blocking}"], metrics["custom.good"]) == (0, 1)
    assert state_of(collection, "blocking").reason == "can't start new thread"


def test_a_blocking_collector_that_answers_in_time_is_in_the_same_sample():
    """The budget is there to wait for: a quick answer is not put off to the next tick."""
    metrics, snapshots = Collection([Counting("quick", may_block=True)], budget_seconds=5).collect(0.0, 0.0)
    assert metrics["custom.quick"] == 1
    assert snapshots == {"quick": Snapshot(1)}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_are_finite(bad):
    """A number that is not finite never gets into a sample."""
    one = Counting("one")
    one.collect = lambda *_: Reading({"custom.bad": bad, "custom.good": 1.0})
    metrics, _ = Collection([one]).collect(0.0, 0.0)
    assert "custom.bad" not in metrics
    assert metrics["custom.good"] == 1.0


def test_a_sample_has_room_for_all_core_metrics(caplog):
    """A host with more instances than a sample may carry keeps its core metrics, and says once that it cut."""
    many = Counting("many")
    many.collect = lambda *_: Reading(
        {f"cpu.core_percent{{core={core}}}": 1.0 for core in range(600)} | {"cpu.percent": 7.0, "custom.late": 1.0})
    collection = Collection([many])
    metrics, _ = collection.collect(0.0, 0.0)
    collection.collect(0.0, 5.0)
    assert len(metrics) < MAX_METRICS
    assert metrics["cpu.percent"] == 7.0
    assert metrics["custom.late"] == 1.0
    assert len(caplog.records) == 1


def test_the_time_of_collecting_is_told_one_sample_later():
    """agent.collect_seconds is of the previous sample, since this one is not finished when it is written."""
    moments = iter([0.0, 0.0, 0.01, 0.25, 1.0, 1.0, 1.01, 1.5])
    collection = Collection([Counting("one")], clock=lambda: next(moments))
    assert "agent.collect_seconds" not in collection.collect(0.0, 0.0)[0]
    assert collection.collect(0.0, 5.0)[0]["agent.collect_seconds"] == 0.25
