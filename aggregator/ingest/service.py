"""`drumbeat ingest` as a whole: wait for the database, hold a slot, ingest it, and start over when a part goes away.

States, told by /readyz: waiting for the database → standby (all slots held) → loading → ingesting. A database that goes
away or takes nothing any more, and a lease that is lost, throw the in-memory state away and close the connection to the
broker: nothing is taken that could not be stored, and what was not committed is sent again by the agents.

A standby is connected to the broker, too, without subscribing. One that is not leaves a free slot to one that is.
"""

import gc
import logging
import random
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from aggregator.analysis.core_metrics import METRICS
from aggregator.ingest import takeover, upkeep
from aggregator.ingest.commit import AlertsRefusedError
from aggregator.ingest.devices import Devices
from aggregator.ingest.duties.foreman import Foreman
from aggregator.ingest.gauges import Gauges
from aggregator.ingest.intake import Receiver
from aggregator.ingest.slot import DeafError, Slot, TimeJumpedError
from aggregator.ingest.timekeeping import Timekeeper
from aggregator.store import slots
from shared import database, logs
from shared.bus import Broker, Client, Tls
from shared.topics import Topics

log = logs.get("ingest")

STALL_SECONDS = 60.0
RETRY_SECONDS = 0.5
MAX_RETRY_SECONDS = 15.0
LOOK_SECONDS = 0.25
"""How often a standby looks whether a slot is free."""


class Service:
    """One ingest process."""

    def __init__(self, database_url: str, brokers: tuple[Broker, ...], tls: Tls, topics: Topics, slot_count: int,
                 clock: Timekeeper | None = None, *, homeassistant_prefix: str = "",
                 output: Path | None = None, anomalies: bool = True,
                 watched: tuple[str, ...] = METRICS, host: str = "") -> None:
        """`clock`: the time. `homeassistant_prefix`: where hosts are made known to Home Assistant; empty where they are not.

        `output`: the directory that duties may write to; without one, those that write fail. `anomalies`: whether they are
        looked for, in the metrics `watched`. `host`: on which it runs.
        """
        self._url, self._brokers, self._tls, self._topics = database_url, brokers, tls, topics
        self._slot_count, self._clock, self._homeassistant_prefix = slot_count, clock or Timekeeper(), homeassistant_prefix
        self._anomalies, self._watched, self._host = anomalies, watched, host
        self._owner = f"drumbeat-ingest-{secrets.token_hex(8)}"
        self._stopping = False
        self._doing = "starting"
        self._refusal = ""
        self._retry = RETRY_SECONDS
        self._client: Client | None = None
        self._alive_at = time.monotonic()
        self.gauges = Gauges()
        self._foreman = Foreman(database_url, output)

    def stop(self) -> None:
        """Finish the beat, give the slot back and return from `run`."""
        self._stopping = True

    def live(self) -> Mapping[str, str]:
        stalled = time.monotonic() - self._alive_at
        return {"loop": f"no beat for {stalled:.0f} s" if stalled > STALL_SECONDS else ""}

    def ready(self) -> Mapping[str, str]:
        client = self._client
        connected = client is not None and client.is_connected
        reason = client.last_error if client is not None else ""
        return {"slot": "" if self._doing == "ingesting" else self._doing, "database": self._refusal,
                "broker": "" if connected else f"not connected {reason}".strip()}

    def run(self) -> None:
        """Until `stop`. Only what nothing can be done about leaves it as an exception."""
        try:
            self._run()
        finally:
            self._foreman.close()

    def _run(self) -> None:
        while not self._stopping:
            self._doing = "waiting for the database"
            probe = database.probe_room if self._refusal else None
            if not database.wait_until_ready(self._url, self._owner, self._is_stopping, probe=probe):
                return
            try:
                database.migrate(self._url)
                self._foreman.start()  # slot or not: any process may do what schedules ask for
                with database.open_connection(self._url, self._owner) as connection:
                    self._own(connection)
            except slots.LeaseLostError:
                logs.event(log, "slot lost to another process", logging.WARNING)
            except TimeJumpedError:
                pass
            except DeafError:
                logs.event(log, "no broker, the slot is left to a process that has one", logging.WARNING)
            except AlertsRefusedError as error:
                logs.event(log, "alerts are loaded anew", logging.ERROR, error=str(error))
                self._rest()
            except database.Unavailable as error:
                self._note_refusal(database.refusal(error), str(error).strip().partition("\n")[0])
                self._rest()
            finally:
                self._close_client()
                self.gauges.is_owner.set(0)

    def _note_refusal(self, refusal: str, error: str) -> None:
        """The database went away, or takes nothing and why; that is said once."""
        if not refusal:
            logs.event(log, "database went away", logging.WARNING, error=error)
        elif refusal != self._refusal:
            logs.event(log, "database takes nothing, nothing is ingested until it does", logging.ERROR, why=refusal, error=error)
        self._refusal = refusal
        self.gauges.refusing.set(bool(refusal))

    def _rest(self) -> None:
        """Wait before it is tried again, longer each time; a commit ends that."""
        database.pause(random.uniform(self._retry / 2, self._retry), self._is_stopping)  # noqa: S311
        self._retry = min(2 * self._retry, MAX_RETRY_SECONDS)

    def _is_stopping(self) -> bool:
        self._alive_at = time.monotonic()
        return self._stopping

    def _own(self, connection: database.Connection) -> None:
        """Wait for a slot, then ingest for it until it is lost or the process stops."""
        connection.execute("SET idle_in_transaction_session_timeout = '5s'")
        lease = self._stand_by(connection)
        if lease is not None:
            self._ingest(connection, lease)

    def _stand_by(self, connection: database.Connection) -> slots.Lease | None:
        """Wait for a slot, connected to the broker, and say so to an owner that is not; None at the stop."""
        self._doing = "standby: every slot is held"
        client = self._client = Client(self._brokers, f"ingest-{secrets.token_hex(16)}", lambda *_: None, tls=self._tls,
                                       max_delay=5.0)
        is_offered = False
        while not self._is_stopping():
            if client.is_connected or not slots.has_heir(connection):
                lease = slots.acquire(connection, self._owner, self._slot_count)
                if lease is not None:
                    return self._taken(connection, lease, is_offered=is_offered)
            if client.is_connected != is_offered:
                is_offered = client.is_connected
                (slots.offer if is_offered else slots.withdraw)(connection)
            end = time.monotonic() + LOOK_SECONDS
            while (left := end - time.monotonic()) > 0:
                client.poll(left)
        return None

    def _taken(self, connection: database.Connection, lease: slots.Lease, *, is_offered: bool) -> slots.Lease:
        if is_offered:
            slots.withdraw(connection)
        self._close_client()
        self._clock.hear(lease.at)
        return lease

    def _ingest(self, connection: database.Connection, lease: slots.Lease) -> None:
        """Load the slot and ingest for it until it is lost or the process stops."""
        self._doing = "loading"
        keep, today = upkeep.make_rooms(connection, datetime.fromtimestamp(self._clock(), UTC))
        shard = takeover.load(connection, lease, self._clock(), detects=self._anomalies, watched=self._watched)
        shard.oldest_ts = upkeep.oldest_ts(keep, today)
        shard.profile = upkeep.read_profile(connection)
        shard.engine.own_host = self._host
        logs.event(log, "slot taken", slot=lease.slot, of=lease.slots, hosts=len(shard.hosts))
        self.gauges.is_owner.set(1)
        receiver = Receiver(shard, self._topics, lease.slot, lease.slots)
        self._client = Client(self._brokers, f"ingest-{secrets.token_hex(16)}", receiver.on_message, tls=self._tls,
                              subscriptions=[*self._topics.slot_filters(lease.slot, lease.slots),
                                             *self._topics.alert_filters()], max_delay=5.0)
        self._doing = "ingesting"
        # Hosts, streams and layouts live long and hold no cycles: keep the collector from walking them every second.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 50, 50)
        devices = Devices(self._client, self._topics, shard, self._homeassistant_prefix)
        slot = Slot(connection, lease, shard, receiver, self._client, self._topics, self.gauges, self._clock, devices)
        try:
            while not self._is_stopping():
                slot.beat()
                if slot.has_committed and (self._refusal or self._retry > RETRY_SECONDS):
                    self._recover()
            slot.finish()
        except (AlertsRefusedError, TimeJumpedError, DeafError):
            slots.release(connection, lease)  # ours again at once, or that of whoever hears
            raise
        slots.release(connection, lease)

    def _recover(self) -> None:
        """A commit has succeeded: whatever kept it from that is over."""
        if self._refusal:
            logs.event(log, "database takes what is ingested again")
        self._refusal, self._retry = "", RETRY_SECONDS
        self.gauges.refusing.set(0)

    def _close_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
