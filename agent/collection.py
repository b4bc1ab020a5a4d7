"""Runs the collectors at a tick: the inline ones here, those that may block in threads, within a budget of time.

1. Those that may block and are due are started, each in a daemon thread.
2. The inline ones run.
3. The threads are waited for, at most until the budget is spent. One that is still busy is left alone; its result is
   used at the tick at which it is there.
4. Every reading not older than it may be is carried into the sample, together with how each collector fared.
"""

import contextlib
import dataclasses
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from agent.collectors import Collector, Reading
from shared import catalogue, logs
from shared.names import MAX_METRICS, metric_name
from shared.wire import CollectorState

RETRY_SECONDS = 60.0
EARLY = 0.95
RESERVED = 8

_CORE = frozenset(catalogue.CORE_NAMES)


@dataclasses.dataclass(frozen=True, slots=True)
class _Outcome:
    """What one run of a collector came to: a reading, a reason for there being nothing, or an error."""

    seconds: float
    reading: Reading | None = None
    reason: str = ""
    error: str = ""


class _Slot:
    """One collector with what is known of it. All fields but `inbox` belong to the ticking thread."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.is_open = False
        self.started_at = -math.inf
        self.running: threading.Thread | None = None
        self.inbox: list[_Outcome] = []
        self.outcome: _Outcome | None = None
        self.is_stuck = False
        self.up_name = metric_name("agent.collector_up", collector=collector.name)
        self.seconds_name = metric_name("agent.collector_seconds", collector=collector.name)

    def is_due(self, monotonic: float) -> bool:
        if self.running is not None:
            return False
        missing = self.outcome is not None and self.outcome.reason
        wait = RETRY_SECONDS if missing else self.collector.interval
        return monotonic - self.started_at >= wait * EARLY

    def is_overdue(self, monotonic: float) -> bool:
        return self.running is not None and monotonic - self.started_at >= max(self.collector.interval, 1.0)


class Collection:
    """All collectors of this host; use from one thread."""

    def __init__(self, collectors: Sequence[Collector], clock: Callable[[], float] = time.perf_counter,
                 budget_seconds: float = 0.2) -> None:
        self._slots = [_Slot(collector) for collector in collectors]
        self._clock = clock
        self._budget = budget_seconds
        self._previous_seconds: float | None = None
        self._is_cut = False
        self._log = logs.get("collect")

    def collect(self, now: float, monotonic: float) -> tuple[dict[str, float], dict[str, Struct]]:
        """Metrics of this tick, and the snapshots that are new since the previous one."""
        begun = self._clock()
        fresh = self._run_due(now, monotonic, begun)
        metrics = self._merged(monotonic)
        if self._previous_seconds is not None:
            metrics["agent.collect_seconds"] = self._previous_seconds
        snapshots = {kind: snapshot for reading in fresh for kind, snapshot in reading.snapshots.items()}
        self._previous_seconds = round(self._clock() - begun, 4)
        return self._bounded(metrics), snapshots

    def states(self) -> list[CollectorState]:
        """Whether each collector runs, and why one does not, as the inventory tells it."""
        return [_state(slot) for slot in self._slots]

    def close(self) -> None:
        """Close every collector that is not stuck."""
        for slot in self._slots:
            if slot.running is None and slot.is_open:
                slot.is_open = False
                with contextlib.suppress(Exception):
                    slot.collector.close()

    def _run_due(self, now: float, monotonic: float, begun: float) -> list[Reading]:
        fresh = [self._received(slot) for slot in self._slots if slot.running]
        due = [slot for slot in self._slots if slot.is_due(monotonic)]
        for slot in due:
            slot.started_at = monotonic
            if slot.collector.may_block:
                self._start(slot, now, monotonic)
        fresh += [self._settled(slot, _run(slot.collector, slot.is_open, self._clock, now, monotonic))
                  for slot in due if not slot.collector.may_block]
        for slot in due:
            if slot.running is not None:
                slot.running.join(max(0.0, begun + self._budget - self._clock()))
                fresh.append(self._received(slot))
        return [reading for reading in fresh if reading is not None]

    def _start(self, slot: _Slot, now: float, monotonic: float) -> None:
        def run() -> None:
            slot.inbox.append(_run(slot.collector, slot.is_open, self._clock, now, monotonic))

        thread = threading.Thread(target=run, name=f"collect-{slot.collector.name}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no room for a thread (pids limit): costs this collector only
            self._settled(slot, _Outcome(0.0, error=str(error)))
        else:
            slot.running = thread

    def _received(self, slot: _Slot) -> Reading | None:
        if not slot.inbox:
            return None
        slot.running = None
        return self._settled(slot, slot.inbox.pop())

    def _settled(self, slot: _Slot, outcome: _Outcome) -> Reading | None:
        before, slot.outcome = slot.outcome, outcome
        slot.is_open = outcome.reading is not None
        if outcome.error and (before is None or before.error != outcome.error):
            logs.event(self._log, "collector failed", logging.WARNING, collector=slot.collector.name,
                       error=outcome.error)
        elif before is not None and before.error and not outcome.error:
            logs.event(self._log, "collector fails no more", collector=slot.collector.name,
                       reason=outcome.reason or "it works")
        return outcome.reading

    def _watch(self, slot: _Slot, is_stuck: bool) -> None:
        if is_stuck != slot.is_stuck:
            slot.is_stuck = is_stuck
            text = "collector does not answer" if is_stuck else "collector answers again"
            logs.event(self._log, text, logging.WARNING if is_stuck else logging.INFO, collector=slot.collector.name)

    def _merged(self, monotonic: float) -> dict[str, float]:
        metrics: dict[str, float] = {}
        health: dict[str, float] = {}
        for slot in self._slots:
            outcome = slot.outcome
            self._watch(slot, slot.is_overdue(monotonic))
            if slot.is_stuck:
                health[slot.up_name] = 0
            elif outcome is not None and not outcome.reason:
                health[slot.up_name] = int(outcome.reading is not None)
                health[slot.seconds_name] = round(outcome.seconds, 4)
                if outcome.reading is not None:
                    metrics.update(outcome.reading.metrics)
        metrics.update(health)
        return {name: value for name, value in metrics.items() if math.isfinite(value)}

    def _bounded(self, metrics: dict[str, float]) -> dict[str, float]:
        """At most what a sample may carry: core metrics first, single CPUs last, else in their order."""
        room = MAX_METRICS - RESERVED
        if len(metrics) <= room:
            return metrics
        if not self._is_cut:
            self._is_cut = True
            logs.event(self._log, "more metrics than a sample may carry; the last instances are left out",
                       logging.WARNING, metrics=len(metrics), limit=room)
        ordered = sorted(metrics, key=lambda name: (name not in _CORE, name.startswith("cpu.core_percent{")))
        return {name: metrics[name] for name in ordered[:room]}


def _run(collector: Collector, is_open: bool, clock: Callable[[], float], now: float, monotonic: float) -> _Outcome:
    begun = clock()
    try:
        reason = None if is_open else collector.open()
        if reason:
            return _Outcome(clock() - begun, reason=reason)
        reading = collector.collect(now, monotonic)
        return _Outcome(clock() - begun, reading=reading)
    except Exception as error:
        with contextlib.suppress(Exception):
            collector.close()
        return _Outcome(clock() - begun, error=f"{type(error).__name__}: {error}"[:500])


def _state(slot: _Slot) -> CollectorState:
    outcome = slot.outcome
    name, interval = slot.collector.name, slot.collector.interval
    if slot.is_stuck or outcome is None:
        reason = "not asked yet" if slot.running is None else "it does not answer"
        return CollectorState(name=name, up=False, reason=reason, interval=interval)
    return CollectorState(name=name, up=outcome.reading is not None, reason=(outcome.reason or outcome.error)[:500],
                          interval=interval)
