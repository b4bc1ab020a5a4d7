"""Built-in task `signal_process`: a process is meant by its pid and its start, so that a reused pid is never hit."""

import fnmatch
import os
import signal
from collections.abc import Mapping
from typing import Any

from agent.collectors import procfs
from agent.collectors.processes import stat
from agent.tasks.arguments import Refusal, checked
from agent.tasks.entries import Argument, SignalProcess, number_of
from agent.tasks.work import Outcome

TOLERANCE_SECONDS = 2.0


def read_start(pid: int) -> int:
    """When a process began, in clock ticks since boot; 0 where there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 (a file of /proc)
            return stat(file.read()).start
    except (OSError, ValueError, IndexError):
        return 0


def requested(given: Mapping[str, Any], entry: SignalProcess) -> tuple[int, float, str]:
    """(pid, Unix seconds of its start, signal) of a request. Raises Refusal."""
    started_at = given.get("started_at")
    if not isinstance(started_at, int | float) or isinstance(started_at, bool):
        raise Refusal("arguments.started_at: must be the Unix seconds of the process's start")
    rest = checked({name: value for name, value in given.items() if name != "started_at"}, {
        "pid": Argument(type="integer", min=2, max=2**22),
        "signal": Argument(type="enum", values=entry.signals, default=entry.signals[0])})
    return int(rest["pid"]), float(started_at), str(rest["signal"])


def send(entry: SignalProcess, pid: int, started_at: float, name: str) -> Outcome:
    """Send the signal, where the process is the one that is meant and one that may be signalled."""
    try:
        file = os.pidfd_open(pid)
    except ProcessLookupError:
        return Outcome("failed", f"arguments.pid: there is no process {pid}")
    try:
        wrong = _mismatch(entry, pid, started_at)
        if wrong:
            return Outcome("rejected", wrong)
        signal.pidfd_send_signal(file, number_of(name))
    except OSError as error:
        return Outcome("failed", f"process {pid}: {error.strerror}")
    finally:
        os.close(file)
    return Outcome("completed", output=f"SIG{name} was sent to process {pid}\n")


def _mismatch(entry: SignalProcess, pid: int, started_at: float) -> str:
    """Why it is not the process; empty where it is. The open pidfd keeps the pid from meaning another one meanwhile."""
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 (a file of /proc)
        found = stat(file.read())
    boot_at = procfs.number_after(procfs.read_text("/proc/stat").encode(), b"btime") or 0
    if abs(boot_at + found.start / os.sysconf("SC_CLK_TCK") - started_at) > TOLERANCE_SECONDS:
        return f"arguments.started_at: process {pid} began at another time; it is not the one that was meant"
    if pid == os.getpid() or not any(fnmatch.fnmatchcase(found.name, pattern) for pattern in entry.names):
        return f"arguments.pid: process {pid} is not allowed; allowed names: {', '.join(entry.names)}"
    return ""
