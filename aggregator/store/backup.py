"""Backups: a directory of CSV files as COPY writes them, with a manifest to check them by.

Configuration and alert history, or with history the whole store; history is compressed (gzip), partition by partition. All of it
is as of one moment, and nobody waits for it. A backup appears under its name only when it is whole.
`aggregator.store.restore` reads it back.
"""

import contextlib
import gzip
import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated, cast

import msgspec
from msgspec import Meta, Struct
from psycopg import sql

from aggregator.store import partitions
from shared import __version__
from shared.database import Connection

FORMAT = 2
PREFIX = "backup-"
MANIFEST = "manifest.json"
TABLES = ("configuration", "retention_policy", "health_profile", "host", "token", "enrolment_token", "agent_credential", "rule",
          "rule_revision", "rule_override", "silence", "maintenance_window", "dependency", "notification_channel",
          "notification_route", "collection_config", "host_config", "schedule", "schedule_failing", "alert", "alert_event",
          "audit_log")
"""What every backup holds, in the order in which it can be restored."""
HISTORY = ("layout", "host_now", "slot", "stream", "gap", "reject", "snapshot", "rollup_due", "inbox", "notification_group",
           "notification", "notification_attempt", "execution", "execution_event", "trigger_key", "anomaly", "anomaly_run",
           "detector_state", *partitions.POLICIES)
"""What the whole store holds besides, in the same order."""
LEFT_OUT = ("outbox", "schedule_outbox", "departed_host", "schema_version")
"""What is about to be said on the bus: old news once a backup is restored. What it says is in the tables."""

_SECRET = {("notification_channel", "secret"): "'{\"url\": \"\"}'"}
_HELD = {("slot", "owner"): "''", ("slot", "expires_at"): "'-infinity'"}
"""Columns left out (secrets unless they are wanted; by whom a slot was held), and what stands there instead."""
_LEVEL = 1
_BLOCK = 1 << 18

Report = Callable[[int, int], None]
"""Called often with how many bytes are done, of how many, about."""


class BackupError(Exception):
    """A backup cannot be written or restored; the message says why and what to do."""


class File(Struct, frozen=True, omit_defaults=True):
    """One file. `since`: the beginning of the partition that it is; None where it is a table."""

    rows: int
    bytes: int
    sha256: str
    columns: list[Annotated[str, Meta(pattern=r"^[a-z_0-9]{1,63}$")]]
    table: Annotated[str, Meta(pattern=r"^[a-z_0-9]{0,63}$")] = ""
    since: datetime | None = None

    @property
    def is_compressed(self) -> bool:
        return self.table in HISTORY


class Manifest(Struct, frozen=True, kw_only=True):
    """What a backup holds: `tables` are its files, by their names without ending."""

    format: int
    made_at: datetime
    revision: Annotated[str, Meta(pattern=r"^[0-9]{4}$")]
    version: str
    secrets: bool
    tables: dict[Annotated[str, Meta(pattern=r"^[a-z_0-9]{1,63}$")], File]
    history: bool = False

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.tables.values())

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.tables.values())


def write(connection: Connection, directory: Path, *, secrets: bool, history: bool = False,
          check: Callable[[], None] = lambda: None, report: Report = lambda _done, _all: None) -> tuple[Path, Manifest]:
    """Write a backup into a new directory below `directory`, which must be; its path, and what it holds.

    `check` is called often and may raise. Raises OSError.
    """
    wanted = [*TABLES, *(HISTORY if history else ())]
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        # Before the snapshot: what is there now stays until the end, and nothing that comes later is missed.
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.SQL(", ").join(map(sql.Identifier, wanted))))
        row = connection.execute("SELECT now(), (SELECT version_num FROM schema_version)").fetchone()
        assert row is not None  # noqa: S101 (constants)
        made_at, revision = row
        final = directory / f"{PREFIX}{made_at.astimezone(UTC):%Y%m%dT%H%M%S%fZ}"
        with _whole(final) as partial:
            files = _write_all(connection, _pieces(connection, wanted), partial, secrets=secrets, check=check, report=report)
            manifest = Manifest(format=FORMAT, made_at=made_at, revision=revision, version=__version__, secrets=secrets,
                                history=history, tables=files)
            _write_file(partial / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    return final, manifest


def delete_oldest(directory: Path, keep: int) -> list[str]:
    """Delete all but the newest `keep` backups of a directory; the names of those deleted. What is no backup stays."""
    found = sorted(path for path in directory.glob(f"{PREFIX}*") if (path / MANIFEST).is_file() and not path.is_symlink())
    old = found[:-keep]
    for path in old:
        (path / MANIFEST).unlink()  # without it, what is left of an interrupted deletion is no backup
        shutil.rmtree(path)
    return [path.name for path in old]


def read(directory: Path, report: Report = lambda _done, _all: None) -> Manifest:
    """The manifest of a backup, every file held to its checksum. Raises BackupError."""
    try:
        manifest = msgspec.json.decode((directory / MANIFEST).read_bytes(), type=Manifest)
    except OSError as error:
        raise BackupError(f"{directory} is no backup: {MANIFEST} cannot be read ({error.strerror})") from None
    except msgspec.DecodeError as error:
        raise BackupError(f"{directory / MANIFEST} is spoilt: {error}") from None
    if not 1 <= manifest.format <= FORMAT:
        raise BackupError(f"the backup has format {manifest.format}, drumbeat {__version__} reads 1 to {FORMAT}: "
                          f"use version {manifest.version}")
    if unknown := sorted({file.table or name for name, file in manifest.tables.items()} - {*TABLES, *HISTORY}):
        raise BackupError(f"the backup holds {', '.join(unknown)}, which this drumbeat does not know: "
                          f"use version {manifest.version}")
    done = 0
    for name, file in manifest.tables.items():
        report(done, manifest.bytes)
        _check(path_of(directory, name, file), file)
        done += file.bytes
    return manifest


def path_of(directory: Path, name: str, file: File) -> Path:
    """Where a file of a backup is."""
    return directory / f"{name}.csv{'.gz' if file.is_compressed else ''}"


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


def _pieces(connection: Connection, wanted: list[str]) -> dict[str, tuple[str, datetime | None, int]]:
    """What is written, by file name: of which table, since when (a partition), and its size about."""
    parts = [part for part in partitions.fetch_all(connection) if part.table in wanted]
    pieces: dict[str, tuple[str, datetime | None]] = {name: (name, None) for name in wanted if name not in partitions.POLICIES}
    pieces |= {part.name: (part.table, part.since) for part in parts}
    sizes: dict[str, int] = dict(connection.execute("SELECT name, pg_table_size(to_regclass(name)) FROM unnest(%s::text[]) name",
                                    [list(pieces)]).fetchall())
    return {name: (*piece, sizes[name]) for name, piece in pieces.items()}


def _write_all(connection: Connection, pieces: Mapping[str, tuple[str, datetime | None, int]], directory: Path, *, secrets: bool,
               check: Callable[[], None], report: Report) -> dict[str, File]:
    files, done, total = {}, 0, sum(size for *_, size in pieces.values())
    for name, (table, since, size) in pieces.items():
        def told(count: int, before: int = done, most: int = size) -> None:
            check()
            report(before + min(count, most), total)

        files[name] = _write_table(connection, name, table, since, directory, secrets=secrets, told=told)
        done += size
    return files


def _write_table(connection: Connection, name: str, table: str, since: datetime | None, directory: Path, *, secrets: bool,
                 told: Callable[[int], None]) -> File:
    replaced = _HELD if secrets else _HELD | _SECRET
    columns = columns_of(connection, name)
    shown = sql.SQL(", ").join(sql.SQL(replaced[table, column]) if (table, column) in replaced else sql.Identifier(column)
                               for column in columns)
    order = sql.SQL(" ORDER BY 1, 2" if table in TABLES else "")
    query = sql.SQL("COPY (SELECT {} FROM {}{}) TO STDOUT (FORMAT csv)").format(shown, sql.Identifier(name), order)
    draft = File(0, 0, "", columns, table, since)
    with connection.cursor() as cursor, path_of(directory, name, draft).open("xb") as opened:
        os.fchmod(opened.fileno(), 0o600)
        file, count = _Digesting(opened), 0
        with _packed(file, is_compressed=draft.is_compressed) as packed, cursor.copy(query) as copy:
            told(0)
            for block in copy:
                packed.write(block)
                if (count := count + len(block)) // _BLOCK != (count - len(block)) // _BLOCK:
                    told(count)
        opened.flush()
        os.fsync(opened.fileno())
        return File(cursor.rowcount, file.size, file.digest.hexdigest(), columns, table, since)


class _Digesting(io.RawIOBase):
    """Passes on what is written, and keeps its size and checksum."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.size, self.digest = file, 0, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        block = memoryview(data).cast("B")  # type: ignore[arg-type]
        self._file.write(block)
        self.digest.update(block)
        self.size += len(block)
        return len(block)


@contextlib.contextmanager
def _packed(file: _Digesting, *, is_compressed: bool) -> Iterator[IO[bytes]]:
    """Something to write to in pieces of any size."""
    if not is_compressed:
        with io.BufferedWriter(file, _BLOCK) as plain:
            yield cast("IO[bytes]", plain)
        return
    with gzip.GzipFile("", "wb", _LEVEL, cast("IO[bytes]", file), mtime=0) as packer, io.BufferedWriter(
            cast("io.RawIOBase", packer), _BLOCK) as buffered:
        yield cast("IO[bytes]", buffered)


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
