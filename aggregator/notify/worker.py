"""`drumbeat notifier` as a whole: wait for the database, route and deliver, and start over when the database goes away.

Any number may run: one of them routes at a time, and each notification is delivered by the one that takes it. Nothing is kept in
memory that would be missed after a kill -9: then the attempt that was under way is made again, with the same id.
"""

import logging
import time
from collections.abc import Callable, Mapping

from aggregator.notify import routing
from aggregator.notify.delivering import Deliveries
from aggregator.notify.gauges import Gauges
from aggregator.store import notifications
from shared import database, logs

log = logs.get("notifier")

BEAT_SECONDS = 0.5
BACKLOG_SECONDS = 5.0
STALL_SECONDS = 60.0
LEAVE_SECONDS = 10.0


class Worker:
    """One notifier process."""

    def __init__(self, database_url: str, *, public_url: str = "", allow_private: bool = False, workers: int = 16,
                 clock: Callable[[], float] = time.time) -> None:
        self._url, self._clock, self._public_url = database_url, clock, public_url.rstrip("/")
        self._allow_private, self._workers = allow_private, workers
        self._is_stopping, self._is_working = False, False
        self._alive_at = time.monotonic()
        self._counted_at = 0.0
        self._has_hinted = False
        self.gauges = Gauges()

    def stop(self) -> None:
        """Finish what is under way and return from `run`."""
        self._is_stopping = True

    def live(self) -> Mapping[str, str]:
        stalled = time.monotonic() - self._alive_at
        return {"loop": f"no beat for {stalled:.0f} s" if stalled > STALL_SECONDS else ""}

    def ready(self) -> Mapping[str, str]:
        return {"database": "" if self._is_working else "waiting for the database"}

    def run(self) -> None:
        """Until `stop`. Only what nothing can be done about leaves it as an exception."""
        database.keep_working(self._url, "drumbeat-notifier", self._work, self._has_to_stop, log)

    def _has_to_stop(self) -> bool:
        self._alive_at = time.monotonic()
        return self._is_stopping

    def _work(self, connection: database.Connection) -> None:
        deliveries, is_lost = self.deliveries(), True
        try:
            self._is_working = True
            while not self._has_to_stop():
                self.beat(connection, deliveries)
            until = time.monotonic() + LEAVE_SECONDS
            while deliveries.under_way and time.monotonic() < until:
                deliveries.collect(connection, BEAT_SECONDS)
            is_lost = False
        finally:
            self._is_working = False
            deliveries.stop(None if is_lost else connection)

    def deliveries(self) -> Deliveries:
        """A pool of attempts with the settings of this process."""
        return Deliveries(self.gauges, self._clock, public_url=self._public_url, allow_private=self._allow_private,
                          workers=self._workers)

    def beat(self, connection: database.Connection, deliveries: Deliveries) -> None:
        """Route, begin with what is due, and write down what has ended."""
        passed = routing.route(connection, self._clock())
        self.gauges.events.inc(passed.events)
        self.gauges.notifications.inc(passed.notifications)
        if passed.has_no_route and not self._has_hinted:
            self._has_hinted = True
            logs.event(log, "there are alerts, and nobody is notified: there is no route", logging.WARNING,
                       mend="make a channel and a route: POST /api/v1/notification-channels, /api/v1/notification-routes")
        started = deliveries.start(connection)
        ended = deliveries.collect(connection, 0.0 if passed.is_full or not deliveries.under_way else BEAT_SECONDS)
        if not (passed.is_full or started or ended or deliveries.under_way):
            time.sleep(BEAT_SECONDS)
        if time.monotonic() - self._counted_at > BACKLOG_SECONDS:
            self._counted_at = time.monotonic()
            self.gauges.show(notifications.fetch_backlog(connection, self._clock()))
