"""Partitions of the history tables: made ahead, dropped by retention. Nothing falls into a default partition."""

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from shared.database import Connection

DAYS_AHEAD = 2
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
    have = _existing(connection)
    made = []
    for table in _UNITS:
        for part in covering(table, since, until):
            if part.name not in have:
                connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {part.name} PARTITION OF {table} "
                    f"FOR VALUES FROM ('{part.since.isoformat()}') TO ('{part.until.isoformat()}') "
                    f"WITH (toast_tuple_target = 8160)")
                made.append(part.name)
    return made


def fetch_names(connection: Connection) -> list[str]:
    """Every partition of the history tables."""
    return list(_existing(connection))


def fetch_old(connection: Connection, keep_days: Mapping[str, int], now: datetime) -> list[str]:
    """Partitions that lie wholly before what their retention policy keeps."""
    return [name for name, (table, until) in _existing(connection).items()
            if until <= now - timedelta(days=keep_days[POLICIES[table]])]


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


def delete_old(connection: Connection, keep_days: Mapping[str, int]) -> bool:
    """Retention of the tables that are not partitioned: at most BATCH rows of each; whether that was all of them."""
    return max(count for _, count in delete_batch(connection, keep_days)) < BATCH


def delete_batch(connection: Connection, keep_days: Mapping[str, int]) -> list[tuple[str, int]]:
    """Delete at most BATCH old rows of each table that is not partitioned; (table, how many)."""
    return [(table, connection.execute(
        f"""DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE {clause} < now() - make_interval(days => %s)
                                             LIMIT {BATCH})""",  # noqa: S608 (constants)
        [days if isinstance(days, int) else keep_days[days]]).rowcount)
        for table, clause, days in _OLD]


def count_old(connection: Connection, keep_days: Mapping[str, int]) -> list[tuple[str, int]]:
    """What `delete_batch` would delete, called until nothing is left."""
    counts = []
    for table, clause, days in _OLD:
        row = connection.execute(f"SELECT count(*) FROM {table} WHERE {clause} < now() - make_interval(days => %s)",  # noqa: S608
                                 [days if isinstance(days, int) else keep_days[days]]).fetchone()
        counts.append((table, row[0] if row else 0))
    return counts


def _existing(connection: Connection) -> dict[str, tuple[str, datetime]]:
    """Partition name → (its table, end of its range)."""
    rows = connection.execute(
        """SELECT c.relname, p.relname, (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \\(''([^'']+)'''))[1]::timestamptz
           FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
           WHERE p.relname = ANY (%s) AND c.relkind = 'r'""", [list(_UNITS)])
    return {name: (table, until) for name, table, until in rows}


def _floor(at: datetime, unit: str) -> datetime:
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return day if unit == "day" else day.replace(day=1) if unit == "month" else day.replace(month=1, day=1)
