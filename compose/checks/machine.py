"""Checks of this machine: file handles, whether the clock is disciplined, and the disk of the data directory."""

import ctypes
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from compose.checks.finding import Finding, fail, ok, warn

FILE_HANDLES = 4096
FREE_SHARE_WARN = 0.10
FREE_SHARE_FAIL = 0.03
_TIME_ERROR = 5
_STA_UNSYNC = 0x0040
_STATUS_OFFSET = 5 * ctypes.sizeof(ctypes.c_long)


def check(data: Path) -> Iterator[Finding]:
    """Findings about this machine."""
    yield file_handles(*resource.getrlimit(resource.RLIMIT_NOFILE))
    yield clock(read_clock_state())
    place = data if data.exists() else next(parent for parent in data.absolute().parents if parent.exists())
    disk = os.statvfs(place)
    yield disk_space(place, disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)


def file_handles(soft: int, hard: int) -> Finding:
    """A broker needs one handle for each host; ingest and the API a few dozen. Pure."""
    shown = "unlimited" if soft == resource.RLIM_INFINITY else str(soft)
    if soft == resource.RLIM_INFINITY or soft >= FILE_HANDLES:
        return ok("file handles", f"limit {shown}")
    most = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    return warn("file handles", f"limit {shown} (may be raised to {most}): a broker needs one for each host",
                f"run ulimit -n {FILE_HANDLES * 4} before starting the broker, or LimitNOFILE= in its systemd unit")


def clock(is_disciplined: bool | None) -> Finding:
    """Samples carry the host's own time, so clocks must agree. Pure."""
    if is_disciplined is None:
        return warn("clock", "this system does not say whether its clock is kept by NTP",
                    "see to it that chrony, systemd-timesyncd or ntpd runs")
    if is_disciplined:
        return ok("clock", "kept by NTP")
    return warn("clock", "not kept by NTP, as the kernel sees it: samples more than 300 s ahead are refused",
                "start chrony or systemd-timesyncd (in a container or virtual machine: on the machine that carries it)")


def read_clock_state() -> bool | None:
    """Whether the kernel's clock is disciplined; None where the system does not say."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return None
    timex = ctypes.create_string_buffer(256)
    state = adjtimex(timex)
    if state < 0:
        return None
    status = int.from_bytes(timex.raw[_STATUS_OFFSET:_STATUS_OFFSET + 4], "little")
    return state != _TIME_ERROR and not status & _STA_UNSYNC


def disk_space(place: Path, free: int, total: int) -> Finding:
    """Spool, embedded Postgres and broker live in the data directory. Pure."""
    text = f"{free / 2**30:.1f} GiB of {total / 2**30:.1f} GiB free at {place}"
    mend = "free some space, or choose another place with --data"
    if total and free / total < FREE_SHARE_FAIL:
        return fail("disk", text, mend)
    if total and free / total < FREE_SHARE_WARN:
        return warn("disk", text, mend)
    return ok("disk", text)
