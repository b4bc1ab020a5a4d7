"""Hosts that were deleted, and of which the broker still retains what ingest has said."""

from collections.abc import Sequence

from aggregator.store.slots import Lease
from shared.database import Connection

LIMIT = 100


def fetch(connection: Connection, lease: Lease) -> list[str]:
    """The oldest of a slot, those apart that have come back."""
    return [row[0] for row in connection.execute(
        """SELECT d.host FROM departed_host d WHERE d.partition %% %s = %s AND NOT EXISTS (SELECT FROM host WHERE name = d.host)
           ORDER BY d.deleted_at LIMIT %s""", [lease.slots, lease.slot, LIMIT])]


def delete(connection: Connection, names: Sequence[str]) -> None:
    """Nothing is retained of these any more; nor need anything be taken back of those that have come back."""
    connection.execute("DELETE FROM departed_host WHERE host = ANY (%s) OR host IN (SELECT name FROM host)", [list(names)])
