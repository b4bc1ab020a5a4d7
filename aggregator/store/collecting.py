"""Desired collection settings as ingest publishes them, and what agents say they have applied."""

import dataclasses
from collections.abc import Mapping, Sequence

from aggregator.store import collection
from aggregator.store.samples import Cursor
from aggregator.store.slots import Lease
from shared.database import Connection


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What a host should have. `revision` 0, `desired` `{}`: nothing was ever wanted. `reported`: the revision it says it has."""

    host_id: int
    host: str
    revision: int
    desired: str
    is_published: bool
    reported: int


def fetch(connection: Connection, lease: Lease, host_ids: Sequence[int] | None = None) -> list[Wanted]:
    """What the hosts of a slot (all, or these) should have; those that neither should nor say they have anything are left out."""
    return [Wanted(*row) for row in connection.execute(
        """SELECT h.id, h.name, coalesce(c.revision, 0), coalesce(c.desired, '{}')::text, c.published_at IS NOT NULL,
             coalesce((h.inventory->>'config_revision')::bigint, 0)
           FROM host h LEFT JOIN host_config c ON c.host_id = h.id
           WHERE h.partition %% %s = %s AND (%s::int[] IS NULL OR h.id = ANY (%s::int[]))
             AND (c.host_id IS NOT NULL OR coalesce((h.inventory->>'config_revision')::bigint, 0) > 0) ORDER BY h.id""",
        [lease.slots, lease.slot, *[None if host_ids is None else list(host_ids)] * 2])]


def refresh(connection: Connection, host_ids: Sequence[int]) -> None:
    """Work out what these hosts should have: they are new, or their labels may have changed."""
    if connection.execute("SELECT 1 FROM collection_config LIMIT 1").fetchone() is not None:
        with connection.transaction():
            collection.refresh(connection, host_ids)


def write_published(connection: Connection, revisions: Mapping[int, int]) -> None:
    """These hosts' revisions are with the broker."""
    connection.execute(
        """UPDATE host_config c SET published_at = now() FROM unnest(%s::int[], %s::bigint[]) AS n (id, revision)
           WHERE c.host_id = n.id AND c.revision = n.revision""", [list(revisions), list(revisions.values())])


def write_applied(cursor: Cursor, rows: Sequence[tuple[int, int, str]]) -> None:
    """What agents say of the settings that they were given: (host id, revision, problem)."""
    cursor.executemany(
        """UPDATE host_config SET applied_at = now(), applied_revision = %(revision)s, problem = %(problem)s
           WHERE host_id = %(host)s AND (applied_revision, problem) IS DISTINCT FROM (%(revision)s, %(problem)s)""",
        [{"host": host_id, "revision": revision, "problem": problem} for host_id, revision, problem in rows])
