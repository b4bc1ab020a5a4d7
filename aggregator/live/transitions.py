"""From conditions to alerts: what begins, changes or ends when latches flip. One object at a time; only changes come here."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from aggregator.analysis import flapping, messages
from aggregator.analysis.matching import rank
from aggregator.analysis.rules import Kind, Rule, instance_labels
from aggregator.live.alerts import Alert, Change
from aggregator.live.conditions import Conditions, Key
from aggregator.live.hosts import Hosts
from aggregator.live.variants import LOST, Variants
from shared import wire
from shared.names import metric_name, split_metric
from shared.wire import SEVERITIES

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]

OF_A_MOMENT: tuple[Kind, ...] = ("event", "reboot")
"""Kinds whose conditions do not last: there is nothing that would have to pass before they may be told again."""
OF_SILENCE: tuple[Kind, ...] = ("host_down", "mass_silence")
"""Kinds that go by the clock, and by what is not heard."""
_CULPRITS = {"cpu": "cpu", "memory": "memory", "swap": "memory", "disk": "io"}
"""By which figure the processes are ordered that are kept with an alert, by the group of its metric."""


class Transitions:
    """The open and held alerts of a slot, and what is remembered beside their conditions.

    `down`: names of hosts from which nothing comes; `ends`: when alerts end by themselves; `texts`: what events said;
    `passed`: held alerts whose condition has passed.
    """

    def __init__(self, hosts: Hosts) -> None:
        self.alerts: dict[Key, Alert] = {}
        self.down: set[str] = set()
        self.passed: list[Alert] = []
        self.ends: dict[Key, float] = {}
        self.texts: dict[Key, str] = {}
        self.conditions = Conditions()
        self.variants = Variants()
        self._hosts = hosts
        self._flaps: dict[Key, flapping.Changes] = {}
        self._unknown: set[Key] = set()

    def restore(self, key: Key, alert: Alert, variant: int, at: float) -> None:
        """Take up an alert of the tables: its latches as they must have been."""
        self.alerts[key] = alert
        conditions = self.conditions
        row, level = conditions.add(key, variant), rank(alert.severity)
        if alert.state == "pending":
            conditions.since[row, :level], conditions.waits[row] = alert.started_at, True
            return
        conditions.on[row, :level], conditions.level[row] = True, level
        if alert.flapping:
            self._flaps[key] = flapping.full(at)
        rule = self.variants.rules[variant]
        if alert.held:
            if rule.kind in OF_A_MOMENT:
                self._forget(key, alert)
            return
        if alert.is_active and rule.kind == "host_down" and (alert.value or 0.0) >= LOST:
            self.down.add(alert.host.name)
        if alert.state == "unknown":
            self._unknown.add(key)
        if rule.keep and rule.kind not in OF_SILENCE and alert.fired_at is not None:
            self.ends[key] = alert.fired_at + rule.keep

    def feed(self, rows: Rows, values: Floats, ts: Floats) -> list[Change]:
        """Carry conditions (rows of `conditions`, each once) on by one reading each."""
        was_on = self.conditions.level[rows] > 0
        changed = set(self.conditions.feed(rows, values, ts, self.variants).tolist())
        has_flipped = was_on != (self.conditions.level[rows] > 0)
        if self._unknown:
            keys = self.conditions.keys
            changed |= {i for i, row in enumerate(rows.tolist()) if keys[row] in self._unknown}
        changes: list[Change] = []
        for i in sorted(changed):
            changes += self._turn(int(rows[i]), float(values[i]), float(ts[i]), has_flipped=bool(has_flipped[i]))
        return changes

    def _turn(self, row: int, value: float, ts: float, *, has_flipped: bool) -> Iterator[Change]:
        """What the new state of one condition means for its alert."""
        conditions = self.conditions
        key = conditions.keys[row]
        if key is None:
            return
        level, waits = int(conditions.level[row]), bool(conditions.waits[row])
        alert, variant = self.alerts.get(key), int(conditions.variant[row])
        if alert is not None and alert.held:
            if not level:
                self._forget(key, alert)
            return
        if level:
            if alert is not None and alert.flapping and has_flipped:
                self._flaps[key].note(ts)
            yield from self._raised(key, alert, variant, level, value, ts)
        elif waits and alert is None:
            severity = SEVERITIES[int((~np.isnan(conditions.since[row])).nonzero()[0].max())]
            yield self._begun(key, variant, severity, value, ts)
        elif not waits and alert is None:
            self._rest(key)
        elif not waits and alert is not None:
            yield from self._over(key, alert, value, ts, has_flipped=has_flipped)

    def _raised(self, key: Key, alert: Alert | None, variant: int, level: int, value: float, ts: float) -> Iterator[Change]:
        severity = SEVERITIES[level - 1]
        if alert is None or alert.state == "pending":
            yield self._fired(key, alert, variant, severity, value, ts)
            yield from self._flap(key, self.alerts[key], ts)
            return
        if alert.state == "unknown":
            yield self._known(alert, ts)
        if alert.severity != severity and (not alert.flapping or level > rank(alert.severity)):
            was, alert.severity = alert.severity, severity
            self._measure(alert, key, variant, value)
            self._note_down(alert, variant, value)
            yield self._told(alert, "severity", ts, f"{was} became {severity}: {self._why(alert, variant)}")

    def _known(self, alert: Alert, ts: float) -> Change:
        alert.state = "firing"
        self._unknown.discard((alert.host.row, alert.rule, alert.instance))
        return self._told(alert, "known", ts, "the host reports again")

    def _begun(self, key: Key, variant: int, severity: wire.Severity, value: float, ts: float) -> Change:
        alert = self._new(key, variant, severity, ts)
        self._measure(alert, key, variant, value)
        lasting = messages.duration(self._rule(variant).for_)
        return self._told(alert, "pending", ts, f"{self._compared(alert, variant)}; fires if it lasts {lasting}")

    def _fired(self, key: Key, alert: Alert | None, variant: int, severity: wire.Severity, value: float, ts: float) -> Change:
        alert = alert or self._new(key, variant, severity, ts)
        alert.state, alert.severity, alert.fired_at = "firing", severity, ts
        alert.revision = self.variants.revisions[variant]
        self._measure(alert, key, variant, value)
        rule = self._rule(variant)
        if rule.keep and rule.kind not in OF_SILENCE:
            self.ends[key] = ts + rule.keep
        self._note_down(alert, variant, value)
        culprits = _CULPRITS.get(alert.metric.partition(".")[0], "") if rule.kind in ("threshold", "rate", "baseline") else ""
        return self._told(alert, "firing", ts, self._why(alert, variant), culprits)

    def _note_down(self, alert: Alert, variant: int, value: float) -> None:
        if self._rule(variant).kind == "host_down" and value >= LOST:
            self.down.add(alert.host.name)

    def _over(self, key: Key, alert: Alert, value: float, ts: float, *, has_flipped: bool) -> Iterator[Change]:
        """The condition is at rest."""
        if alert.state == "pending":
            self._close(key, alert, "cancelled", ts)
            yield self._told(alert, "cancelled", ts, f"was back after {messages.duration(ts - alert.started_at)}")
            return
        if alert.flapping and alert.state == "unknown":
            yield self._known(alert, ts)
        if alert.flapping and has_flipped:
            self._flaps[key].note(ts)
        elif has_flipped:
            yield from self._flap(key, alert, ts)
        if not alert.flapping:
            is_measured = alert.threshold is not None and np.isfinite(value) and not self._is_of_silence(alert)
            yield self._resolved(key, alert, ts, f"{alert.metric or alert.type} is {value:.6g}" if is_measured
                                 else self.texts.get(key) or "the condition has passed")

    def _flap(self, key: Key, alert: Alert, ts: float) -> Iterator[Change]:
        """The condition has begun or ended: note it; it may be flapping now."""
        changes = self._flaps.setdefault(key, flapping.Changes())
        changes.note(ts)
        if not alert.flapping and changes.share(ts) >= flapping.BEGINS:
            if alert.state == "unknown":
                yield self._known(alert, ts)
            alert.flapping = True
            yield self._told(alert, "flapping", ts, f"began or ended in {changes.share(ts):.0%} of the last 20 minutes; "
                                                    "the alert stays open until it is calm")

    def calm(self, clock: Floats, now: float) -> Iterator[Change]:
        """Let go of what flaps no more, at each host's event time (`clock`) or, of what samples do not tell, at `now`."""
        for key, changes in list(self._flaps.items()):
            stored, alert = self.variants.named.get(key[1]), self.alerts.get(key)
            at = now if stored is not None and stored.rule.kind in ("event", *OF_SILENCE) else float(clock[key[0]])
            share = changes.share(at)
            if share == 0 and (alert is None or not alert.flapping):
                del self._flaps[key]
            elif alert is not None and alert.flapping and alert.state == "firing" and share < flapping.ENDS:
                alert.flapping = False
                yield self._told(alert, "calm", at, "has not changed much for a while")
                row = self.conditions.of.get(key)
                if row is None or not self.conditions.level[row]:
                    yield self._resolved(key, alert, at, "the condition has passed, and stayed so")

    def end(self, key: Key, ts: float, reason: str) -> list[Change]:
        """End whatever there is of a condition, whatever its latches say."""
        alert = self.alerts.get(key)
        if alert is None or alert.held:
            if alert is not None:
                self._forget(key, alert)
            else:
                self._rest(key)
            return []
        if alert.state == "pending":
            self._close(key, alert, "cancelled", ts)
            return [self._told(alert, "cancelled", ts, reason)]
        return [self._resolved(key, alert, ts, reason)]

    def hide(self, host_row: int, ts: float) -> list[Change]:
        """The host is down: its other alerts are unknown, silently; what was pending is cancelled."""
        changes = self.pause(host_row, ts, "nothing comes from the host")
        for _, alert in self._hiding(host_row):
            if alert.state == "firing":
                alert.state = "unknown"
                self._unknown.add((host_row, alert.rule, alert.instance))
                changes.append(self._told(alert, "unknown", ts, "nothing comes from the host"))
        return changes

    def pause(self, host_row: int, ts: float, reason: str) -> list[Change]:
        """Nobody knows what was in between: what was pending is cancelled, what was about to be over begins to wait anew."""
        changes: list[Change] = []
        for row, alert in self._hiding(host_row):
            if alert.state == "pending":
                changes += self.end((host_row, alert.rule, alert.instance), ts, reason)
            else:
                self.conditions.interrupt(np.array([row]))
        return changes

    def _hiding(self, host_row: int) -> list[tuple[int, Alert]]:
        """Conditions of a host, and their alerts, of which nobody knows more while nothing comes from it."""
        rows = self.conditions.by_host.get(host_row, ())
        return [(row, self.alerts[key]) for row in rows if (key := self.conditions.keys[row]) in self.alerts
                and key is not None and self.hides_with_its_host(self._rule(int(self.conditions.variant[row])))]

    def hides_with_its_host(self, rule: Rule) -> bool:
        """Whether nobody knows more of its alerts while nothing comes from the host."""
        if rule.kind == "composite":
            return not any(one in self.variants.named and self.variants.named[one].rule.kind == "host_down" for one in rule.rules)
        return rule.kind not in (*OF_SILENCE, *OF_A_MOMENT)

    def release(self, alert: Alert) -> None:
        """Somebody resolved it by hand (the table says so): it is over, and does not fire before its condition has passed."""
        key = alert.host.row, alert.rule, alert.instance
        alert.state, alert.held, alert.flapping = "resolved", True, False
        self._unknown.discard(key)
        if self._is_host_down(alert):
            self.down.discard(alert.host.name)
        self.ends.pop(key, None)
        row = self.conditions.of.get(key)
        if row is None or not self.conditions.level[row] or self._rule(int(self.conditions.variant[row])).kind in OF_A_MOMENT:
            self._forget(key, alert)

    def _forget(self, key: Key, alert: Alert) -> None:
        """A held alert's condition has passed."""
        alert.held = False
        self.passed.append(alert)
        del self.alerts[key]
        self._rest(key)

    def _rest(self, key: Key) -> None:
        row = self.conditions.of.get(key)
        if row is not None:
            self.conditions.remove(row)
        self.texts.pop(key, None)

    def _resolved(self, key: Key, alert: Alert, ts: float, reason: str) -> Change:
        self._close(key, alert, "resolved", ts)
        return self._told(alert, "resolved", ts, reason)

    def _close(self, key: Key, alert: Alert, state: str, ts: float) -> None:
        alert.state, alert.flapping = state, False
        self._unknown.discard(key)
        alert.resolved_at = max(ts, alert.changed_at) if state == "resolved" else None
        if self._is_host_down(alert):
            self.down.discard(alert.host.name)
        del self.alerts[key]
        self.ends.pop(key, None)
        self._rest(key)

    def _is_of_silence(self, alert: Alert) -> bool:
        return alert.rule in self.variants.named and self.variants.named[alert.rule].rule.kind in OF_SILENCE

    def _is_host_down(self, alert: Alert) -> bool:
        stored = self.variants.named.get(alert.rule)
        return alert.type == "host_down" if stored is None else stored.rule.kind == "host_down"

    def _new(self, key: Key, variant: int, severity: wire.Severity, ts: float) -> Alert:
        rule, (host_row, name, instance) = self._rule(variant), key
        alert = self.alerts[key] = Alert(
            host=self._hosts.all[host_row], rule=name, instance=instance, type=rule.alert_type, source=rule.source,
            revision=self.variants.revisions[variant], severity=severity, started_at=ts, changed_at=ts,
            metric=instance_metric(rule, instance), dismissible=rule.dismissible)
        return alert

    def _measure(self, alert: Alert, key: Key, variant: int, value: float) -> None:
        """Carry the value of now, its threshold, and what is said of them into the alert."""
        rule = self._rule(variant)
        alert.threshold = self.variants.threshold(variant, alert.severity)
        alert.value = value if alert.threshold is not None or rule.kind == "host_down" else None
        text = self.texts.get(key, "")
        alert.message, alert.recommendation = messages.told(
            rule, host=alert.host.name, severity=alert.severity, instance=alert.instance, value=alert.value,
            threshold=alert.threshold, text=text)
        if rule.kind == "event" and text:
            alert.message = text

    def _told(self, alert: Alert, kind: wire.EventKind, ts: float, reason: str, culprits: str = "") -> Change:
        alert.changed_at = ts = max(ts, alert.changed_at)
        return Change(alert, kind, ts, reason, alert.severity, alert.value, alert.threshold, alert.state, alert.message,
                      alert.recommendation, culprits)

    def _rule(self, variant: int) -> Rule:
        return self.variants.rules[variant]

    def _why(self, alert: Alert, variant: int) -> str:
        rule = self._rule(variant)
        compared = self._compared(alert, variant)
        return f"{compared} for {messages.duration(rule.for_)}" if rule.for_ else compared

    def _compared(self, alert: Alert, variant: int) -> str:
        if alert.threshold is None or alert.value is None:
            return alert.message
        sign = "≤" if self.variants.sign[variant] < 0 else "≥"
        return f"{alert.metric or alert.type} {alert.value:.6g} {sign} {alert.threshold:.6g}"


def instance_metric(rule: Rule, instance: str) -> str:
    """The full name of the metric that a rule watches for an instance; empty where it watches none."""
    split = split_metric(rule.metric)
    return metric_name(split[0], **(split[1] | instance_labels(instance))) if split else ""


def hosts_of(changes: Iterable[Change]) -> set[int]:
    """Rows of the hosts that changes concern."""
    return {change.alert.host.row for change in changes}
