"""The alert engine of a slot: frames, snapshots, events and silence in, transitions of alerts out. No I/O, no clock.

One condition is watched for each (host, rule, instance). Its way: at rest → pending (a threshold is passed) → firing (that has
lasted for the rule's `for`) → resolved (the value was back for `recover_for`); a pending one that comes back is cancelled.

1. A sample is looked at only when it is newer than what was looked at before, and not a late one that an agent sent again:
   event time goes forward, host by host.
2. Its numbers are compared with the rules' thresholds, for all samples of the frame at once (`bindings`). What passes no
   threshold and is at rest is done with: that is nearly everything.
3. The rest runs through the latches, again all at once (`conditions`); only what changes is looked at one by one (`transitions`).
4. A host that is down makes its other alerts unknown; they are known again, or over, with its next samples.
5. A condition that comes and goes too often is flapping: its alert stays open until it is calm (`analysis.flapping`).
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aggregator.analysis.matching import rank
from aggregator.analysis.rules import Kind, Override, Rule, Stored
from aggregator.live.alerts import Alert, Change
from aggregator.live.bindings import MISSING, NONE, PLAIN, RATE, Blocks, Plans
from aggregator.live.conditions import Key
from aggregator.live.containers import Restarts, holding
from aggregator.live.frame import Frame
from aggregator.live.hosts import Hosts
from aggregator.live.lateness import Lateness
from aggregator.live.layouts import Layouts
from aggregator.live.minutes import waves
from aggregator.live.presence import Presence
from aggregator.live.rates import Rates
from aggregator.live.silence import MassSilence
from aggregator.live.transitions import Transitions, hosts_of, instance_metric
from aggregator.live.variants import LOST, STOPPED, Variants
from shared import catalogue, wire
from shared.names import metric_name

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

GAP_SECONDS = 60.0
"""After this long without a sample (or 3 intervals), what was pending is cancelled, and begins anew."""
GONE_SECONDS = 120.0
"""How long a metric may be absent from its host's samples before its alert is over."""
EVENTS_KNOWN = 10_000
"""Of so many instances the newest event is known."""
SAMPLED: tuple[Kind, ...] = ("threshold", "rate", "missing")
"""Kinds whose conditions are fed by samples."""


class Engine:
    """Alerts of all hosts of a slot. `labels`: by host row; `own_host`: on which ingest runs, empty where it is not known."""

    def __init__(self, hosts: Hosts, layouts: Layouts) -> None:
        self.labels: dict[int, Mapping[str, str]] = {}
        self.own_host = ""
        self._hosts, self._layouts = hosts, layouts
        self._turns = Transitions(hosts)
        self._presence, self._rates, self._restarts = Presence(), Rates(), Restarts()
        self._mass = MassSilence(hosts, self._presence)
        self._blocks, self._plans = Blocks(), Plans([])
        self._by_kind: dict[str, list[Rule]] = {}
        self._own_limits: dict[int, dict[str, tuple[float | None, float | None]]] = {}
        self._absent: dict[Key, float] = {}
        self._queued: list[Change] = []
        self._recompose = False
        self._snapshot_ts: dict[int, float] = {}
        self._event_ts: dict[Key, float] = {}
        self._clock, self._lateness = np.zeros(64), Lateness()

    @property
    def alerts(self) -> dict[Key, Alert]:
        """Open and held alerts by (host row, rule, instance)."""
        return self._turns.alerts

    @property
    def down(self) -> set[str]:
        """Names of hosts from which nothing comes."""
        return self._turns.down

    def take_passed(self) -> list[Alert]:
        """Held alerts whose condition has passed since the last call: the table should know that they are held no more."""
        passed, self._turns.passed = self._turns.passed, []
        return passed

    def configure(self, rules: Sequence[Stored], overrides: Mapping[tuple[str, str], Override], now: float) -> list[Change]:
        """Watch by these rules from now on. Alerts whose rule is gone, or applies to their host no more, are resolved."""
        former, variants = self._turns.variants.named, Variants(rules, overrides)
        self._turns.variants = variants
        self._rates.keep({name for name in variants.named.keys() & former.keys()
                          if _looks_at(variants.named[name]) == _looks_at(former[name])})
        watched = [one.rule for one in variants.named.values()]
        self._plans = Plans(watched)
        self._by_kind = {kind: [rule for rule in watched if rule.kind == kind] for kind in {rule.kind for rule in watched}}
        self._mass.configure(self.watched("mass_silence"))
        for row in range(len(self._blocks.base)):
            self._blocks.unbind(row)
        self._recompose = True
        return self._reconsider(list(self._turns.conditions.of.items()), now)

    def set_labels(self, row: int, labels: Mapping[str, str]) -> None:
        """The labels of a host, which rules select by."""
        self._grow()
        if self.labels.get(row, {}) == labels:
            return
        self.labels[row] = dict(labels)
        self._mass.relabel(row, self.applies)
        self._queued += self._rebind(row)

    def sensors(self, row: int, snapshot: wire.Sensors) -> None:
        """The limits that a host's temperature sensors have of their own."""
        own = {f"{sensor.group} {sensor.label}": (sensor.high, sensor.critical) for sensor in snapshot.sensors
               if sensor.kind == "temperature" and (sensor.high is not None or sensor.critical is not None)}
        if own != self._own_limits.get(row, {}):
            self._grow()
            self._own_limits[row] = own
            self._queued += self._rebind(row)

    def _rebind(self, row: int) -> list[Change]:
        self._blocks.unbind(row)
        self._recompose = True
        conditions = self._turns.conditions
        own = [(key, at) for at in conditions.by_host.get(row, ()) if (key := conditions.keys[at]) is not None]
        return self._reconsider(own, float(self._clock[row]))

    def _reconsider(self, conditions: Sequence[tuple[Key, int]], now: float) -> list[Change]:
        """Give conditions the present variant of their rule; end those that have none."""
        changes = []
        for key, at in conditions:
            variant, alert = self._variant(*key), self._turns.alerts.get(key)
            if variant and (alert is None or alert.metric == instance_metric(self._turns.variants.rules[variant], key[2])):
                self._turns.conditions.variant[at] = variant
            else:
                changes += self._turns.end(key, max(now, float(self._clock[key[0]])),
                                           "the rule is gone, applies no more, or watches something else")
        return changes

    def _variant(self, row: int, rule: str, instance: str) -> int:
        own = self._own_limits.get(row)
        limits = own.get(instance.removeprefix("sensor=")) if own and instance.startswith("sensor=") else None
        return self._turns.variants.of(rule, self._hosts.all[row].name, self.labels.get(row, {}), limits)

    def restore(self, alerts: Sequence[Alert]) -> None:
        """Take up the open and held alerts of the tables; call it after `configure`, once, at a takeover."""
        self._grow()
        self._clock[:len(self._hosts)] = self._hosts.newest_ts[:len(self._hosts)]
        for alert in sorted(alerts, key=lambda one: one.held, reverse=True):
            key = alert.host.row, alert.rule, alert.instance
            variant = self._variant(*key)
            self._turns.restore(key, alert, variant, float(self._clock[key[0]]))
            self._restore_presence(alert, self._turns.variants.rules[variant])
        self._queued += self._reconsider(list(self._turns.conditions.of.items()), 0.0)

    def _restore_presence(self, alert: Alert, rule: Rule) -> None:
        """What an open alert says of the silence of hosts."""
        row = alert.host.row
        if rule.kind == "mass_silence":
            self._mass.restore(rule.name, row, alert.started_at)
        elif rule.kind == "host_down" and alert.value == STOPPED:
            self._presence.restore_stopped(row, self._hosts)
        elif rule.kind == "host_down" and alert.fired_at is not None:
            self._mass.spend(np.array([row]))

    def _grow(self) -> None:
        count = len(self._hosts)
        self._blocks.grow(count)
        self._presence.grow(count)
        self._lateness.grow(count)
        while count > len(self._clock):
            self._clock = np.concatenate([self._clock, np.zeros_like(self._clock)])

    # Samples

    def frame(self, frame: Frame) -> list[Change]:
        """The transitions that the samples of a frame lead to. Call it before the frame is committed."""
        self._grow()
        changes = self._unqueued()
        rows = frame.rows()
        late = frame.received_at - frame.times
        self._lateness.note(rows, late, frame.received_at, self._clock, self._hosts.interval[:len(self._hosts)])
        is_news = self._lateness.is_news(rows, late, frame.intervals)
        drains = self._presence.is_draining(rows)
        np.maximum.at(self._clock, rows[is_news & drains], frame.times[is_news & drains])
        chosen = np.flatnonzero(is_news & ~drains)
        chosen = chosen[np.argsort(frame.times[chosen], kind="stable")]
        for wave in waves(rows[chosen]):
            each = chosen[wave]
            each = each[frame.times[each] > self._clock[rows[each]]]
            if len(each):
                changes += self._samples(frame, each, rows[each])
        return self._finished(changes)

    def _unqueued(self) -> list[Change]:
        changes, self._queued = self._queued, []
        return changes

    def _samples(self, frame: Frame, chosen: Rows, rows: Rows) -> list[Change]:
        """Samples `chosen` of a frame, of hosts `rows`, each host once."""
        ts = frame.times[chosen]
        layouts = np.array([frame.layouts[i].index for i in chosen.tolist()], np.int64)
        for i in np.flatnonzero(self._blocks.layout.array[rows] != layouts).tolist():
            self._bind(int(rows[i]), int(layouts[i]), float(ts[i]))
        gap = ts - self._clock[rows] > np.maximum(GAP_SECONDS, 3 * frame.intervals[chosen])
        changes = [change for i in np.flatnonzero(gap).tolist()
                   for change in self._turns.pause(int(rows[i]), float(ts[i]), "nothing was heard for a while")]
        self._clock[rows] = ts
        count = self._plans.count[layouts]
        sample = np.repeat(np.arange(len(rows)), count)
        within = np.arange(len(sample)) - np.repeat(np.cumsum(count) - count, count)
        entry = self._plans.first[layouts][sample] + within
        slot = self._blocks.base.array[rows][sample] + within
        values = frame.values[frame.starts[chosen][sample] + self._plans.position[entry]]
        special = np.flatnonzero(self._plans.kind[entry] != PLAIN)
        if len(special):
            values[special] = self._special(values[special], entry[special], slot[special], rows[sample[special]],
                                            ts[sample[special]])
        variants, variant = self._turns.variants, self._blocks.variant[slot]
        passes = values * variants.sign[variant] >= variants.low[variant]
        hot = np.flatnonzero((passes | self._conditions_of(slot)) & ~np.isnan(values))
        if not len(hot):
            return changes
        at = self._remembered(rows[sample[hot]], entry[hot], slot[hot])
        return changes + self._turns.feed(at, values[hot], ts[sample[hot]])

    def _remembered(self, rows: Rows, entry: Rows, slot: Rows) -> Rows:
        """The conditions of slots, made for those that were at rest."""
        condition = self._blocks.condition
        for i in np.flatnonzero(condition[slot] == NONE).tolist():
            key = (int(rows[i]), *self._plans.entries[int(entry[i])])
            self._attach(self._turns.conditions.add(key, int(self._blocks.variant[slot[i]])), int(slot[i]))
        return condition[slot]

    def _attach(self, condition: int, slot: int) -> None:
        self._blocks.condition[slot], self._turns.conditions.slot[condition] = condition, slot

    def _conditions_of(self, slot: Rows) -> NDArray[np.bool_]:
        """Which slots have a condition that is not at rest. A slot may still point to one that came to rest elsewhere."""
        condition = self._blocks.condition
        pointing = np.flatnonzero(condition[slot] != NONE)
        stale = pointing[self._turns.conditions.slot[condition[slot[pointing]]] != slot[pointing]]
        condition[slot[stale]] = NONE
        return np.asarray(condition[slot] != NONE)

    def _special(self, values: Floats, entry: Rows, slot: Rows, rows: Rows, ts: Floats) -> Floats:
        """What is not simply a number of the sample: whether a metric is missing, and changes over a window."""
        is_rate = self._plans.kind[entry] == RATE
        values = np.where(self._plans.kind[entry] == MISSING, self._plans.position[entry] == NONE, values)
        rates = np.flatnonzero(is_rate & (self._blocks.variant[slot] > 0))
        values[is_rate & (self._blocks.variant[slot] == 0)] = np.nan
        if len(rates):
            keys = [(int(rows[i]), *self._plans.entries[int(entry[i])]) for i in rates.tolist()]
            variant = self._blocks.variant[slot[rates]]
            counters = np.array([catalogue.is_counter(self._turns.variants.rules[one].metric) for one in variant.tolist()])
            values[rates] = self._rates.changes(np.array([self._rates.row(key) for key in keys], np.int64), values[rates],
                                                ts[rates], self._turns.variants.window[variant], counters)
        return values

    def _bind(self, row: int, layout: int, ts: float) -> None:
        """The host sends another layout: find its conditions in it; what is in it no more is absent from now on."""
        plan = self._plans.of(self._layouts.all[layout])
        conditions = self._turns.conditions
        base = self._blocks.bind(row, layout, plan, lambda rule, instance: self._variant(row, rule, instance))
        for at in conditions.by_host.get(row, ()):
            key = conditions.keys[at]
            if key is None or self._turns.variants.rules[int(conditions.variant[at])].kind not in SAMPLED:
                continue
            if key[1:] in plan.index:
                self._attach(at, base + plan.index[key[1:]])
                self._absent.pop(key, None)
            else:
                self._absent.setdefault(key, ts)

    # What is told otherwise

    def status(self, row: int, status: wire.Status, now: float) -> list[Change]:
        """A status message of a host came at `now` (Unix s)."""
        self._grow()
        self._presence.note(row, status, now)
        changes = self._turns.pause(row, float(self._clock[row]), "its agent is stopping") if status.state == "draining" else []
        return self._finished(changes) + self.hello(row, status.boot_id, status.ts)

    def hello(self, row: int, boot_id: str, ts: float) -> list[Change]:
        """A host says which boot it is running since."""
        self._grow()
        if not self._presence.boot(row, boot_id, ts):
            return []
        return self._finished(self._hold(((row, rule.name, ""), 1.0, ts) for rule in self._by_kind.get("reboot", ())))

    def containers(self, row: int, snapshot: wire.Containers) -> list[Change]:
        """A host's containers as they are. Snapshots that are not new (the broker repeats them) say nothing."""
        self._grow()
        if snapshot.ts <= self._snapshot_ts.get(row, -math.inf) or self._is_silent(row):
            return []
        self._snapshot_ts[row] = snapshot.ts
        self._restarts.note(row, snapshot)
        readings = []
        for rule in self._by_kind.get("state", ()):
            if rule.subject == "container_restarted":
                values = {name: float(self._restarts.within(row, name, snapshot.ts - rule.window))
                          for name in self._restarts.names(row)}
            else:
                values = dict.fromkeys(holding(rule.subject, snapshot), 1.0)
            open_ones = {key[2]: 0.0 for at in self._turns.conditions.by_host.get(row, ())
                         if (key := self._turns.conditions.keys[at]) is not None and key[1] == rule.name}
            values = open_ones | {_instance(container=name): value for name, value in values.items()}
            readings += [((row, rule.name, instance), value, snapshot.ts) for instance, value in values.items()]
        for key, value, ts in readings:
            if value and key in self._turns.ends:
                self._turns.ends[key] = ts + self._turns.variants.named[key[1]].rule.keep
        return self._finished(self._hold(readings))

    def event(self, row: int, event: wire.Event) -> list[Change]:
        """Something happened, says somebody: raise what watches for it, or end it."""
        self._grow()
        readings = []
        for rule in self._by_kind.get("event", ()):
            key = row, rule.name, _instance(**event.instance)
            if rule.event_type != event.type or not self._is_new(key, event.ts):
                continue
            self._turns.texts[key] = event.message
            if rule.keep and key in self._turns.ends:
                self._turns.ends[key] = event.ts + rule.keep
            severity = event.severity or self._turns.variants.rules[self._variant(*key)].severity
            readings.append((key, 0.0 if event.resolved else float(rank(severity)), event.ts))
        return self._finished(self._hold(readings))

    def watched(self, kind: Kind) -> Sequence[Rule]:
        """The rules of one kind that are watched."""
        return self._by_kind.get(kind, ())

    def applies(self, rule: str, row: int) -> bool:
        """Whether a rule is watched on a host."""
        return self._variant(row, rule, "") > 0

    def _is_new(self, key: Key, ts: float) -> bool:
        """Whether an event is not older than the newest of its kind; events are told at least once, and may come again."""
        known = self._event_ts.pop(key, -math.inf)
        self._event_ts[key] = max(known, ts)
        if len(self._event_ts) > EVENTS_KNOWN:
            del self._event_ts[next(iter(self._event_ts))]
        return ts >= known

    def measured(self, rule: str, rows: Sequence[int], instances: Sequence[str], values: Floats, at: float) -> list[Change]:
        """Values of a rule that samples do not carry (forecasts: seconds until the target, inf for never, NaN: unknown)."""
        self._grow()
        return self._finished(self._hold(((row, rule, instance), value, max(at, float(self._clock[row])))
                                         for row, instance, value in zip(rows, instances, values.tolist(), strict=True)
                                         if not math.isnan(value) and not self._is_silent(row)))

    def unusual(self, rule: str, rows: Rows, scores: Floats, at: float, texts: Mapping[int, str]) -> list[Change]:
        """Anomaly scores of hosts for a rule of kind baseline; `texts`: by host row, what makes it unusual.

        Hosts far below the rule's thresholds that have nothing open are passed over, all at once.
        """
        known = [key[0] for key in self._turns.conditions.of if key[1] == rule]
        near = np.flatnonzero((scores >= self._turns.variants.least(rule)) | np.isin(rows, known))
        chosen = rows[near].tolist()
        for row in chosen:
            if row in texts:
                self._turns.texts[row, rule, ""] = texts[row]
        return self.measured(rule, chosen, [""] * len(chosen), scores[near], at)

    def _hold(self, readings: Iterable[tuple[Key, float, float]]) -> list[Change]:
        """Feed conditions outside of samples, given as (key, value, event time), each key once."""
        at, values, times = [], [], []
        conditions, variants = self._turns.conditions, self._turns.variants
        for key, value, ts in readings:
            row = conditions.of.get(key)
            if row is None:
                variant = self._variant(*key)
                if not variant or not value * variants.sign[variant] >= variants.low[variant]:
                    self._turns.texts.pop(key, None)
                    continue
                row = conditions.add(key, variant)
            at.append(row)
            values.append(value)
            times.append(ts)
        return self._turns.feed(np.array(at, np.int64), np.array(values), np.array(times)) if at else []

    # Time

    def tick(self, now: float, connected_at: float) -> list[Change]:
        """Silence, ends and flapping at `now`; call it about once a second. `connected_at`: since when ingest hears, else inf."""
        self._grow()
        changes = self._unqueued()
        changes += self._silence(now, connected_at)
        for key, end in list(self._turns.ends.items()):
            if now >= end:
                del self._turns.ends[key]
                changes += self._turns.end(key, now, "its time is over")
        for key, since in list(self._absent.items()):
            if self._turns.conditions.of.get(key) is None:
                del self._absent[key]
            elif self._clock[key[0]] - since >= GONE_SECONDS:
                del self._absent[key]
                changes += self._turns.end(key, float(self._clock[key[0]]), "the host has no such metric any more")
        changes += self._turns.calm(self._clock, now)
        return self._finished(changes, now=now)

    def _silence(self, now: float, connected_at: float) -> list[Change]:
        """Hosts that have gone, together or one by one, and those that are back."""
        guards = self.watched("mass_silence") if self._mass.listen(now, connected_at, self.applies) else ()
        changes = [change for rule in guards for change in self._guarded(rule, now, connected_at)]
        rules = self.watched("host_down")
        if not rules or not np.isfinite(connected_at):
            return changes
        value, heard = self._presence.judge(self._hosts, now, np.maximum(connected_at, self._mass.excused_at[:len(self._hosts)]))
        value[(value >= LOST) & self._mass.held()] = 0.0
        readings = []
        for rule in rules:
            open_rows = {key[0] for key in self._turns.alerts if key[1] == rule.name}
            open_rows |= {key[0] for key in self._turns.conditions.of if key[1] == rule.name}
            for row in {*np.flatnonzero(value > 0).tolist(), *open_rows}:
                key = row, rule.name, ""
                is_known = row in open_rows
                if value[row] > 0:
                    self._turns.texts[key] = self._presence.reason(row, self._hosts, now)
                    reading = max(float(value[row]), LOST if self._hosts.all[row].name in self.down else 0.0)
                elif is_known and heard[row] and not self._is_silent(row):
                    self._turns.texts[key] = "the host reports again"
                    reading = 0.0
                else:
                    continue
                readings.append((key, reading, now))
        return changes + self._hold(readings)

    def _guarded(self, rule: Rule, now: float, connected_at: float) -> list[Change]:
        """One alert in place of many where hosts go together (see `silence`)."""
        seen, is_connected = self._mass.seen(rule, now), math.isfinite(connected_at)
        guard = self._mass.guard(rule)
        if guard.began_at and is_connected and not self._mass.is_patient(rule, now, connected_at):
            self._mass.let_go(rule, seen)
            return self._turns.end((guard.row, rule.name, ""), now, "it lasts too long: each silent host is told to be down")
        if (guard.row, rule.name, "") not in self._turns.conditions.of:
            if seen.percent < min(rule.thresholds().values(), default=math.inf):
                self._mass.follow(rule, now, is_on=False)
                return []
            guard.row = self._speaker(rule, seen.silent.tolist())
        key = guard.row, rule.name, ""
        self._turns.texts[key] = seen.text(is_connected=is_connected)
        changes = self._hold([(key, seen.percent, now)])
        at = self._turns.conditions.of.get(key)
        conditions = self._turns.conditions
        self._mass.follow(rule, now, is_on=at is not None and bool(conditions.level[at] or conditions.waits[at]))
        return changes

    def _speaker(self, rule: Rule, silent: Sequence[int]) -> int:
        """The host that has the alert: ingest's own where the rule applies to it, else the first by name that is silent."""
        own = self._hosts.get(self.own_host)
        if own is not None and self._hosts.received_at[own.row] > 0 and self.applies(rule.name, own.row):
            return own.row
        return min(silent, key=lambda row: self._hosts.all[row].name)

    def _is_silent(self, row: int) -> bool:
        """Whether the host is held to be down, and nothing has come from it since."""
        return any(self._hosts.received_at[row] <= at for at in self._down_since(row))

    def _is_down(self, row: int) -> bool:
        """Whether the host is held to be down, as the ticks have it: what came since the last one does not count."""
        return any(True for _ in self._down_since(row))

    def _down_since(self, row: int) -> Iterator[float]:
        """When each host_down alert of a host fired (Unix s), those that were resolved by hand included."""
        for rule in self._by_kind.get("host_down", ()):
            alert = self._turns.alerts.get((row, rule.name, ""))
            if alert is not None and alert.fired_at is not None:
                yield alert.fired_at

    def release(self, alert: Alert) -> None:
        """An alert was resolved by hand, as the table says: it does not fire again before its condition has passed."""
        self._turns.release(alert)

    def _finished(self, changes: list[Change], *, now: float = 0.0) -> list[Change]:
        """What follows from changes: hosts that went down hide their alerts; composite rules look at their hosts again.

        `now`: of a tick; for hosts without samples it is the time that passes.
        """
        for change in list(changes):
            kind = self._kind(change.alert.rule)
            if kind == "host_down" and change.kind == "firing":
                changes += self._turns.hide(change.alert.host.row, change.at)
        composites = self._by_kind.get("composite", ())
        if composites:
            names = {rule.name for rule in composites}
            rows = hosts_of(changes) | {alert.host.row for alert in self._turns.passed}
            rows |= {key[0] for key in self._turns.conditions.of if key[1] in names} if now else set()
            if now and self._recompose:
                rows, self._recompose = rows | {key[0] for key in self._turns.alerts}, False
            is_hidden = self._is_down if now else self._is_silent
            latest = {(change.alert.host.row, change.alert.rule): change.at for change in changes}
            changes += self._hold(((row, rule.name, ""), float(self._is_composed(row, rule)),
                                   max([float(self._clock[row]) or now, *(latest.get((row, name), 0.0) for name in rule.rules)]))
                                  for row in rows for rule in composites
                                  if not (self._turns.hides_with_its_host(rule) and is_hidden(row)))
        return changes

    def _kind(self, name: str) -> str:
        stored = self._turns.variants.named.get(name)
        return "" if stored is None else stored.rule.kind

    def _is_composed(self, row: int, rule: Rule) -> bool:
        """Whether all (or any) of a composite's rules have an active alert on the host."""
        active = {alert.rule for at in self._turns.conditions.by_host.get(row, ())
                  if (key := self._turns.conditions.keys[at]) is not None
                  and (alert := self._turns.alerts.get(key)) is not None and alert.is_active}
        return (all if rule.combine == "all" else any)(name in active for name in rule.rules)


def _looks_at(stored: Stored) -> tuple[str, float]:
    return stored.rule.metric, stored.rule.window


def _instance(**labels: str) -> str:
    """The instance of some labels, with what metric names forbid replaced."""
    return metric_name("x", **labels)[2:-1] if labels else ""
