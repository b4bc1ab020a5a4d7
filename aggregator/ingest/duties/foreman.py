"""The thread that takes executions of type maintenance and sees them through, so that the beat never waits for one.

1. A duty waits: a connection is opened for its work and takes the duty's lock. Held by another: that one is at it.
2. The longest waiting execution of the duty is claimed: its row is now ours for a minute.
3. A second thread works. Meanwhile this one renews the lease every 10 s, and looks every second whether the execution is still
   wanted; if it is cancelled, has run for longer than its time-out, is no longer ours, or ingest stops, the work is broken off.
4. What came of it is written; where the database is away, once it is back. A result for a row that the scheduler has given up
   meanwhile corrects it, marked late.
"""

import logging
import secrets
import threading
import time
from pathlib import Path

from aggregator.ingest.duties import works
from aggregator.store import backup, default_schedules, duties
from aggregator.store.duties import Claimed, End, Ended
from shared import database, logs
from shared.database import Connection
from shared.duties import DutyError
from shared.wire import MAX_OUTPUT_CHARACTERS

log = logs.get("duties")

POLL_SECONDS = 1.0
RENEW_SECONDS = 10.0
BUSY_SECONDS = 5.0
"""After which a duty that another process is doing is looked at again."""
STOP_SECONDS = 5.0
STOPPED = "ingest was stopped while it ran"


class Foreman:
    """Takes up duties from `start` until `close`."""

    def __init__(self, database_url: str, output: Path | None) -> None:
        self._url, self._output = database_url, output
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._owed: list[Ended] = []
        self._busy: dict[str, float] = {}

    def start(self) -> None:
        """Begin, unless it has begun."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="duties", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Break off what is at work, say so in its row, and end."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(2 * STOP_SECONDS)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                with database.open_connection(self._url, "drumbeat-duties") as connection:
                    default_schedules.ensure(connection, has_output=self._output is not None)
                    self._watch(connection)
            except database.Unavailable as error:
                logs.event(log, "database went away", logging.WARNING, error=str(error).strip().partition("\n")[0])
                self._closing.wait(POLL_SECONDS)
            except Exception:
                log.exception("upkeep failed, it goes on")
                self._closing.wait(10 * POLL_SECONDS)

    def _watch(self, connection: Connection) -> None:
        while True:
            while self._owed:
                self._write(connection, self._owed[0])
                self._owed.pop(0)
            if self._closing.wait(POLL_SECONDS):
                return
            for duty in duties.fetch_waiting(connection):
                if time.monotonic() >= self._busy.get(duty, 0.0) and not self._closing.is_set():
                    self._take(connection, duty)

    def _take(self, connection: Connection, duty: str) -> None:
        executor = f"{duties.WORKER}{secrets.token_hex(8)}"
        with database.open_connection(self._url, executor) as working:
            if not duties.lock(working, duty):
                self._busy[duty] = time.monotonic() + BUSY_SECONDS
                if duties.end_stopped(connection, duty):
                    logs.event(log, "a worker that was stopped is ended", logging.WARNING, duty=duty)
                return
            claimed = duties.claim(connection, executor, duty)
            if claimed is not None:
                logs.event(log, "duty begins", duty=duty, execution=claimed.id, schedule=claimed.schedule)
                ended = self._see_through(connection, Work(claimed, works.Job(working, self._output, threading.Event())))
                if ended is not None:
                    self._owed.append(ended)

    def _see_through(self, connection: Connection, work: "Work") -> Ended | None:
        """Watch over the work until it is over; what came of it, None where that is nobody's business any more."""
        begin = renewed_at = time.monotonic()
        work.start()
        try:
            while not work.join(POLL_SECONDS if not self._closing.is_set() else 0.1):
                now = time.monotonic()
                if self._closing.is_set():
                    work.break_off("failed", STOPPED)
                elif now - begin > work.claimed.timeout:
                    work.break_off("timed_out", f"it took longer than {work.claimed.timeout:g} s")
                elif (standing := duties.fetch_standing(connection, work.claimed)) == "cancelling":
                    work.break_off("cancelled", "")
                elif standing == "gone":
                    work.break_off("failed", "it was given up meanwhile")
                if now - renewed_at >= RENEW_SECONDS:
                    renewed_at = now
                    duties.renew(connection, work.claimed)
        except database.Unavailable:
            work.break_off("failed", "the database went away")
            work.join(STOP_SECONDS)
            if (ended := work.ended()) is not None:
                self._owed.append(ended)
            raise
        return work.ended()

    def _write(self, connection: Connection, ended: Ended) -> None:
        is_written = duties.write_end(connection, ended)
        logs.event(log, f"duty {ended.state}", logging.INFO if ended.state == "completed" else logging.WARNING,
                   execution=ended.id, error=ended.error, said=ended.output.partition("\n")[0][:200], too_late=not is_written)


class Work:
    """The work on one execution, on a thread of its own."""

    def __init__(self, claimed: Claimed, job: works.Job) -> None:
        self.claimed, self._job = claimed, job
        self._outcome: tuple[End, str, str] | None = None
        self._broken_off: tuple[End, str] | None = None
        self._thread = threading.Thread(target=self._run, name=f"duty-{claimed.duty}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, seconds: float) -> bool:
        """Wait for the end of the work; whether it is over."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def break_off(self, state: End, error: str) -> None:
        """End the work: what it asks of the database is cancelled, and it is told."""
        self._broken_off = self._broken_off or (state, error)
        self._job.stop.set()
        try:
            self._job.connection.cancel_safe(timeout=STOP_SECONDS)
        except database.Unavailable:
            self._job.connection.close()

    def ended(self) -> Ended | None:
        """What came of it; None while it is not over."""
        if self._outcome is None:
            return None
        state, output, error = self._outcome
        return Ended(self.claimed.id, self.claimed.executor, state, _clean(output), _clean(error)[:1000])

    def _run(self) -> None:
        outcome = self._do()
        if self._broken_off is not None and outcome[0] != "completed":
            outcome = self._broken_off[0], "", self._broken_off[1]
        self._outcome = outcome

    def _do(self) -> tuple[End, str, str]:
        try:
            return "completed", works.run(self._job, self.claimed.duty, self.claimed.arguments), ""
        except (DutyError, backup.BackupError) as error:
            return "failed", "", str(error)
        except OSError as error:
            return "failed", "", f"{error.filename or 'a file'}: {error.strerror or error}"
        except Exception as error:
            if self._broken_off is None and not isinstance(error, database.Unavailable):
                log.exception("duty failed")
            return "failed", "", _first_line(error)


def _first_line(error: Exception) -> str:
    return logs.redact((str(error).strip().splitlines() or [type(error).__name__])[0])


def _clean(text: str) -> str:
    """A text that Postgres takes."""
    return text.replace("\0", "\\0").encode(errors="replace").decode()[:MAX_OUTPUT_CHARACTERS]
