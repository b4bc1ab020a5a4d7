"""What the agent itself uses: CPU of one core, resident memory."""

import os
import time
from collections.abc import Callable

from agent.collectors import Reading, procfs
from agent.sampling import Counters


def resident_bytes(statm: bytes, page_bytes: int) -> int:
    """Resident memory from /proc/self/statm, in bytes."""
    return int(statm.split(None, 2)[1]) * page_bytes


class Own:
    """Collector `agent`."""

    name = "agent"
    interval = 0.0
    may_block = False

    def __init__(self, root: str = "/", used_ns: Callable[[], int] = time.process_time_ns) -> None:
        self._files = procfs.Files(root)
        self._used_ns = used_ns
        self._page_bytes = os.sysconf("SC_PAGESIZE")
        self._cpu: Counters[str] = Counters()

    def open(self) -> str | None:
        return None

    def collect(self, now: float, monotonic: float) -> Reading:  # noqa: ARG002 (one signature for all collectors)
        metrics: dict[str, float] = {}
        elapsed, steps = self._cpu.advance(monotonic, {"": (self._used_ns(),)})
        if "" in steps:
            metrics["agent.cpu_percent"] = round(steps[""][0] / 1e9 / elapsed * 100, 2)
        if statm := self._files.read_optional("proc/self/statm"):
            metrics["agent.memory_bytes"] = resident_bytes(statm, self._page_bytes)
        return Reading(metrics)

    def close(self) -> None:
        self._files.close()
