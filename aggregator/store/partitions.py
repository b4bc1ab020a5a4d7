"""Partitions of the history tables: made ahead, dropped by retention. Nothing falls into a default partition."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from shared.database import Connection

DAYS_AHEAD = 2
MAKING_LOCK = 0x726F_6F6D  # "room", the advisory lock of whoever makes a partition
_UNITS = {"sample": "day", "rollup_1m": "day", "rollup_1h": "month", "rollup_1d": "year"}
POLICIES = {"sample": "raw", "rollup_1m": "rollup_1m", "rollup_1h": "rollup_1h", "rollup_1d": "rollup_1d"}


BATCH = 1000
_OLD: tuple[tuple[str, str, str | int], ...] = (
    ("reject", "received_at", "reject"), ("gap", "noticed_at", "gap"), ("audit_log", "at", "audit_log"),
    ("alert", "state = 'resolved' AND NOT held AND changed_at", "alerts"), ("alert", "state = 'cancelled' AND changed_at", 1),
    ("notification", "state <> 'due' AND created_at", "notifications"), ("silence", "ends_at", 30),
    ("anomaly", "ended_at", "anomalies"), ("anomaly_run", "created_at", 30))
"""Table, which of its rows grow old and since when, and the policy (or the days) that keeps them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Partition:
    """One partition: rows with `since` ≤ ts < `until`."""

    table: str
    since: datetime
    until: datetime

    @property
    def name(self) -> str:
        form = {"day": "%Y%m%d", "month": "%Y%m", "year": "%Y"}[_UNITS[self.table]]
        return f"{self.table}_{self.since.strftime(form)}"


def covering(table: str, since: datetime, until: datetime) -> Iterator[Partition]:
    """The partitions of `table` that hold [since, until]. Pure."""
    start = _floor(since.astimezone(UTC), _UNITS[table])
    while start <= until:
        end = _floor(start + timedelta(days={"day": 1, "month": 32, "year": 367}[_UNITS[table]]), _UNITS[table])
        yield Partition(table, start, end)
        start = end


def ensure(connection: Connection, since: datetime, until: datetime) -> list[str]:
    """Make every missing partition that holds [since, until], of every history table; the names of those made."""
    have = fetch_names(connection)
    wanted = (part for table in _UNITS for part in covering(table, since, until))
    return [part.name for part in wanted if part.name not in have and make(connection, part)]


def make(connection: Connection, part: Partition, fill: Callable[[str], None] = lambda _name: None) -> bool:
    """Make one partition; False where it is there. `fill` is called with its name before it has indexes.

    It is attached when it is complete, which waits for nobody who reads the table (a backup, say), and lets nobody wait.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [MAKING_LOCK])
        if connection.execute("SELECT to_regclass(%s) IS NOT NULL", [part.name]).fetchone() == (True,):
            return False
        connection.execute(f"CREATE TABLE {part.name} (LIKE {part.table} INCLUDING ALL EXCLUDING INDEXES) "
                           "WITH (toast_tuple_target = 8160)")
        fill(part.name)
        connection.execute(f"ALTER TABLE {part.table} ATTACH PARTITION {part.name} "
                           f"FOR VALUES FROM ('{part.since.isoformat()}') TO ('{part.until.isoformat()}')")
    return True


def fetch_all(connection: Connection) -> list[Partition]:
    """Every partition of the history tables, by table and time."""
    found = connection.execute(
        r"""SELECT p.relname, (regexp_match(bounds, 'FROM \(''([^'']+)'''))[1]::timestamptz,
             (regexp_match(bounds, 'TO \(''([^'']+)'''))[1]::timestamptz
           FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent,
             pg_get_expr(c.relpartbound, c.oid) AS bounds
           WHERE p.relname = ANY (%s) AND c.relkind = 'r' ORDER BY 1, 2""", [list(_UNITS)])
    return [Partition(*row) for row in found]


def fetch_names(connection: Connection) -> list[str]:
    """Every partition of the history tables."""
    return [part.name for part in fetch_all(connection)]


def fetch_old(connection: Connection, keep_days: Mapping[str, int], now: datetime) -> list[str]:
    """Partitions that lie wholly before what their retention policy keeps."""
    return [part.name for part in fetch_all(connection)
            if part.until <= now - timedelta(days=keep_days[POLICIES[part.table]])]


def drop_old(connection: Connection, keep_days: Mapping[str, int], now: datetime, *, patience: str = "2s") -> list[str]:
    """Drop the partitions that retention keeps no more; the names of those dropped.

    While this waits for a lock, so do those who write to the table: for as long as `patience`. Raises database.LockTimeout.
    """
    dropped = []
    for name in fetch_old(connection, keep_days, now):
        with connection.transaction():
            connection.execute(f"SET LOCAL lock_timeout = '{patience}'")
            connection.execute(f"DROP TABLE IF EXISTS {name}")  # another process may be at it, too
        dropped.append(name)
    return dropped


def fetch_policies(connection: Connection) -> dict[str, int]:
    """Days to keep, by policy name."""
    return dict(connection.execute("SELECT name, keep_days FROM retention_policy").fetchall())


def fetch_today(connection: Connection, now: datetime) -> datetime:
    """The time that retention goes by: `now`, but at most a day after the newest sample there is.

    So a clock that was set ahead costs no history; agents' own clocks speak against it.
    """
    row = connection.execute("SELECT least(%s, (SELECT max(ts) FROM host_now) + interval '1 day')", [now]).fetchone()
    assert row is not None  # noqa: S101 (one row, always)
    return row[0]  # type: ignore[no-any-return]


def delete_old(connection: Connection, keep_days: Mapping[str, int], now: datetime) -> bool:
    """Retention of the tables that are not partitioned: at most BATCH rows of each; whether that was all of them."""
    return max(count for _, count in delete_batch(connection, keep_days, now)) < BATCH


def delete_batch(connection: Connection, keep_days: Mapping[str, int], now: datetime) -> list[tuple[str, int]]:
    """Delete at most BATCH old rows of each table that is not partitioned; (table, how many)."""
    return [(table, connection.execute(
        f"""DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE {clause} < %s - make_interval(days => %s)
                                             LIMIT {BATCH})""",  # noqa: S608 (constants)
        [now, days if isinstance(days, int) else keep_days[days]]).rowcount)
        for table, clause, days in _OLD]


def count_old(connection: Connection, keep_days: Mapping[str, int], now: datetime) -> list[tuple[str, int]]:
    """What `delete_batch` would delete, called until nothing is left."""
    counts = []
    for table, clause, days in _OLD:
        row = connection.execute(f"SELECT count(*) FROM {table} WHERE {clause} < %s - make_interval(days => %s)",  # noqa: S608
                                 [now, days if isinstance(days, int) else keep_days[days]]).fetchone()
        counts.append((table, row[0] if row else 0))
    return counts


def _floor(at: datetime, unit: str) -> datetime:
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return day if unit == "day" else day.replace(day=1) if unit == "month" else day.replace(month=1, day=1)
