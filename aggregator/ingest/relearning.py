"""What the anomaly detector has learnt, across owners of a slot: stored now and then, and brought up to date after a takeover.

Stored, all hosts of a block at once: every six hours, the blocks one after the other, and at a clean stop as far as some seconds
reach. Brought up to date from the rollups of the minutes since, at most a day of them, an hour of 60 hosts a turn; hosts without
a state learn that day. Until then nothing is judged of them. The scores that follow are those of an owner that never stopped, as
far as the rollups were not made anew by late samples.
"""

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from aggregator.live.minutes import MINUTE, pooled
from aggregator.live.shard import Shard
from aggregator.live.unusual import PLACES, Block, Incident, host_blocks
from aggregator.store import detector_states, slots
from shared import logs
from shared.database import Connection

log = logs.get("ingest")

SAVE_EVERY = 6 * 3600.0
SAVES_A_TURN = 1
FINISH_SECONDS = 3.0
LONGEST = 86_400
"""Seconds that are made up for at most."""
SLICE = 3600
"""Seconds of a block that one turn makes up for."""
SHARE = 0.1
"""Of the time, spent on making up at most: samples must not wait for it."""
PATIENCE = 300.0
"""Seconds to wait for rollups that are still due."""
GOLDEN = 0.618033988749895


class Relearning:
    """Stores the states of a slot's hosts and brings those of its takeover up to date. `turn` does a little of it."""

    def __init__(self, connection: Connection, lease: slots.Lease, shard: Shard) -> None:
        self._connection, self._lease, self._shard = connection, lease, shard
        self._unusual = shard.unusual
        self._unusual.waiting = {host.id for host in shard.hosts if host.id}
        self._left: deque[tuple[int, Sequence[int]]] | None = None
        self._block: Block | None = None
        self._learnt_to = 0
        self._asked_at = self._free_at = self._begun_at = 0.0
        self._positions: dict[int, NDArray[np.int64]] = {}
        self._spread = itertools.count()

    def turn(self, now: float) -> list[Incident]:
        """The next slice of making up, or the next block to store; incidents that making up found."""
        self._save_due(now)
        if not self._unusual.waiting or 0 < self._free_at - now < PATIENCE or not self._is_ready(now):
            return []
        begin = time.perf_counter()
        changed = self._make_up()
        self._free_at = now + (time.perf_counter() - begin) / SHARE
        return changed

    # Making up

    def _is_ready(self, now: float) -> bool:
        """Whether it is known what is left; asked once a second until the rollups of the takeover are made."""
        if self._left is None and not 0 <= now - self._asked_at < 1.0:
            self._asked_at = now
            self._begun_at = self._begun_at or now
            if now - self._begun_at > PATIENCE or detector_states.is_rolled_up(self._connection, self._lease, now):
                self._left = self._plan()
        return self._left is not None

    def _plan(self) -> deque[tuple[int, Sequence[int]]]:
        """(since when, host ids) of the blocks to make, those saved last first; hosts saved together stay together."""
        closed_to, waiting = self._shard.minutes.closed_to, self._unusual.waiting
        saved = [(host_id, min(max(at, closed_to - LONGEST), closed_to)) for host_id, at
                 in detector_states.fetch_saved(self._connection, self._lease) if host_id in waiting]
        self._unusual.waiting = {host_id for host_id, _ in saved}
        return deque((since, part) for since, group in itertools.groupby(saved, key=lambda one: one[1])
                     for part in host_blocks([host_id for host_id, _ in group]))

    def _make_up(self) -> list[Incident]:
        closed_to = self._shard.minutes.closed_to
        if self._block is None and self._left:
            self._learnt_to, host_ids = self._left.popleft()
            self._block = self._restored(host_ids)
            if not self._block.is_taught:
                self._learnt_to = detector_states.fetch_first(self._connection, host_ids, closed_to - LONGEST, closed_to)
        block = self._block
        if block is None:
            self._unusual.waiting = set()
            return []
        until = min(self._learnt_to + SLICE, closed_to)
        changed: list[Incident] = []
        for start, values in self._minutes(block, self._learnt_to, until):
            changed += self._unusual.carry(block, start, values)[2]
        self._learnt_to = until
        if until == closed_to:
            self._unusual.join(block)
            self._block = None
        return changed

    def _restored(self, host_ids: Sequence[int]) -> Block:
        block, states = Block(self._unusual.metrics), detector_states.fetch(self._connection, host_ids)
        for host_id, problem in block.restore(states).items():
            logs.event(log, "a host's anomaly detector learns anew", logging.WARNING, host=host_id, error=problem)
        for host_id in host_ids:
            if host_id not in states:
                block.add(host_id)
        return block

    def _minutes(self, block: Block, since: int, until: int) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Each minute in [since, until) and its means (places, metrics)."""
        at, means = detector_states.fetch_minutes(self._connection, list(block.places), since, until)
        metrics = self._unusual.metrics
        self._positions |= positions(self._connection, set(at[:, 1].tolist()) - self._positions.keys(), metrics)
        picked = np.full((len(at), len(metrics)), np.nan, np.float32)
        for i, (layout_id, row) in enumerate(zip(at[:, 1].tolist(), means, strict=True)):
            place = self._positions[layout_id]
            picked[i] = np.where(place < 0, np.nan, row[place])
        minute, count = (at[:, 2] - since) // MINUTE, (until - since) // MINUTE
        places = np.array([block.places[host_id] for host_id in at[:, 0].tolist()], np.int64)
        every = np.full((count * PLACES, len(metrics)), np.nan)
        keys, pooled_means = pooled(minute * PLACES + places, picked, at[:, 3])
        every[keys] = pooled_means
        for i in range(count):
            yield since + i * MINUTE, every[i * PLACES:(i + 1) * PLACES]

    # Storing

    def _save_due(self, now: float) -> None:
        for block in self._unusual.blocks:
            if not block.save_at:
                block.save_at = now + (next(self._spread) * GOLDEN % 1) * SAVE_EVERY
        due = [block for block in self._unusual.blocks if not now < block.save_at <= now + SAVE_EVERY]
        for block in due[:SAVES_A_TURN]:
            self._save(block)
            block.save_at = now + SAVE_EVERY

    def _save(self, block: Block) -> None:
        with slots.fenced(self._connection, self._lease) as cursor:
            detector_states.write(cursor, self._shard.minutes.closed_to,
                                  ((host_id, block.packed(host_id)) for host_id in block.places))

    def finish(self, monotonic: Callable[[], float]) -> None:
        """Store every block, those first that are due next, within FINISH_SECONDS."""
        end = monotonic() + FINISH_SECONDS
        for block in sorted(self._unusual.blocks, key=lambda block: block.save_at):
            if monotonic() >= end:
                return
            self._save(block)


def positions(connection: Connection, layout_ids: Collection[int], metrics: Sequence[str]) -> dict[int, NDArray[np.int64]]:
    """Where the samples of stored layouts have the metrics, -1: not there."""
    if not layout_ids:
        return {}
    found = {}
    for layout_id, keys in detector_states.fetch_keys(connection, list(layout_ids)).items():
        where = {key: at for at, key in enumerate(keys)}
        found[layout_id] = np.array([where.get(name, -1) for name in metrics], np.int64)
    return found
