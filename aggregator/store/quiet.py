"""Silences, maintenance windows and dependencies between hosts."""

import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from aggregator.analysis.matching import Match
from aggregator.analysis.quiet import Quiet, Silence, Window, problems
from shared import logs
from shared.database import Connection

log = logs.get("quiet")

T = TypeVar("T")


def fetch_quiet(connection: Connection, now: float) -> Quiet:
    """Everything that mutes or will mute after `now` (Unix s). A row that cannot be used is skipped and logged."""
    silences = connection.execute("SELECT id, match, starts_at, ends_at FROM silence WHERE ends_at > to_timestamp(%s)", [now])
    windows = connection.execute("SELECT name, definition FROM maintenance_window ORDER BY name")
    return Quiet(_usable("silence", silences, _silence), _usable("window", windows, lambda _, stored: _window(stored, now)),
                 _fetch_dependencies(connection))


def _usable(kind: str, rows: Iterable[tuple[Any, ...]], made: Callable[..., T]) -> list[T]:
    found = []
    for row in rows:
        try:
            found.append(made(*row))
        except ValueError as error:
            logs.event(log, f"stored {kind} is unusable, skipped", logging.WARNING, name=row[0], error=str(error))
    return found


def _silence(number: int, match: Any, starts_at: datetime, ends_at: datetime) -> Silence:
    return Silence(number, msgspec.convert(match, Match), starts_at.timestamp(), ends_at.timestamp())


def _window(definition: Any, now: float) -> Window:
    window = msgspec.convert(definition, Window)
    if wrong := problems(window, now):
        raise ValueError("; ".join(wrong.values()))
    return window


def _fetch_dependencies(connection: Connection) -> dict[str, frozenset[str]]:
    rows = connection.execute("""SELECT h.name, array_agg(u.name) FROM dependency d JOIN host h ON h.id = d.host_id
                                 JOIN host u ON u.id = d.depends_on_id GROUP BY h.name""")
    return {name: frozenset(above) for name, above in rows}
