"""What the scheduler is told: every state once, and an end again and again until it is acknowledged.

On a new connection all that is not acknowledged is told at once, a few at a time; then every 10 s, each time twice as late, up to
5 minutes.
"""

from agent.tasks.door import Publish
from agent.tasks.journal import Journal
from shared import wire

FIRST_PAUSE, LONGEST_PAUSE = 10.0, 300.0
AT_ONCE = 8
SHORT_WAIT = 0.2


class Telling:
    """Reports of one host. Times are monotonic seconds, but for those in reports."""

    def __init__(self, host: str, journal: Journal) -> None:
        self._host, self._journal = host, journal
        self._due: dict[str, float] = {}
        self._pauses: dict[str, float] = {}
        self._is_connected = False

    def tell(self, execution: str) -> None:
        """Tell the present state of an execution as soon as it goes."""
        self._due[execution] = 0.0

    def connected(self) -> None:
        """A connection was made."""
        self._is_connected = True
        for entry in self._journal.entries.values():
            if not entry.is_acknowledged:
                self._pauses.pop(entry.execution, None)
                self._due[entry.execution] = 0.0

    def step(self, publish: Publish, ts: float, monotonic: float) -> None:
        """Send what is due; `ts` is the Unix time."""
        for execution in [one for one, at in self._due.items() if at <= monotonic][:AT_ONCE]:
            report = self._report(execution, ts)
            if report is not None and not publish(wire.encode(report)):
                self._is_connected = False
                return
            self._settle(execution, monotonic)

    def wait(self, monotonic: float) -> float:
        """Seconds until something is due."""
        if not self._due or not self._is_connected:
            return LONGEST_PAUSE
        return max(min(self._due.values()) - monotonic, SHORT_WAIT)

    def _settle(self, execution: str, monotonic: float) -> None:
        entry = self._journal.entries.get(execution)
        if entry is None or not entry.has_ended or entry.is_acknowledged:
            del self._due[execution]
            self._pauses.pop(execution, None)
            return
        pause = self._pauses.get(execution, FIRST_PAUSE)
        self._due[execution] = monotonic + pause
        self._pauses[execution] = min(pause * 2, LONGEST_PAUSE)

    def _report(self, execution: str, ts: float) -> wire.TaskReport | None:
        entry = self._journal.entries.get(execution)
        if entry is None:
            return None
        output = self._journal.read_output(execution) if entry.has_ended and not entry.is_acknowledged else ""
        return wire.TaskReport(
            host=self._host, execution=execution, state=entry.state, ts=entry.at if entry.has_ended else round(ts, 3),
            reason=entry.reason, started_at=entry.started_at, ended_at=entry.ended_at, exit_code=entry.exit_code, output=output)
