"""Whether hosts are there: what their status messages said, and how long they have been silent, as arrays over hosts.

1. Nothing is judged while ingest does not hear (not connected), and within RETURN seconds after it does again, hosts that it
   has not heard since are given time to come back.
2. A host that said it stopped, and from which nothing came afterwards, is STOPPED.
3. A host whose last will was published, and from which nothing came afterwards, is LOST after 1.5 intervals (at least 5 s) of
   silence; the will alone decides nothing, since brokers publish wills of clients that live, and lose those of others.
4. Without a will it is LOST after 3 intervals (at least 15 s). A host that drains gets a minute more.
5. A host that is LOST or STOPPED is back with its next sample, and not before.
6. Where many go at once, `silence` holds back what is judged here.
"""

import numpy as np
from numpy.typing import NDArray

from aggregator.live.hosts import Hosts
from aggregator.live.variants import LOST, STOPPED
from shared import wire

RETURN = 60.0
"""Seconds within which agents reconnect after an outage of the broker (their longest pause between attempts)."""
WILL_BEATS, WILL_SECONDS = 1.5, 5.0
SILENT_BEATS, SILENT_SECONDS = 3.0, 15.0
DRAIN_SECONDS = 60.0

SAYS_NOTHING, SAYS_ONLINE, SAYS_DRAINING, SAYS_STOPPED, SAYS_LOST = range(5)
_SAID = {"online": SAYS_ONLINE, "draining": SAYS_DRAINING}


class Presence:
    """`said`, `said_at` (Unix s, when ingest heard it): the newest status message of each host."""

    def __init__(self) -> None:
        self.said = np.zeros(64, np.int64)
        self.said_at = np.zeros(64)
        self._boots: dict[int, tuple[str, float]] = {}

    def grow(self, hosts: int) -> None:
        while hosts > len(self.said):
            self.said = np.concatenate([self.said, np.zeros_like(self.said)])
            self.said_at = np.concatenate([self.said_at, np.zeros_like(self.said_at)])

    def note(self, row: int, status: wire.Status, now: float) -> None:
        """A status message came."""
        lost = SAYS_LOST if status.reason == "lost" else SAYS_STOPPED
        self.said[row], self.said_at[row] = _SAID.get(status.state, lost), now

    def restore_stopped(self, row: int, hosts: Hosts) -> None:
        """The host was known to be stopped, and was not heard of since; its status message may come no more."""
        if self.said[row] == SAYS_NOTHING:
            self.said[row], self.said_at[row] = SAYS_STOPPED, hosts.received_at[row]

    def boot(self, row: int, boot_id: str, ts: float) -> bool:
        """Whether this says that the host was booted anew; older messages than the newest (retained ones) say nothing."""
        known, at = self._boots.get(row, ("", 0.0))
        if not boot_id or ts < at:
            return False
        self._boots[row] = boot_id, ts
        return bool(known) and known != boot_id

    def is_draining(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.asarray(self.said[rows] == SAYS_DRAINING)

    def limits(self, hosts: Hosts) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(n,) what each host said since it was last heard of, and after how many seconds of silence it is LOST."""
        count = len(hosts)
        received, interval = hosts.received_at[:count], hosts.interval[:count]
        said = np.where(self.said_at[:count] >= received, self.said[:count], SAYS_NOTHING)
        limit = np.where(said == SAYS_LOST, np.maximum(WILL_BEATS * interval, WILL_SECONDS),
                         np.maximum(SILENT_BEATS * interval, SILENT_SECONDS))
        return said, np.where(said == SAYS_DRAINING, limit + DRAIN_SECONDS, limit)

    def judge(self, hosts: Hosts, now: float, connected_at: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """(n,) the value of each host's host_down condition, and whether the host has been heard of in time.

        `connected_at`: by host, since when ingest can hear it.
        """
        received = hosts.received_at[:len(hosts)]
        said, limit = self.limits(hosts)
        heard = (received > 0) & (now - received <= limit)
        since = np.where(received >= connected_at, received, np.maximum(received, connected_at + RETURN))
        lost = (received > 0) & (now - since > limit)
        value = np.where(said == SAYS_STOPPED, STOPPED, np.where(lost, LOST, 0.0))
        return np.where(received > 0, value, 0.0), heard & (said != SAYS_STOPPED)

    def reason(self, row: int, hosts: Hosts, now: float) -> str:
        """Why a host is held to be down, for people."""
        silent = f"nothing was heard for {now - float(hosts.received_at[row]):.0f} s"
        said = int(self.said[row]) if self.said_at[row] >= hosts.received_at[row] else SAYS_NOTHING
        if said == SAYS_STOPPED:
            return "its agent was stopped"
        return f"its connection was lost and {silent}" if said == SAYS_LOST else silent
