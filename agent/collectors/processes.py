"""Processes: counts, and a snapshot of those that use most. One pread of a kept /proc/PID/stat each, every half minute.

1. List /proc; forget the processes that ended.
2. Read each one's stat (and io, where it is ours to read) through a kept descriptor, up to a bound.
3. A process is known by pid and start time, so that a reused pid is a new process.
4. CPU and I/O are taken over the time since the previous listing; a process that began since then began at 0.
5. Only those that get into the snapshot are asked for user and command line.
"""

import dataclasses
import heapq
import os
import re
import resource
from collections.abc import Callable, Iterable
from pathlib import Path

from agent.collectors import Reading, procfs
from shared.wire import Process, Processes

TOP = 50
MAX_KEPT = 2_000
FIRST_SECONDS = 5.0
COMMAND_CHARACTERS = 200
KTHREADD = 2

_SECRET = re.compile(r"((?:passw(?:or)?d|secret|token|api[-_]?key|credential)[\w-]*[=: ]\s*)\S+|(://[^/:@\s]*:)[^@\s/]+@",
                     re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True)
class Stat:
    """What is used of /proc/PID/stat: CPU time and start in clock ticks, resident memory in pages."""

    name: str
    state: str
    parent: int
    ticks: int
    threads: int
    start: int
    pages: int


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """One process with what it used since the previous listing."""

    pid: int
    stat: Stat
    cpu_percent: float
    io_rate: float | None


def stat(text: bytes) -> Stat:
    """The parsed /proc/PID/stat. The name may hold blanks and parentheses: it ends at the last one."""
    head, _, rest = text.rpartition(b")")
    fields = rest.split(None, 22)
    return Stat(head.partition(b"(")[2].decode(errors="replace"), fields[0].decode(), int(fields[1]),
                int(fields[11]) + int(fields[12]), int(fields[17]), int(fields[19]), int(fields[21]))


def io_bytes(text: bytes) -> int | None:
    """Bytes that went to and from the disk, from /proc/PID/io."""
    read, written = procfs.number_after(text, b"read_bytes:"), procfs.number_after(text, b"write_bytes:")
    return None if read is None or written is None else read + written


def counts(stats: Iterable[Stat]) -> dict[str, float]:
    """The metrics: processes, runnable, not reaped, threads."""
    every = list(stats)
    return {"processes.total": len(every), "processes.running": sum(one.state == "R" for one in every),
            "processes.zombie": sum(one.state == "Z" for one in every),
            "processes.threads": sum(one.threads for one in every)}


def top(usages: list[Usage], number: int = TOP) -> list[Usage]:
    """The greatest by CPU, by memory and by I/O, together; those that use nothing of it are left out."""
    keys: tuple[Callable[[Usage], float], ...] = (
        lambda one: one.cpu_percent, lambda one: one.stat.pages, lambda one: one.io_rate or 0.0)
    chosen: dict[int, Usage] = {}
    for key in keys:
        chosen.update((one.pid, one) for one in heapq.nlargest(number, usages, key=key) if key(one) > 0)
    return sorted(chosen.values(), key=lambda one: (-one.cpu_percent, -one.stat.pages, one.pid))


def command_line(text: bytes) -> str:
    """/proc/PID/cmdline for people: blanks between arguments, secrets blotted out, at most 200 characters."""
    line = text.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    line = "".join(character if character.isprintable() else " " for character in line)
    return _SECRET.sub(lambda found: f"{found[1]}***" if found[1] else f"{found[2]}***@", line)[:COMMAND_CHARACTERS]


def user_names(passwd: str) -> dict[int, str]:
    """/etc/passwd → names by user id."""
    rows = (line.split(":", 3) for line in passwd.splitlines())
    return {int(row[2]): row[0] for row in rows if len(row) > 3 and row[2].isdigit()}


class ProcessesCollector:
    """Collector `processes`. The second listing follows soon after the first, so that there are rates early."""

    name = "processes"
    may_block = False

    def __init__(self, host: str, root: str = "/", interval: float = 30.0) -> None:
        self._host, self._root, self._usual = host, root, interval
        self.interval = min(FIRST_SECONDS, interval)
        self._kept: dict[int, _Kept] = {}
        self._room = min(MAX_KEPT, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 3)
        self._before: dict[tuple[int, int], tuple[int, int | None]] = {}
        self._listed_at: float | None = None
        self._hertz = os.sysconf("SC_CLK_TCK")
        self._page_bytes = os.sysconf("SC_PAGESIZE")
        self._commands: dict[tuple[int, int, str], tuple[str, str]] = {}
        self._users: dict[int, str] = {}
        self._boot_at = 0.0
        self._memory_bytes = 0

    def open(self) -> str | None:
        self._boot_at = float(procfs.number_after(self._read("stat"), b"btime") or 0)
        self._memory_bytes = (procfs.number_after(self._read("meminfo"), b"MemTotal:") or 0) * 1024
        return None

    def collect(self, now: float, monotonic: float) -> Reading:
        self._users = user_names(procfs.read_text(f"{self._root}/etc/passwd"))
        listed = self._read_all()
        elapsed = 0.0 if self._listed_at is None else monotonic - self._listed_at
        usages = [self._usage(pid, one, io, elapsed) for pid, (one, io) in listed.items()]
        self.interval = self._usual if self._listed_at is not None else self.interval
        self._before = {(pid, one.start): (one.ticks, io) for pid, (one, io) in listed.items()}
        self._listed_at = monotonic
        shown = [self._described(usage) for usage in top(usages)]
        present = {(usage.pid, usage.stat.start) for usage in usages}
        self._commands = {key: words for key, words in self._commands.items() if key[:2] in present}
        snapshot = Processes(host=self._host, ts=now, total=len(usages), processes=shown)
        return Reading(counts(one for one, _ in listed.values()), {"processes": snapshot})

    def close(self) -> None:
        for kept in self._kept.values():
            kept.close()
        self._kept.clear()
        self._listed_at = None

    def _read(self, name: str) -> bytes:
        return procfs.read_text(f"{self._root}/proc/{name}").encode()

    def _read_all(self) -> dict[int, tuple[Stat, int | None]]:
        base = f"{self._root}/proc"
        pids = {int(name) for name in procfs.read_names(base) if name.isdigit()}
        for pid in self._kept.keys() - pids:
            self._kept.pop(pid).close()
        found: dict[int, tuple[Stat, int | None]] = {}
        for pid in sorted(pids):
            if (read := self._read_one(pid, f"{base}/{pid}")) is not None:
                found[pid] = read
        return found

    def _read_one(self, pid: int, path: str) -> tuple[Stat, int | None] | None:
        """None where the process is gone. A kept descriptor that fails may mean a reused pid: it is opened anew."""
        for kept in (self._kept.pop(pid, None), _Kept(path)):
            if kept is None:
                continue
            try:
                read = kept.read()
            except (OSError, ValueError, IndexError):
                kept.close()
                continue
            if len(self._kept) < self._room:
                self._kept[pid] = kept
            else:
                kept.close()
            return read
        return None

    def _usage(self, pid: int, one: Stat, io: int | None, elapsed: float) -> Usage:
        """Over the time since the previous listing; at the first listing nothing is known to have been used."""
        if elapsed <= 0:
            return Usage(pid, one, 0.0, None if io is None else 0.0)
        ticks, io_before = self._before.get((pid, one.start), (0, 0))
        cpu = max(0, one.ticks - ticks) / self._hertz / elapsed * 100
        rate = None if io is None or io_before is None else round(max(0, io - io_before) / elapsed)
        return Usage(pid, one, round(cpu, 1), rate)

    def _described(self, usage: Usage) -> Process:
        one, memory = usage.stat, usage.stat.pages * self._page_bytes
        key = (usage.pid, one.start, one.name)
        if key not in self._commands:
            self._commands[key] = self._read_words(usage.pid)
        user, command = self._commands[key]
        return Process(
            pid=usage.pid, name=procfs.label(one.name), user=user, cpu_percent=usage.cpu_percent, memory_bytes=memory,
            memory_percent=round(100 * memory / self._memory_bytes, 1) if self._memory_bytes else 0.0,
            io_bytes_per_second=usage.io_rate, threads=one.threads, state=one.state,
            started_at=round(self._boot_at + one.start / self._hertz, 2), command=command)

    def _read_words(self, pid: int) -> tuple[str, str]:
        """User name (the id where /etc/passwd lacks it) and command line; the process may have ended meanwhile."""
        base = Path(self._root, "proc", str(pid))
        try:
            uid = base.stat().st_uid
            with (base / "cmdline").open("rb") as file:
                return self._users.get(uid, str(uid)), command_line(file.read(4 * COMMAND_CHARACTERS))
        except OSError:
            return "", ""


class _Kept:
    """The kept files of one process."""

    __slots__ = ("_has_io", "_io", "_stat")

    def __init__(self, base: str) -> None:
        self._stat = procfs.KeptFile(f"{base}/stat")
        self._io = procfs.KeptFile(f"{base}/io")
        self._has_io = True

    def read(self) -> tuple[Stat, int | None]:
        """Raises OSError when the process is gone."""
        one = stat(self._stat.read())
        self._has_io = self._has_io and one.parent != KTHREADD
        io = None
        if self._has_io:
            try:
                io = io_bytes(self._io.read())
            except OSError:
                self._has_io = False
        return one, io

    def close(self) -> None:
        self._stat.close()
        self._io.close()
