"""Keeps programs running: starts them, starts what died again with back-off, says so, and stops all in order."""

import collections
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from compose import programs, restarts
from compose.output import UNFORMATTED, LogFile, Terminal, level_of
from compose.programs import Program
from shared import logs

log = logs.get("up")

LAST_LINES = 5
TICK_SECONDS = 0.1


class Child:
    """One supervised program: its process, its last words, and when it is to be started again."""

    def __init__(self, program: Program, file: LogFile, terminal: Terminal) -> None:
        self.program, self._file, self._terminal = program, file, terminal
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.failures = 0
        self.restart_at: float | None = None
        self._is_unlogged = False
        self._lines: collections.deque[str] = collections.deque(maxlen=LAST_LINES)
        self._reader: threading.Thread | None = None

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, now: float) -> None:
        """Spawn the process and a thread that reads its output. Raises OSError."""
        self.started, self.restart_at = now, None
        self._lines.clear()
        self.process = programs.spawn(self.program, subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; one that does not run reads its files anyway when it is started again."""
        if self.process is not None and self.is_alive:
            self.process.send_signal(number)

    def join_output(self) -> None:
        """Wait a moment for the last words of a dead process."""
        if self._reader is not None:
            self._reader.join(0.5)

    def tail(self, level: int = 0) -> list[str]:
        """Those of its last lines that are at `level` or above."""
        return [line for line in self._lines if level_of(line) >= level and line.strip(" ^~")]

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        for raw in process.stdout or ():
            line = raw.decode(errors="replace").rstrip()
            self._keep(raw)
            self._lines.append(line)
            self._terminal.pass_on(self.program.name, line)

    def _keep(self, raw: bytes) -> None:
        """Into the log file; a full disk costs the lines, said once: a program whose output is not read stands still."""
        try:
            self._file.write(raw)
        except OSError as error:
            if not self._is_unlogged:
                self._terminal.show(self.program.name, f"its log file cannot be written: {error.strerror}")
            self._is_unlogged = True
        else:
            self._is_unlogged = False


class Supervisor:
    """The supervised programs of one data directory. One thread owns it: programs die with whoever starts them."""

    def __init__(self, log_directory: Path, terminal: Terminal) -> None:
        self._logs, self._terminal = log_directory, terminal
        self.children: dict[str, Child] = {}

    def start(self, program: Program) -> Child:
        """Start one more program. Raises OSError where it cannot be started at all."""
        child = Child(program, LogFile(self._logs / f"{program.name}.log"), self._terminal)
        child.start(time.monotonic())
        self.children[program.name] = child
        return child

    def run(self, stopping: threading.Event, on_tick: Callable[[], None]) -> None:
        """Watch over the programs until `stopping`; `on_tick` is called ten times a second."""
        while not stopping.is_set():
            now = time.monotonic()
            for child in self.children.values():
                self._watch(child, now)
            on_tick()
            stopping.wait(TICK_SECONDS)

    def _watch(self, child: Child, now: float) -> None:
        if child.restart_at is not None:
            if now >= child.restart_at:
                self._restart(child, now)
        elif not child.is_alive and child.process is not None:
            child.join_output()
            self._plan(child, now, restarts.described(child.process.returncode))

    def _plan(self, child: Child, now: float, cause: str) -> None:
        plan = restarts.after_death(now, child.started, child.failures)
        child.restart_at, child.failures = plan.at, plan.failures
        logs.event(log, f"{child.program.name} died, restarting", 30, cause=cause, ran_s=round(now - child.started, 1),
                   restart_in_s=round(plan.at - now, 1))
        for line in child.tail(UNFORMATTED):
            self._terminal.show(child.program.name, line)

    def _restart(self, child: Child, now: float) -> None:
        try:
            child.start(now)
        except OSError as error:
            self._plan(child, now, str(error))

    def stop(self, order: Sequence[str], is_hasty: Callable[[], bool]) -> None:
        """Stop the programs, in `order`; `is_hasty` says whether somebody asked a second time."""
        self._terminal.level = 50
        for name in order:
            child = self.children.pop(name, None)
            if child is not None and child.process is not None:
                self._stop(child.process, child.program, is_hasty)

    def _stop(self, process: subprocess.Popen[bytes], program: Program, is_hasty: Callable[[], bool]) -> None:
        was_alive = process.poll() is None
        if programs.stop(process, program, is_hasty) == -signal.SIGKILL and was_alive:
            logs.event(log, f"{program.name} did not stop, killed", 30)
