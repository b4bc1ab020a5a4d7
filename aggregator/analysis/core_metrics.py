"""Which metrics of a host anomaly detection watches, all hosts alike: these, and those that a setting adds. Pure.

Watched is what says how a host is doing and goes up and down: shares of time and of capacity, rates, waits, temperatures.
Left out are totals and sizes (they never move, or only by somebody's hand), what another metric says already (bytes used beside
the percentage, the load of 5 and 15 minutes beside that of one), what only grows (uptime), and drumbeat's own figures.
Load is not divided by the cores: a host is compared with itself, and its cores stay the same.
"""

from collections.abc import Sequence

from shared import catalogue
from shared.names import split_metric

METRICS: tuple[str, ...] = (
    "cpu.percent", "cpu.user_percent", "cpu.system_percent", "cpu.iowait_percent", "cpu.steal_percent", "cpu.load1",
    "cpu.context_switches_per_second", "cpu.interrupts_per_second", "cpu.pressure_percent",
    "memory.percent", "memory.pressure_percent",
    "swap.percent", "swap.in_bytes_per_second", "swap.out_bytes_per_second",
    "disk.percent", "disk.read_bytes_per_second", "disk.write_bytes_per_second", "disk.read_ops_per_second",
    "disk.write_ops_per_second", "disk.busy_percent", "disk.await_ms", "disk.pressure_percent",
    "network.receive_bytes_per_second", "network.transmit_bytes_per_second", "network.receive_packets_per_second",
    "network.transmit_packets_per_second", "network.error_percent", "network.drop_percent", "network.tcp_established",
    "network.tcp_retransmits_per_second",
    "temperature.celsius", "gpu.percent", "processes.running", "processes.threads")
"""Their order is part of what is stored of the detector: after a change it learns anew."""

SCORE = "anomaly.score"
"""The host's score as a metric, stored beside its samples."""

MAX_MORE = 30
"""Metrics that are watched in addition at most."""


class MetricError(ValueError):
    """A metric cannot be watched in addition; the message names it and the mend."""


def with_more(names: Sequence[str]) -> tuple[str, ...]:
    """METRICS and these, in an order that does not depend on theirs. Raises MetricError."""
    if len(names) > MAX_MORE:
        raise MetricError(f"{len(names)} metrics; at most {MAX_MORE} are watched in addition")
    for name in names:
        if problem := _problem(name):
            raise MetricError(f"{name[:63]!r}: {problem}")
    return (*METRICS, *sorted(set(names)))


def _problem(name: str) -> str:
    if split_metric(name) is None or "*" in name:
        return "this is no full name of a metric; names are like custom.queue_length or custom.wait_ms{queue=mail}"
    if name in METRICS:
        return "it is always watched; leave it out"
    if name in (metric.name for metric in catalogue.DERIVED):
        return "drumbeat makes it itself from the others; leave it out"
    if catalogue.is_counter(name):
        return "it only grows, which is never usual; send a rate, and name that"
    if catalogue.find(name) is None and not name.startswith(catalogue.OWN_GROUPS):
        return "there is no such metric; see /api/v1/metrics, own metrics begin with custom."
    return ""
