"""Building and reading MQTT topics below the root (`drumbeat/v1` by default). Pure.

A topic of an agent is `{root}/agent/{partition}/{host}/up|down/{kind}`.
"""

import dataclasses

from shared.names import PARTITIONS, is_host, partition

DEFAULT_ROOT = "drumbeat/v1"
MAX_ALERT_KEY = 72
"""Characters of the last level of an alert's topic: a rule's name, a hyphen, 8 digits."""

UP_KINDS = ("sample", "hello", "status", "inventory", "containers", "processes", "sensors", "execution", "event")
DOWN_KINDS = ("watermark", "task", "config")


@dataclasses.dataclass(frozen=True, slots=True)
class Topics:
    """Every topic that drumbeat uses, below one root."""

    root: str = DEFAULT_ROOT

    def up(self, host: str, kind: str) -> str:
        return f"{self.root}/agent/{partition(host)}/{host}/up/{kind}"

    def down(self, host: str, kind: str) -> str:
        return f"{self.root}/agent/{partition(host)}/{host}/down/{kind}"

    def all_down(self, host: str) -> str:
        """What an agent subscribes to, at QoS 0."""
        return f"{self.root}/agent/{partition(host)}/{host}/down/+"

    def slot_filters(self, slot: int, slots: int) -> list[str]:
        """What the owner of one slot subscribes to: partition mod slots = slot."""
        if slots == 1:
            return [f"{self.root}/agent/+/+/up/+"]
        return [f"{self.root}/agent/{part:02d}/+/up/+" for part in range(PARTITIONS) if part % slots == slot]

    def alert_filters(self) -> list[str]:
        """What every owner of a slot subscribes to beside its slot's agents: topics that name no partition."""
        return [self.alert("+", "+"), self.alert_action("+", "+"), self.event("+")]

    def health(self, host: str) -> str:
        return f"{self.root}/health/{host}"

    def fleet_health(self) -> str:
        return f"{self.root}/health-fleet"

    def alert(self, host: str, alert: str) -> str:
        """One alert while it is active; retained."""
        return f"{self.root}/alert/{host}/{alert}"

    def alert_event(self, severity: str, host: str) -> str:
        return f"{self.root}/alert-event/{severity}/{host}"

    def alert_summary(self, host: str) -> str:
        return f"{self.root}/alert-summary/{host}"

    def alert_action(self, host: str, alert: str) -> str:
        """Where acknowledgements and the like are sent to."""
        return f"{self.root}/alert-action/{host}/{alert}"

    def event(self, host: str) -> str:
        """Events about a host from programs that are not its agent."""
        return f"{self.root}/event/{host}"

    def anomaly(self, host: str) -> str:
        """Anomalies of a host as they begin and end."""
        return f"{self.root}/anomaly/{host}"

    def fire(self, schedule: str) -> str:
        """One firing of a schedule, for whoever listens."""
        return f"{self.root}/schedule/{schedule}/fire"

    def trigger(self, schedule: str) -> str:
        """Where a message starts a schedule now."""
        return f"{self.root}/schedule/{schedule}/trigger"

    def execution(self, schedule: str, execution: str) -> str:
        """States of an execution, told by the scheduler and by executors on the bus."""
        return f"{self.root}/execution/{schedule}/{execution}"

    def read_schedule(self, topic: str) -> tuple[str, str, str] | None:
        """(`trigger`, schedule, ``) or (`execution`, schedule, execution); None where it is neither."""
        parts = topic.removeprefix(f"{self.root}/").split("/")
        if not topic.startswith(f"{self.root}/") or len(parts) != 3 or not all(parts):
            return None
        if parts[0] == "schedule" and parts[2] == "trigger":
            return "trigger", parts[1], ""
        return ("execution", parts[1], parts[2]) if parts[0] == "execution" else None

    def read_alert(self, topic: str) -> tuple[str, str, str] | None:
        """(`alert` or `alert-action`, host, alert), or (`event`, host, ``); None where it is none of them."""
        kind, _, rest = topic.removeprefix(f"{self.root}/").partition("/")
        host, slash, alert = rest.partition("/")
        if not topic.startswith(f"{self.root}/") or not is_host(host) or "/" in alert or len(alert) > MAX_ALERT_KEY:
            return None
        if kind in ("alert", "alert-action") and alert:
            return kind, host, alert
        return (kind, host, "") if kind == "event" and not slash else None

    def read_up(self, topic: str) -> tuple[str, str] | None:
        """(host, kind) of an agent's topic; None where it is not one, or the partition is not the host's."""
        head, _, rest = topic.partition("/agent/")
        parts = rest.split("/")
        if head != self.root or len(parts) != 4:
            return None
        part, host, direction, kind = parts
        if direction != "up" or kind not in UP_KINDS or not is_host(host) or partition(host) != part:
            return None
        return host, kind
