"""The inbox: events from outside, told by REST, until the owner of the host's slot has taken them up."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from aggregator.store.samples import Cursor
from aggregator.store.slots import Lease
from shared.database import Connection


@dataclasses.dataclass(frozen=True, slots=True)
class Received:
    """One event as it was told; `payload` are the fields of wire.Event."""

    id: int
    host: str
    payload: dict[str, Any]
    actor: str


def fetch(connection: Connection, lease: Lease, limit: int) -> list[Received]:
    """The oldest events for hosts of a slot."""
    return [Received(*row) for row in connection.execute(
        """SELECT i.id, h.name, i.payload, i.actor FROM inbox i JOIN host h ON h.id = i.host_id
           WHERE i.partition %% %s = %s ORDER BY i.id LIMIT %s""", [lease.slots, lease.slot, limit])]


def delete(cursor: Cursor, ids: Sequence[int]) -> None:
    """These have been taken up."""
    cursor.execute("DELETE FROM inbox WHERE id = ANY (%s)", [list(ids)])
