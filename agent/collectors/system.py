"""The system as a whole: uptime, users, file handles, clock offset."""

import struct
from pathlib import Path
from typing import Any

from agent.collectors import Reading, procfs
from agent.sampling import percent

USERS_SECONDS = 30.0
USER_PROCESS = 7
UTMP_BYTES = 384
TIME_ERROR = 5
STATUS_NANO = 0x2000


def users(utmp: bytes) -> int:
    """Sessions of users in /run/utmp (records of 384 bytes on Linux, type 7)."""
    starts = range(0, len(utmp) - UTMP_BYTES + 1, UTMP_BYTES)
    return sum(struct.unpack_from("=h", utmp, start)[0] == USER_PROCESS for start in starts)


def open_files(text: bytes) -> dict[str, float]:
    """/proc/sys/fs/file-nr: handles in use, 0, limit."""
    used, _, limit = map(int, text.split())
    return {"system.open_files_percent": percent(used, limit)}


class KernelClock:
    """The kernel's NTP discipline, asked through adjtimex(2) with nothing to adjust."""

    def __init__(self) -> None:
        import ctypes

        self._ctypes = ctypes
        self._timex: Any = type("timex", (ctypes.Structure,), {"_fields_": [
            ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long), ("maxerror", ctypes.c_long),
            ("esterror", ctypes.c_long), ("status", ctypes.c_int), ("rest", ctypes.c_char * 256)]})
        self._adjtimex = ctypes.CDLL(None).adjtimex

    def offset(self) -> float | None:
        """Seconds that the clock is off; None where nothing keeps it in time."""
        answer = self._timex()
        state = self._adjtimex(self._ctypes.byref(answer))
        return clock_offset(state, answer.status, answer.offset)


def clock_offset(state: int, status: int, offset: int) -> float | None:
    """Seconds from adjtimex's answer: microseconds, or nanoseconds where the status says so."""
    if state < 0 or state == TIME_ERROR:
        return None
    return round(offset / (1e9 if status & STATUS_NANO else 1e6), 6)


class System:
    """Collector `system`. `clock`: the kernel's clock; None where this system has none to ask."""

    name = "system"
    interval = 0.0
    may_block = False

    def __init__(self, root: str = "/", clock: KernelClock | None = None) -> None:
        self._root, self._clock = root, clock
        self._files = procfs.Files(root)
        self._users: int | None = None
        self._users_at = float("-inf")

    def open(self) -> str | None:
        return None

    def collect(self, now: float, monotonic: float) -> Reading:  # noqa: ARG002 (one signature for all collectors)
        uptime = float(self._files.read("proc/uptime").split(None, 1)[0])
        metrics: dict[str, float] = {"system.uptime_seconds": round(uptime)}
        if monotonic - self._users_at >= USERS_SECONDS:
            self._users_at, self._users = monotonic, read_users(self._root)
        if self._users is not None:
            metrics["system.users"] = self._users
        if handles := self._files.read_optional("proc/sys/fs/file-nr"):
            metrics |= open_files(handles)
        offset = self._clock.offset() if self._clock is not None else None
        if offset is not None:
            metrics["system.clock_offset_seconds"] = offset
        return Reading(metrics)

    def close(self) -> None:
        self._files.close()


def read_users(root: str) -> int | None:
    """Users logged in, from utmp; where a system has it no more, from logind's sessions; else None."""
    try:
        with Path(root, "run/utmp").open("rb") as file:
            return users(file.read(UTMP_BYTES * 1000))
    except OSError:
        pass
    base = f"{root}/run/systemd/sessions"
    if not Path(base).is_dir():
        return None
    sessions = [procfs.read_text(f"{base}/{name}") for name in procfs.read_names(base) if name.isalnum()]
    return sum("\nCLASS=user\n" in f"\n{session}\n" for session in sessions)
