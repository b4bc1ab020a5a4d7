"""Builders of history for statistics: whole arrays into rollups, with one statement."""

from datetime import datetime, timedelta

import numpy as np
from builders import NOW, Connection, store_layout


def store_series(connection: Connection, table: str, hosts: list[int], metrics: dict[str, np.ndarray], step: int,
                 end: datetime = NOW) -> None:
    """Means of metrics, each (hosts, steps) or (steps,), in rollups of `step` seconds, the last one ending at `end`."""
    names, layout = list(metrics), store_layout(connection, list(metrics))
    steps = np.asarray(next(iter(metrics.values()))).shape[-1]
    values = np.stack([np.broadcast_to(column, (len(hosts), steps)) for column in metrics.values()], axis=2)
    sql = f"COPY {table} (host_id, layout_id, ts, count, min, mean, max) FROM STDIN"
    with connection.cursor() as cursor, cursor.copy(sql) as copy:  # type: ignore[arg-type]
        copy.set_types(["int4", "int4", "timestamptz", "int4", "float4[]", "float4[]", "float4[]"])
        for h, host in enumerate(hosts):
            for t in range(steps):
                row = values[h, t].tolist()
                at = end - timedelta(seconds=step * (steps - t))
                copy.write_row((host, layout, at, step // 5, row, row, row))
    assert len(names) == values.shape[2]


def autoregressive(phi: float, shape: tuple[int, int], seed: int = 1) -> np.ndarray:
    """Series (n, t) of variance 1 in which each point keeps `phi` of the one before."""
    noise = np.random.default_rng(seed).standard_normal((shape[0], shape[1] + 200)) * np.sqrt(1 - phi**2)
    for t in range(1, noise.shape[1]):
        noise[:, t] += phi * noise[:, t - 1]
    return noise[:, 200:]
