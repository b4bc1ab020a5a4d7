"""Memory and swap: /proc/meminfo, swap traffic from /proc/vmstat, pressure."""

import os

from agent.collectors import Reading, procfs
from agent.sampling import Counters, bytes_per_second, percent

_WANTED = frozenset((b"MemTotal", b"MemFree", b"MemAvailable", b"Buffers", b"Cached", b"SReclaimable", b"SwapTotal",
                     b"SwapFree"))


def meminfo(text: bytes) -> dict[str, int]:
    """The lines of /proc/meminfo that are used here, in bytes."""
    found: dict[str, int] = {}
    for line in text.split(b"\n"):
        name, _, rest = line.partition(b":")
        if name in _WANTED:
            found[name.decode()] = int(rest.split(None, 1)[0]) * 1024
            if len(found) == len(_WANTED):
                break
    return found


def usage(info: dict[str, int]) -> dict[str, float]:
    """The metrics of memory and swap that follow from /proc/meminfo; without swap there is no share of it in use."""
    total, buffers = info["MemTotal"], info.get("Buffers", 0)
    cached = info.get("Cached", 0) + info.get("SReclaimable", 0)
    available = min(total, info.get("MemAvailable", info.get("MemFree", 0) + buffers + cached))
    metrics: dict[str, float] = {
        "memory.percent": percent(total - available, total), "memory.total_bytes": total,
        "memory.used_bytes": total - available, "memory.available_bytes": available,
        "memory.cached_bytes": cached, "memory.buffers_bytes": buffers}
    if "SwapTotal" in info:
        swap, used = info["SwapTotal"], max(0, info["SwapTotal"] - info.get("SwapFree", 0))
        metrics |= {"swap.total_bytes": swap, "swap.used_bytes": used}
        if swap:
            metrics["swap.percent"] = percent(used, swap)
    return metrics


class Memory:
    """Collector `memory`."""

    name = "memory"
    interval = 0.0
    may_block = False

    def __init__(self, root: str = "/") -> None:
        self._files = procfs.Files(root)
        self._pages: Counters[str] = Counters()
        self._page_bytes = os.sysconf("SC_PAGESIZE")

    def open(self) -> str | None:
        return None

    def collect(self, now: float, monotonic: float) -> Reading:  # noqa: ARG002 (one signature for all collectors)
        metrics = usage(meminfo(self._files.read("proc/meminfo")))
        if metrics.get("swap.total_bytes"):
            metrics |= self._swap_traffic(monotonic)
        if some := procfs.pressure(self._files.read_optional("proc/pressure/memory")):
            metrics["memory.pressure_percent"] = some["some"]
        return Reading(metrics)

    def close(self) -> None:
        self._files.close()

    def _swap_traffic(self, monotonic: float) -> dict[str, float]:
        text = self._files.read_optional("proc/vmstat")
        pages = procfs.number_after(text, b"pswpin"), procfs.number_after(text, b"pswpout")
        if pages[0] is None or pages[1] is None:
            return {}
        elapsed, steps = self._pages.advance(monotonic, {"": (pages[0], pages[1])})
        if "" not in steps:
            return {}
        return {"swap.in_bytes_per_second": bytes_per_second(steps[""][0] * self._page_bytes, elapsed),
                "swap.out_bytes_per_second": bytes_per_second(steps[""][1] * self._page_bytes, elapsed)}
