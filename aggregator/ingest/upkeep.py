"""Regular duties of a slot's owner: partitions ahead, retention, rollups that are due, the health profile read again."""

import dataclasses
import logging
import time
from datetime import UTC, datetime, timedelta

import msgspec

from aggregator.analysis import health
from aggregator.ingest.commit import Committer
from aggregator.ingest.gauges import Gauges
from aggregator.store import hosts, partitions, rejects, rollups, slots
from shared import logs
from shared.database import Connection, LockTimeout

log = logs.get("ingest")

ROOMS_EVERY = 600.0
TRIM_EVERY = 5.0
"""While there is more to delete than one batch."""
PROFILE_EVERY = 30.0
DUE_EVERY = 1.0
DUE_SECONDS = 0.05
"""Time a beat for rollups that are due: samples must not wait for them."""
DUE_ROWS = 20


@dataclasses.dataclass(slots=True, eq=False)
class Upkeep:
    """Knows when each duty was last done; `run` does what is due."""

    connection: Connection
    lease: slots.Lease
    committer: Committer
    gauges: Gauges
    rooms_at: float = 0.0
    profile_at: float = 0.0
    due_at: float = 0.0

    def run(self, now: float) -> None:
        """Do what is due at `now` (Unix s). Raises LeaseLostError and database.Unavailable."""
        if not 0 <= now - self.rooms_at < ROOMS_EVERY:
            self.rooms_at = now
            self._rooms(now)
        if not 0 <= now - self.profile_at < PROFILE_EVERY:
            self.profile_at = now
            self._profile()
        if not 0 <= now - self.due_at < DUE_EVERY:
            self.due_at = now if self._remake(now) else 0.0

    def _rooms(self, now: float) -> None:
        """Partitions ahead and retention. A lock that somebody holds for long puts them off to the next time."""
        at = datetime.fromtimestamp(now, UTC)
        try:
            keep, today = make_rooms(self.connection, at)
            dropped = partitions.drop_old(self.connection, keep, today)
            if not partitions.delete_old(self.connection, keep, today):
                self.rooms_at = now - ROOMS_EVERY + TRIM_EVERY
            with self.connection.transaction(), self.connection.cursor() as cursor:
                rejects.trim(cursor)
        except LockTimeout:
            logs.event(log, "partitions are in use, upkeep put off", logging.WARNING)
            return
        self.committer.shard.oldest_ts = oldest_ts(keep, today)
        if dropped:
            logs.event(log, "history dropped by retention", partitions=",".join(dropped))

    def _profile(self) -> None:
        self.committer.shard.profile = read_profile(self.connection)

    def _remake(self, now: float) -> bool:
        """Make rollups that are due, for a while; whether that was all."""
        deadline = time.perf_counter() + DUE_SECONDS
        while time.perf_counter() < deadline:
            with slots.fenced(self.connection, self.lease) as cursor:
                due = rollups.fetch_due(cursor, self.lease, now, DUE_ROWS)
                closed_to = datetime.fromtimestamp(self.committer.shard.minutes.closed_to, UTC)
                for one in due:
                    self.committer.late_known.pop((one.host_id, int(one.hour.timestamp())), None)
                rollups.remake(cursor, due, closed_to)
            self.gauges.rollups.inc(len(due))
            if len(due) < DUE_ROWS:
                return True
        return False


def make_rooms(connection: Connection, now: datetime) -> tuple[dict[str, int], datetime]:
    """Make every partition that samples of now may need; the retention policies (days by name), and what they go by for now."""
    keep, today = partitions.fetch_policies(connection), partitions.fetch_today(connection, now)
    with connection.transaction():
        connection.execute("SET LOCAL lock_timeout = '2s'")
        for at in {today, now}:
            partitions.ensure(connection, at - timedelta(days=keep["raw"]), at + timedelta(days=partitions.DAYS_AHEAD))
    return keep, today


def oldest_ts(keep: dict[str, int], today: datetime) -> float:
    """Samples before this (Unix s) are refused as too old: they would be dropped at once."""
    return today.timestamp() - keep["raw"] * 86_400


def read_profile(connection: Connection) -> health.Profile:
    """The stored health profile `default`, or the built-in one where there is none that can be used."""
    stored = hosts.fetch_profile(connection, "default")
    if stored is None:
        return health.DEFAULT_PROFILE
    try:
        return msgspec.convert(stored, health.Profile)
    except msgspec.ValidationError as error:
        logs.event(log, "stored health profile is unusable, using the defaults", logging.WARNING, error=str(error))
        return health.DEFAULT_PROFILE
