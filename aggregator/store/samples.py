"""Raw history: writing a frame, and reading back what a slot needs after a takeover."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from aggregator.store import binary

Cursor = psycopg.Cursor[tuple[Any, ...]]


def write(cursor: Cursor, host_ids: Sequence[int], layout_ids: Sequence[int], times: Sequence[float],
          received_at: float, epochs: Sequence[int], seqs: Sequence[int], values: NDArray[np.float64],
          starts: Sequence[int], sizes: Sequence[int]) -> None:
    """COPY the samples of one frame. Raises psycopg.DataError or IntegrityError when the database refuses one."""
    data = binary.sample_rows(host_ids, layout_ids, times, received_at, epochs, seqs, values, starts, sizes)
    with cursor.copy("COPY sample (host_id, layout_id, ts, received_at, epoch, seq, values) FROM STDIN "
                     "(FORMAT BINARY)") as copy:
        copy.write(data)
