"""`drumbeat scheduler` as a whole: wait for the database, take the steps as they are due, start over when the database goes away.

Any number may run; each takes what no other has in its hands. Nothing is kept in memory that would be missed after a kill -9.
"""

import logging
import secrets
import time
from collections.abc import Callable, Mapping

from scheduler.gauges import Gauges
from scheduler.hearing import Ears
from scheduler.rounds import Rounds
from scheduler.store import glance, history
from scheduler.store.glance import Glance
from scheduler.telling import Teller
from scheduler.ticking import Bell, Ticker
from shared import database, logs
from shared.bus import Broker, Client, Tls
from shared.topics import Topics

log = logs.get("scheduler")

NAME = "drumbeat-scheduler"
STALL_SECONDS = 60.0
POLL_SECONDS = 1.0
CONFIRM_SECONDS = 0.2
BACKLOG_SECONDS = 5.0
ALL_SECONDS = 3600.0
RECENT_SECONDS = 300.0
LEAVE_SECONDS = 2.0
PUSH_SECONDS = 0.1


class Service:
    """One scheduler process."""

    def __init__(self, database_url: str, brokers: tuple[Broker, ...], tls: Tls, topics: Topics, *, host: str,
                 max_due: int = 250) -> None:
        """`host`: whom alerts about executions without a host are told of."""
        self._url, self._brokers, self._tls, self._topics = database_url, brokers, tls, topics
        self._host, self._max_due = host, max_due
        self._is_stopping, self._is_working = False, False
        self._alive_at = time.monotonic()
        self._confirmed_at = self._counted_at = 0.0
        self._trimmed_all_at = float("-inf")
        self._client: Client | None = None
        self.gauges = Gauges()

    def stop(self) -> None:
        """Finish the step under way and return from `run`."""
        self._is_stopping = True

    def live(self) -> Mapping[str, str]:
        stalled = time.monotonic() - self._alive_at
        return {"loop": f"no beat for {stalled:.0f} s" if stalled > STALL_SECONDS else ""}

    def ready(self) -> Mapping[str, str]:
        client = self._client
        is_connected = client is not None and client.is_connected
        return {"database": "" if self._is_working else "waiting for the database",
                "broker": "" if is_connected else f"not connected {client.last_error if client else ''}".strip()}

    def run(self) -> None:
        """Until `stop`. Only what nothing can be done about leaves it as an exception."""
        database.keep_working(self._url, NAME, self._work, self._has_to_stop, log)

    def _has_to_stop(self) -> bool:
        self._alive_at = time.monotonic()
        return self._is_stopping

    def _work(self, connection: database.Connection) -> None:
        ears, bell = Ears(self._topics, self.gauges), Bell()
        client = self._client = Client(self._brokers, f"scheduler-{secrets.token_hex(16)}", ears.on_message, tls=self._tls,
                                       subscriptions=ears.filters(), max_delay=5.0, wake=bell.wake)
        teller = Teller(client, self._topics)
        rounds = Rounds(connection, teller, self._topics, self.gauges, host=self._host, max_due=self._max_due)
        try:
            with Ticker(bell, self._trim) as ticker:
                self._is_working = True
                while not self._has_to_stop():
                    self._beat(connection, client, ears, bell, ticker, teller, rounds)
            until = time.monotonic() + LEAVE_SECONDS
            while teller.waiting and time.monotonic() < until:
                client.poll(0.05)
                self._confirm(teller, rounds, is_last=True)
        finally:
            self._is_working = False
            client.close()
            self._client = None
            bell.close()

    def _beat(self, connection: database.Connection, client: Client, ears: Ears, bell: Bell, ticker: Ticker, teller: Teller,
              rounds: Rounds) -> None:
        client.poll(POLL_SECONDS if client.is_connected and not teller.waiting else CONFIRM_SECONDS)
        if ticker.follow_clock():
            logs.event(log, "the clock has jumped", logging.WARNING)
        rung = bell.take()
        asked, told = ears.take()
        rounds.trigger(asked, ears)
        if told:
            rounds.hear(told, ears)
        if not (rung or asked or told or self._confirm(teller, rounds)):
            return
        if "tick" in rung:
            rounds.take_ear()
            rounds.forget_deleted()
            self._count(connection)
        found, began = glance.fetch(connection), time.monotonic()
        self._act(found, rounds, client, is_tick="tick" in rung)
        if found.is_due:
            found, began = glance.fetch(connection), time.monotonic()
        if found.due_at is not None:
            ticker.arm((found.due_at - found.at).total_seconds() - (time.monotonic() - began))

    def _act(self, found: Glance, rounds: Rounds, client: Client, *, is_tick: bool) -> None:
        if found.is_due:
            has_more = True
            while has_more and not self._has_to_stop():
                has_more = rounds.fire()
                has_more = rounds.release() or has_more
                client.flush(PUSH_SECONDS)  # what is released is said before more is
        if is_tick and found.has_open:
            rounds.watch()
        if found.has_untold or is_tick:
            while rounds.settle() and not self._has_to_stop():
                pass
        if found.has_open or found.is_due:
            rounds.send_tasks()
        if found.has_messages and client.is_connected:
            rounds.take_over()

    def _confirm(self, teller: Teller, rounds: Rounds, *, is_last: bool = False) -> bool:
        """Write down what the broker has taken, not for every message that comes in; whether there was any."""
        if not is_last and teller.waiting > 1 and time.monotonic() - self._confirmed_at < CONFIRM_SECONDS:
            return False
        confirmed = teller.take_confirmed()
        if confirmed:
            self._confirmed_at = time.monotonic()
            rounds.confirm(confirmed)
        return bool(confirmed)

    def _count(self, connection: database.Connection) -> None:
        if time.monotonic() - self._counted_at > BACKLOG_SECONDS:
            self._counted_at = time.monotonic()
            self.gauges.show(glance.fetch_backlog(connection))

    def _trim(self) -> None:
        """Trim the history, on a connection of its own; on APScheduler's thread."""
        try:
            with database.open_connection(self._url, f"{NAME}-trim") as connection:
                connection.execute("SET statement_timeout = '60s'")
                self._trim_with(connection)
        except database.Unavailable as error:
            logs.event(log, "history was not trimmed", logging.WARNING, error=str(error).strip().partition("\n")[0])

    def _trim_with(self, connection: database.Connection) -> None:
        is_all = time.monotonic() - self._trimmed_all_at > ALL_SECONDS
        steps: list[Callable[[], int]] = [lambda: history.trim(connection, 1e9 if is_all else RECENT_SECONDS)]
        if is_all:
            self._trimmed_all_at = time.monotonic()
            steps.append(lambda: history.trim_old(connection))
        for step in steps:
            while (gone := step()) and not self._is_stopping:
                self.gauges.trimmed.inc(gone)
