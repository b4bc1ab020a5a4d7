"""What a simulated host shows beside its numbers: processes, containers, sensors, fitting the numbers. Pure."""

import random
import zlib
from collections.abc import Mapping

from shared import wire

NAMES = ("web", "api", "worker", "cache", "database", "proxy")
SYSTEM = ("systemd", "sshd", "cron", "rsyslogd", "drumbeat", "node")
DAY = 86_400


def processes(host: str, metrics: Mapping[str, float], now: float) -> wire.Processes:
    """The process list at `now` (Unix s) of a host that measures `metrics`: they share its CPU and memory."""
    chance = random.Random(f"{host}/{now:.0f}")  # noqa: S311 (imitates measurements, guards nothing)
    names = [*NAMES, *SYSTEM]
    busy = _shares(chance, [1 / (1 + zlib.crc32(f"{host}/{name}".encode()) % 7) for name in names])
    large = _shares(random.Random(host), [1.0] * len(names))  # noqa: S311
    cpu, memory = metrics["cpu.percent"] * metrics["cpu.count"] * 0.9, metrics["memory.used_bytes"] * 0.8
    shown = [wire.Process(
        pid=(1 if name == "systemd" else 300 + 7 * place), name=name, user="app" if name in NAMES else "root",
        cpu_percent=round(cpu * busy[place], 1), memory_bytes=int(memory * large[place]) >> 12 << 12,
        memory_percent=round(metrics["memory.percent"] * 0.8 * large[place], 1), threads=1 + place % 5,
        state="R" if cpu * busy[place] > 40 else "S", started_at=now // DAY * DAY - DAY, command=f"/usr/bin/{name}")
        for place, name in enumerate(names)]
    shown.sort(key=lambda process: -process.cpu_percent)
    return wire.Processes(host=host, ts=round(now, 3), total=int(metrics["processes.total"]), processes=shown)


def containers(host: str, now: float) -> wire.Containers:
    """Six containers, all well."""
    shown = [wire.Container(id=f"{zlib.crc32(f'{host}/{name}'.encode()):08x}", name=name, image=f"example/{name}:1",
                            state="running", health="healthy", should_run=True, started_at=now - DAY) for name in NAMES]
    return wire.Containers(host=host, ts=round(now, 3), containers=shown, total=len(shown))


def sensors(host: str, metrics: Mapping[str, float], now: float) -> wire.Sensors:
    """One temperature."""
    hottest = wire.Sensor(kind="temperature", group="coretemp", label="Package id 0", current=metrics["temperature.celsius"],
                          high=85.0, critical=100.0)
    return wire.Sensors(host=host, ts=round(now, 3), available=True, sensors=[hottest])


def _shares(chance: random.Random, weights: list[float]) -> list[float]:
    """`weights` shaken, of which the sum is 1."""
    shaken = [weight * chance.uniform(0.5, 1.5) for weight in weights]
    return [weight / sum(shaken) for weight in shaken]
