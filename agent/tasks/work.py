"""One execution in a thread of its own, so that neither the disk nor a program nor Docker ever delays a tick.

1. The start is written to the journal, and the disk waited for: from then on the execution never begins again.
2. The job runs. It looks at `control` for being asked to stop.
3. The end is written, and only then seen by the loop.
"""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from typing import Literal

from msgspec import structs

from agent.tasks.journal import Entry
from shared import logs

End = Literal["completed", "failed", "cancelled", "timed_out", "rejected"]
MAX_REASON = 500


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended."""

    state: End
    reason: str = ""
    exit_code: int | None = None
    output: str = ""


class Control:
    """How the loop asks a job to stop, and how a job names its process group."""

    def __init__(self, note: Callable[[int], None] = lambda _pid: None) -> None:
        self.asked: Outcome | None = None
        self.note = note

    def ask(self, state: End, reason: str) -> None:
        """Stop, and end with this; the first one asked counts."""
        if self.asked is None:
            self.asked = Outcome(state, reason)


Job = Callable[[Control], Outcome]


class Work:
    """One execution under way. `entry` is what is known of it; `is_done` once it has ended."""

    def __init__(self, entry: Entry, job: Job, write: Callable[[Entry], None], read_start: Callable[[int], int],
                 wall: Callable[[], float] = time.time) -> None:
        """`write` stores an entry durably; `read_start` tells when a process began."""
        self.entry, self._job, self._write, self._read_start, self._wall = entry, job, write, read_start, wall
        self.control = Control(self._note)
        self.is_done = False
        self._thread = threading.Thread(target=self._run, name=f"task-{entry.task}", daemon=True)

    def start(self) -> None:
        """Begin; where there is no room for a thread the execution fails."""
        try:
            self._thread.start()
        except RuntimeError as error:
            self._end(Outcome("failed", str(error)))

    def join(self, seconds: float) -> None:
        """Wait for the end."""
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        started_at = round(self._wall(), 3)
        begun = structs.replace(self.entry, state="running", at=started_at, started_at=started_at)
        try:
            self._write(begun)
        except OSError as error:
            self._end(Outcome("rejected", f"the journal cannot be written: {error.strerror}"))
            return
        self.entry = begun
        self._end(self._outcome())

    def _outcome(self) -> Outcome:
        try:
            return self.control.asked or self._job(self.control)
        except Exception as error:
            return Outcome("failed", f"{type(error).__name__}: {error}")

    def _note(self, pid: int) -> None:
        """Remember the process group, so that the next agent can end what this one leaves behind."""
        noted = structs.replace(self.entry, pid=pid, pid_start=self._read_start(pid))
        try:
            self._write(noted)
        except OSError as error:
            _say(noted, error)
        self.entry = noted

    def _end(self, outcome: Outcome) -> None:
        now = round(self._wall(), 3)
        ended = structs.replace(self.entry, state=outcome.state, reason=outcome.reason[:MAX_REASON], at=now, ended_at=now,
                                exit_code=outcome.exit_code, output=outcome.output, pid=0)
        try:
            self._write(ended)
        except OSError as error:
            _say(ended, error)
        self.entry = ended
        self.is_done = True


def _say(entry: Entry, error: OSError) -> None:
    logs.event(logs.get("tasks"), "the journal of tasks cannot be written", logging.ERROR, execution=entry.execution,
               error=error.strerror)
