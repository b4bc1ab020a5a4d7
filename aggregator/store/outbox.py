"""The outbox: what must still be said on the bus about alerts. Written with each event, deleted once the broker has it."""

import dataclasses
from collections.abc import Collection, Sequence

from aggregator.store.samples import Cursor
from aggregator.store.slots import Lease
from shared.database import Connection


@dataclasses.dataclass(frozen=True, slots=True)
class Due:
    """One event to be said; `event_id` is None where the event is gone (its host was deleted). `at` in Unix s."""

    id: int
    alert_id: int
    event_id: int | None
    at: float
    kind: str
    severity: str
    value: float | None
    threshold: float | None
    reason: str
    actor: str


def fetch(connection: Connection, lease: Lease, said: Collection[int], limit: int) -> list[Due]:
    """The oldest rows of a slot; not those in `said`, which only wait for their deletion."""
    rows = connection.execute(
        """SELECT o.id, o.alert_id, e.id, coalesce(extract(epoch FROM e.at), 0)::float8, coalesce(e.kind, ''),
             coalesce(e.severity, ''), e.value, e.threshold, coalesce(e.reason, ''), coalesce(e.actor, '')
           FROM outbox o LEFT JOIN alert_event e ON e.id = o.event_id
           WHERE o.partition %% %s = %s AND o.id <> ALL (%s) ORDER BY o.id LIMIT %s""",
        [lease.slots, lease.slot, list(said), limit])
    return [Due(*row) for row in rows]


def delete(cursor: Cursor, ids: Sequence[int]) -> None:
    """These have been said."""
    cursor.execute("DELETE FROM outbox WHERE id = ANY (%s)", [list(ids)])
