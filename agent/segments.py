"""The files of a spool: segments with their ages, the lock that keeps a second writer out, small durable files."""

import dataclasses
import errno
import fcntl
import os
from pathlib import Path

MAX_STEP_SECONDS = 86_400.0


class SpoolError(Exception):
    """The spool cannot be opened; the message names the directory and what to do. `is_in_use`: another agent has it."""

    def __init__(self, message: str, *, is_in_use: bool = False) -> None:
        super().__init__(message)
        self.is_in_use = is_in_use


@dataclasses.dataclass(slots=True)
class Segment:
    """One file: its first and last seq, its size, and when (monotonic) its last record was written."""

    path: Path
    first: int
    last: int
    size: int
    at: float
    made_at: float


def open_lock(path: Path) -> int:
    """The descriptor of the lock file, locked. Raises SpoolError where another process holds it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise SpoolError(f"spool {path.parent} is in use by another agent; stop it, or give another --data",
                         is_in_use=True) from None
    return file


def read_segments(directory: Path, now: float) -> list[Segment]:
    """The segments on disk, oldest first.

    Their ages come from the steps between their files' times, each at most a day, so that neither a clock that jumped
    nor a machine that was off ages anything by more.
    """
    paths = sorted(path for path in directory.glob("*.seg") if path.stem.isdecimal())
    stats = [path.stat() for path in paths]
    segments: list[Segment] = []
    at = now
    for index in range(len(paths) - 1, -1, -1):
        if index + 1 < len(paths):
            at -= min(max(stats[index + 1].st_mtime - stats[index].st_mtime, 0.0), MAX_STEP_SECONDS)
        last = int(paths[index + 1].stem) - 1 if index + 1 < len(paths) else 0
        segments.append(Segment(paths[index], int(paths[index].stem), last, stats[index].st_size, at, at))
    return segments[::-1]


def is_removed(path: Path) -> bool:
    """Remove a segment; where the directory refuses, at least what is in it. False where not even that is possible."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        try:
            os.truncate(path, 0)
        except OSError:
            return False
    return True


def write_durably(path: Path, text: str) -> None:
    """Replace a small file (0600), and wait until the disk has it. Raises OSError."""
    fresh = path.with_suffix(".new")
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        if os.write(file, data := text.encode()) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file)
    finally:
        os.close(file)
    fresh.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
