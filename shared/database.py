"""The one door to Postgres: connections, waiting for it, and the migrations.

Stores (`aggregator.store`, `scheduler.store`) import SQLAlchemy and psycopg; everything else takes what they return.
"""

import contextlib
import logging
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
import psycopg
import psycopg.conninfo

from shared import __version__, encryption, logs
from shared.settings import SettingsError

if TYPE_CHECKING:
    import sqlalchemy

log = logs.get("database")

MIGRATIONS = Path(__file__).parent / "migrations"
RETRY_SECONDS = 0.5
SAY_AGAIN_SECONDS = 300.0
"""After which the log says again that the database cannot be used."""
MIGRATION_LOCK = 0x6472_756D  # "drum", the advisory lock that one migrating service holds

if TYPE_CHECKING:
    Unavailable = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError, sqlalchemy.exc.OperationalError,
                   sqlalchemy.exc.InterfaceError, sqlalchemy.exc.InternalError, sqlalchemy.exc.TimeoutError)
    """The database cannot be reached, broke the connection off, takes nothing (disk full, read-only: see `refusal`), or all
    connections are busy: wait and try again."""
else:
    def __getattr__(name):  # noqa: ANN001, ANN202 (the type is above)
        if name != "Unavailable":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return _unavailable()


def _unavailable() -> tuple[type[Exception], ...]:
    """`Unavailable`, without loading SQLAlchemy (12 MB) for those who need none: not loaded, it has raised nothing."""
    own = psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError
    engines = sys.modules.get("sqlalchemy.exc")
    if engines is None:
        return own
    return (*own, engines.OperationalError, engines.InterfaceError, engines.InternalError, engines.TimeoutError)


Refused = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded)
"""The database is well, but does not take this row. The last is an OperationalError, so ask for `Refused` first."""

REFUSALS = {
    "53100": "its disk is full", "53200": "it is out of memory", "53300": "it has no connection left",
    "53400": "a limit of its configuration is reached", "25006": "it is read-only, perhaps a replica",
    "57P03": "it is starting up or shutting down", "58030": "its disk fails"}
"""SQLSTATE → why a database that can be reached takes nothing."""
PROBE_ROWS = 100_000
"""Some 4 MB: more than what pages and files already made have room for."""

Forbidden = psycopg.errors.InsufficientPrivilege
"""The role may not do this."""

RoleExists = (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation)
"""There is such a role; the second where two make it at once."""

LockTimeout = psycopg.errors.LockNotAvailable
"""Somebody else held a lock for longer than `lock_timeout`."""

Connection = psycopg.Connection[tuple[Any, ...]]


ALLOWED_URL = "postgresql://user:password@host:5432/name?sslmode=verify-full&sslrootcert=/path/ca.pem"
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


class DatabaseUrlError(Exception):
    """The database URL cannot be used; the message says what is allowed."""


class SchemaBehindError(SettingsError):
    """The schema is older than this drumbeat, and this user may not migrate it."""


class SchemaTooNewError(SettingsError):
    """The database was migrated by a newer drumbeat than this one, which would not understand what it finds."""


def read_url(url: str) -> str:
    """`url` as libpq takes it. Raises DatabaseUrlError unless it is `postgresql://user:password@host:5432/name`."""
    try:
        scheme, has_name = urlsplit(url).scheme, bool(urlsplit(url).path.strip("/"))
    except ValueError:
        raise DatabaseUrlError(f"database URL has brackets that do not fit; allowed: {ALLOWED_URL}") from None
    # What follows the scheme is not quoted: where a part is missing, the password may stand anywhere.
    if scheme not in ("postgresql", "postgres") or not has_name:
        wrong = "names no database" if scheme in ("postgresql", "postgres") else f"has scheme {scheme!r}"
        raise DatabaseUrlError(f"database URL {wrong}; allowed: {ALLOWED_URL}")
    url = url.replace("postgres://", "postgresql://", 1) if scheme == "postgres" else url
    try:
        told = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise DatabaseUrlError("database URL cannot be read: libpq does not know an option after the ?, or the password "
                               "holds a sign that means something (write %40 for @, %2F for /, %3F for ? and %25 for %); "
                               f"allowed: {ALLOWED_URL}") from None
    if not all(port.isdecimal() for port in str(told.get("port", "")).split(",") if port):
        raise DatabaseUrlError(f"database URL has a port that is no number; allowed: {ALLOWED_URL}")
    if (mode := told.get("sslmode", "prefer")) not in SSL_MODES:
        raise DatabaseUrlError(f"database URL has sslmode={mode}; allowed: {', '.join(SSL_MODES)}")
    return url


def explained(error: BaseException) -> str:
    """Why the database cannot be had, in one line, with the mend where TLS is the cause. Pure."""
    return encryption.explained_by_libpq(str(error))


def open_connection(url: str, name: str) -> Connection:
    """A connection of one's own, in autocommit, visible in pg_stat_activity as `name`. Raises psycopg.OperationalError."""
    return psycopg.connect(
        read_url(url), autocommit=True, application_name=name, connect_timeout=5, keepalives=1, keepalives_idle=10,
        keepalives_interval=3, keepalives_count=3, tcp_user_timeout=20_000, options="-c timezone=UTC")


def open_engine(url: str, name: str, *, pool_size: int = 5) -> "sqlalchemy.Engine":
    """A pooled SQLAlchemy engine; connections are checked before use and speak UTC."""
    import sqlalchemy

    address = read_url(url).replace("postgresql://", "postgresql+psycopg://", 1)
    return sqlalchemy.create_engine(
        address, pool_size=pool_size, max_overflow=5, pool_pre_ping=True, pool_timeout=5, json_deserializer=msgspec.json.decode,
        connect_args={"application_name": name, "connect_timeout": 5, "options": "-c timezone=UTC -c jit=off"})


def refusal(error: BaseException) -> str:
    """Why a database that can be reached takes nothing, in words with the SQLSTATE; empty for any other error."""
    state = getattr(getattr(error, "orig", error), "sqlstate", None) or ""
    return f"{REFUSALS[state]} (SQLSTATE {state})" if state in REFUSALS else ""


def probe_room(connection: Connection) -> None:
    """Find out whether the database takes some megabytes, which are not kept. Raises `Unavailable` where it does not."""
    with connection.transaction(force_rollback=True):
        connection.execute("CREATE TEMP TABLE drumbeat_probe AS SELECT n FROM generate_series(1, %s) AS s (n)", [PROBE_ROWS])


def wait_until_ready(url: str, name: str, is_stopping: Callable[[], bool], *, max_delay: float = 15.0,
                     probe: Callable[[Connection], None] | None = None) -> bool:
    """Wait for the database with back-off, saying so; True once it answers, False where `is_stopping` came first.

    `probe` raises `Unavailable` while the database is not fit for what it is wanted for, such as `probe_room`.
    """
    delay, told, told_at = 0.2, "", 0.0
    while not is_stopping():
        try:
            with open_connection(url, name) as connection:
                if probe is not None:
                    probe(connection)
                if told:
                    logs.event(log, "database is there")
                return True
        except _unavailable() as error:
            why = refusal(error) or "not there"
            if told != why or time.monotonic() - told_at >= SAY_AGAIN_SECONDS:
                logs.event(log, "database cannot be used, waiting", 30, why=why, error=explained(error))
                told, told_at = why, time.monotonic()
        pause(random.uniform(delay / 2, delay), is_stopping)  # noqa: S311
        delay = min(delay * 2, max_delay)
    return False


def pause(seconds: float, is_stopping: Callable[[], bool]) -> None:
    """Sleep, but no longer than until `is_stopping`, which is asked every half second."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not is_stopping():
        time.sleep(min(left, 0.5))


def keep_working(url: str, name: str, work: Callable[[Connection], None], is_stopping: Callable[[], bool],
                 told: logging.Logger) -> None:
    """Call `work` with a connection to the migrated schema, and again on a new one whenever the database went away.

    Until `is_stopping`, which is asked at least every few seconds. `told` is the service's log.
    """
    while not is_stopping():
        if not wait_until_ready(url, name, is_stopping):
            return
        try:
            if not wait_for_schema(url, is_stopping):
                return
            with open_connection(url, name) as connection:
                connection.execute("SET statement_timeout = '30s'")
                connection.execute("SET idle_in_transaction_session_timeout = '30s'")
                work(connection)
        except _unavailable() as error:
            logs.event(told, "database went away", logging.WARNING, error=explained(error))
            time.sleep(RETRY_SECONDS)


@contextlib.contextmanager
def _migration_lock(url: str) -> Iterator[Connection]:
    with open_connection(url, "drumbeat-migrate") as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
        yield connection


def wait_for_schema(url: str, is_stopping: Callable[[], bool]) -> bool:
    """Migrate the schema, or wait until somebody has who may, saying so; False where `is_stopping` came first.

    Raises SchemaTooNewError.
    """
    told_at = None
    while not is_stopping():
        try:
            migrate(url)
        except SchemaBehindError as error:
            if told_at is None or time.monotonic() - told_at >= SAY_AGAIN_SECONDS:
                logs.event(log, "waiting for the schema", logging.INFO if told_at is None else logging.WARNING, why=str(error))
                told_at = time.monotonic()
            pause(RETRY_SECONDS, is_stopping)
        else:
            return True
    return False


def read_schema(connection: Connection) -> str:
    """The revision of the database's schema; empty where there is none. Raises SchemaBehindError where it may not be read."""
    if connection.execute("SELECT to_regclass('schema_version') IS NULL").fetchone() == (True,):
        return ""
    try:
        row = connection.execute("SELECT version_num FROM schema_version").fetchone()
    except Forbidden:
        raise SchemaBehindError(_migrate_first(connection, "that this user may not read")) from None
    return "" if row is None else str(row[0])


def _check(connection: Connection, wanted: str) -> bool:
    """Whether there is something to migrate. Raises SchemaTooNewError, and SchemaBehindError where this user may not."""
    known = max(path.name[:4] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
    present = read_schema(connection)
    if present > known:
        raise SchemaTooNewError(f"the database has schema {present}, this drumbeat {__version__} knows {known} and older: "
                                "upgrade drumbeat here, or give another --database-url")
    if present >= (known if wanted == "head" else wanted):
        return False
    owned = "pg_has_role((SELECT relowner FROM pg_class WHERE oid = 'schema_version'::regclass), 'USAGE')"
    free = "has_schema_privilege(current_schema(), 'CREATE')"
    if connection.execute(f"SELECT {owned if present else free}").fetchone() != (True,):
        found = f"{present or 'nothing'}, and this drumbeat {__version__} needs {known}"
        raise SchemaBehindError(_migrate_first(connection, found))
    return True


def _migrate_first(connection: Connection, found: str) -> str:
    return (f"the database has schema {found}; the user {connection.info.user} may not migrate it: start drumbeat ingest, or run "
            "drumbeat migrate, with the --database-url of the schema's owner")


def migrate(url: str, revision: str = "head") -> list[str]:
    """Bring the schema to `revision`, forward only, one service at a time; the revisions that were applied.

    Where it is there, nothing is locked and no right needed. Raises SchemaTooNewError, SchemaBehindError.
    """
    with open_connection(url, "drumbeat-migrate") as connection:
        if not _check(connection, revision):
            return []
    logging.getLogger("alembic").setLevel(logging.WARNING)  # what it did is told below, in one line
    import alembic.command
    import alembic.config
    import sqlalchemy
    from sqlalchemy.pool import NullPool

    applied: list[str] = []
    with _migration_lock(url) as locked:
        if not _check(locked, revision):  # somebody else was first
            return []
        engine = sqlalchemy.create_engine(
            read_url(url).replace("postgresql://", "postgresql+psycopg://", 1), poolclass=NullPool)
        config = alembic.config.Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            config.attributes["applied"] = applied
            alembic.command.upgrade(config, revision)
    if applied:
        logs.event(log, "schema migrated", revisions=",".join(applied))
    return applied
