"""Alerts in memory: one object an open incident, and what happens to it as changes to be written and told."""

import dataclasses

from aggregator.analysis.rules import alert_key, instance_labels
from aggregator.live.hosts import Host
from shared import wire


@dataclasses.dataclass(slots=True, eq=False)
class Alert:
    """One open alert of a host of this slot; `rule` … `dismissible` are what the rule said when it last changed.

    `id` is 0 until the commit gives it one. `state`: pending, firing, unknown, resolved or cancelled. Times are Unix s
    of events. `flapping`: it is kept open while its condition comes and goes. `held`: resolved by hand while the condition lasts.
    """

    host: Host
    rule: str
    instance: str
    type: str
    source: str
    revision: int
    severity: wire.Severity
    started_at: float
    changed_at: float
    state: str = "pending"
    id: int = 0
    metric: str = ""
    value: float | None = None
    threshold: float | None = None
    message: str = ""
    recommendation: str = ""
    dismissible: bool = True
    fired_at: float | None = None
    resolved_at: float | None = None
    flapping: bool = False
    held: bool = False
    muted_by: tuple[str, ...] = ()
    acknowledged_by: str = ""
    dismissed: bool = False

    @property
    def key(self) -> str:
        """Last level of its topic."""
        return alert_key(self.rule, self.instance)

    @property
    def is_active(self) -> bool:
        """Whether it is shown: it fires, or did when its host was last heard of."""
        return self.state in ("firing", "unknown")

    def told(self) -> wire.Alert:
        """The alert as the bus has it."""
        return wire.Alert(
            id=self.id, host=self.host.name, alert=self.key, rule=self.rule, type=self.type,
            instance=instance_labels(self.instance), state="resolved" if not self.is_active else self.state,  # type: ignore[arg-type]
            severity=self.severity, message=self.message, recommendation=self.recommendation, metric=self.metric,
            value=self.value, threshold=self.threshold, started_at=self.started_at, fired_at=self.fired_at or self.changed_at,
            changed_at=self.changed_at, flapping=self.flapping, dismissible=self.dismissible, dismissed=self.dismissed,
            acknowledged_by=self.acknowledged_by, muted_by=list(self.muted_by))


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One transition of an alert, as it was at that moment. `event_id` is given by the commit.

    `told` is what the bus says of the alert after it; for `firing` changes `culprits` names the order in which the host's
    processes are kept with it: cpu, memory, io, or empty.
    """

    alert: Alert
    kind: wire.EventKind
    at: float
    reason: str
    severity: wire.Severity
    value: float | None = None
    threshold: float | None = None
    state: str = ""
    message: str = ""
    recommendation: str = ""
    culprits: str = ""
