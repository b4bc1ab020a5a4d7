"""Notifications that are due, on a pool of threads; what came of each attempt, and when the next one is.

The threads only send; the database is spoken to by the thread that calls `Deliveries`. A channel has few attempts under way at
once and each attempt has a time limit, so that a dead channel delays nobody else.
"""

import dataclasses
import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import msgspec

from aggregator.analysis import notices
from aggregator.notify.gauges import Gauges
from aggregator.notify.guard import Guard
from aggregator.notify.sending import Attempt, SendingError, send
from aggregator.store import notification_groups, notifications
from aggregator.store.notifications import Due
from shared import logs
from shared.database import Connection

log = logs.get("notifier")

PER_CHANNEL = 2
LIMIT_SECONDS = 30.0
RETRY_SECONDS = (30.0, 120.0, 480.0, 1800.0, 1800.0)
GIVE_UP_SECONDS = 4 * 3600.0
TELL_AFTER_ATTEMPTS = 3
"""So many attempts must have failed before other channels hear of it: most failures are over by then."""


def next_attempt(attempts: int, created_at: float, now: float, draw: float) -> float | None:
    """When to try again after so many attempts, give or take a fifth (`draw` is 0 to 1); None: give up. Pure."""
    if attempts > len(RETRY_SECONDS):
        return None
    at = now + RETRY_SECONDS[attempts - 1] * (0.8 + 0.4 * draw)
    return at if at - created_at < GIVE_UP_SECONDS else None


@dataclasses.dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of an attempt: the error, empty where it was delivered."""

    seconds: float
    error: str = ""
    is_final: bool = False


@dataclasses.dataclass(slots=True)
class _Running:
    due: Due
    guard: Guard
    started: float | None = None


class Deliveries:
    """Attempts under way in this process."""

    def __init__(self, gauges: Gauges, clock: Callable[[], float], *, public_url: str = "", allow_private: bool = False,
                 workers: int = 16, limit_seconds: float = LIMIT_SECONDS) -> None:
        self._gauges, self._clock, self._public_url, self._allow_private = gauges, clock, public_url, allow_private
        self._workers, self._limit = workers, limit_seconds
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="deliver")
        self._running: dict[Future[_Outcome], _Running] = {}

    @property
    def under_way(self) -> int:
        return len(self._running)

    def start(self, connection: Connection) -> int:
        """Take what is due and begin with it; how many."""
        room = self._workers - len(self._running)
        if room <= 0:
            return 0
        busy = Counter(running.due.channel for running in self._running.values())
        taken = notifications.claim(connection, self._clock(), room, busy, PER_CHANNEL)
        for due in taken:
            running = _Running(due, Guard(allow_private=self._allow_private))
            self._running[self._pool.submit(self._attempt, running)] = running
        return len(taken)

    def collect(self, connection: Connection, timeout: float) -> int:
        """Wait for the first attempt to end, at most `timeout` s, and write down what came of all that ended; how many."""
        self._cut_late()
        ended, _ = wait(self._running, timeout, FIRST_COMPLETED)
        for future in ended:
            self._settle(connection, self._running[future].due, future.result())
            del self._running[future]
        return len(ended)

    def stop(self, connection: Connection | None) -> None:
        """Cut what is under way off; what had not begun is due again at once."""
        for future, running in list(self._running.items()):
            if future.cancel() and connection is not None:
                notifications.give_back(connection, running.due.number, self._clock())
                del self._running[future]
            running.guard.cut()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _cut_late(self) -> None:
        now = time.monotonic()
        for running in self._running.values():
            if running.started is not None and now - running.started > self._limit:
                running.guard.cut()

    def _attempt(self, running: _Running) -> _Outcome:
        running.started = started = time.monotonic()
        due = running.due
        if due.definition is None or due.target is None:
            return _Outcome(0.0, "the channel was deleted", is_final=True)
        if not due.definition.enabled:
            return _Outcome(0.0, "the channel is disabled", is_final=True)
        try:
            content = msgspec.json.decode(due.content, type=notices.Content)
            send(Attempt(due.number, due.definition, due.target, content, self._public_url, self._clock()), running.guard)
        except SendingError as error:
            return _Outcome(time.monotonic() - started, str(error), error.is_final)
        except Exception as error:  # one notification that cannot be sent must not stop the others
            logs.event(log, "attempt failed unexpectedly", logging.ERROR, channel=due.channel, exc_info=True)
            return _Outcome(time.monotonic() - started, f"internal error: {type(error).__name__}")
        return _Outcome(time.monotonic() - started)

    def _settle(self, connection: Connection, due: Due, outcome: _Outcome) -> None:
        now = self._clock()
        self._gauges.attempts.labels(due.channel, "failed" if outcome.error else "delivered").inc()
        self._gauges.seconds.observe(outcome.seconds)
        with connection.transaction():
            notifications.write_attempt(connection, due.number, now, outcome.seconds, outcome.error)
            if not outcome.error:
                self._delivered(connection, due, now)
            else:
                self._failed(connection, due, outcome, now)

    def _delivered(self, connection: Connection, due: Due, now: float) -> None:
        notifications.finish(connection, due.number, "delivered", now)
        if notifications.mark_channel_well(connection, due.channel, now):
            logs.event(log, "channel works again", channel=due.channel)

    def _failed(self, connection: Connection, due: Due, outcome: _Outcome, now: float) -> None:
        at = None if outcome.is_final else next_attempt(due.attempts, due.created_at, now, random.random())  # noqa: S311 (jitter)
        if at is None:
            notifications.finish(connection, due.number, "failed", now)
        else:
            notifications.postpone(connection, due.number, at)
        logs.event(log, "not delivered", logging.WARNING, notification=due.number, channel=due.channel, attempt=due.attempts,
                   error=outcome.error, again="no" if at is None else f"in {at - now:.0f} s")
        if due.definition is None or not due.definition.enabled:
            return
        since = notifications.mark_channel_failing(connection, due.channel, outcome.error, now)
        is_serious = at is None or due.attempts >= TELL_AFTER_ATTEMPTS
        if since is not None and is_serious and due.kind not in ("channel", "test"):
            _tell_others(connection, due, since, outcome.error, now)


def _tell_others(connection: Connection, due: Due, since: float, error: str, now: float) -> None:
    """Tell the other channels of the route that one fails, once as long as it does."""
    route = dict(notification_groups.fetch_routes(connection)).get(due.route)
    channels = notification_groups.fetch_channels(connection)
    others = [name for name in (route.channels if route else []) if name != due.channel and name in channels
              and channels[name][0].enabled and not channels[name][1]]
    if not others or notifications.is_channel_told(connection, due.channel, since):
        return
    content = msgspec.json.encode(notices.channel_content(due.channel, since, error, now))
    for name in others:
        notifications.write(connection, name, due.route, "channel", [], content, now)
