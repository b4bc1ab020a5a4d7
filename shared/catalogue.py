"""The catalogue: every metric drumbeat itself produces, with unit, bounds and meaning. Pure.

The name of a metric is the same string on the wire, in the database, in rules, in REST and in the documents. Core
metrics are columns that every host has (absent where the host has no such thing); instance metrics carry labels in
braces and ride in a sample's tail. `health.*` and `anomaly.score` are derived by ingest and stored beside what the agent sent.
"""

import dataclasses
import functools

from shared.names import split_metric

UNBOUNDED = float("inf")
OWN_GROUPS = ("custom.", "http.")
"""Metrics that begin so are not in the catalogue: whoever sends them names them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name without braces, the labels of its instances (empty for a core metric), unit, bounds, meaning."""

    name: str
    unit: str
    help: str
    low: float = 0.0
    high: float = UNBOUNDED
    labels: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        return self.name.partition(".")[0]


def _percent(name: str, text: str, *labels: str, high: float = 100.0) -> Metric:
    return Metric(name, "percent", text, 0.0, high, labels)


def _bytes(name: str, text: str, *labels: str) -> Metric:
    return Metric(name, "bytes", text, labels=labels)


def _rate(name: str, text: str, *labels: str) -> Metric:
    unit = "bytes/s" if name.endswith("bytes_per_second") else "1/s"
    return Metric(name, unit, text, labels=labels)


def _count(name: str, text: str) -> Metric:
    return Metric(name, "count", text)


def _celsius(name: str, text: str, *labels: str) -> Metric:
    return Metric(name, "celsius", text, -273.15, 10_000.0, labels)


CORE: tuple[Metric, ...] = (
    _percent("cpu.percent", "CPU time not idle, all cores together"),
    _percent("cpu.user_percent", "CPU time in user mode, nice included"),
    _percent("cpu.system_percent", "CPU time in the kernel, interrupts included"),
    _percent("cpu.iowait_percent", "CPU time idle while I/O was outstanding"),
    _percent("cpu.steal_percent", "CPU time taken by the hypervisor"),
    Metric("cpu.load1", "load", "load average over 1 minute"),
    Metric("cpu.load5", "load", "load average over 5 minutes"),
    Metric("cpu.load15", "load", "load average over 15 minutes"),
    _count("cpu.count", "logical CPUs"),
    Metric("cpu.frequency_mhz", "MHz", "mean current frequency of the CPUs"),
    _rate("cpu.context_switches_per_second", "context switches"),
    _rate("cpu.interrupts_per_second", "interrupts served"),
    _percent("cpu.pressure_percent", "share of the last 10 s in which some task waited for a CPU (PSI some avg10)"),
    _percent("memory.percent", "memory not available to new programs: (total - available) / total"),
    _bytes("memory.total_bytes", "physical memory"),
    _bytes("memory.used_bytes", "total - available"),
    _bytes("memory.available_bytes", "memory available to new programs without swapping"),
    _bytes("memory.cached_bytes", "page cache and reclaimable slab"),
    _bytes("memory.buffers_bytes", "block device buffers"),
    _percent("memory.pressure_percent", "share of the last 10 s in which some task waited for memory (PSI some avg10)"),
    _percent("swap.percent", "swap used"),
    _bytes("swap.used_bytes", "swap used"),
    _bytes("swap.total_bytes", "swap size"),
    _rate("swap.in_bytes_per_second", "read from swap"),
    _rate("swap.out_bytes_per_second", "written to swap"),
    _percent("disk.percent", "fullest file system: used / (used + available to users)"),
    _bytes("disk.free_bytes", "free to users on the fullest file system"),
    _percent("disk.inodes_percent", "inodes used on the file system with the largest share"),
    _rate("disk.read_bytes_per_second", "read from all disks"),
    _rate("disk.write_bytes_per_second", "written to all disks"),
    _rate("disk.read_ops_per_second", "reads completed, all disks"),
    _rate("disk.write_ops_per_second", "writes completed, all disks"),
    _percent("disk.busy_percent", "share of time the busiest disk had requests in flight"),
    Metric("disk.await_ms", "ms", "mean time of a request on the slowest disk, queueing included"),
    _percent("disk.pressure_percent", "share of the last 10 s in which some task waited for I/O (PSI some avg10)"),
    _rate("network.receive_bytes_per_second", "received, all interfaces"),
    _rate("network.transmit_bytes_per_second", "sent, all interfaces"),
    _rate("network.receive_packets_per_second", "packets received, all interfaces"),
    _rate("network.transmit_packets_per_second", "packets sent, all interfaces"),
    _rate("network.errors_per_second", "receive and transmit errors, all interfaces"),
    _rate("network.drops_per_second", "packets dropped, all interfaces"),
    _percent("network.error_percent", "errors per packet, in percent"),
    _percent("network.drop_percent", "drops per packet, in percent"),
    _count("network.tcp_established", "TCP connections established"),
    _count("network.tcp_time_wait", "TCP connections in TIME-WAIT"),
    _rate("network.tcp_retransmits_per_second", "TCP segments sent again"),
    _celsius("temperature.celsius", "hottest sensor"),
    _count("gpu.count", "GPUs"),
    _percent("gpu.percent", "utilisation of the busiest GPU"),
    _percent("gpu.memory_percent", "memory used on the fullest GPU"),
    _bytes("gpu.memory_used_bytes", "memory used, all GPUs"),
    _bytes("gpu.memory_total_bytes", "memory, all GPUs"),
    _celsius("gpu.temperature_celsius", "hottest GPU"),
    Metric("gpu.power_watts", "W", "power drawn, all GPUs"),
    _count("containers.total", "containers, running or not"),
    _count("containers.running", "containers running"),
    _count("containers.stopped", "containers stopped that should run (restart policy not `no`)"),
    _count("containers.unhealthy", "containers whose health check fails"),
    _count("containers.restarts", "restarts of the present containers, in all"),
    _count("processes.total", "processes"),
    _count("processes.running", "tasks runnable now"),
    _count("processes.zombie", "processes ended but not reaped"),
    _count("processes.threads", "threads"),
    Metric("system.uptime_seconds", "s", "time since boot"),
    _count("system.users", "users logged in"),
    _percent("system.open_files_percent", "file handles in use, of the system's limit"),
    Metric("system.clock_offset_seconds", "s", "clock offset as the kernel's NTP discipline reports it", -UNBOUNDED),
    _percent("agent.cpu_percent", "CPU used by the agent, of one core", high=UNBOUNDED),
    _bytes("agent.memory_bytes", "resident memory of the agent"),
    _count("agent.spool_samples", "samples spooled and not yet known to be stored"),
    Metric("agent.collect_seconds", "s", "time it took to collect the previous sample"),
)

INSTANCE: tuple[Metric, ...] = (
    _percent("cpu.core_percent", "CPU time not idle of one core", "core"),
    _percent("disk.percent", "used on one file system", "mount"),
    _bytes("disk.used_bytes", "used on one file system", "mount"),
    _bytes("disk.free_bytes", "free to users on one file system", "mount"),
    _percent("disk.inodes_percent", "inodes used on one file system", "mount"),
    _rate("disk.read_bytes_per_second", "read from one disk", "device"),
    _rate("disk.write_bytes_per_second", "written to one disk", "device"),
    _percent("disk.busy_percent", "share of time one disk had requests in flight", "device"),
    Metric("disk.await_ms", "ms", "mean time of a request on one disk, queueing included", labels=("device",)),
    _rate("network.receive_bytes_per_second", "received on one interface", "interface"),
    _rate("network.transmit_bytes_per_second", "sent on one interface", "interface"),
    _rate("network.receive_packets_per_second", "packets received on one interface", "interface"),
    _rate("network.transmit_packets_per_second", "packets sent on one interface", "interface"),
    _rate("network.errors_per_second", "errors on one interface", "interface"),
    _rate("network.drops_per_second", "packets dropped on one interface", "interface"),
    _celsius("temperature.celsius", "one sensor", "sensor"),
    Metric("fan.rpm", "rpm", "speed of one fan", labels=("fan",)),
    _percent("gpu.percent", "utilisation of one GPU", "gpu"),
    _percent("gpu.memory_percent", "memory used on one GPU", "gpu"),
    _celsius("gpu.temperature_celsius", "one GPU", "gpu"),
    Metric("gpu.power_watts", "W", "power drawn by one GPU", labels=("gpu",)),
    _percent("container.cpu_percent", "CPU used by one container, of one core", "container", high=UNBOUNDED),
    _bytes("container.memory_bytes", "memory used by one container, page cache not counted", "container"),
    Metric("systemd.unit_failed", "bool", "1 while the unit is in state failed", high=1.0, labels=("unit",)),
    Metric("agent.collector_up", "bool", "1 when the collector read what it should, else 0", high=1.0, labels=("collector",)),
    Metric("agent.collector_seconds", "s", "time the collector took", labels=("collector",)),
)

DERIVED: tuple[Metric, ...] = (
    Metric("health.score", "score", "overall health, 0 to 100: weighted mean of the components the host has", high=100.0),
    Metric("health.cpu", "score", "health of the CPU", high=100.0),
    Metric("health.memory", "score", "health of memory and swap", high=100.0),
    Metric("health.disk", "score", "health of the fullest file system", high=100.0),
    Metric("health.services", "score", "health of the containers", high=100.0),
    Metric("health.network", "score", "health of the network", high=100.0),
    Metric("anomaly.score", "score",
           "how unlike itself the host was in the last whole minute; about 1 is usual, absent while learning"),
)

CORE_NAMES: tuple[str, ...] = tuple(metric.name for metric in CORE)

_BY_KEY: dict[tuple[str, tuple[str, ...]], Metric] = {(m.name, m.labels): m for m in (*CORE, *INSTANCE, *DERIVED)}


def find(name: str) -> Metric | None:
    """The catalogue's entry for a full metric name, braces included; None for a custom or unknown metric."""
    split = split_metric(name)
    return None if split is None else _BY_KEY.get((split[0], tuple(split[1])))


def is_counter(name: str) -> bool:
    """Whether a metric only grows until it begins again at 0: such names end in `_total` before any braces."""
    return name.partition("{")[0].endswith("_total")


@functools.lru_cache(maxsize=65_536)
def bounds(name: str) -> tuple[float, float]:
    """The closed interval in which a metric's values must lie; custom and unknown metrics are unbounded."""
    metric = find(name)
    return (-UNBOUNDED, UNBOUNDED) if metric is None else (metric.low, metric.high)
