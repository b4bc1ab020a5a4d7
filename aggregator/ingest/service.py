"""`drumbeat ingest` as a whole: wait for the database, hold a slot, ingest it, and start over when a part goes away.

States, told by /readyz: waiting for the database → standby (all slots held) → loading → ingesting. A database that goes
away or a lease that is lost throws the in-memory state away; what was not committed is sent again by the agents.
"""

import gc
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from aggregator.analysis.core_metrics import METRICS
from aggregator.ingest import takeover, upkeep
from aggregator.ingest.commit import AlertsRefusedError
from aggregator.ingest.devices import Devices
from aggregator.ingest.duties.foreman import Foreman
from aggregator.ingest.gauges import Gauges
from aggregator.ingest.intake import Receiver
from aggregator.ingest.slot import Slot
from aggregator.store import slots
from shared import database, logs
from shared.bus import Broker, Client, Tls
from shared.topics import Topics

log = logs.get("ingest")

STALL_SECONDS = 60.0
RETRY_SECONDS = 0.5


class Service:
    """One ingest process."""

    def __init__(self, database_url: str, brokers: tuple[Broker, ...], tls: Tls, topics: Topics, slot_count: int,
                 clock: Callable[[], float] = time.time, *, homeassistant_prefix: str = "",
                 output: Path | None = None, anomalies: bool = True,
                 watched: tuple[str, ...] = METRICS) -> None:
        """`homeassistant_prefix`: where hosts are made known to Home Assistant; empty where they are not.

        `output`: the directory that duties may write to; without one, those that write fail. `anomalies`: whether they are
        looked for, in the metrics `watched`.
        """
        self._url, self._brokers, self._tls, self._topics = database_url, brokers, tls, topics
        self._slot_count, self._clock, self._homeassistant_prefix = slot_count, clock, homeassistant_prefix
        self._anomalies, self._watched = anomalies, watched
        self._owner = f"drumbeat-ingest-{secrets.token_hex(8)}"
        self._stopping = False
        self._doing = "starting"
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
        return {"slot": "" if self._doing == "ingesting" else self._doing,
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
            if not database.wait_until_ready(self._url, self._owner, self._is_stopping):
                return
            try:
                database.migrate(self._url)
                self._foreman.start()  # slot or not: any process may do what schedules ask for
                with database.open_connection(self._url, self._owner) as connection:
                    self._own(connection)
            except slots.LeaseLostError:
                logs.event(log, "slot lost to another process", logging.WARNING)
            except AlertsRefusedError as error:
                logs.event(log, "alerts are loaded anew", logging.ERROR, error=str(error))
                time.sleep(RETRY_SECONDS)
            except database.Unavailable as error:
                logs.event(log, "database went away", logging.WARNING, error=str(error).strip().partition("\n")[0])
                time.sleep(RETRY_SECONDS)
            finally:
                self._close_client()
                self.gauges.is_owner.set(0)

    def _is_stopping(self) -> bool:
        self._alive_at = time.monotonic()
        return self._stopping

    def _own(self, connection: database.Connection) -> None:
        """Wait for a slot, then ingest for it until it is lost or the process stops."""
        connection.execute("SET idle_in_transaction_session_timeout = '5s'")
        self._doing = "standby: every slot is held"
        while (lease := slots.acquire(connection, self._owner, self._slot_count)) is None:
            if self._is_stopping():
                return
            time.sleep(0.5)
        self._doing = "loading"
        keep = upkeep.make_rooms(connection, datetime.fromtimestamp(self._clock(), UTC))
        shard = takeover.load(connection, lease, self._clock(), detects=self._anomalies, watched=self._watched)
        shard.oldest_ts = upkeep.oldest_ts(keep, self._clock())
        shard.profile = upkeep.read_profile(connection)
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
            slot.finish()
        except AlertsRefusedError:
            slots.release(connection, lease)  # ours again at once
            raise
        slots.release(connection, lease)

    def _close_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
