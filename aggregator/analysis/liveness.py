"""Whether a host is online: arithmetic on times. Pure.

1. A host that never sent a sample is what its status message says: `online` is shown as `unknown` until a sample came.
2. Its status (birth, clean stop or last will) says offline, and no sample came later than `GRACE` after it: offline.
3. Nothing was received for longer than max(3 intervals, 15 s) + `GRACE`: offline. Brokers differ in how soon they
   publish a last will, so silence decides by itself.
4. Otherwise it is online, or draining where its status says so.

`GRACE` is there because ingest writes the newest time of a host every 1 to 15 s only.
"""

from datetime import datetime, timedelta
from typing import Literal

State = Literal["online", "draining", "offline", "unknown"]
STATES: tuple[State, ...] = ("online", "draining", "offline", "unknown")
LIVE: tuple[State, ...] = ("online", "draining")
"""States of hosts that send."""

GRACE = 15.0
"""Seconds by which the stored time of receipt may lag."""

SHORTEST = 15.0
MISSED_INTERVALS = 3.0


def allowed_silence(interval: float) -> float:
    """Seconds without a sample after which a host of this interval counts as offline."""
    return max(MISSED_INTERVALS * interval, SHORTEST) + GRACE


def liveness(said: str, said_at: datetime | None, received_at: datetime | None, interval: float,
             now: datetime) -> State:
    """State of a host from what its status said (and when), when a sample was last received, and its interval."""
    if received_at is None:
        return "offline" if said == "offline" else "unknown"
    if said == "offline" and (said_at is None or received_at <= said_at + timedelta(seconds=GRACE)):
        return "offline"
    if now - received_at > timedelta(seconds=allowed_silence(interval)):
        return "offline"
    return "draining" if said == "draining" else "online"
