"""Starting and stopping one program: own process group, another account where asked, and never an orphan.

A `Program` is a description; `spawn` makes a process of it that dies with its parent (even when that is killed with
-9), `stop` ends it politely, and with SIGKILL after its grace.
"""

import contextlib
import ctypes
import dataclasses
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Account:
    """The user that a program runs as, where it is not our own."""

    name: str
    uid: int
    gid: int


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """What to run. `env` is the whole environment; `grace_seconds` passes between `stop_signal` and SIGKILL."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    grace_seconds: float = 10.0


def spawn(program: Program, output: int | IO[bytes] = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start `program` with both outputs on `output`; call from a thread that lives as long as the program should.

    Raises OSError where the program cannot be started.
    """
    as_user = program.account
    return subprocess.Popen(
        list(program.argv), env=dict(program.env), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        cwd="/", process_group=0, user=as_user.uid if as_user else None, group=as_user.gid if as_user else None,
        extra_groups=None if as_user is None else [],
        preexec_fn=_dies_with(os.getpid(), program.orphan_signal))  # noqa: PLW1509 (it only calls libc)


def _dies_with(parent: int, orphan_signal: signal.Signals) -> Callable[[], None]:
    libc = ctypes.CDLL(None)

    def set_death_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(orphan_signal))
        if os.getppid() != parent:
            os.kill(os.getpid(), orphan_signal)

    return set_death_signal


def stop(process: subprocess.Popen[bytes], program: Program, is_hasty: Callable[[], bool] = lambda: False) -> int:
    """End the process with its signal, and with SIGKILL after its grace; its exit status.

    From when `is_hasty` says so it has one second left.
    """
    deadline = time.monotonic() + program.grace_seconds
    if process.poll() is None:
        process.send_signal(program.stop_signal)
    while process.poll() is None and time.monotonic() < deadline:
        if is_hasty():
            deadline = min(deadline, time.monotonic() + 1.0)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
    kill(process)
    return process.wait()


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the process and its group; returns once it is reaped."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port(taken: Collection[int] = ()) -> int:
    """A TCP port on loopback that nobody uses at this moment, and that is not in `taken`.

    Below the range from which the kernel gives ports to outgoing connections: a port that is kept for the next start
    would sooner or later be in use by one of those.
    """
    ports = random.sample(range(20_000, 32_000), 1000)
    return next((port for port in ports if port not in taken and is_port_free(port)), 0) or _any_port()


def _any_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_port_free(port: int, address: str = "127.0.0.1") -> bool:
    """Whether a server may listen on this TCP port of an address of ours."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def write_private(path: Path, text: str, owner: os.stat_result | None = None) -> None:
    """Write a file that only we, or `owner` where we are root, may read: whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        if owner is not None and os.geteuid() == 0:
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
    partial.replace(path)
