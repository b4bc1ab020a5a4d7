"""The newest sample of hosts, with all its metrics."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, Row, text

from aggregator.analysis import downsample
from aggregator.store.history import Layouts
from aggregator.store.reading import unpacked
from shared.names import matcher


@dataclasses.dataclass(frozen=True, slots=True)
class Newest:
    """One sample as stored: `keys` and `values` run alike."""

    host_id: int
    ts: datetime
    received_at: datetime
    layout_id: int
    keys: list[str]
    values: list[float]

    def metrics(self) -> dict[str, float]:
        return dict(zip(self.keys, self.values, strict=True))


FRESH = timedelta(days=1)
"""What is older than this is no news of a fleet."""

_COLUMNS = "host_id, ts, received_at, layout_id, array_send(values) AS packed"

# Where host_now knows the newest time (it lags by seconds), only the newest partition need be opened.
_OF_MANY = """SELECT s.host_id, s.ts, s.received_at, s.layout_id, array_send(s.values) AS packed
  FROM host_now n JOIN LATERAL (
    SELECT * FROM sample WHERE host_id = n.host_id AND ts >= n.ts - interval '1 minute' ORDER BY ts DESC LIMIT 1
  ) s ON true
  WHERE n.host_id = ANY (:hosts) AND n.received_at > :since"""


def fetch(engine: Engine, layouts: Layouts, host: int) -> Newest | None:
    """Fetch the newest sample of one host; None where it has none."""
    with engine.connect() as connection:
        row = connection.execute(
            text(f"SELECT {_COLUMNS} FROM sample WHERE host_id = :host ORDER BY ts DESC LIMIT 1"),  # noqa: S608 (constant)
            {"host": host}).one_or_none()
        if row is None:
            return None
        layouts.load(connection, [row.layout_id])
    return _newest([row], layouts)[0]


def fetch_many(engine: Engine, layouts: Layouts, hosts: Sequence[int], now: datetime,
               within: timedelta = timedelta(days=3660), patterns: tuple[str, ...] = ()) -> dict[int, Newest]:
    """Newest samples by host id, of those heard of within the given time; only metrics that fit `patterns`, if any."""
    with engine.connect() as connection:
        rows = connection.execute(text(_OF_MANY), {"hosts": list(hosts), "since": now - within}).all()
        layouts.load(connection, list({row.layout_id for row in rows}))
    return {sample.host_id: sample for sample in _newest(rows, layouts, patterns)}


def _newest(rows: Sequence[Row[Any]], layouts: Layouts, patterns: tuple[str, ...] = ()) -> list[Newest]:
    """Samples of rows; their numbers are unpacked together, since a fleet has a hundred thousand."""
    if not rows:
        return []
    chosen = {number: layouts.derived(number, ("chosen", *patterns), lambda keys: _chosen(keys, patterns))
              for number in {row.layout_id for row in rows}}
    parts = [unpacked(row.packed, ">f4")[chosen[row.layout_id][0]] for row in rows]
    values = downsample.shown(np.concatenate(parts).astype(np.float64)).tolist()
    ends = np.cumsum([0, *map(len, parts)]).tolist()
    return [Newest(row.host_id, row.ts, row.received_at, row.layout_id, chosen[row.layout_id][1], values[a:b])
            for row, a, b in zip(rows, ends[:-1], ends[1:], strict=True)]


def _chosen(keys: list[str], patterns: tuple[str, ...]) -> tuple[NDArray[np.intp] | slice, list[str]]:
    """Positions and names of the metrics that fit; no patterns: all."""
    if not patterns:
        return slice(None), keys
    fits = matcher(patterns)
    positions = [position for position, key in enumerate(keys) if fits.fullmatch(key)]
    return np.array(positions, np.intp), [keys[position] for position in positions]
