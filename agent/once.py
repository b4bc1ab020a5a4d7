"""One sample as a table for people: `drumbeat agent --once`."""

import time
from collections.abc import Callable, Mapping, Sequence

from agent.collection import Collection
from shared.catalogue import find
from shared.wire import CollectorState

SECONDS_BETWEEN = 1.0
PIPED_COLUMNS = 160
ROOMY_COLUMNS = 120

_BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def read_once(collection: Collection, wall: Callable[[], float] = time.time,
              monotonic: Callable[[], float] = time.monotonic,
              sleep: Callable[[float], object] = time.sleep) -> tuple[float, dict[str, float]]:
    """(ts, metrics) of one sample with rates: the collectors are read twice, a second apart."""
    collection.collect(wall(), monotonic())
    sleep(SECONDS_BETWEEN)
    now = wall()
    metrics, _ = collection.collect(now, monotonic())
    return now, metrics


def shown(name: str, value: float) -> str:
    """A value with its unit, for people: `1.5 GiB`, `45.2 %`, `12.0 MiB/s`."""
    metric = find(name)
    unit = metric.unit if metric is not None else ""
    if unit in ("bytes", "bytes/s"):
        return _bytes(value) + unit.removeprefix("bytes")
    if name == "system.uptime_seconds":
        return f"{int(value // 86_400)} d {int(value % 86_400 // 3600)} h {int(value % 3600 // 60)} min"
    sign = {"percent": " %", "celsius": " °C", "count": "", "bool": "", "load": "", "": ""}.get(unit, f" {unit}")
    return f"{value:,.4g}{sign}" if 0 < abs(value) < 100 else f"{value:,.0f}{sign}"


def _bytes(value: float) -> str:
    step = 0
    while value >= 1024 and step < len(_BYTE_UNITS) - 1:
        value, step = value / 1024, step + 1
    return f"{value:.1f} {_BYTE_UNITS[step]}" if step else f"{value:.0f} B"


def print_sample(host: str, metrics: Mapping[str, float], states: Sequence[CollectorState]) -> None:
    """Print the sample as a table, and below it what is missing on this host and why."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(soft_wrap=True)
    if not console.is_terminal:
        console.width = PIPED_COLUMNS
    table = Table(title=f"{host}: {len(metrics)} metrics", title_justify="left", box=None, pad_edge=False)
    table.add_column("metric", overflow="fold")
    table.add_column("value", justify="right", no_wrap=True)
    has_meanings = console.width >= ROOMY_COLUMNS
    if has_meanings:
        table.add_column("meaning", style="dim")
    for name in sorted(metrics, key=lambda name: (name.split(".", 1)[0], "{" in name, name)):
        metric = find(name)
        meaning = [metric.help if metric is not None else ""] if has_meanings else []
        table.add_row(escape(name), shown(name, metrics[name]), *meaning)
    console.print(table)
    missing = [state for state in states if not state.up]
    if missing:
        console.print("\nMissing here:")
    for state in missing:
        console.print(f"  {state.name}: {escape(state.reason)}", highlight=False)
