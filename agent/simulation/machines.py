"""What a simulated machine measures: levels of its own, a daily wave, minute waves, noise, incidents. Pure.

Bodies (the JSON of `metrics`) are made from (machine, hour, step, kind, stage) alone, so that any sample can be made again
for resending, and are kept, so that sending one costs nothing.
"""

import dataclasses
import functools
import math
import random

import msgspec

from shared.catalogue import CORE_NAMES
from shared.names import metric_name

STEPS = 8
STAGES = 10
MACHINES = 40
KINDS = ("steady", "hot", "filling", "lossy", "silent")

_GIB = 1 << 30
_LEFT_OUT = ("gpu.", "swap.in", "swap.out", "system.clock")


@dataclasses.dataclass(frozen=True, slots=True)
class Machine:
    """A machine's size and habits, drawn from its number."""

    cores: int
    memory: int
    busy: float
    memory_percent: float
    disk_percent: float
    network: float
    mounts: tuple[str, ...]
    devices: tuple[str, ...]
    interfaces: tuple[str, ...]


def machine(number: int, seed: int) -> Machine:
    """The machine with this number."""
    chance = random.Random(f"{seed}/{number}")  # noqa: S311 (imitates measurements, guards nothing)
    return Machine(
        cores=chance.choice((2, 4, 8)), memory=chance.choice((4, 8, 16, 64)) * _GIB, busy=chance.uniform(5, 55),
        memory_percent=chance.uniform(20, 75), disk_percent=chance.uniform(15, 78), network=10 ** chance.uniform(3, 6.5),
        mounts=("/", "/var", "/srv")[:chance.randint(1, 3)], devices=("sda", "nvme0n1")[:chance.randint(1, 2)],
        interfaces=("eth0", "eth1")[:chance.randint(1, 2)])


@functools.lru_cache(maxsize=20_000)
def body(number: int, seed: int, count: int, hour: int, step: int, kind: str = "steady", stage: int = 0) -> bytes:
    """The JSON object of `count` metrics of one machine at one hour of the day and step; `stage` 0…10 of an incident."""
    values = metrics(number, seed, hour, step, kind, stage)
    extra = count - len(values)
    values |= {f"custom.queue_length{{queue={index:03d}}}": float((number + index + step) % 50) for index in range(extra)}
    return msgspec.json.encode(dict(list(values.items())[:count]))


def metrics(number: int, seed: int, hour: int, step: int, kind: str, stage: int) -> dict[str, float]:
    """The metrics of one machine, core metrics first, rounded to what they mean."""
    box = machine(number, seed)
    chance = random.Random(f"{seed}/{number}/{hour}/{step}")  # noqa: S311
    day = math.sin((hour - 8) / 24 * 2 * math.pi)
    wave = math.sin(step / STEPS * 2 * math.pi)
    severity = stage / STAGES
    cpu = _bound(box.busy * (1 + 0.5 * day) + 4 * wave + chance.gauss(0, 2) + (70 * severity if kind == "hot" else 0))
    memory = _bound(box.memory_percent + 5 * day + chance.gauss(0, 0.5) + (30 * severity if kind == "hot" else 0))
    disk = _bound(box.disk_percent + 0.1 * hour + ((98 - box.disk_percent) * severity if kind == "filling" else 0))
    network = box.network * (1.2 + day) * chance.uniform(0.8, 1.2)
    bad = 4.0 * severity if kind == "lossy" else 0.0
    core = (_cpu(box, cpu, chance) | _memory(box, memory) | _disk(disk, network, cpu, chance) | _network(network, bad, chance)
            | _others(cpu, hour, step))
    ordered = {name: core[name] for name in CORE_NAMES if name in core and not name.startswith(_LEFT_OUT)}
    return ordered | _tail(box, core, chance)


def _bound(value: float, high: float = 99.0) -> float:
    return round(min(max(value, 0.5), high), 1)


def _cpu(box: Machine, cpu: float, chance: random.Random) -> dict[str, float]:
    load = cpu / 100 * box.cores
    return {"cpu.percent": cpu, "cpu.user_percent": round(cpu * 0.7, 1), "cpu.system_percent": round(cpu * 0.25, 1),
            "cpu.iowait_percent": round(chance.uniform(0, 2), 1), "cpu.steal_percent": 0.0,
            "cpu.load1": round(load * chance.uniform(0.8, 1.3), 2), "cpu.load5": round(load, 2),
            "cpu.load15": round(load * 0.95, 2), "cpu.count": box.cores, "cpu.frequency_mhz": 2400 + box.cores * 50,
            "cpu.context_switches_per_second": round(500 + cpu * 120, 1), "cpu.interrupts_per_second": round(300 + cpu * 60, 1),
            "cpu.pressure_percent": round(max(0.0, cpu - 60) / 4, 1)}


def _memory(box: Machine, percent: float) -> dict[str, float]:
    used = int(box.memory * percent / 100) >> 12 << 12
    swap = 2 * _GIB
    swapped = max(0.0, percent - 85) * 4
    return {"memory.percent": percent, "memory.total_bytes": box.memory, "memory.used_bytes": used,
            "memory.available_bytes": box.memory - used, "memory.cached_bytes": (box.memory - used) // 2 >> 12 << 12,
            "memory.buffers_bytes": 200 << 20, "memory.pressure_percent": round(max(0.0, percent - 80) / 5, 1),
            "swap.percent": round(swapped, 1), "swap.used_bytes": int(swap * swapped / 100), "swap.total_bytes": swap}


def _disk(percent: float, network: float, cpu: float, chance: random.Random) -> dict[str, float]:
    size = 200 * _GIB
    return {"disk.percent": percent, "disk.free_bytes": int(size * (1 - percent / 100)) >> 12 << 12,
            "disk.inodes_percent": round(percent / 6, 1), "disk.read_bytes_per_second": round(network * 0.3),
            "disk.write_bytes_per_second": round(network * 0.7), "disk.read_ops_per_second": round(network / 20_000, 2),
            "disk.write_ops_per_second": round(network / 9_000, 2), "disk.busy_percent": round(cpu / 5, 1),
            "disk.await_ms": round(chance.uniform(0.3, 4), 2), "disk.pressure_percent": round(chance.uniform(0, 1), 1)}


def _network(network: float, bad: float, chance: random.Random) -> dict[str, float]:
    packets = network / 700
    return {"network.receive_bytes_per_second": round(network), "network.transmit_bytes_per_second": round(network * 0.6),
            "network.receive_packets_per_second": round(packets, 1), "network.transmit_packets_per_second": round(packets, 1),
            "network.errors_per_second": round(packets * bad / 100, 2), "network.drops_per_second": round(packets * bad / 50, 2),
            "network.error_percent": round(bad, 2), "network.drop_percent": round(2 * bad, 2),
            "network.tcp_established": chance.randint(5, 200), "network.tcp_time_wait": chance.randint(0, 80),
            "network.tcp_retransmits_per_second": round(chance.uniform(0, 1 + bad), 2)}


def _others(cpu: float, hour: int, step: int) -> dict[str, float]:
    return {"temperature.celsius": round(38 + cpu * 0.4, 1), "containers.total": 6, "containers.running": 6,
            "containers.stopped": 0, "containers.unhealthy": 0, "containers.restarts": 2, "processes.total": 180 + step,
            "processes.running": 1 + int(cpu / 30), "processes.zombie": 0, "processes.threads": 600 + 3 * step,
            "system.uptime_seconds": 864_000 + hour * 3600, "system.users": 1, "system.open_files_percent": 0.4,
            "agent.cpu_percent": 0.1, "agent.memory_bytes": 29_000_000, "agent.spool_samples": 2,
            "agent.collect_seconds": 0.004}


def _tail(box: Machine, core: dict[str, float], chance: random.Random) -> dict[str, float]:
    tail = {metric_name("cpu.core_percent", core=str(core_number)): _bound(core["cpu.percent"] + chance.gauss(0, 8))
            for core_number in range(box.cores)}
    for place, mount in enumerate(box.mounts):
        for name in ("disk.percent", "disk.free_bytes", "disk.inodes_percent"):
            tail[metric_name(name, mount=mount)] = round(core[name] / (1 + place / 2), 1)
    for device in box.devices:
        for name in ("disk.read_bytes_per_second", "disk.write_bytes_per_second", "disk.busy_percent", "disk.await_ms"):
            tail[metric_name(name, device=device)] = round(core[name] / len(box.devices), 2)
    for interface in box.interfaces:
        for name in ("network.receive_bytes_per_second", "network.transmit_bytes_per_second",
                     "network.errors_per_second", "network.drops_per_second"):
            tail[metric_name(name, interface=interface)] = round(core[name] / len(box.interfaces), 2)
    return tail
