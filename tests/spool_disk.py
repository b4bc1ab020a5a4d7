"""A disk that misbehaves as told, put between a spool and its directory: errors, short writes, no room, death at any call."""

import contextlib
import dataclasses
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CALLS = ("open", "write", "pwrite", "fsync", "fdatasync", "ftruncate", "truncate", "unlink", "rename", "dup")
WRITES, SYNCS = ("write", "pwrite"), ("fsync", "fdatasync")


class Killed(BaseException):
    """The process ends here: nothing of ours runs any more."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """Calls `at` to `at + lasts - 1` from now on fail: with an errno, "short" (writes alone) or "kill".

    `part`: how much of a write reaches the file all the same; any other call is done where it is 1.
    """

    at: int
    error: str
    part: float = 0.0
    lasts: int = 1


class FaultyDisk:
    """The `os` functions of a directory's files; nothing is waited for but by the caller.

    `room`: bytes that the segments may take; None: as many as they like. `calls`: how many there were in the last block.
    """

    def __init__(self, directory: Path) -> None:
        self.directory, self.room, self.calls = directory, None, 0
        self._faults: tuple[Fault, ...] = ()
        self._real: dict[str, Any] = {name: getattr(os, name) for name in CALLS}
        self._real |= dict.fromkeys(SYNCS, lambda _file: None) | {"read_bytes": Path.read_bytes}

    def put_in(self, patch: pytest.MonkeyPatch) -> None:
        """Stand where the disk stands until `patch` is undone."""
        def refuse(_thread: threading.Thread) -> None:
            raise RuntimeError("no room for a thread")

        for name in CALLS:
            patch.setattr(os, name, self._called(name))
        patch.setattr(Path, "read_bytes", self._called("read_bytes"))
        patch.setattr(threading.Thread, "start", refuse)

    @contextlib.contextmanager
    def failing(self, *faults: Fault) -> Iterator[None]:
        """The faults happen in here."""
        self._faults, self.calls = faults, 0
        try:
            yield
        finally:
            self._faults = ()

    def close_files(self) -> None:
        """What the kernel does for a process that has died."""
        for file in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
            if self._is_ours(file):
                os.close(file)

    def _called(self, name: str) -> Any:
        real = self._real[name]

        def call(*arguments: Any, **named: Any) -> Any:
            if not self._is_ours(arguments[0]):
                return real(*arguments, **named)
            number, self.calls = self.calls, self.calls + 1
            fault = next((one for one in self._faults if one.at <= number < one.at + one.lasts), None)
            if fault is None:
                return real(*arguments, **named) if name != "write" else real(arguments[0], self._fitting(arguments[1]))
            return self._fail(fault, name, arguments, named)

        return call

    def _is_ours(self, place: Any) -> bool:
        try:
            path = Path(f"/proc/self/fd/{place}").readlink() if isinstance(place, int) else Path(place)
        except OSError:
            return False
        return self.directory in path.parents

    def _fitting(self, data: bytes) -> bytes:
        if self.room is None:
            return data
        free = self.room - sum(path.stat().st_size for path in self.directory.glob("*.seg"))
        if free <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return data[:free]

    def _fail(self, fault: Fault, name: str, arguments: Any, named: Any) -> Any:
        real = self._real[name]
        if name in WRITES:
            file, data, *rest = arguments
            part = min(int(len(data) * fault.part), len(data) - (fault.error == "short"))
            done = real(file, data[:part], *rest) if part else 0
            if fault.error == "short":
                return done
        elif fault.part >= 1.0 or fault.error == "short":
            result = real(*arguments, **named)
            if fault.error == "short":
                return result
            if name in ("open", "dup"):
                os.close(result)
        if fault.error == "kill":
            raise Killed
        raise OSError(getattr(errno, fault.error), os.strerror(getattr(errno, fault.error)))
