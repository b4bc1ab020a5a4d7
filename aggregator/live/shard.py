"""The in-memory state of one slot, made at its takeover and thrown away when the slot is lost."""

import dataclasses

from aggregator.analysis import health
from aggregator.analysis.core_metrics import METRICS
from aggregator.analysis.quiet import Quiet
from aggregator.live import hosts as limits
from aggregator.live.alerts import Change
from aggregator.live.engine import Engine
from aggregator.live.frame import FIGURES
from aggregator.live.hosts import Budget, Host, Hosts, Stream, epoch_text, signed_epoch
from aggregator.live.layouts import Columns, Layouts
from aggregator.live.minutes import MINUTE, OpenMinutes
from aggregator.live.unusual import Unusual
from shared import wire


@dataclasses.dataclass(slots=True, eq=False)
class Shard:
    """Hosts, layouts, open minutes, alerts and anomalies of a slot.

    `oldest_ts`: raw history before it is refused (retention). `active_hosts`: by hour (Unix s) that has not
    ended, the ids of the hosts that reported in it. `versions`: of the configuration that `engine` and `quiet` have;
    `changes`: of alerts, still to be written. `unsaved`: streams that no checkpoint has as they were at the takeover.
    `detects`: whether anomalies are looked for; rules of kind baseline need it.
    """

    hosts: Hosts
    layouts: Layouts
    minutes: OpenMinutes
    inputs: Columns
    figures: Columns
    engine: Engine
    quiet: Quiet = dataclasses.field(default_factory=Quiet)
    versions: dict[str, int] = dataclasses.field(default_factory=dict)
    detects: bool = True
    unusual: Unusual = dataclasses.field(default_factory=Unusual)
    changes: list[Change] = dataclasses.field(default_factory=list)
    profile: health.Profile = health.DEFAULT_PROFILE
    oldest_ts: float = 0.0
    active_hosts: dict[int, set[int]] = dataclasses.field(default_factory=dict)
    unsaved: set[Stream] = dataclasses.field(default_factory=set)
    new_hosts: Budget = dataclasses.field(default_factory=lambda: Budget(limits.MAX_NEW_HOSTS_PER_HOUR))

    def host(self, name: str, now: float) -> Host:
        """The host of this name, made when it is heard of for the first time. Raises WireError where too many are."""
        host = self.hosts.get(name)
        if host is None:
            if not self.new_hosts.take(now):
                raise wire.WireError("hosts")
            host = self.hosts.add(name)
        return host

    def stream(self, host_name: str, epoch: str, now: float) -> Stream:
        """The stream of (host, epoch), made when new. Raises WireError for a malformed epoch and for too many new ones."""
        host = self.hosts.get(host_name)
        stream = None if host is None else host.streams.get(epoch)
        if stream is not None:
            return stream
        wire.check_epoch(epoch)
        host = host or self.host(host_name, now)
        if not host.new_epochs.take(now):
            raise wire.WireError("epochs")
        stream = host.streams[epoch] = Stream(host, signed_epoch(epoch), is_successor=bool(host.streams))
        return stream

    def restore(self, host: Host, epoch: int, contiguous: int, ahead: list[int]) -> None:
        """Put a checkpointed stream back."""
        host.streams[epoch_text(epoch)] = Stream(host, epoch, contiguous, set(ahead))

    def restore_range(self, host: Host, epoch: int, from_seq: int, to_seq: int) -> None:
        """Note seqs found in the tables after the last checkpoint."""
        text = epoch_text(epoch)
        stream = host.streams.get(text)
        if stream is None:
            stream = host.streams[text] = Stream(host, epoch)
        stream.take_range(from_seq, to_seq)
        self.unsaved.add(stream)


def new_shard(now: float, watched: tuple[str, ...] = METRICS) -> Shard:
    """An empty shard; the minutes before that of `now` (Unix s) are closed. `watched`: the metrics watched for anomalies."""
    hosts, layouts = Hosts(), Layouts()
    return Shard(hosts, layouts, OpenMinutes(int(now // MINUTE) * MINUTE), Columns(health.INPUTS, layouts),
                 Columns(FIGURES, layouts), Engine(hosts, layouts), unusual=Unusual(watched))


