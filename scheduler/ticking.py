"""When the scheduler's loop wakes: once a second, and at the moment the next thing is due. In memory; nothing is lost with it.

APScheduler keeps the time and rings; the loop does the work. It goes by the clock on the wall: when that jumps, it is started
anew, or an hour put back would be an hour of sleep.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Self

TICK_SECONDS = 1.0
TRIM_SECONDS = 60.0
JUMP_SECONDS = 0.5
SOONEST_SECONDS = 0.02


class Bell:
    """Rung by any thread; the loop waits for `wake`, a descriptor, and takes what was rung for."""

    def __init__(self) -> None:
        self.wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._rung: set[str] = set()

    def ring(self, name: str) -> None:
        with self._lock:
            if self.wake >= 0:
                self._rung.add(name)
                os.eventfd_write(self.wake, 1)

    def take(self) -> set[str]:
        """What was rung for since the last time."""
        with self._lock:
            rung, self._rung = self._rung, set()
            if rung:
                os.eventfd_read(self.wake)
        return rung

    def close(self) -> None:
        """Rings come to nothing from now on."""
        with self._lock:
            os.close(self.wake)
            self.wake = -1


class Ticker:
    """Rings `tick` every second, `due` when it is armed for, and calls `trim` every minute, on a thread of its own."""

    def __init__(self, bell: Bell, trim: Callable[[], None]) -> None:
        self._bell, self._trim = bell, trim
        self._apscheduler: Any = None
        self._armed_for = 0.0
        self._offset = 0.0

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._apscheduler.shutdown(wait=False)

    def arm(self, seconds: float) -> None:
        """Ring `due` in so many seconds; what the next tick sees early enough needs no ring."""
        at = time.monotonic() + max(seconds, SOONEST_SECONDS)
        if seconds > TICK_SECONDS or abs(at - self._armed_for) < 0.001:
            return
        self._armed_for = at
        self._apscheduler.add_job(self._bell.ring, "date", ["due"], id="due", replace_existing=True,
                                  run_date=datetime.now(UTC) + timedelta(seconds=at - time.monotonic()))

    def follow_clock(self) -> bool:
        """Start anew where the clock on the wall has jumped; whether it has."""
        if abs(time.time() - time.monotonic() - self._offset) < JUMP_SECONDS:
            return False
        self._apscheduler.shutdown(wait=False)
        self._start()
        return True

    def _start(self) -> None:
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        from apscheduler.executors.pool import ThreadPoolExecutor

        self._offset, self._armed_for = time.time() - time.monotonic(), 0.0
        made = _scheduler_class()(
            executors={"default": ThreadPoolExecutor(1), "trim": ThreadPoolExecutor(1)}, timezone=UTC,
            job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1})
        made.add_job(self._bell.ring, "interval", ["tick"], seconds=TICK_SECONDS)
        made.add_job(self._trim, "interval", seconds=TRIM_SECONDS, executor="trim")
        made.start()
        self._apscheduler = made
        self._bell.ring("tick")


def _scheduler_class() -> Any:
    """APScheduler's, which lives on where a job that has run is no longer known: it is stopped at that moment (#109)."""
    from apscheduler.jobstores.base import JobLookupError
    from apscheduler.schedulers.background import BackgroundScheduler

    class Steadfast(BackgroundScheduler):  # type: ignore[misc]
        def remove_job(self, job_id: str, jobstore: str | None = None) -> None:
            with contextlib.suppress(JobLookupError):
                super().remove_job(job_id, jobstore)

    return Steadfast
