"""Who writes as a host: two agents that speak as one are noticed and said; so are spools that were made anew.

1. The same seq of an epoch with another time: a spool was copied, machine id and all, and both write on. The first is stored.
2. Two epochs of a host that take turns: two agents have one name. Both are stored, each in its epoch.
3. An epoch that is new for a host which had one: its spool was made anew. Said as information; the old epoch may stay unfinished.
"""

import dataclasses
import logging

from aggregator.live.hosts import Host, Stream, epoch_text
from aggregator.store.rejects import Reject
from shared import logs, wire

log = logs.get("ingest")

TOLD_SECONDS = 60.0
"""Of one host it is said so often at most; every sample that is left out is counted."""
TURNS, TURN_SECONDS = 3, 600.0
"""Epochs that come back after each other so often, never this long apart, take turns."""
RULE = "two_agents"


@dataclasses.dataclass(slots=True, eq=False)
class Noticed:
    """What a sample showed: rejects and events to store, new epochs of known hosts, samples of a second writer left out."""

    rejects: list[Reject] = dataclasses.field(default_factory=list)
    events: list[wire.Event] = dataclasses.field(default_factory=list)
    new_epochs: list[Stream] = dataclasses.field(default_factory=list)
    left_out: int = 0


def turn(stream: Stream, now: float) -> Noticed:
    """The stream writes and did not write last (call it only then)."""
    noticed, host = Noticed(), stream.host
    host.writer = stream
    if not stream.has_written:
        stream.has_written = True
        if stream.is_successor:
            noticed.new_epochs.append(stream)
        return noticed
    host.turns = host.turns + 1 if 0 <= now - host.turned_at < TURN_SECONDS else 1
    host.turned_at = now
    if host.turns >= TURNS and _is_due(host, now):
        _tell(noticed, host, f"two agents speak as {host.name}, in epochs that take turns", now)
    return noticed


def second_time(stream: Stream, sample: wire.Sample, topic: str, payload: bytes, now: float) -> Noticed | None:
    """A sample whose seq had come; None unless it came with another time, and so from another writer."""
    first = stream.time_of(sample.seq)
    if first is None or first == sample.ts:
        return None
    noticed, host = Noticed(left_out=1), stream.host
    if _is_due(host, now):
        text = (f"two agents speak as {host.name} in one epoch, {epoch_text(stream.epoch)}: seq {sample.seq} came with ts "
                f"{first:.3f} and {sample.ts:.3f}")
        noticed.rejects.append(Reject(host.name, topic, "twins", text, payload))
        _tell(noticed, host, text, now)
    return noticed


def say_new_epochs(streams: list[Stream]) -> None:
    """One line, however many hosts began anew at once."""
    if streams:
        logs.event(log, "new spools of hosts that had one", hosts=len(streams),
                   such_as=" ".join(f"{stream.host.name}/{epoch_text(stream.epoch)}" for stream in streams[:5]))


def _is_due(host: Host, now: float) -> bool:
    is_due = not 0 <= now - host.twins_at < TOLD_SECONDS
    if is_due:
        host.twins_at = now
    return is_due


def _tell(noticed: Noticed, host: Host, text: str, now: float) -> None:
    logs.event(log, "two agents speak as one host", logging.WARNING, host=host.name, detail=text)
    noticed.events.append(wire.Event(type=RULE, host=host.name, message=text, ts=now))
