"""The one reader of history: raw samples and rollups of chosen metrics of one or many hosts, as arrays.

Numbers come out by position: a sample's `values` stand in the order of its layout's keys, a host may use several
layouts, so every question joins a small table of positions, one row per layout that the hosts used in the span.
"""

import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import Connection, Engine, text

from aggregator.analysis import downsample
from aggregator.analysis.downsample import Points
from aggregator.analysis.timespan import SOURCES, Span
from aggregator.store.reading import EPOCH_2000, read_columns

_WIDTHS = dict(SOURCES)
_FINER = {coarse: fine for (coarse, _), (fine, _) in itertools.pairwise(SOURCES)}
_TABLES = {source: "sample" if source == "raw" else source for source, _ in SOURCES}
_ARRAYS = {source: ("values",) if source == "raw" else ("min", "mean", "max") for source, _ in SOURCES}

DERIVED_LIMIT = 5000
"""Entries kept of what is derived from layouts; beyond them all are made anew."""

T = TypeVar("T")


class Layouts:
    """Metric names and their positions by layout id. Layouts never change, so they are kept for good."""

    def __init__(self) -> None:
        self._keys: dict[int, list[str]] = {}
        self._positions: dict[int, dict[str, int]] = {}
        self._derived: dict[tuple[int, tuple[str, ...]], Any] = {}

    def load(self, connection: Connection, ids: Sequence[int]) -> None:
        """Fetch those of `ids` that are not known yet."""
        unknown = [number for number in ids if number not in self._keys]
        if not unknown:
            return
        rows = connection.execute(text("SELECT id, keys FROM layout WHERE id = ANY (:ids)"), {"ids": unknown})
        for number, keys in rows:
            self._keys[number] = keys
            self._positions[number] = {key: position for position, key in enumerate(keys)}

    def keys(self, number: int) -> list[str]:
        return self._keys[number]

    def derived(self, number: int, name: tuple[str, ...], make: Callable[[list[str]], T]) -> T:
        """What `make` makes of the keys of a layout, kept under `name` for the next time."""
        found: T | None = self._derived.get((number, name))
        if found is None:
            if len(self._derived) >= DERIVED_LIMIT:
                self._derived.clear()
            found = self._derived[number, name] = make(self._keys[number])
        return found

    def positions(self, number: int) -> dict[str, int]:
        """Position of each metric in `values`, from 0."""
        return self._positions[number]


class History:
    """Reads history through one engine."""

    def __init__(self, engine: Engine, layouts: Layouts) -> None:
        self._engine = engine
        self._layouts = layouts

    def fetch(self, hosts: Sequence[int], metrics: Sequence[str], source: str, span: Span) -> Points:
        """Points of `metrics` of the hosts with these ids, in no order; `group` is the index in `hosts`.

        What a rollup does not have yet, because its last step has not ended, is filled from the finer ones and raw.
        """
        with self._engine.connect() as connection:
            return self._fetch(connection, hosts, metrics, source, span)

    def fetch_names(self, hosts: Sequence[int], source: str, span: Span) -> list[str]:
        """Names of every metric that some of the hosts had in a span, sorted."""
        names: set[str] = set()
        with self._engine.connect() as connection:
            for finer, width in SOURCES[[name for name, _ in SOURCES].index(source):]:
                names.update(*(self._layouts.keys(number) for number in self._used(connection, hosts, finer, span)))
                span = Span(max(span.start, span.end - timedelta(seconds=2 * width)), span.end)
        return sorted(names)

    def _fetch(self, connection: Connection, hosts: Sequence[int], metrics: Sequence[str], source: str,
               span: Span) -> Points:
        if span.start >= span.end or not hosts:
            return downsample.empty(len(metrics))
        points = self._read(connection, hosts, metrics, source, span)
        if source == "raw":
            return points
        width = _WIDTHS[source] * downsample.SECOND
        known_to = np.full(len(hosts), _micros(span.start), np.int64)
        np.maximum.at(known_to, points.group, points.ts + width)
        since = int(known_to[known_to >= known_to.max() - 2 * width].min())
        tail = self._fetch(connection, hosts, metrics, _FINER[source],
                           Span(max(span.start, _instant(since)), span.end))
        new = tail.ts >= known_to[tail.group]
        return downsample.joined([points, downsample.chosen(tail, new)])

    def _read(self, connection: Connection, hosts: Sequence[int], metrics: Sequence[str], source: str,
              span: Span) -> Points:
        ids = self._used(connection, hosts, source, span)
        positions = [(number, [self._layouts.positions(number).get(metric) for metric in metrics]) for number in ids]
        positions = [row for row in positions if any(position is not None for position in row[1])]
        if not positions:
            return downsample.empty(len(metrics))
        arrays = _ARRAYS[source]
        columns, rest = _question(source, positions)
        host, ts, count, *numbers = read_columns(connection, columns, rest, [list(hosts), span.start, span.end])
        values = np.array(numbers, np.float64).reshape(len(arrays), len(metrics), len(host))
        order = np.argsort(hosts)
        group = order[np.searchsorted(np.asarray(hosts)[order], host.astype(np.int64))]
        return Points(group.astype(np.int64), ts.astype(np.int64) + EPOCH_2000, count.astype(np.int64),
                      values[0].T, values[len(arrays) // 2].T, values[-1].T)

    def _used(self, connection: Connection, hosts: Sequence[int], source: str, span: Span) -> list[int]:
        rows = connection.execute(
            text(f"""SELECT DISTINCT layout_id FROM {_TABLES[source]}
                     WHERE host_id = ANY (:hosts) AND ts >= :start AND ts < :end"""),  # noqa: S608 (table of a constant)
            {"hosts": list(hosts), "start": span.start, "end": span.end})
        ids = [row[0] for row in rows]
        self._layouts.load(connection, ids)
        return ids


def _question(source: str, positions: Sequence[tuple[int, Sequence[int | None]]]) -> tuple[list[tuple[str, str]], str]:
    """Columns and the rest of the SQL; positions are integers from our own cache, so they stand in the text."""
    wanted = range(len(positions[0][1]))
    rows = ", ".join(
        f"({number}, {', '.join('NULL::int' if position is None else str(position + 1) for position in row)})"
        for number, row in positions)
    columns = [("s.host_id", ">i4"), ("s.ts", ">i8"), ("1" if source == "raw" else "s.count", ">i4")]
    columns += [(f"coalesce(s.{array}[p.p{n}], 'NaN')", ">f4") for array in _ARRAYS[source] for n in wanted]
    return columns, (f"FROM {_TABLES[source]} s JOIN (VALUES {rows}) AS p (layout_id, {', '.join(f'p{n}' for n in wanted)}) "
                     "USING (layout_id) WHERE s.host_id = ANY (%s) AND s.ts >= %s AND s.ts < %s")


def _micros(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _instant(micros: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
