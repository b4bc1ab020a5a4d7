"""Slots: leases on shares of the hosts. One owner at a time; what an owner writes is fenced by the lease's epoch."""

import contextlib
import dataclasses
from collections.abc import Iterator
from datetime import datetime

from psycopg import sql

from aggregator.store.samples import Cursor
from shared.database import Connection

LEASE_SECONDS = 4
"""A standby takes over from a stopped owner within this, a moment to look, and the time to load."""
LOADING_SECONDS = 120
"""The first lease: who takes a slot cannot renew while it loads. One that is killed meanwhile is told by its connection."""
STANDBY_LOCK = 0x6472_7362
"""The advisory lock that standbys share that hear the broker."""


@dataclasses.dataclass(frozen=True, slots=True)
class Lease:
    """A slot held since `at` (Unix s, as all times by the database's clock): `epoch` fences its writes.

    `checkpoint_at` and `rolled_up_to` say from where to read on.
    """

    slot: int
    slots: int
    owner: str
    epoch: int
    checkpoint_at: datetime
    rolled_up_to: datetime
    at: float


class LeaseLostError(Exception):
    """Another process has taken the slot over; nothing more may be written for it."""


def acquire(connection: Connection, owner: str, slots: int) -> Lease | None:
    """Take a slot that is free, expired, or whose owner's connection has gone; None while all are held.

    `owner` is also the application name of the owner's connection. A killed owner's connection goes with it, so its slot
    need not expire first; what a stopped owner still holds open when its lease has expired, locks included, is ended. An owner
    for whom the database itself is at work is not stopped: it may be slow, and ending it would only begin the work anew.
    """
    connection.execute("INSERT INTO slot (slot) SELECT generate_series(0, %s - 1) ON CONFLICT DO NOTHING", [slots])
    connection.execute(
        """SELECT pg_terminate_backend(a.pid) FROM slot s JOIN pg_stat_activity a ON a.application_name = s.owner
           WHERE s.slot < %s AND s.expires_at < now() AND s.owner NOT IN ('', %s)
             AND (a.state <> 'active' OR a.wait_event_type = 'Client')""", [slots, owner])
    row = connection.execute(
        """UPDATE slot SET owner = %s, epoch = epoch + 1, expires_at = now() + make_interval(secs => %s)
           WHERE slot = (SELECT slot FROM slot WHERE slot < %s AND (expires_at < now() OR NOT EXISTS
                           (SELECT FROM pg_stat_activity a WHERE a.application_name = slot.owner))
                         ORDER BY slot LIMIT 1 FOR UPDATE SKIP LOCKED)
           RETURNING slot, epoch, checkpoint_at, rolled_up_to, extract(epoch FROM clock_timestamp())::float8""",
        [owner, LOADING_SECONDS, slots]).fetchone()
    return None if row is None else Lease(row[0], slots, owner, row[1], row[2], row[3], row[4])


def renew(connection: Connection, lease: Lease) -> float:
    """Hold the slot for another LEASE_SECONDS; the database's time (Unix s). Raises LeaseLostError."""
    renewed = connection.execute(
        """UPDATE slot SET expires_at = now() + make_interval(secs => %s) WHERE slot = %s AND epoch = %s
           RETURNING extract(epoch FROM clock_timestamp())::float8""", [LEASE_SECONDS, lease.slot, lease.epoch]).fetchone()
    if renewed is None:
        raise LeaseLostError
    return float(renewed[0])


def offer(connection: Connection) -> None:
    """Say that this connection's process stands by and hears the broker, until `withdraw` or the connection's end."""
    connection.execute("SELECT pg_advisory_lock_shared(%s)", [STANDBY_LOCK])


def withdraw(connection: Connection) -> None:
    """Take back what `offer` said."""
    connection.execute("SELECT pg_advisory_unlock_shared(%s)", [STANDBY_LOCK])


def has_heir(connection: Connection) -> bool:
    """Whether another process stands by that hears the broker."""
    row = connection.execute(
        """SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = %s AND objsubid = 1
             AND pid <> pg_backend_pid() AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))""",
        [STANDBY_LOCK]).fetchone()
    return row is not None and bool(row[0])


def fetch_closed_to(connection: Connection) -> datetime | None:
    """Up to when every slot that is held has rolled up; None where none is held."""
    row = connection.execute("SELECT min(rolled_up_to) FROM slot WHERE expires_at > now()").fetchone()
    return None if row is None else row[0]


def release(connection: Connection, lease: Lease) -> None:
    """Give the slot back at a clean stop, so that a standby need not wait."""
    connection.execute("UPDATE slot SET expires_at = now() - interval '1 second' WHERE slot = %s AND epoch = %s",
                       [lease.slot, lease.epoch])


@contextlib.contextmanager
def fenced(connection: Connection, lease: Lease) -> Iterator[Cursor]:
    """A transaction that writes for a slot: it holds the lease's row until its end. Raises LeaseLostError.

    BEGIN and the fence go in one round trip; there are several such transactions a second.
    """
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("BEGIN; SELECT 1 FROM slot WHERE slot = {} AND epoch = {} FOR SHARE").format(
            lease.slot, lease.epoch))
        try:
            cursor.nextset()
            if cursor.fetchone() is None:
                raise LeaseLostError
            yield cursor
        except BaseException:
            if not connection.closed:
                cursor.execute("ROLLBACK")
            raise
        cursor.execute("COMMIT")
