"""Where the lines of a supervised program go: all into its log file, the important ones to the terminal."""

import contextlib
import re
import sys
import threading
from io import FileIO
from pathlib import Path

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
UNFORMATTED = 25
"""A line that is no log event, such as a traceback: of interest only as the last words of a program that died."""

_TEXT = re.compile(r"\d{4}-\d\d-\d\dT\S+ (debug|info|warning|error|critical)\b")
_JSON = re.compile(r'"level": ?"(debug|info|warning|error|critical)"')
_NATS = re.compile(r"\[\d+\] \S+ \S+ \[(DBG|TRC|INF|WRN|ERR|FTL)\]")
_NATS_LEVELS = {"WRN": 20, "ERR": 40, "FTL": 50}
_POSTGRES = re.compile(r"\d{4}-\d\d-\d\d \S+ UTC \[\d+\] (\w+):")


def level_of(line: str) -> int:
    """How important a line is, as a number of `logging`, whether we, NATS or Postgres wrote it. Pure."""
    if found := _TEXT.match(line) or (_JSON.search(line) if line.startswith("{") else None):
        return LEVELS[found[1]]
    if found := _NATS.match(line):
        return 10 if "drumbeat-doctor-" in line else _NATS_LEVELS.get(found[1], 10)  # it tries what is refused
    if found := _POSTGRES.match(line):
        return 50 if found[1] == "PANIC" else 10  # clients' errors are told by the clients
    return UNFORMATTED


class LogFile:
    """A file that is put aside as `NAME.log.1` when it has grown too large; only we may read it."""

    def __init__(self, path: Path, max_bytes: int = 5_000_000) -> None:
        self._path, self._max_bytes = path, max_bytes
        self._file = self._opened()

    def write(self, line: bytes) -> None:
        """Append one line. Raises OSError; the next line is tried anew."""
        if self._file.tell() + len(line) > self._max_bytes:
            with contextlib.suppress(FileNotFoundError):
                self._path.replace(self._path.with_name(self._path.name + ".1"))
            fresh = self._opened()
            self._file.close()
            self._file = fresh
        self._file.write(line)

    def close(self) -> None:
        self._file.close()

    def _opened(self) -> FileIO:
        self._path.touch(mode=0o600)
        return self._path.open("ab", buffering=0)


class Terminal:
    """The terminal, shared by all programs: lines at `level` and above, each with the program's name."""

    def __init__(self, level: int) -> None:
        self.level = level
        self._lock = threading.Lock()

    def pass_on(self, name: str, line: str) -> None:
        """Show `line` where it is important enough."""
        if level_of(line) >= self.level:
            self.show(name, line)

    def show(self, name: str, line: str) -> None:
        """Print `line` below the name of its program."""
        with self._lock, contextlib.suppress(OSError):  # a terminal that is gone must not hold up whoever speaks
            print(f"{name:>9} | {line}", file=sys.stderr, flush=True)
