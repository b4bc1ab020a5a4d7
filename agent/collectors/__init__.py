"""Collectors: one file per thing measured, and what they all keep to.

A collector may read files, call one client library, and keep what it needs for the next rates. It never writes, never
needs root, never logs, and gives no value where it has none. "Nothing here" (`open` returns why, in words with a mend)
differs from "broken" (`open` or `collect` raises): the first is silent, the second is `agent.collector_up` 0.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """What one collector read: numbers by metric name, and snapshots by kind (`containers`, `processes`, `sensors`)."""

    metrics: dict[str, float]
    snapshots: dict[str, Struct] = dataclasses.field(default_factory=dict)


class Collector(Protocol):
    """Reads one thing.

    `interval`: seconds between readings, 0 for every tick; the last reading is carried in between. `may_block`: it
    asks something that may hang (a daemon, a driver, a mount) and so runs in a thread of its own.
    """

    name: str
    interval: float
    may_block: bool

    def open(self) -> str | None:
        """Make ready. Returns None when there is something to read, else why not; raises when it is broken."""

    def collect(self, now: float, monotonic: float) -> Reading:
        """Read once; `now` is Unix seconds, `monotonic` the clock that rates are taken over. Raises when broken."""

    def close(self) -> None:
        """Let go of everything; `open` may follow."""


def build(settings: Any, root: str = "/") -> list[Collector]:
    """The collectors that `settings` asks for, in the order of the sample.

    Reads the attributes host, collectors (names; empty: all), mounts_include, mounts_exclude, devices_include,
    devices_exclude, interfaces_include, interfaces_exclude (fnmatch patterns), docker_socket, process_interval
    (seconds). `root` is where /proc and /sys are found. Raises ValueError for the name of no collector.
    """
    makers = _makers(settings, root)
    wanted = tuple(settings.collectors) or tuple(makers)
    for name in wanted:
        if name not in makers:
            raise ValueError(f"there is no collector {name!r}; allowed: {', '.join(makers)}")
    return [make() for name, make in makers.items() if name in wanted]


def _makers(settings: Any, root: str) -> dict[str, Callable[[], Collector]]:
    """How each collector is made, by name, in the order of the sample."""
    from agent.collectors import docker, gpu, sensors, systemd

    everywhere: dict[str, Callable[[], Collector]] = {
        "gpu": lambda: gpu.GpuCollector(root),
        "docker": lambda: docker.Docker(settings.host, settings.docker_socket)}
    if not Path(root, "proc/stat").exists():
        from agent.collectors import portable

        return portable.makers(settings) | everywhere
    return _linux_makers(settings, root) | {
        "sensors": lambda: sensors.SensorsCollector(settings.host, root),
        "systemd": lambda: systemd.Systemd(root)} | everywhere


def _linux_makers(settings: Any, root: str) -> dict[str, Callable[[], Collector]]:
    from agent.collectors import cpu, disk, filesystem, memory, network, own, processes, system

    return {
        "cpu": lambda: cpu.Cpu(root),
        "memory": lambda: memory.Memory(root),
        "disk": lambda: disk.Disk(root, settings.devices_include, settings.devices_exclude),
        "filesystem": lambda: filesystem.Filesystem(root, settings.mounts_include, settings.mounts_exclude),
        "network": lambda: network.Network(root, settings.interfaces_include, settings.interfaces_exclude),
        "processes": lambda: processes.ProcessesCollector(settings.host, root, settings.process_interval),
        "system": lambda: system.System(root, system.KernelClock() if root == "/" else None),
        "agent": lambda: own.Own(root)}
