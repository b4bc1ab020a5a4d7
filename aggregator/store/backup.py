"""Backups of configuration and alert history: a directory of CSV files as COPY writes them, with a manifest to check them by.

Not in it: samples and rollups, which are large, and which Postgres' own means back up. A backup appears under its name only when
it is whole. `aggregator.store.restore` reads it back.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from psycopg import sql

from shared import __version__
from shared.database import Connection

FORMAT = 1
PREFIX = "backup-"
MANIFEST = "manifest.json"
TABLES = ("configuration", "retention_policy", "health_profile", "host", "token", "rule", "rule_revision", "rule_override",
          "silence", "maintenance_window", "dependency", "notification_channel", "notification_route", "collection_config",
          "host_config", "schedule", "schedule_failing", "alert", "alert_event", "audit_log")
"""What is backed up, in the order in which it can be restored."""
_SECRET = {("notification_channel", "secret"): "'{\"url\": \"\"}'"}
"""Columns left out unless secrets are wanted, and what stands there instead."""


class BackupError(Exception):
    """A backup cannot be written or restored; the message says why and what to do."""


class File(Struct, frozen=True):
    """The file of one table."""

    rows: int
    bytes: int
    sha256: str
    columns: list[Annotated[str, Meta(pattern=r"^[a-z_0-9]{1,63}$")]]


class Manifest(Struct, frozen=True, kw_only=True):
    """What a backup holds."""

    format: int
    made_at: datetime
    revision: Annotated[str, Meta(pattern=r"^[0-9]{4}$")]
    version: str
    secrets: bool
    tables: dict[str, File]

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.tables.values())


def write(connection: Connection, directory: Path, *, secrets: bool, check: Callable[[], None] = lambda: None) -> Path:
    """Write a backup into a new directory below `directory`, which must be; its path. `check` is called often and may raise.

    All tables are as of one moment. Raises OSError.
    """
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        row = connection.execute("SELECT now(), (SELECT version_num FROM schema_version)").fetchone()
        assert row is not None  # noqa: S101 (constants)
        made_at, revision = row
        final = directory / f"{PREFIX}{made_at.astimezone(UTC):%Y%m%dT%H%M%S%fZ}"
        with _whole(final) as partial:
            files = {table: _write_table(connection, table, partial / f"{table}.csv", secrets=secrets, check=check)
                     for table in TABLES}
            manifest = Manifest(format=FORMAT, made_at=made_at, revision=revision, version=__version__, secrets=secrets,
                                tables=files)
            _write_file(partial / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    return final


def delete_oldest(directory: Path, keep: int) -> list[str]:
    """Delete all but the newest `keep` backups of a directory; the names of those deleted. What is no backup stays."""
    found = sorted(path for path in directory.glob(f"{PREFIX}*") if (path / MANIFEST).is_file() and not path.is_symlink())
    old = found[:-keep]
    for path in old:
        (path / MANIFEST).unlink()  # without it, what is left of an interrupted deletion is no backup
        shutil.rmtree(path)
    return [path.name for path in old]


def read(directory: Path) -> Manifest:
    """The manifest of a backup, every file held to its checksum. Raises BackupError."""
    try:
        manifest = msgspec.json.decode((directory / MANIFEST).read_bytes(), type=Manifest)
    except OSError as error:
        raise BackupError(f"{directory} is no backup: {MANIFEST} cannot be read ({error.strerror})") from None
    except msgspec.DecodeError as error:
        raise BackupError(f"{directory / MANIFEST} is spoilt: {error}") from None
    if manifest.format != FORMAT:
        raise BackupError(f"the backup has format {manifest.format}, drumbeat {__version__} reads {FORMAT}: "
                          f"use version {manifest.version}")
    if unknown := sorted(set(manifest.tables) ^ set(TABLES)):
        raise BackupError(f"the backup and this drumbeat do not have the same tables ({', '.join(unknown)}): "
                          f"use version {manifest.version}")
    for table, file in manifest.tables.items():
        _check(directory / f"{table}.csv", file)
    return manifest


@contextlib.contextmanager
def _whole(final: Path) -> Iterator[Path]:
    """A directory that gets its name when everything in it is written, and goes away where that fails."""
    partial = final.with_name(f".partial-{final.name}")
    partial.mkdir(mode=0o700)
    try:
        yield partial
        _sync(partial)
        partial.rename(final)
        _sync(final.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write_table(connection: Connection, table: str, path: Path, *, secrets: bool, check: Callable[[], None]) -> File:
    columns = columns_of(connection, table)
    shown = sql.SQL(", ").join(
        sql.SQL(_SECRET[table, column]) if not secrets and (table, column) in _SECRET else sql.Identifier(column)
        for column in columns)
    query = sql.SQL("COPY (SELECT {} FROM {} ORDER BY 1, 2) TO STDOUT (FORMAT csv)").format(shown, sql.Identifier(table))
    digest, size = hashlib.sha256(), 0
    with connection.cursor() as cursor, path.open("xb") as file:
        path.chmod(0o600)
        with cursor.copy(query) as copy:
            for block in copy:
                file.write(block)
                digest.update(block)
                size += len(block)
                check()
        os.fsync(file.fileno())
        return File(cursor.rowcount, size, digest.hexdigest(), columns)


def columns_of(connection: Connection, table: str) -> list[str]:
    return [row[0] for row in connection.execute(
        """SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
             AND attgenerated = '' ORDER BY attnum""", [table])]


def _check(path: Path, file: File) -> None:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror}") from None
    if digest.hexdigest() != file.sha256:
        raise BackupError(f"{path} is spoilt: its checksum is not the manifest's; nothing was restored")


def _write_file(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        path.chmod(0o600)
        file.write(data)
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
