"""Every execution that this host was asked for, one small file each, so that none runs twice and no end is lost.

Files are replaced whole; what must survive a crash of the machine waits for the disk (in the thread of the execution), what
must survive a crash of the agent only does not. Kept for seven days, at most 2,000.
"""

import contextlib
import logging
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct, structs

from agent.segments import write_durably
from shared import logs

KEEP_SECONDS = 7 * 86_400.0
MAX_ENTRIES = 2_000

_ENDS = ("completed", "failed", "cancelled", "timed_out", "rejected")


class Entry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of one execution. Times are Unix seconds; `pid`, `pid_start`, `boot_id` name its process group."""

    execution: str
    task: str = ""
    state: Literal["accepted", "running", "completed", "failed", "cancelled", "timed_out", "rejected"]
    at: float
    reason: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    output: str = ""
    is_acknowledged: bool = False
    pid: int = 0
    pid_start: int = 0
    boot_id: str = ""

    @property
    def has_ended(self) -> bool:
        return self.state in _ENDS


class Journal:
    """Entries by execution, in memory without their output. `problem` says why nothing can be kept; empty: all is well."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.entries: dict[str, Entry] = {}
        self.problem = ""
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._read_all()
        except OSError as error:
            self.problem = f"the journal {directory} cannot be kept: {error.strerror}"

    def put(self, entry: Entry) -> str:
        """Store an entry without waiting for the disk; what went wrong, empty where nothing did."""
        self.saw(entry)
        if self.problem:
            return self.problem
        path = self._path(entry.execution)
        try:
            fresh = path.with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(entry))
            fresh.replace(path)
        except OSError as error:
            logs.event(logs.get("tasks"), "the journal of tasks cannot be written", logging.ERROR, error=error.strerror)
            return f"the journal cannot be written: {error.strerror}"
        return ""

    def write(self, entry: Entry) -> None:
        """Store an entry durably; for the thread of the execution, the loop then calls `saw`. Raises OSError."""
        write_durably(self._path(entry.execution), msgspec.json.encode(entry).decode())

    def saw(self, entry: Entry) -> None:
        """Take note of an entry that is stored."""
        self.entries[entry.execution] = structs.replace(entry, output="")

    def read_output(self, execution: str) -> str:
        """The output of an execution; empty where it is gone."""
        try:
            return _read(self._path(execution)).output
        except (OSError, msgspec.MsgspecError):
            return ""

    def forget_old(self, now: float) -> None:
        """Remove what is older than seven days, and what is too much.

        First what never began, so that nobody can have the rest forgotten by asking for much; never the last start of a task, by
        which `min_interval` goes.
        """
        ended = sorted((one for one in self.entries.values() if one.has_ended),
                       key=lambda one: (one.started_at is not None, not one.is_acknowledged, one.at))
        last = {one.task: one.execution for one in sorted(ended, key=lambda one: one.started_at or 0.0) if one.started_at}
        surplus = len(self.entries) - MAX_ENTRIES
        for index, entry in enumerate(ended):
            is_last = last.get(entry.task) == entry.execution
            if (index < surplus and not is_last) or not now - KEEP_SECONDS <= entry.at <= now + KEEP_SECONDS:
                del self.entries[entry.execution]
                with contextlib.suppress(OSError):
                    self._path(entry.execution).unlink(missing_ok=True)

    def _path(self, execution: str) -> Path:
        return self._directory / f"{execution}.json"

    def _read_all(self) -> None:
        for path in self._directory.iterdir():
            if path.suffix != ".json":
                path.unlink()
                continue
            try:
                entry = _read(path)
            except (msgspec.MsgspecError, ValueError):
                at = round(path.stat().st_mtime, 3)
                entry = Entry(execution=path.stem, state="failed", at=at, ended_at=at, reason="its journal was damaged")
            self.saw(entry)


def _read(path: Path) -> Entry:
    return msgspec.json.decode(path.read_bytes(), type=Entry)
