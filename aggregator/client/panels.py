"""What `drumbeat top` draws of one host: rich renderables from the API's answers. No I/O."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from aggregator.client import screen
from shared.names import split_metric

BAR_WIDTH = 24


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """One look at a host: the API's answers."""

    host: Mapping[str, Any]
    health: Mapping[str, Any]
    metrics: Mapping[str, float]
    processes: Mapping[str, Any]
    containers: Mapping[str, Any]


def draw(view: View, now: datetime) -> RenderableType:
    """Everything about the host, from its score down to its containers."""
    parts: list[RenderableType] = [_head(view, now), _components(view.health), _figures(view.metrics)]
    parts += [table for table in (_mounts(view.metrics), _devices(view.metrics), _interfaces(view.metrics)) if table.rows]
    parts.append(_processes(view.processes))
    parts.append(_containers(view.containers) if view.containers["containers"] else Text.from_markup(
        f"[dim]containers: {screen.plain(view.containers['reason'] or 'none')}[/]"))
    return Group(*(_firm(part) if isinstance(part, Table) else part for part in parts))


def bar(percent: float | None, width: int = BAR_WIDTH) -> str:
    """A bar of `width` characters for 0 to 100 percent."""
    filled = round(min(max(percent or 0.0, 0.0), 100.0) / 100 * width)
    return "#" * filled + "." * (width - filled)


def instances(metrics: Mapping[str, float], label: str) -> dict[str, dict[str, float]]:
    """Metrics with this one label, by its value: {"/": {"disk.percent": 64.0, …}, …}."""
    found: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        split = split_metric(name)
        if split is not None and list(split[1]) == [label]:
            found.setdefault(split[1][label], {})[split[0]] = value
    return dict(sorted(found.items()))


def _head(view: View, now: datetime) -> RenderableType:
    host, seen = view.host, screen.read_time(view.host["last_seen_at"])
    age = "never" if seen is None else f"{screen.duration((now - seen).total_seconds())} ago"
    score = screen.coloured(view.health["status"], f"{screen.figure(view.health['score'])} {view.health['status']}")
    up = screen.duration(view.metrics.get("system.uptime_seconds"))
    line = (f"[bold]{screen.plain(host['name'])}[/]  {screen.coloured(host['state'])}  health {score}"
            f"  up {up}  sample {age}")
    hints = [hint for hint in view.health["recommendations"] if view.health["reasons"]]
    return Group(Text.from_markup(line), *(Text(f"  {screen.printable(hint)}", style="dim") for hint in hints[:3]))


def _components(health: Mapping[str, Any]) -> Table:
    table = _table("component", "score", "", "weight", "why", right=("score", "weight"))
    for name, part in health["components"].items():
        why = "; ".join(loss["text"] for loss in health["reasons"] if loss["component"] == name)
        table.add_row(screen.plain(name), screen.coloured(part["status"], screen.figure(part["score"])),
                      escape(bar(part["score"])), f"{part['weight']:.2f}", screen.plain(why))
    return table


def _figures(metrics: Mapping[str, float]) -> Table:
    table = _table("", "", "", "")
    table.show_header = False
    for name, percent, text in _figure_rows(metrics):
        table.add_row(name, f"{screen.figure(percent):>5} %", escape(bar(percent)), text)
    return table


def _figure_rows(metrics: Mapping[str, float]) -> Iterable[tuple[str, float | None, str]]:
    get = metrics.get
    load = " ".join(screen.figure(get(f"cpu.load{minutes}"), 2) for minutes in (1, 5, 15))
    yield ("cpu", get("cpu.percent"), (f"load {load} on {screen.figure(get('cpu.count'), 0)} CPUs, "
           f"iowait {screen.figure(get('cpu.iowait_percent'))} %, steal {screen.figure(get('cpu.steal_percent'))} %"))
    yield ("memory", get("memory.percent"), (f"{screen.in_bytes(get('memory.used_bytes'))} of "
           f"{screen.in_bytes(get('memory.total_bytes'))}, cached {screen.in_bytes(get('memory.cached_bytes'))}"))
    if get("swap.total_bytes"):
        yield ("swap", get("swap.percent"), (f"{screen.in_bytes(get('swap.used_bytes'))} of "
               f"{screen.in_bytes(get('swap.total_bytes'))}"))
    yield ("disk", get("disk.percent"), (f"read {screen.in_bytes(get('disk.read_bytes_per_second'), '/s')}, "
           f"write {screen.in_bytes(get('disk.write_bytes_per_second'), '/s')}, "
           f"busy {screen.figure(get('disk.busy_percent'))} %"))
    if "gpu.percent" in metrics:
        yield ("gpu", get("gpu.percent"), (f"memory {screen.figure(get('gpu.memory_percent'))} %, "
               f"{screen.figure(get('gpu.temperature_celsius'))} °C"))
    yield ("network", get("network.error_percent"), (f"in {screen.in_bytes(get('network.receive_bytes_per_second'), '/s')}, "
           f"out {screen.in_bytes(get('network.transmit_bytes_per_second'), '/s')} (bar: errors)"))


def _mounts(metrics: Mapping[str, float]) -> Table:
    table = _table("mount", "used %", "", "used", "free", "inodes %", right=("used %", "used", "free", "inodes %"))
    for mount, own in instances(metrics, "mount").items():
        table.add_row(screen.plain(mount), screen.figure(own.get("disk.percent")), escape(bar(own.get("disk.percent"))),
                      screen.in_bytes(own.get("disk.used_bytes")), screen.in_bytes(own.get("disk.free_bytes")),
                      screen.figure(own.get("disk.inodes_percent")))
    return table


def _devices(metrics: Mapping[str, float]) -> Table:
    figures = ("read", "write", "busy %", "await ms")
    table = _table("device", *figures, right=figures)
    for device, own in instances(metrics, "device").items():
        table.add_row(screen.plain(device), screen.in_bytes(own.get("disk.read_bytes_per_second"), "/s"),
                      screen.in_bytes(own.get("disk.write_bytes_per_second"), "/s"),
                      screen.figure(own.get("disk.busy_percent")), screen.figure(own.get("disk.await_ms")))
    return table


def _interfaces(metrics: Mapping[str, float]) -> Table:
    figures = ("in", "out", "errors/s", "drops/s")
    table = _table("interface", *figures, right=figures)
    for name, own in instances(metrics, "interface").items():
        table.add_row(screen.plain(name), screen.in_bytes(own.get("network.receive_bytes_per_second"), "/s"),
                      screen.in_bytes(own.get("network.transmit_bytes_per_second"), "/s"),
                      screen.figure(own.get("network.errors_per_second")), screen.figure(own.get("network.drops_per_second")))
    return table


def _processes(processes: Mapping[str, Any]) -> Table:
    figures = ("pid", "cpu %", "memory")
    table = _table(*figures, "user", f"process (of {processes['total']})", right=figures)
    for process in processes["processes"]:
        table.add_row(str(process["pid"]), screen.figure(process.get("cpu_percent")),
                      screen.in_bytes(process.get("memory_bytes")), screen.plain(process.get("user", "")),
                      screen.plain((process.get("command") or process["name"])[:70]))
    return table


def _containers(containers: Mapping[str, Any]) -> Table:
    table = _table("container", "state", "health", "cpu %", "memory", "image", right=("cpu %", "memory"))
    for one in containers["containers"]:
        state, health = one.get("state") or "-", one.get("health") or "-"
        table.add_row(screen.plain(one["name"]), screen.plain(state), screen.coloured(health),
                      screen.figure(one.get("cpu_percent")), screen.in_bytes(one.get("memory_bytes")),
                      screen.plain(one.get("image", "")))
    return table


def _table(*columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        is_figure = name in right
        table.add_column(name, justify="right" if is_figure else "left", no_wrap=True, min_width=9 if is_figure else None)
    return table


def _firm(table: Table) -> Table:
    """`table`, of which a narrow terminal cuts the last column alone."""
    for column in table.columns[:-1]:
        cells = (Text.from_markup(str(cell)) for cell in (column.header, *column.cells))
        column.min_width = max(column.min_width or 0, *(cell.cell_len for cell in cells))
    return table
