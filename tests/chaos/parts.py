"""A part of the product as a process that can be killed, stopped, continued and started again."""

import contextlib
import os
import signal

from rig import tree

from compose import programs


class Part:
    """One program. `is_away`: a blow has hit it and it has not healed yet. `deaths`: how often it ended by itself."""

    def __init__(self, program, log):
        self.program, self._log = program, log
        self.process, self.is_away, self.deaths = None, False, 0

    def start(self):
        """Start it (again)."""
        self.is_away = False
        with self._log.open("ab") as output:
            self.process = programs.spawn(self.program, output)

    def strike(self, kind):
        """`kill` -9 or `stop` it, with every process that it has started."""
        self.is_away = True
        self._signal(signal.SIGKILL if kind == "kill" else signal.SIGSTOP)
        if kind == "kill":
            self.process.wait()

    def heal(self, kind):
        """Start what was killed, continue what was stopped."""
        if kind == "kill":
            self.start()
        else:
            self.is_away = False
            self._signal(signal.SIGCONT)

    def revive(self):
        """Start it where it has ended by itself."""
        if not self.is_away and self.process.poll() is not None:
            self.deaths += 1
            self.start()

    def tell(self, number):
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self):
        """Kill it for good."""
        if self.process is not None:
            self.strike("kill")

    def end_gently(self):
        """SIGTERM, and SIGKILL after its grace; its exit status."""
        self.is_away = True
        return programs.stop(self.process, self.program)

    def _signal(self, number):
        for pid in tree(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
