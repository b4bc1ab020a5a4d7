"""CPU, memory, disks and network through psutil, for systems without /proc. What it cannot tell is absent."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from agent.collectors import Collector, Reading, procfs
from agent.collectors.filesystem import Filesystem, MountPoint, chosen
from agent.collectors.network import INSTANCE, VIRTUAL, totals, traffic
from agent.collectors.own import Own
from agent.sampling import Counters, bytes_per_second, per_second, percent
from shared.names import metric_name


class _Asking:
    """A collector that asks psutil at every tick."""

    name = ""
    interval = 0.0
    may_block = False

    def __init__(self) -> None:
        self._psutil: Any = None
        self._counters: Counters[str] = Counters()

    def open(self) -> str | None:
        try:
            import psutil
        except ModuleNotFoundError:
            return "the Python package psutil is not installed; mend with: pip install 'drumbeat[agent]'"
        self._psutil = psutil
        return None

    def close(self) -> None:
        """Nothing is kept."""


class Cpu(_Asking):
    """Collector `cpu`."""

    name = "cpu"

    def collect(self, now: float, monotonic: float) -> Reading:  # noqa: ARG002 (one signature for all collectors)
        rows = {"cpu": self._psutil.cpu_times()}
        rows |= {str(core): row for core, row in enumerate(self._psutil.cpu_times(percpu=True))}
        parts = ("user", "nice", "system", "idle")
        micros = {key: tuple(round(getattr(row, part, 0.0) * 1e6) for part in parts) for key, row in rows.items()}
        _, steps = self._counters.advance(monotonic, micros)
        metrics = dict(zip(("cpu.load1", "cpu.load5", "cpu.load15"), map(float, os.getloadavg()), strict=True))
        metrics["cpu.count"] = len(rows) - 1
        for key, (user, nice, system, idle) in steps.items():
            total = user + nice + system + idle
            if total > 0 and key == "cpu":
                metrics |= {"cpu.percent": percent(total - idle, total),
                            "cpu.user_percent": percent(user + nice, total),
                            "cpu.system_percent": percent(system, total)}
            elif total > 0:
                metrics[metric_name("cpu.core_percent", core=key)] = percent(total - idle, total)
        return Reading(metrics)


class Memory(_Asking):
    """Collector `memory`."""

    name = "memory"

    def collect(self, now: float, monotonic: float) -> Reading:  # noqa: ARG002 (one signature for all collectors)
        memory, swap = self._psutil.virtual_memory(), self._psutil.swap_memory()
        used = memory.total - memory.available
        metrics: dict[str, float] = {
            "memory.percent": percent(used, memory.total), "memory.total_bytes": memory.total,
            "memory.used_bytes": used, "memory.available_bytes": memory.available,
            "swap.total_bytes": swap.total, "swap.used_bytes": swap.used}
        if swap.total:
            metrics["swap.percent"] = percent(swap.used, swap.total)
        return Reading(metrics)


class Disk(_Asking):
    """Collector `disk`: the sums over all disks."""

    name = "disk"

    def collect(self, now: float, monotonic: float) -> Reading:  # noqa: ARG002 (one signature for all collectors)
        every = self._psutil.disk_io_counters(perdisk=True) or {}
        elapsed, steps = self._counters.advance(monotonic, {
            disk: (row.read_bytes, row.write_bytes, row.read_count, row.write_count) for disk, row in every.items()})
        if not steps:
            return Reading({})
        sums = [sum(column) for column in zip(*steps.values(), strict=True)]
        return Reading({"disk.read_bytes_per_second": bytes_per_second(sums[0], elapsed),
                        "disk.write_bytes_per_second": bytes_per_second(sums[1], elapsed),
                        "disk.read_ops_per_second": per_second(sums[2], elapsed),
                        "disk.write_ops_per_second": per_second(sums[3], elapsed)})


class Network(_Asking):
    """Collector `network`."""

    name = "network"

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        super().__init__()
        self._include, self._exclude = include, exclude

    def collect(self, now: float, monotonic: float) -> Reading:  # noqa: ARG002 (one signature for all collectors)
        every = self._psutil.net_io_counters(pernic=True)
        elapsed, steps = self._counters.advance(monotonic, {
            name: (row.bytes_recv, row.bytes_sent, row.packets_recv, row.packets_sent, row.errin + row.errout,
                   row.dropin + row.dropout) for name, row in every.items() if self._is_chosen(name)})
        metrics = totals(elapsed, steps) if steps else {}
        for name, step in steps.items():
            labelled = (metric_name(base, interface=procfs.label(name)) for base in INSTANCE)
            metrics.update(zip(labelled, traffic(elapsed, step), strict=True))
        return Reading(metrics)

    def _is_chosen(self, name: str) -> bool:
        default = not procfs.is_match(name, (*VIRTUAL, "lo0", "gif*", "stf*", "utun*", "awdl*", "llw*", "bridge*"))
        return procfs.is_chosen(name, self._include, self._exclude, by_default=default)


class PortableFilesystem(Filesystem):
    """Collector `filesystem`, its mounts told by psutil."""

    def _read_mounts(self) -> list[MountPoint]:
        import psutil

        points = [MountPoint(part.device, part.mountpoint, part.fstype) for part in psutil.disk_partitions()]
        return chosen(points, self._include, self._exclude)


class PortableSystem(_Asking):
    """Collector `system`: uptime and users."""

    name = "system"

    def collect(self, now: float, monotonic: float) -> Reading:  # noqa: ARG002 (one signature for all collectors)
        return Reading({"system.uptime_seconds": round(max(0.0, now - self._psutil.boot_time())),
                        "system.users": len(self._psutil.users())})


def makers(settings: Any) -> dict[str, Callable[[], Collector]]:
    """How each collector is made, by name."""
    return {
        "cpu": Cpu, "memory": Memory, "disk": Disk,
        "filesystem": lambda: PortableFilesystem("/", settings.mounts_include, settings.mounts_exclude),
        "network": lambda: Network(settings.interfaces_include, settings.interfaces_exclude),
        "system": PortableSystem, "agent": Own}
