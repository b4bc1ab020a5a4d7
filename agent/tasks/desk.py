"""What runs, what waits, and what is refused.

1. A request of a known execution is answered with its state; it never runs twice.
2. A new one is judged: too late, not allowed, wrong arguments, too soon after the last, too many waiting → refused.
3. Accepted, it waits for its place: one at a time of each task, four in all.
4. It runs in a thread, is told every 10 s (as it was while it waited), and asked to stop when its time is up or it is cancelled.
5. Its end is told until it is acknowledged. What was under way when the agent died has failed.
"""

import contextlib
import dataclasses
import logging
import os
import signal
import time
from collections.abc import Callable
from typing import Literal

from msgspec import structs

from agent.tasks.allowed import AllowedTasks
from agent.tasks.arguments import Refusal
from agent.tasks.door import Publish
from agent.tasks.entries import TasksError
from agent.tasks.journal import MAX_ENTRIES, Entry, Journal
from agent.tasks.planning import Plan, plan
from agent.tasks.signalling import read_start
from agent.tasks.telling import Telling
from agent.tasks.work import Work
from shared import logs, wire

MOST_AT_ONCE = 4
MOST_WAITING = 64
BEAT_SECONDS = 10.0
LOOK_SECONDS = 0.25
CLOSING_SECONDS = 7.0
UPKEEP_SECONDS = 3600.0
FULL_ENTRIES = MAX_ENTRIES + 200


@dataclasses.dataclass(slots=True)
class _Live:
    """One execution under way. Times are monotonic."""

    work: Work
    stop_at: float
    timeout: float
    beat_at: float = 0.0


class Desk:
    """All executions of one host; use from one thread."""

    def __init__(self, host: str, allowed: AllowedTasks, journal: Journal, *, boot_id: str = "",
                 docker_socket: str = "/var/run/docker.sock", wall: Callable[[], float] = time.time,
                 monotonic: Callable[[], float] = time.monotonic) -> None:
        self._allowed, self._journal, self._boot_id, self._docker_socket = allowed, journal, boot_id, docker_socket
        self._wall, self._monotonic = wall, monotonic
        self._telling = Telling(host, journal)
        self._waiting: dict[str, Plan] = {}
        self._live: dict[str, _Live] = {}
        self._upkeep_at = self._waiting_beat_at = 0.0
        self._log = logs.get("tasks")
        self._tell_what_is_allowed()
        for entry in [one for one in journal.entries.values() if not one.has_ended]:
            self._close_left_behind(entry)

    def received(self, payload: bytes) -> None:
        """A message on `down/task`."""
        try:
            task = wire.decode(wire.Task, payload)
        except wire.WireError as error:
            logs.event(self._log, "unusable task", logging.WARNING, error=error)
            return
        if task.action == "run":
            self._run(task)
        elif task.action == "cancel":
            self._cancel(task)
        else:
            self._acknowledge(task.execution)

    def connected(self) -> None:
        """A connection was made."""
        self._telling.connected()

    def step(self, publish: Publish) -> None:
        """Look at what runs, begin what waits, tell what is due."""
        now = self._monotonic()
        for execution, live in list(self._live.items()):
            self._attend(execution, live, now)
        self._begin_waiting(now)
        self._beat_waiting(now)
        self._telling.step(publish, self._wall(), now)
        if now >= self._upkeep_at or len(self._journal.entries) > FULL_ENTRIES:
            self._journal.forget_old(self._wall())
            self._upkeep_at = now + UPKEEP_SECONDS

    def wait(self) -> float:
        """Seconds until there may be something to do, if nothing arrives."""
        return LOOK_SECONDS if self._live or self._waiting else self._telling.wait(self._monotonic())

    def close(self, publish: Publish) -> None:
        """Stop what runs, wait a moment for it, and tell it."""
        for execution in list(self._waiting):
            del self._waiting[execution]
            self._end(execution, "failed", "agent stopped")
        for live in self._live.values():
            live.work.control.ask("failed", "agent stopped")
        deadline = self._monotonic() + CLOSING_SECONDS
        for live in self._live.values():
            live.work.join(max(0.0, deadline - self._monotonic()))
        self.step(publish)

    def _run(self, task: wire.Task) -> None:
        if task.execution in self._journal.entries:
            logs.event(self._log, "task requested again", logging.DEBUG, execution=task.execution, task=task.task)
        else:
            self._decide(task)
        self._telling.tell(task.execution)

    def _decide(self, task: wire.Task) -> None:
        now = round(self._wall(), 3)
        entry = Entry(execution=task.execution, task=task.task, state="accepted", at=now, boot_id=self._boot_id)
        try:
            accepted = self._judged(task, now)
            if problem := self._journal.put(entry):
                raise Refusal(problem)
        except Refusal as refusal:
            logs.event(self._log, "task refused", logging.WARNING, execution=task.execution, task=task.task, reason=refusal)
            self._journal.put(structs.replace(entry, state="rejected", ended_at=now, reason=str(refusal)[:500]))
            return
        self._waiting[task.execution] = accepted
        logs.event(self._log, "task accepted", execution=task.execution, task=task.task, attempt=task.attempt)

    def _judged(self, task: wire.Task, now: float) -> Plan:
        if task.not_after and now > task.not_after:
            raise Refusal(f"not_after: it came {now - task.not_after:.0f} s too late")
        if self._allowed.is_disabled():
            raise Refusal("tasks are disabled on this host: the file tasks.disabled lies beside the tasks file")
        if self._journal.problem:
            raise Refusal(self._journal.problem)
        try:
            made = plan(task, self._allowed.read(), self._docker_socket)
        except TasksError as error:
            raise Refusal(str(error)) from None
        last = max((one.started_at or one.at for one in self._journal.entries.values()
                    if one.task == task.task and (one.started_at or not one.has_ended)), default=0.0)
        if made.min_interval and 0 <= now - last < made.min_interval:
            raise Refusal(f"task: {task.task} ran {now - last:.0f} s ago; at most once in {made.min_interval:.0f} s")
        if len(self._waiting) >= MOST_WAITING:
            raise Refusal(f"{MOST_WAITING} tasks wait already")
        return made

    def _begin_waiting(self, now: float) -> None:
        busy = {live.work.entry.task for live in self._live.values()}
        for execution, waiting in list(self._waiting.items()):
            if waiting.task in busy or len(self._live) >= MOST_AT_ONCE:
                continue
            del self._waiting[execution]
            if waiting.not_after and self._wall() > waiting.not_after:
                self._end(execution, "rejected", "not_after: its time passed while it waited for its place")
            elif self._allowed.is_disabled():
                self._end(execution, "rejected", "tasks were disabled on this host while it waited for its place")
            else:
                busy.add(waiting.task)
                self._begin(execution, waiting, now)

    def _beat_waiting(self, now: float) -> None:
        """What waits for its place is told too, or else it would be taken for lost."""
        if now >= self._waiting_beat_at:
            self._waiting_beat_at = now + BEAT_SECONDS
            for execution in self._waiting:
                self._telling.tell(execution)

    def _begin(self, execution: str, waiting: Plan, now: float) -> None:
        work = Work(self._journal.entries[execution], waiting.job, self._journal.write, read_start, self._wall)
        self._live[execution] = _Live(work, now + waiting.timeout, waiting.timeout)
        work.start()

    def _attend(self, execution: str, live: _Live, now: float) -> None:
        entry = live.work.entry
        if live.work.is_done:
            del self._live[execution]
            entry = live.work.entry
            self._journal.saw(entry)
            self._telling.tell(execution)
            logs.event(self._log, "task ended", execution=execution, task=entry.task, state=entry.state, reason=entry.reason)
            return
        if now >= live.stop_at:
            live.work.control.ask("timed_out", f"no end within {live.timeout:g} s")
        if entry.state == "running" and now >= live.beat_at:
            self._journal.saw(entry)
            self._telling.tell(execution)
            live.beat_at = now + BEAT_SECONDS

    def _cancel(self, task: wire.Task) -> None:
        execution = task.execution
        logs.event(self._log, "task to be cancelled", execution=execution)
        if execution in self._live:
            self._live[execution].work.control.ask("cancelled", "cancelled")
        elif self._waiting.pop(execution, None) is not None:
            self._end(execution, "cancelled", "cancelled before it began")
        elif execution not in self._journal.entries:
            now = round(self._wall(), 3)
            self._journal.put(Entry(execution=execution, task=task.task, state="cancelled", at=now, ended_at=now,
                                    reason="cancelled before it was known"))
        self._telling.tell(execution)

    def _acknowledge(self, execution: str) -> None:
        entry = self._journal.entries.get(execution)
        if entry is not None and entry.has_ended and not entry.is_acknowledged:
            self._journal.put(structs.replace(entry, is_acknowledged=True))

    def _end(self, execution: str, state: Literal["failed", "cancelled", "rejected"], reason: str) -> None:
        now = round(self._wall(), 3)
        entry = self._journal.entries[execution]
        self._journal.put(structs.replace(entry, state=state, reason=reason, at=now, ended_at=now, pid=0))
        self._telling.tell(execution)
        logs.event(self._log, "task ended", execution=execution, task=entry.task, state=state, reason=reason)

    def _close_left_behind(self, entry: Entry) -> None:
        """What a former agent had begun has failed; its processes are ended, where they are surely the same."""
        if entry.pid and entry.boot_id == self._boot_id and read_start(entry.pid) == entry.pid_start != 0:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(entry.pid, signal.SIGKILL)
        self._end(entry.execution, "failed", "agent restarted")

    def _tell_what_is_allowed(self) -> None:
        try:
            file = self._allowed.read()
        except TasksError as error:
            logs.event(self._log, "tasks are refused", logging.WARNING, reason=error)
            return
        names = [*file.task, *(name for name in structs.asdict(file.builtin) if file.find(name) is not None)]
        logs.event(self._log, "tasks are allowed", tasks=",".join(names) or "none")
