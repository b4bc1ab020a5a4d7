"""Reads the tasks file: it must belong to root or to the agent's user, and nobody else may write it.

It is looked at for every request, so that a change counts at once, and read where it changed. A file `tasks.disabled` beside
it stops everything that has not begun.
"""

import os
import stat
import tomllib
from pathlib import Path

from agent.tasks.entries import TasksError, TasksFile, read_entries

KILL_SWITCH = "tasks.disabled"
MAX_FILE_BYTES = 1 << 20


class AllowedTasks:
    """What the tasks file allows now; without a file nothing is."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._mark: tuple[int, ...] = ()
        self._known: TasksFile | TasksError | None = None

    def read(self) -> TasksFile:
        """Raises TasksError with what is wrong, and how to mend it."""
        if self._path is None:
            raise TasksError("this host allows no tasks: the agent has no --tasks-file")
        try:
            file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise TasksError(f"the tasks file {self._path} cannot be read: {error.strerror}") from None
        try:
            return self._read_open(file, self._path)
        finally:
            os.close(file)

    def is_disabled(self) -> bool:
        """Whether the kill switch lies beside the tasks file."""
        return self._path is not None and os.path.lexists(self._path.with_name(KILL_SWITCH))

    def _read_open(self, file: int, path: Path) -> TasksFile:
        facts = os.fstat(file)
        mark = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
        if self._known is None or mark != self._mark:
            try:
                self._known = _read_trusted(file, facts, path)
            except TasksError as error:
                self._known = error
            self._mark = mark
        if isinstance(self._known, TasksError):
            raise self._known
        return self._known


def _read_trusted(file: int, facts: os.stat_result, path: Path) -> TasksFile:
    if not stat.S_ISREG(facts.st_mode):
        raise TasksError(f"the tasks file {path} is no file")
    if facts.st_uid not in (0, os.geteuid()):
        raise TasksError(f"the tasks file {path} belongs to user {facts.st_uid}; mend with: chown root {path}")
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise TasksError(f"the tasks file {path} may be written by others; mend with: chmod go-w {path}")
    if facts.st_size > MAX_FILE_BYTES:
        raise TasksError(f"the tasks file {path} has more than {MAX_FILE_BYTES} bytes")
    try:
        return read_entries(tomllib.loads(os.pread(file, MAX_FILE_BYTES, 0).decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TasksError(f"the tasks file {path} is not TOML: {error}") from None
    except TasksError as error:
        raise TasksError(f"the tasks file {path}: {error}") from None
