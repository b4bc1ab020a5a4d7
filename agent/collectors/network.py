"""Network: traffic, errors and drops by interface from /proc/net/dev; TCP from /proc/net/snmp and sockstat."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from agent.collectors import Reading, procfs
from agent.sampling import Counters, bytes_per_second, per_second, percent
from shared.names import metric_name

VIRTUAL = ("lo", "veth*", "docker*", "br-*", "virbr*", "vnet*", "tap*", "ifb*", "dummy*", "cni*", "flannel*", "cali*",
           "podman*", "lxc*", "sit*", "tunl*", "gre*", "ip6*", "bonding_masters", "nerdctl*", "kube-*")

INSTANCE = ("network.receive_bytes_per_second", "network.transmit_bytes_per_second",
             "network.receive_packets_per_second", "network.transmit_packets_per_second",
             "network.errors_per_second", "network.drops_per_second")


def interfaces(text: bytes) -> dict[str, tuple[int, ...]]:
    """/proc/net/dev → by interface: bytes in, bytes out, packets in, packets out, errors, drops."""
    found: dict[str, tuple[int, ...]] = {}
    for line in text.splitlines()[2:]:
        name, _, rest = line.rpartition(b":")
        fields = rest.split(None, 12)
        if name and len(fields) >= 12:
            numbers = tuple(map(int, fields[:12]))
            found[name.strip().decode(errors="replace")] = (
                numbers[0], numbers[8], numbers[1], numbers[9], numbers[2] + numbers[10], numbers[3] + numbers[11])
    return found


def traffic(elapsed: float, step: Sequence[int]) -> tuple[float, ...]:
    """The six rates of one interface, or of all together, in the order of the metrics."""
    return (bytes_per_second(step[0], elapsed), bytes_per_second(step[1], elapsed),
            *(per_second(amount, elapsed) for amount in step[2:]))


def totals(elapsed: float, steps: Mapping[str, tuple[int, ...]]) -> dict[str, float]:
    """The core metrics: sums over interfaces, and errors and drops of all packets in percent."""
    sums = [sum(column) for column in zip(*steps.values(), strict=True)]
    packets = max(1, sums[2] + sums[3])
    return dict(zip(INSTANCE, traffic(elapsed, sums), strict=True)) | {
        "network.error_percent": percent(sums[4], packets, 4), "network.drop_percent": percent(sums[5], packets, 4)}


def tcp(snmp: bytes, sockstat: bytes) -> tuple[dict[str, float], int | None]:
    """TCP connections by state, and the counter of segments sent again, where /proc tells them."""
    metrics: dict[str, float] = {}
    rows = [line.split() for line in snmp.splitlines() if line.startswith(b"Tcp:")]
    values = dict(zip(rows[0], rows[1], strict=False)) if len(rows) == 2 else {}
    if b"CurrEstab" in values:
        metrics["network.tcp_established"] = int(values[b"CurrEstab"])
    words = sockstat[sockstat.find(b"TCP:"):].split(b"\n", 1)[0].split()
    if b"tw" in words:
        metrics["network.tcp_time_wait"] = int(words[words.index(b"tw") + 1])
    again = values.get(b"RetransSegs")
    return metrics, None if again is None else int(again)


class Network:
    """Collector `network`.

    By default interfaces with hardware behind them; where there are none (a container), those not known to be virtual.
    """

    name = "network"
    interval = 0.0
    may_block = False

    def __init__(self, root: str = "/", include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        self._root, self._include, self._exclude = root, include, exclude
        self._files = procfs.Files(root)
        self._counters: Counters[str] = Counters()
        self._segments: Counters[str] = Counters()
        self._known: frozenset[str] = frozenset()
        self._chosen: frozenset[str] = frozenset()
        self._names: dict[str, tuple[str, ...]] = {}

    def open(self) -> str | None:
        if not Path(self._root, "proc/net/dev").exists():
            return "no /proc/net/dev: the kernel does not tell the traffic of interfaces"
        return None

    def collect(self, now: float, monotonic: float) -> Reading:  # noqa: ARG002 (one signature for all collectors)
        every = interfaces(self._files.read("proc/net/dev"))
        if self._known != every.keys():
            self._known = frozenset(every)
            self._chosen = read_chosen(self._root, every, self._include, self._exclude)
        chosen = {name: row for name, row in every.items() if name in self._chosen}
        elapsed, steps = self._counters.advance(monotonic, chosen)
        metrics: dict[str, float] = {}
        if steps:
            metrics = totals(elapsed, steps)
            for name, step in steps.items():
                metrics.update(zip(self._instance_names(name), traffic(elapsed, step), strict=True))
        return Reading(metrics | self._tcp(monotonic))

    def close(self) -> None:
        self._files.close()

    def _tcp(self, monotonic: float) -> dict[str, float]:
        metrics, again = tcp(self._files.read_optional("proc/net/snmp"), self._files.read_optional("proc/net/sockstat"))
        if again is not None:
            elapsed, steps = self._segments.advance(monotonic, {"": (again,)})
            if "" in steps:
                metrics["network.tcp_retransmits_per_second"] = per_second(steps[""][0], elapsed)
        return metrics

    def _instance_names(self, interface: str) -> tuple[str, ...]:
        if interface not in self._names:
            self._names[interface] = tuple(metric_name(base, interface=procfs.label(interface)) for base in INSTANCE)
        return self._names[interface]


def read_chosen(root: str, names: Iterable[str], include: Sequence[str], exclude: Sequence[str]) -> frozenset[str]:
    """The interfaces that count."""
    hardware = {name for name in names if Path(root, "sys/class/net", name, "device").exists()}
    by_default = hardware or {name for name in names if not procfs.is_match(name, VIRTUAL)}
    return frozenset(name for name in names if procfs.is_chosen(name, include, exclude, by_default=name in by_default))
