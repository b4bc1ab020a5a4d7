"""Tables and figures for people, JSON for machines: how every client command prints."""

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aggregator.analysis import messages
from shared import encryption, logs

if TYPE_CHECKING:
    from rich.console import Console

STATUS_COLOURS = {
    "healthy": "green", "degraded": "yellow", "warning": "dark_orange", "critical": "red", "online": "green",
    "offline": "red", "draining": "yellow", "stale": "yellow", "ok": "green", "warn": "yellow", "fail": "red",
    "active": "green", "pending": "yellow", "error": "orange_red1", "info": "cyan",
    "running": "cyan", "completed": "green", "failed": "red", "missed": "orange_red1", "timed_out": "red", "cancelled": "yellow",
}
DURATION = r"^([0-9]{1,9}[smhdw])+$"
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
PLAIN_WIDTH = 200
GUTTER = 2


def open_console() -> "Console":
    """Standard output, in colour on a terminal; wide and plain where it is a file or a pipe."""
    from rich.console import Console

    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=PLAIN_WIDTH)


def failed(command: str, error: Exception) -> int:
    """Say on standard error, in one line without secrets, why a command failed; its exit status."""
    text = encryption.explained_by_libpq(logs.redact(str(error) or type(error).__name__))
    if text.startswith("connection failed: ") and "; " not in text:
        text += "; is Postgres (or drumbeat up) running, and is --database-url right?"
    print(f"drumbeat {command}: {text}", file=sys.stderr)
    return 1


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Call what this yields with (done, all) of the work: a bar on standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _done, _all: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=2, default=_plain))


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = (),
                spare: Sequence[str] = ()) -> None:
    """A table: with lines and colours on a terminal, else plain columns.

    `right` names the columns of figures, `spare` those that a narrow terminal does without, the first of them first.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    console, cells = open_console(), [tuple(columns), *map(tuple, rows)]
    widths = {column[0]: max(cell_len(Text.from_markup(cell).plain) for cell in column) for column in zip(*cells, strict=True)}
    kept = fitting(widths, console.width, spare)
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False, show_edge=False,
                  header_style="bold", padding=(0, GUTTER - 1, 0, 0) if console.is_terminal else (0, GUTTER, 0, 0))
    for name in kept:
        is_first = name == columns[0]
        table.add_column(name, justify="right" if name in right else "left", no_wrap=not is_first, overflow="fold")
    for row in cells[1:]:
        table.add_row(*(cell for name, cell in zip(columns, row, strict=True) if name in kept))
    console.print(table)


def fitting(widths: Mapping[str, int], room: int, spare: Sequence[str]) -> list[str]:
    """The columns that are shown in `room` characters: those in `spare` go, in turn, until the others fit. Pure."""
    kept = list(widths)
    for name in spare:
        if sum(widths[column] + GUTTER for column in kept) - GUTTER <= room:
            break
        kept.remove(name)
    return kept


def coloured(word: str | None, shown: str | None = None) -> str:
    """`word`, or what is `shown` in its place, in the colour of the status that `word` names."""
    from rich.markup import escape

    text = escape(shown if shown is not None else word or "-")
    colour = STATUS_COLOURS.get(word or "")
    return f"[{colour}]{text}[/]" if colour else text


def plain(text: object) -> str:
    """`text` as it is: nothing in it is taken for markup or for a terminal's control sequence."""
    from rich.markup import escape

    return escape(printable(str(text)))


def printable(text: str) -> str:
    """`text` without control characters."""
    return "".join(char if char.isprintable() else "?" for char in text)


def counted(number: int, noun: str) -> str:
    """`1 host`, `2 hosts`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def figure(value: float | None, digits: int = 1) -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def in_bytes(value: float | None, suffix: str = "") -> str:
    """Bytes with a binary prefix: `1.5 GiB`."""
    return "-" if value is None else f"{messages.in_bytes(value)}{suffix}"


def duration(seconds: float | None) -> str:
    """`90` → `1m 30s`: the two largest units."""
    if seconds is None:
        return "-"
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def read_duration(text: str) -> float:
    """`2h`, `90m` or `1d12h` → seconds. Raises ValueError."""
    if not re.fullmatch(DURATION, text):
        raise ValueError(f"{text[:40]!r} is no duration; write it like 2h, 90m or 1d12h")
    return float(sum(int(number) * SECONDS[unit] for number, unit in re.findall(r"([0-9]+)([smhdw])", text)))


def instant(text: str | None) -> str:
    """An RFC 3339 text for people: `2026-11-21 08:00:05Z`; a dash where there is none."""
    at = read_time(text)
    return "-" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def read_time(text: str | None) -> datetime | None:
    """The instant of an RFC 3339 text; None where there is none."""
    return None if not text else datetime.fromisoformat(text)
