"""Checks of Postgres: version, rights, room, schema, clock, partitions, retention and disk, leases, freshness, refusals."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from compose.checks import alerts, encryption
from compose.checks.finding import Finding, fail, ok, unknown, warn
from shared import database, logs

OLDEST_VERSION = 150_000
CLOCK_WARN_SECONDS = 2.0
CLOCK_FAIL_SECONDS = 60.0
FRESH_SECONDS = 60.0
HISTORY = {"sample": "raw", "rollup_1m": "rollup_1m", "rollup_1h": "rollup_1h", "rollup_1d": "rollup_1d"}
_START_INGEST = "start drumbeat ingest; its log says what it lacks"

BOUNDS = r"""
SELECT p.relname, (regexp_match(b.bounds, 'FROM \(''([^'']+)'))[1]::timestamptz,
       (regexp_match(b.bounds, 'TO \(''([^'']+)'))[1]::timestamptz, pg_total_relation_size(c.oid)
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS bounds) b
WHERE p.relname = ANY (%s) AND c.relkind = 'r'
"""


class Door:
    """An open connection: one statement at a time, each answer a list of rows."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return list(self.connection.execute(statement, list(values)).fetchall())

    def value(self, statement: str, *values: Any) -> Any:
        return self.rows(statement, *values)[0][0]


def check(url: str, told: dict[str, int]) -> Iterator[Finding]:
    """Findings about the database at `url`; puts the number of hosts into `told`. Raises DatabaseUrlError."""
    try:
        connection = database.open_connection(url, "drumbeat-doctor")
    except database.Unavailable as error:
        why = logs.redact(database.explained(error))
        yield fail("database", f"cannot be reached: {why}",
                   "is Postgres (or drumbeat up) running, and is --database-url right?")
        return
    with contextlib.closing(connection):
        door = Door(connection)
        yield ok("database", "connected")
        yield from encryption.database(connection.info.host, _encryption(door))
        for name, look in _BASICS:
            yield _looked(name, look, door)
        if door.value("SELECT to_regclass('sample') IS NULL"):
            yield warn("schema", "there is none yet", "start drumbeat ingest, or run drumbeat migrate")
            return
        told["hosts"] = int(door.value("SELECT count(*) FROM host"))
        for name, look in _DETAILS:
            yield _looked(name, look, door)
        yield _looked("retention", lambda door: retention(door, url), door)


def _looked(name: str, look: Callable[[Door], Finding], door: Door) -> Finding:
    try:
        return look(door)
    except Exception as error:  # a check that breaks is itself a finding
        return unknown(name, f"could not be looked at: {str(error).strip().splitlines()[0]}",
                       "let this database user read drumbeat's tables")


def _encryption(door: Door) -> str | None:
    version = door.rows("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl")
    return str(version[0][0]) if version else None


def version(door: Door) -> Finding:
    """Postgres 15 is the oldest that drumbeat is made for."""
    number, shown = int(door.value("SHOW server_version_num")), door.value("SHOW server_version")
    if number >= OLDEST_VERSION:
        return ok("postgres version", str(shown))
    return fail("postgres version", f"{shown} is too old", "upgrade to PostgreSQL 15 or newer")


def rights(door: Door) -> Finding:
    """Ingest makes partitions, so it must be allowed to make tables and to write samples."""
    if not door.value("SELECT has_schema_privilege(current_user, current_schema(), 'CREATE')"):
        return fail("database rights", "this user may not make tables",
                    "make the user of --database-url the owner of its database, or GRANT CREATE ON SCHEMA public to it")
    if not door.value("""SELECT coalesce(bool_and(has_table_privilege(current_user, c.oid, 'INSERT, SELECT')), true)
                         FROM pg_class c WHERE c.oid = to_regclass('sample')"""):
        return fail("database rights", "this user may not read and write samples",
                    "let one user own the schema: ingest, api and scheduler use the same")
    return ok("database rights", "may make tables and write samples")


def writes(door: Door) -> Finding:
    """A full disk or a replica answers questions, but takes no samples."""
    try:
        database.probe_room(door.connection)
    except database.Unavailable as error:
        why = database.refusal(error) or str(error).strip().splitlines()[0]
        return fail("database writes", f"the database takes nothing: {why}",
                    "make room on its disk, or give the URL of the primary; agents keep their samples meanwhile")
    return ok("database writes", "some megabytes were taken, and given back")


def clock(door: Door) -> Finding:
    """The database's clock decides on leases; this machine's on what is sampled here."""
    before = time.time()
    theirs = door.value("SELECT clock_timestamp()").timestamp()
    after = time.time()
    return clock_offset(theirs - (before + after) / 2, (after - before) / 2)


def clock_offset(offset: float, uncertainty: float) -> Finding:
    """The finding for a clock that is `offset` s ahead of ours, known within `uncertainty` s. Pure."""
    text = f"the database's clock is {offset:+.3f} s from ours (± {uncertainty:.3f} s)"
    mend = "keep both machines' clocks by NTP (chrony, systemd-timesyncd)"
    certain = max(0.0, abs(offset) - uncertainty)
    if certain > CLOCK_FAIL_SECONDS:
        return fail("clock offset", text, mend)
    return warn("clock offset", text, mend) if certain > CLOCK_WARN_SECONDS else ok("clock offset", text)


def partitions(door: Door) -> Finding:
    """Without a partition for its time a sample cannot be stored."""
    have = [(table, since, until) for table, since, until, _ in door.rows(BOUNDS, list(HISTORY))]
    return missing_partitions(have, datetime.now(UTC))


def missing_partitions(have: list[tuple[str, datetime, datetime]], now: datetime) -> Finding:
    """The finding for the partitions (table, since, until), today and tomorrow. Pure."""
    missing = [f"{table} for {day}" for day, at in (("today", now), ("tomorrow", now + timedelta(days=1)))
               for table in HISTORY if not any(name == table and low <= at < high for name, low, high in have)]
    if not missing:
        return ok("partitions", "there for today and tomorrow")
    level = fail if any(text.endswith("today") for text in missing) else warn
    return level("partitions", f"missing: {', '.join(missing)}", f"ingest makes them ahead; {_START_INGEST}")


def lease(door: Door) -> Finding:
    """Every slot must be held by a living ingest process."""
    slots = door.rows("""SELECT slot, owner, expires_at > now(), extract(epoch FROM now() - greatest(expires_at, 'epoch'))
                         FROM slot ORDER BY slot""")
    if not slots:
        return fail("ingest", "has never run on this database", _START_INGEST)
    idle = [f"slot {slot} (free for {max(0, int(since))} s)" for slot, _, is_held, since in slots if not is_held]
    if idle:
        return fail("ingest", f"nobody writes for {', '.join(idle)}", _START_INGEST)
    return ok("ingest", f"{len(slots)} slot{'s' if len(slots) > 1 else ''} held by {len({row[1] for row in slots})}")


def freshness(door: Door) -> Finding:
    """Samples should be coming in."""
    hosts, age = door.rows("SELECT count(*), extract(epoch FROM now() - max(received_at)) FROM host_now")[0]
    if not hosts:
        return warn("samples", "none has ever come", "start drumbeat agent on a host; its log says what it lacks")
    if age > FRESH_SECONDS:
        return fail("samples", f"the newest of {hosts} host{'' if hosts == 1 else 's'} came {int(age)} s ago",
                    "look at broker and ingest above, then at the agents' logs")
    return ok("samples", f"the newest of {hosts} host{'' if hosts == 1 else 's'} came {max(0, age):.0f} s ago")


def refusals(door: Door) -> Finding:
    """What was refused in the last hour."""
    rows = door.rows("""SELECT reason, count(*), min(host) FROM reject WHERE received_at > now() - interval '1 hour'
                        GROUP BY reason ORDER BY 2 DESC LIMIT 5""")
    if not rows:
        return ok("refusals", "none in the last hour")
    told = ", ".join(f"{count} of {reason} (such as {host or 'an unknown host'})" for reason, count, host in rows)
    return warn("refusals", f"in the last hour: {told}", "GET /api/v1/rejects shows each with its detail")


def retention(door: Door, url: str) -> Finding:
    """Whether the disk holds what the retention policies promise, by the bytes written so far."""
    keep = dict(door.rows("SELECT name, keep_days FROM retention_policy"))
    now = datetime.now(UTC)
    sizes = door.rows(BOUNDS, list(HISTORY))
    need, used = bytes_needed(sizes, keep, _first_sample(door), now)
    free = _free_bytes(door, url)
    return room(need, used, free)


def bytes_needed(sizes: list[tuple[str, datetime, datetime, int]], keep: dict[str, int], first_at: datetime | None,
                 now: datetime) -> tuple[int, int]:
    """(bytes at full retention, bytes used now), from partitions (table, since, until, bytes). Pure.

    The pace is that of the newest full partition of a table, or of the present one where there is none yet.
    """
    need = used = 0
    for table, policy in HISTORY.items():
        own = [(max(since, first_at or since), min(until, now), size) for name, since, until, size in sizes
               if name == table and since <= now]
        used += sum(size for _, _, size in own)
        lived = [(end, (end - since).total_seconds(), size) for since, end, size in own
                 if (end - since).total_seconds() >= 600]
        if lived:
            _, seconds, size = max(lived, key=lambda entry: (min(entry[1], 86_400.0), entry[0]))
            need += int(size / seconds * 86_400 * keep.get(policy, 0))
    return need, used


def room(need: int, used: int, free: int | None) -> Finding:
    """The finding for history that will need `need` bytes and has `used`, with `free` bytes on the disk. Pure."""
    if need < used:
        return ok("retention", f"history takes {_gib(used)}; it is too young, or too quiet, to foretell its size")
    text = f"history takes {_gib(used)} now and {_gib(need)} at full retention, at the present pace"
    if free is None:
        return ok("retention", f"{text}; the free space of the database's disk cannot be seen from here")
    left = free - max(0, need - used)
    text += f"; {_gib(free)} are free"
    mend = "shorten the retention (PUT /api/v1/retention-policies) or give the database a larger disk"
    if left < 0:
        return fail("retention", text, mend)
    return warn("retention", text, mend) if left < 0.1 * free else ok("retention", text)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**29 else f"{size / 2**20:.1f} MiB"


def _first_sample(door: Door) -> datetime | None:
    at = door.value("SELECT min(first_seen_at) FROM host")
    return at if isinstance(at, datetime) else None


def _free_bytes(door: Door, url: str) -> int | None:
    """Free bytes where the database lives on this machine and says where; else None."""
    place = door.rows("SELECT setting FROM pg_settings WHERE name = 'data_directory'")
    if urlsplit(url).hostname not in ("127.0.0.1", "::1", "localhost") or not place:
        return None
    try:
        disk = os.statvfs(place[0][0])
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize


_BASICS: tuple[tuple[str, Callable[[Door], Finding]], ...] = (
    ("postgres version", version), ("database rights", rights), ("database writes", writes), ("clock offset", clock))
_DETAILS: tuple[tuple[str, Callable[[Door], Finding]], ...] = (
    ("partitions", partitions), ("ingest", lease), ("samples", freshness), ("refusals", refusals),
    ("alerts", alerts.outbox), ("notifications", alerts.notifications))
