"""Runs a program of the tasks file: without a shell, in a process group of its own, with the environment of its entry alone.

Asked to stop, the group gets SIGTERM, and five seconds later SIGKILL. When the program has ended, what it left behind in its
group is killed: nothing of a task outlives it.
"""

import contextlib
import hashlib
import math
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

from agent.tasks.accounts import read_account
from agent.tasks.arguments import Refusal
from agent.tasks.entries import Program
from agent.tasks.output import Tail
from agent.tasks.work import Control, Outcome

GRACE_SECONDS = 5.0
LOOK_SECONDS = 0.05
FLOOD_SECONDS = 0.002
PIECE = 65_536
LAST_PIECES = 64
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(program: Program, argv: Sequence[str], execution: str, control: Control) -> Outcome:
    """Start it, wait for its end, and tell how it ended."""
    try:
        _check_digest(program)
        identity = _identity(program.user)
    except Refusal as refusal:
        return Outcome("rejected", str(refusal))
    environ = {"PATH": PATH, "DRUMBEAT_EXECUTION": execution} | program.env
    try:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
                                   cwd=program.cwd, env=environ, start_new_session=True, **identity)
    except (OSError, subprocess.SubprocessError) as error:
        where = getattr(error, "filename", None) or argv[0]
        return Outcome("failed", f"{where}: {getattr(error, 'strerror', None) or error}")
    control.note(process.pid)
    tail = Tail(program.max_output)
    _attend(process, control, tail)
    return _outcome(process.returncode, control, tail)


def _attend(process: "subprocess.Popen[bytes]", control: Control, tail: Tail) -> None:
    """Read what it writes until it ends; stop it when that is asked for."""
    kill_at, is_open = math.inf, True
    with process.stdout as pipe:  # type: ignore[union-attr]
        os.set_blocking(pipe.fileno(), False)
        waiting = select.poll()
        waiting.register(pipe, select.POLLIN)
        while not _has_ended(process.pid):
            if control.asked is not None and (kill_at == math.inf or time.monotonic() >= kill_at):
                _signal_group(process.pid, signal.SIGTERM if kill_at == math.inf else signal.SIGKILL)
                kill_at = time.monotonic() + GRACE_SECONDS
            size = _read_piece(pipe.fileno(), tail) if is_open and waiting.poll(LOOK_SECONDS * 1000) else -1
            is_open = is_open and size != 0
            if size == PIECE or not is_open:  # one that floods us is slowed down; it must not keep the ticks from their time
                time.sleep(FLOOD_SECONDS if is_open else LOOK_SECONDS)
        _signal_group(process.pid, signal.SIGKILL)  # before it is reaped: until then the group cannot be another one
        for _ in range(LAST_PIECES):
            if _read_piece(pipe.fileno(), tail) <= 0:
                break
    process.wait()


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _read_piece(file: int, tail: Tail) -> int:
    """Bytes read; 0 at the end, -1 where there is nothing yet."""
    try:
        piece = os.read(file, PIECE)
    except BlockingIOError:
        return -1
    tail.add(piece)
    return len(piece)


def _outcome(code: int, control: Control, tail: Tail) -> Outcome:
    shown = code if code >= 0 else 128 - code
    if control.asked is not None:
        return Outcome(control.asked.state, control.asked.reason, shown, tail.text())
    if code == 0:
        return Outcome("completed", "", 0, tail.text())
    return Outcome("failed", f"exit status {code}" if code > 0 else f"killed by signal {-code}", shown, tail.text())


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _check_digest(program: Program) -> None:
    """Raises Refusal where the program is not the one that the tasks file means."""
    if not program.sha256:
        return
    try:
        with open(program.argv[0], "rb") as file:  # noqa: PTH123 (a path of the tasks file)
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Refusal(f"{program.argv[0]}: {error.strerror}") from None
    if found != program.sha256:
        raise Refusal(f"{program.argv[0]}: its SHA-256 is not the one in the tasks file")


def _identity(user: str) -> Mapping[str, Any]:
    """What Popen needs to run as `user`. Raises Refusal."""
    if not user:
        return {}
    account = read_account(user)
    if account is None:
        raise Refusal(f"user: /etc/passwd has no {user!r}")
    if os.geteuid() == account.uid:
        return {}
    if os.geteuid() != 0:
        raise Refusal("user: only an agent that runs as root can run tasks as another user")
    return {"user": account.uid, "group": account.gid, "extra_groups": account.groups}
