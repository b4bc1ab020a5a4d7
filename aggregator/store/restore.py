"""Backups read back: into a database that holds nothing yet, of the backup's schema revision, all or nothing."""

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, cast

from psycopg import sql

from aggregator.store import partitions
from aggregator.store.backup import HISTORY, TABLES, BackupError, File, Manifest, Report, columns_of, path_of
from shared import database
from shared.database import Connection

_FRESH = ("configuration", "retention_policy", "slot")
"""Tables that hold rows as soon as the schema is there, or ingest was started once."""
_Told = Callable[[int], None]
_COUNTERS = {"alert": "alert_id", "alert_event": "alert_event_id", "anomaly": "anomaly_id"}
"""Sequences that are not part of their tables."""
_KEEPER = "drumbeat-members"
"""Reads the agents' credentials for a broker, one question at a time, and waits as long as a restore takes."""


def restore(connection: Connection, directory: Path, manifest: Manifest, *, force: bool = False,
            report: Report = lambda _done, _all: None) -> None:
    """Fill the database from a backup that was read, all or nothing. `force`: delete everything that it holds before.

    Raises BackupError where it holds something, services are at work on it, or its schema is of another revision.
    """
    with connection.transaction():
        _check_schema(connection, manifest)
        if others := _services(connection):
            raise BackupError(f"{', '.join(others)} {'is' if len(others) == 1 else 'are'} at work on this database; "
                              "stop every service of drumbeat first")
        here = [table for table in (*TABLES, *HISTORY) if columns_of(connection, table)]
        if not force and (used := [table for table in here if table not in _FRESH and _has_rows(connection, table)]):
            raise BackupError(f"the database is in use: {', '.join(used)} hold rows; restore into a fresh one, or give --force, "
                              "which deletes everything that it holds, history included")
        followed = _fetch_version(connection) if "configuration" in here else 1
        _empty(connection, all_of_it=force)
        done = 0
        for name, file in manifest.tables.items():
            def told(read: int, before: int = done) -> None:
                report(before + read, manifest.bytes)

            _restore_file(connection, name, file, path_of(directory, name, file), told)
            done += file.bytes
        _set_counters(connection, here)
        _count_on(connection, followed)


def revision(connection: Connection) -> str:
    """The revision of the schema; empty where there is none."""
    if connection.execute("SELECT to_regclass('schema_version') IS NULL").fetchone() == (True,):
        return ""
    row = connection.execute("SELECT version_num FROM schema_version").fetchone()
    return "" if row is None else str(row[0])


def analyze(connection: Connection) -> None:
    """Let the planner know what came: by itself it would notice within minutes, and answer slowly until then."""
    connection.execute("ANALYZE")


def _check_schema(connection: Connection, manifest: Manifest) -> None:
    found = revision(connection)
    if found != manifest.revision:
        raise BackupError(f"the backup is of schema {manifest.revision}, the database of {found or 'none'}; restore into an "
                          "empty database, which is brought to the backup's revision and then to this version's")
    for name, file in manifest.tables.items():
        table = file.table or name
        if unknown := sorted(set(file.columns) - set(columns_of(connection, table))):
            raise BackupError(f"table {table} has no column {unknown[0]}: the schema is not what its revision says")


def _services(connection: Connection) -> list[str]:
    """Services of drumbeat that are connected and would write, by the names of their connections."""
    return sorted({"-".join(row[0].split("-")[:2]) for row in connection.execute(
        """SELECT application_name FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
             AND application_name LIKE 'drumbeat-%%' AND application_name <> %s""", [_KEEPER])})


def _has_rows(connection: Connection, table: str) -> bool:
    return connection.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(table))).fetchone() is not None


def _empty(connection: Connection, *, all_of_it: bool) -> None:
    tables: Sequence[str] = _FRESH
    if all_of_it:
        tables = [row[0] for row in connection.execute(
            """SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
                 AND NOT relispartition AND relname <> 'schema_version'""")]
    connection.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(map(sql.Identifier, tables))))


def _restore_file(connection: Connection, name: str, file: File, path: Path, report: _Told) -> None:
    table = file.table or name

    def fill(into: str) -> None:
        _copy(connection, into, file, path, report)

    if file.since is None:
        fill(table)
        return
    part = next(partitions.covering(table, file.since, file.since))
    if not partitions.make(connection, part, fill):
        fill(part.name)


def _copy(connection: Connection, table: str, file: File, path: Path, report: _Told) -> None:
    query = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, file.columns)))
    with connection.cursor() as cursor, path.open("rb") as opened:
        unpacked = cast("IO[bytes]", gzip.GzipFile(fileobj=opened) if file.is_compressed else opened)
        try:
            with cursor.copy(query) as copy:
                while block := unpacked.read(1 << 18):
                    copy.write(block)
                    report(min(opened.tell(), file.bytes))
        except database.Refused as error:
            raise BackupError(f"table {table}: {str(error).partition(chr(10))[0]}") from None
        if cursor.rowcount != file.rows:
            raise BackupError(f"table {table}: {cursor.rowcount} rows of {file.rows} were taken")


def _fetch_version(connection: Connection) -> int:
    """Of the credentials, as whoever keeps a broker in step knows it; 1 where none was ever issued."""
    row = connection.execute("SELECT version FROM configuration WHERE name = 'credentials'").fetchone()
    return 1 if row is None else int(row[0])


def _count_on(connection: Connection, followed: int) -> None:
    """Other credentials under a version that is known already would not be seen."""
    if followed > 1:
        connection.execute("UPDATE configuration SET version = version + 1 WHERE name = 'credentials' AND version = %s",
                           [followed])


def _set_counters(connection: Connection, tables: Sequence[str]) -> None:
    """New rows get ids that are free."""
    counters = [(f"pg_get_serial_sequence('{table}', 'id')", table) for table in tables
                if connection.execute("SELECT pg_get_serial_sequence(%s, a.attname) FROM pg_attribute a WHERE "
                                      "a.attrelid = to_regclass(%s) AND a.attname = 'id' AND a.attidentity <> ''",
                                      [table, table]).fetchone()]
    counters += [(f"'{sequence}'", table) for table, sequence in _COUNTERS.items() if table in tables]
    for sequence, table in counters:
        connection.execute(f"SELECT setval({sequence}, (SELECT coalesce(max(id), 0) + 1 FROM {table}), false)")  # noqa: S608
