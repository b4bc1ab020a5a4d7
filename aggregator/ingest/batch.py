"""What came in a beat: what `intake` has sorted, and what the loop of a slot takes from there.

Refused messages, gaps, states, inventories and snapshots lie beside the samples of the next frame.
"""

import dataclasses

from aggregator.live.frame import Intake
from aggregator.live.hosts import Gap, Stream
from aggregator.store.hosts import HostState
from aggregator.store.rejects import Reject
from shared import wire

Snapshot = wire.Containers | wire.Processes | wire.Sensors


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """An action asked for: the alert by host and last level of its topic, and the message whole, should it be refused."""

    host: str
    alert: str
    action: wire.AlertAction
    topic: str
    payload: bytes


@dataclasses.dataclass(slots=True, eq=False)
class Batch:
    """What came since the last beat. `answers`: streams whose agent waits for a watermark at once.

    `echoes`: what the broker has (or just got) on topics of alerts, the last of each.
    """

    samples: Intake = dataclasses.field(default_factory=Intake)
    rejects: list[Reject] = dataclasses.field(default_factory=list)
    gaps: list[Gap] = dataclasses.field(default_factory=list)
    answers: set[Stream] = dataclasses.field(default_factory=set)
    touched: set[Stream] = dataclasses.field(default_factory=set)
    states: dict[str, wire.Status] = dataclasses.field(default_factory=dict)
    hellos: dict[str, wire.Hello] = dataclasses.field(default_factory=dict)
    inventories: dict[str, wire.Inventory] = dataclasses.field(default_factory=dict)
    snapshots: dict[tuple[str, str], Snapshot] = dataclasses.field(default_factory=dict)
    events: list[wire.Event] = dataclasses.field(default_factory=list)
    actions: list[Asked] = dataclasses.field(default_factory=list)
    echoes: dict[str, bytes] = dataclasses.field(default_factory=dict)
    reject_bytes: int = 0
    messages: int = 0
    duplicates: int = 0
    stripped: int = 0
    new_epochs: list[Stream] = dataclasses.field(default_factory=list)
    refused: dict[str, int] = dataclasses.field(default_factory=dict)

    def host_names(self) -> set[str]:
        """Every host the batch speaks of, refused messages apart."""
        streams = {stream.host.name for stream in self.answers} | {stream.host.name for stream in self.touched}
        told = {name for name, _ in self.snapshots} | {event.host for event in self.events}
        return streams | set(self.states) | set(self.inventories) | told


def state_rows(batch: Batch, ids: dict[str, int]) -> list[HostState]:
    """Rows of `host` for the states in a batch."""
    return [HostState(ids[name], status.state, status.reason, status.ts, status.boot_id, status.version)
            for name, status in batch.states.items()]
