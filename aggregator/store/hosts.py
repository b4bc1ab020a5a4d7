"""Hosts: making them, what a glance needs of them, their state, inventory and snapshots."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from aggregator.store.binary import array_text
from aggregator.store.samples import Cursor
from aggregator.store.slots import Lease
from shared.database import Connection
from shared.names import partition


@dataclasses.dataclass(frozen=True, slots=True)
class Newest:
    """The newest figures of n hosts, in columns: times in Unix s, interval in s; NaN where a host has no such figure."""

    host_ids: Sequence[int]
    ts: Sequence[float]
    received_at: Sequence[float]
    interval: Sequence[float]
    score: Sequence[float]
    cpu: Sequence[float]
    memory: Sequence[float]
    disk: Sequence[float]


@dataclasses.dataclass(frozen=True, slots=True)
class HostState:
    """What an agent (or its last will) said of itself."""

    host_id: int
    state: str
    reason: str
    at: float
    boot_id: str
    version: str


@dataclasses.dataclass(frozen=True, slots=True)
class Said:
    """The newest status of a host; `at` in Unix s."""

    name: str
    state: str
    reason: str
    at: float
    boot_id: str


def ensure(connection: Connection, names: Sequence[str]) -> dict[str, int]:
    """Ids of hosts by name, made where new."""
    rows = connection.execute(
        """INSERT INTO host (name, partition) SELECT * FROM unnest(%s::text[], %s::smallint[])
           ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING name, id""",
        [list(names), [int(partition(name)) for name in names]])
    return {name: host_id for name, host_id in rows}  # noqa: C416 (a cursor of pairs, not a mapping)


def fetch_names(connection: Connection) -> list[tuple[int, str]]:
    """(id, name) of every host."""
    return connection.execute("SELECT id, name FROM host ORDER BY id").fetchall()


def fetch_slot(connection: Connection,
               lease: Lease) -> Iterator[tuple[int, str, float | None, float | None, float | None]]:
    """(id, name, newest ts, received at, interval) of every host of a slot."""
    return iter(connection.execute(
        """SELECT h.id, h.name, extract(epoch FROM n.ts)::float8, extract(epoch FROM n.received_at)::float8, n.interval
           FROM host h LEFT JOIN host_now n ON n.host_id = h.id WHERE h.partition %% %s = %s ORDER BY h.id""",
        [lease.slots, lease.slot]))


def fetch_said(connection: Connection, lease: Lease) -> list[Said]:
    """What each host of a slot last said of itself."""
    return [Said(*row) for row in connection.execute(
        """SELECT name, state, state_reason, coalesce(extract(epoch FROM state_at), 0)::float8, boot_id FROM host
           WHERE partition %% %s = %s""", [lease.slots, lease.slot])]


def fetch_labels(connection: Connection, lease: Lease) -> list[tuple[str, dict[str, str]]]:
    """(name, labels) of the hosts of a slot."""
    return connection.execute("SELECT name, labels FROM host WHERE partition %% %s = %s",
                              [lease.slots, lease.slot]).fetchall()


def fetch_snapshots(connection: Connection, lease: Lease, kinds: Sequence[str]) -> Iterator[tuple[str, str, Any]]:
    """(host, kind, payload) of the latest snapshots of a slot's hosts."""
    return iter(connection.execute(
        """SELECT h.name, s.kind, s.payload FROM snapshot s JOIN host h ON h.id = s.host_id
           WHERE s.kind = ANY (%s) AND h.partition %% %s = %s""", [list(kinds), lease.slots, lease.slot]))


def write_now(cursor: Cursor, newest: Newest) -> None:
    """Carry newest figures forward; never back."""
    cursor.execute(
        """INSERT INTO host_now (host_id, ts, received_at, interval, score, cpu, memory, disk)
           SELECT h, to_timestamp(t), to_timestamp(r), i, s, c, m, d FROM unnest(%s::int[], %s::float8[], %s::float8[],
             %s::real[], %s::real[], %s::real[], %s::real[], %s::real[]) AS n (h, t, r, i, s, c, m, d)
           ON CONFLICT (host_id) DO UPDATE SET ts = excluded.ts, received_at = excluded.received_at,
             interval = excluded.interval, score = excluded.score, cpu = excluded.cpu, memory = excluded.memory,
             disk = excluded.disk WHERE host_now.ts <= excluded.ts""",
        [array_text(getattr(newest, field.name)) for field in dataclasses.fields(Newest)])


def write_not_ahead(cursor: Cursor, lease: Lease, now: float, latest: float) -> None:
    """After the clock was set back: nothing was received after `now` (Unix s), and no newest sample is of after `latest`.

    Else newer figures would wait, and silence go unnoticed, until the clock has come there again.
    """
    cursor.execute(
        """UPDATE host_now n SET received_at = least(n.received_at, to_timestamp(%(now)s)),
             ts = CASE WHEN n.ts > to_timestamp(%(latest)s) THEN to_timestamp(%(now)s) ELSE n.ts END
           FROM host h WHERE h.id = n.host_id AND h.partition %% %(slots)s = %(slot)s
             AND (n.received_at > to_timestamp(%(now)s) OR n.ts > to_timestamp(%(latest)s))""",
        {"now": now, "latest": latest, "slots": lease.slots, "slot": lease.slot})


def write_states(cursor: Cursor, states: Sequence[HostState]) -> None:
    cursor.executemany(
        """UPDATE host SET state = %s, state_reason = %s, state_at = to_timestamp(%s), boot_id = %s, agent_version = %s
           WHERE id = %s""",
        [(state.state, state.reason, state.at, state.boot_id, state.version, state.host_id) for state in states])


def write_inventories(cursor: Cursor, rows: Sequence[tuple[int, float, bytes, bytes]]) -> None:
    """(host id, ts, inventory, labels), both as JSON. What a broker repeats is passed over."""
    cursor.executemany(
        """UPDATE host SET inventory = %(inventory)s::jsonb, inventory_at = to_timestamp(%(ts)s), labels = %(labels)s::jsonb
           WHERE id = %(id)s AND inventory_at IS DISTINCT FROM to_timestamp(%(ts)s)""",
        [{"id": host_id, "ts": ts, "inventory": inventory.decode(), "labels": labels.decode()}
         for host_id, ts, inventory, labels in rows])


def fetch_inventories(connection: Connection, host_ids: Sequence[int]) -> dict[int, bytes]:
    """The inventories of hosts by id, as JSON; hosts without one are left out."""
    rows = connection.execute("SELECT id, inventory::text FROM host WHERE id = ANY (%s) AND inventory_at IS NOT NULL",
                              [list(host_ids)])
    return {host_id: text.encode() for host_id, text in rows}


def write_snapshots(cursor: Cursor, rows: Sequence[tuple[int, str, float, bytes]]) -> None:
    """(host id, kind, ts, snapshot as JSON). What a broker repeats is passed over."""
    cursor.executemany(
        """INSERT INTO snapshot (host_id, kind, ts, payload) VALUES (%s, %s, to_timestamp(%s), %s::jsonb)
           ON CONFLICT (host_id, kind) DO UPDATE SET ts = excluded.ts, payload = excluded.payload
           WHERE snapshot.ts < excluded.ts""",
        [(host_id, kind, ts, payload.decode()) for host_id, kind, ts, payload in rows])


def fetch_profile(connection: Connection, name: str) -> dict[str, Any] | None:
    """A stored health profile as it is; None where there is none."""
    row = connection.execute("SELECT profile FROM health_profile WHERE name = %s", [name]).fetchone()
    return None if row is None else row[0]
