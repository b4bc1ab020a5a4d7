"""Disks: throughput, operations, busy time and waiting from /proc/diskstats; pressure. Partitions are not disks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.collectors import Reading, procfs
from agent.sampling import Counters, bytes_per_second, per_second, percent
from shared.names import metric_name

SECTOR_BYTES = 512
NOT_DISKS = ("loop*", "ram*", "zram*", "sr*", "fd[0-9]*", "mmcblk*boot*", "mmcblk*rpmb")

_INSTANCE = ("disk.read_bytes_per_second", "disk.write_bytes_per_second", "disk.busy_percent", "disk.await_ms")


def diskstats(text: bytes) -> dict[str, tuple[int, ...]]:
    """/proc/diskstats → by device: reads, sectors read, ms reading, writes, sectors written, ms writing, ms busy."""
    found: dict[str, tuple[int, ...]] = {}
    for line in text.splitlines():
        fields = line.split(None, 14)
        if len(fields) >= 14:
            found[fields[2].decode(errors="replace")] = tuple(int(fields[column]) for column in (3, 5, 6, 7, 9, 10, 12))
    return found


def traffic(elapsed: float, steps: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[float, float, float, float]]:
    """By device: bytes read and written a second, busy percent (at most 100), milliseconds a request took."""
    return {device: (bytes_per_second(sectors_read * SECTOR_BYTES, elapsed),
                     bytes_per_second(sectors_written * SECTOR_BYTES, elapsed),
                     percent(busy / 1000, elapsed),
                     round((reading + writing) / (reads + writes), 2) if reads + writes else 0.0)
            for device, (reads, sectors_read, reading, writes, sectors_written, writing, busy) in steps.items()}


class Disk:
    """Collector `disk`. By default every device that /sys/block knows with hardware behind it; patterns change that."""

    name = "disk"
    interval = 0.0
    may_block = False

    def __init__(self, root: str = "/", include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        self._root, self._include, self._exclude = root, include, exclude
        self._files = procfs.Files(root)
        self._counters: Counters[str] = Counters()
        self._chosen: dict[str, bool] = {}
        self._names: dict[str, tuple[str, ...]] = {}

    def open(self) -> str | None:
        if not Path(self._root, "proc/diskstats").exists():
            return "no /proc/diskstats: the kernel does not tell the traffic of disks"
        return None

    def collect(self, now: float, monotonic: float) -> Reading:  # noqa: ARG002 (one signature for all collectors)
        every = diskstats(self._files.read("proc/diskstats"))
        disks = {name: row for name, row in every.items() if self._is_disk(name)}
        elapsed, steps = self._counters.advance(monotonic, disks)
        metrics: dict[str, float] = {}
        if steps:
            each = traffic(elapsed, steps)
            metrics = self._totals(elapsed, steps, each)
            for device, values in each.items():
                metrics.update(zip(self._instance_names(device), values, strict=True))
        if some := procfs.pressure(self._files.read_optional("proc/pressure/io")):
            metrics["disk.pressure_percent"] = some["some"]
        return Reading(metrics)

    def close(self) -> None:
        self._files.close()

    def _totals(self, elapsed: float, steps: Mapping[str, tuple[int, ...]],
                each: Mapping[str, tuple[float, float, float, float]]) -> dict[str, float]:
        return {
            "disk.read_bytes_per_second": sum(values[0] for values in each.values()),
            "disk.write_bytes_per_second": sum(values[1] for values in each.values()),
            "disk.read_ops_per_second": per_second(sum(step[0] for step in steps.values()), elapsed),
            "disk.write_ops_per_second": per_second(sum(step[3] for step in steps.values()), elapsed),
            "disk.busy_percent": max(values[2] for values in each.values()),
            "disk.await_ms": max(values[3] for values in each.values())}

    def _is_disk(self, device: str) -> bool:
        if device not in self._chosen:
            has_hardware = Path(self._root, "sys/block", device, "device").exists()
            self._chosen[device] = procfs.is_chosen(device, self._include, self._exclude,
                                                    by_default=has_hardware and not procfs.is_match(device, NOT_DISKS))
        return self._chosen[device]

    def _instance_names(self, device: str) -> tuple[str, ...]:
        if device not in self._names:
            self._names[device] = tuple(metric_name(base, device=procfs.label(device)) for base in _INSTANCE)
        return self._names[device]
