"""CPU: time by use, load, frequency, context switches, interrupts, pressure. From /proc/stat, /proc/loadavg, /sys."""

import dataclasses
import re

from agent.collectors import Reading, procfs
from agent.sampling import Counters, per_second, percent
from shared.names import metric_name

FREQUENCY_SECONDS = 10.0
MAX_FREQUENCY_FILES = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Stat:
    """/proc/stat: jiffies (user, nice, system, idle, iowait, irq, softirq, steal) by CPU (`cpu`: all), and events."""

    times: dict[str, tuple[int, ...]]
    context_switches: int
    interrupts: int


def stat(text: bytes) -> Stat:
    """The parsed /proc/stat. Fields that an old kernel lacks are 0."""
    times: dict[str, tuple[int, ...]] = {}
    for line in text[:max(0, text.find(b"\nintr"))].split(b"\n"):
        name, *fields = line.split(None, 9)
        if name.startswith(b"cpu"):
            numbers = tuple(map(int, fields[:8]))
            times[name.decode()] = numbers + (0,) * (8 - len(numbers))
    return Stat(times, procfs.number_after(text, b"ctxt") or 0, procfs.number_after(text, b"intr") or 0)


def shares(before: tuple[int, ...], now: tuple[int, ...]) -> dict[str, float] | None:
    """Percentages of the time between two rows of /proc/stat; None where the counters were reset or stood still.

    Idle, iowait and steal may step back a little in a sound kernel: such a step counts as 0.
    """
    user, nice, system, idle, iowait, irq, softirq, steal = (new - old for new, old in zip(now, before, strict=True))
    if min(user, nice, system, irq, softirq) < 0:
        return None
    idle, iowait, steal = max(0, idle), max(0, iowait), max(0, steal)
    total = user + nice + system + idle + iowait + irq + softirq + steal
    if total <= 0:
        return None
    return {"percent": percent(total - idle - iowait, total), "user_percent": percent(user + nice, total),
            "system_percent": percent(system + irq + softirq, total), "iowait_percent": percent(iowait, total),
            "steal_percent": percent(steal, total)}


def load(text: bytes) -> dict[str, float]:
    """/proc/loadavg → load1, load5, load15."""
    return dict(zip(("cpu.load1", "cpu.load5", "cpu.load15"), map(float, text.split(None, 3)[:3]), strict=True))


class Cpu:
    """Collector `cpu`."""

    name = "cpu"
    interval = 0.0
    may_block = False

    def __init__(self, root: str = "/") -> None:
        self._root = root
        self._files = procfs.Files(root)
        self._events: Counters[str] = Counters()
        self._before: dict[str, tuple[int, ...]] = {}
        self._core_names: dict[str, str] = {}
        self._frequency: dict[str, float] = {}
        self._frequency_at = float("-inf")

    def open(self) -> str | None:
        return None

    def collect(self, now: float, monotonic: float) -> Reading:  # noqa: ARG002 (one signature for all collectors)
        reading = stat(self._files.read("proc/stat"))
        metrics = self._time_shares(reading) | load(self._files.read("proc/loadavg"))
        metrics["cpu.count"] = len(reading.times) - 1
        elapsed, steps = self._events.advance(monotonic, {"": (reading.context_switches, reading.interrupts)})
        if "" in steps:
            metrics["cpu.context_switches_per_second"] = per_second(steps[""][0], elapsed)
            metrics["cpu.interrupts_per_second"] = per_second(steps[""][1], elapsed)
        if some := procfs.pressure(self._files.read_optional("proc/pressure/cpu")):
            metrics["cpu.pressure_percent"] = some["some"]
        if monotonic - self._frequency_at >= FREQUENCY_SECONDS:
            self._frequency_at = monotonic
            self._frequency = read_frequency(self._root)
        return Reading(metrics | self._frequency)

    def close(self) -> None:
        self._files.close()
        self._before = {}

    def _time_shares(self, reading: Stat) -> dict[str, float]:
        metrics: dict[str, float] = {}
        cores: dict[str, float] = {}
        for cpu, now in reading.times.items():
            before = self._before.get(cpu)
            share = shares(before, now) if before is not None else None
            if share is None:
                continue
            if cpu == "cpu":
                metrics = {f"cpu.{name}": value for name, value in share.items()}
            else:
                cores[self._core_name(cpu)] = share["percent"]
        self._before = reading.times
        return metrics | cores

    def _core_name(self, cpu: str) -> str:
        if cpu not in self._core_names:
            self._core_names[cpu] = metric_name("cpu.core_percent", core=cpu[3:])
        return self._core_names[cpu]


def read_frequency(root: str) -> dict[str, float]:
    """Mean current frequency in MHz, of at most 16 CPUs; empty where neither cpufreq nor /proc/cpuinfo tells."""
    base = f"{root}/sys/devices/system/cpu"
    cpus = [name for name in procfs.read_names(base) if name[:3] == "cpu" and name[3:].isdigit()]
    chosen = cpus[::max(1, -(-len(cpus) // MAX_FREQUENCY_FILES))]
    texts = [procfs.read_text(f"{base}/{cpu}/cpufreq/scaling_cur_freq") for cpu in chosen]
    values = [int(text) / 1000 for text in texts if text.isdigit()]
    if not values:
        values = frequencies(procfs.read_text(f"{root}/proc/cpuinfo"))
    return {"cpu.frequency_mhz": round(sum(values) / len(values))} if values else {}


def frequencies(cpuinfo: str) -> list[float]:
    """The `cpu MHz` lines of /proc/cpuinfo."""
    return [float(found) for found in re.findall(r"^cpu MHz\s*:\s*([0-9.]+)", cpuinfo, re.MULTILINE)]
