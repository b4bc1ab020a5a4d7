"""What one data directory keeps: passwords, the API token and the ports, made at the first start."""

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from compose.programs import free_port, is_port_free, write_private

LEAST_FREE_BYTES = 128 << 20
"""Room for a fresh Postgres and its log; below this it would die of the full disk, and less clearly."""

USERS = ("ingest", "scheduler", "operator", "agent", "database", "database-api", "database-notifier", "database-scheduler")
"""Of the broker and of Postgres."""


class DataDirectoryError(Exception):
    """The data directory cannot be used; the message says why and what to do."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The file `state.json`."""

    passwords: dict[str, str]
    token: str
    ports: dict[str, int] = {}


def new_state() -> State:
    """Fresh secrets; URL-safe, so that they may stand in one."""
    return with_new_token(State(passwords={user: secrets.token_urlsafe(24) for user in USERS}, token=""))


def with_new_token(state: State) -> State:
    """`state` with a fresh API token."""
    return msgspec.structs.replace(state, token=f"dbt_{secrets.token_urlsafe(32)}")


def open_directory(data: Path) -> Path:
    """Make the data directory and its logs. Root's may be passed through, not listed: Postgres runs as another user.

    Raises DataDirectoryError.
    """
    mode = 0o711 if os.geteuid() == 0 else 0o700
    try:
        _make(data, mode)
        if data.stat().st_uid == os.geteuid() and ((data / "state.json").exists() or not any(data.iterdir())):
            data.chmod(mode)
        (data / "logs").mkdir(mode=0o700, exist_ok=True)
        disk = os.statvfs(data)
    except OSError as error:
        raise DataDirectoryError(explained(error, data) or str(error)) from None
    if (free := disk.f_bavail * disk.f_frsize) < LEAST_FREE_BYTES:
        raise DataDirectoryError(f"only {free >> 20} MB are free at {data}, and drumbeat needs {LEAST_FREE_BYTES >> 20}; "
                                 "free some space, or choose another place with --data")
    return data


def explained(error: OSError, data: Path) -> str | None:
    """What an error of the disk means and how to mend it; None for one that has nothing to do with files. Pure."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {data} is full; free some space, or choose another place with --data"
    if error.filename is None:
        return None
    return f"cannot use {error.filename}: {error.strerror}; see to its owner and mode, or choose another place with --data"


def _make(path: Path, mode: int) -> None:
    if not path.exists():
        _make(path.parent, mode)
        path.mkdir()
        path.chmod(mode)


@contextlib.contextmanager
def locked(data: Path) -> Iterator[None]:
    """Hold the data directory for one supervisor. Raises DataDirectoryError where another has it."""
    with (data / "up.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise DataDirectoryError(f"another drumbeat up (process {holder}) runs on {data}; stop it, "
                                     "or choose another --data") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def read_state(data: Path) -> State:
    """What is kept, or fresh secrets at the first start. Raises DataDirectoryError for a damaged file."""
    try:
        found = msgspec.json.decode((data / "state.json").read_bytes(), type=State)
    except FileNotFoundError:
        state = new_state()
        write_state(data, state)
        return state
    except (OSError, msgspec.DecodeError) as error:
        raise DataDirectoryError(f"cannot read {data / 'state.json'}: {error}") from None
    if set(USERS) <= set(found.passwords):
        return found
    state = msgspec.structs.replace(found, passwords=new_state().passwords | found.passwords)  # an older drumbeat had fewer
    write_state(data, state)
    return state


def write_state(data: Path, state: State) -> None:
    """Keep `state`."""
    write_private(data / "state.json", msgspec.json.format(msgspec.json.encode(state)).decode() + "\n")


def with_ports(state: State, preferred: Mapping[str, int]) -> State:
    """`state` with a free port for each name: the kept one, else the preferred one (0: none), else any that is free."""
    ports: dict[str, int] = {}
    for name, wish in preferred.items():
        taken = ports.values()
        kept = (port for port in (state.ports.get(name, 0), wish) if port and port not in taken and is_port_free(port))
        ports[name] = next(kept, 0) or free_port(taken)
    return msgspec.structs.replace(state, ports={**state.ports, **ports})


def write_env(data: Path, values: Mapping[str, str]) -> Path:
    """Write the file that client commands read, `NAME=value` lines, for our eyes only."""
    write_private(data / "env", "".join(f"{name}={value}\n" for name, value in values.items()))
    return data / "env"
