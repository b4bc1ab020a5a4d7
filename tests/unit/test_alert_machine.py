"""The alert engine against any sequence of samples, ticks, restarts, late and repeated messages: transitions, table, topics.

`table` and `retained` are kept from the changes alone, as ingest keeps them; after every step they must be what the engine holds.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from alert_builders import START, Fleet, container
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aggregator.analysis import latches
from aggregator.analysis.rules import Override, Rule
from aggregator.live.alerts import Alert, Change
from aggregator.live.bindings import NONE
from aggregator.live.variants import LOST
from shared import wire

HOSTS = ("a", "b", "c")
OPEN = ("pending", "firing", "unknown")
LEGAL = {
    "new": {"pending": "pending", "firing": "firing"},
    "pending": {"firing": "firing", "cancelled": "cancelled"},
    "firing": {"severity": "firing", "flapping": "firing", "calm": "firing", "unknown": "unknown", "resolved": "resolved"},
    "unknown": {"known": "firing", "resolved": "resolved"},
}
"""State of an alert → kinds of changes that may happen → the state after it."""

PALETTE = (
    Rule(name="cpu", metric="cpu.percent", warning=60, critical=80, for_=10, recover_value=50, recover_for=10),
    Rule(name="disk", metric="disk.percent{mount=*}", comparison=">", warning=60, error=80),
    Rule(name="low", metric="cpu.percent", comparison="<", warning=20, for_=5),
    Rule(name="growth", kind="rate", metric="cpu.percent", window=20, warning=30),
    Rule(name="no_gpu", kind="missing", metric="gpu.percent", severity="info", for_=5),
    Rule(name="host_down", kind="host_down", severity="critical"),
    Rule(name="reboot", kind="reboot", severity="info", keep=300),
    Rule(name="stopped", kind="state", subject="container_stopped", severity="error", for_=10),
    Rule(name="restarts", kind="state", subject="container_restarted", warning=1, error=3, window=120, keep=120),
    Rule(name="backup", kind="event", severity="error"),
    Rule(name="security", kind="event", event="backup", severity="warning", keep=60),
    Rule(name="full", kind="forecast", metric="disk.percent{mount=*}", target=100, window=3600, warning=3600, critical=600),
    Rule(name="all_of", kind="composite", rules=["cpu", "disk"], combine="all"),
    Rule(name="any_of", kind="composite", rules=["cpu", "disk", "backup"], combine="any", for_=5),
    Rule(name="or_down", kind="composite", rules=["host_down", "disk"], combine="any"),
)
OTHERWISE = (
    Rule(name="cpu", metric="cpu.percent", warning=30, critical=95),
    Rule(name="cpu", metric="memory.percent", warning=60),
    Rule(name="cpu", kind="event", severity="critical"),
    Rule(name="disk", metric="disk.percent{mount=*}", critical=60, for_=10),
    Rule(name="disk", metric="disk.percent{mount=/}", warning=60),
    Rule(name="disk", metric="disk.percent{mount=*}", warning=60, selector={"env": "prod"}),
    Rule(name="backup", kind="event", severity="info", hosts=["a*"]),
    Rule(name="host_down", kind="host_down", severity="error", for_=20),
)
values = st.sampled_from([5.0, 30.0, 60.0, 61.0, 70.0, 80.0, 90.0, 99.0])
hosts = st.sampled_from(HOSTS)


class AlertMachine(RuleBasedStateMachine):
    """`table`: alerts by id as the database has them; `now`: Unix s; `sent`: what each host has sent.

    `live`: the minute of the last live sample of each host, since the last restart.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet(*PALETTE)
        self.table: dict[int, Alert] = {}
        self.times: dict[int, float] = {}
        self.retained: dict[tuple[str, str], wire.Alert] = {}
        self.now, self.connected_at = START, START - 3600
        self.sent: list[tuple[str, float, dict[str, float]]] = []
        self.snapshots: list[wire.Containers] = []
        self.live: dict[str, int] = {}

    @property
    def minute(self) -> int:
        return int(self.now // 60)

    def write(self, changes: Sequence[Change]) -> None:
        """Commit changes: each a legal one, the rows as they are after all of them; then the topics."""
        for change in changes:
            alert = change.alert
            if not alert.id:
                alert.id = len(self.times) + 1
                self.table[alert.id] = dataclasses.replace(alert, state="new")
            row = self.table[alert.id]
            assert change.kind in LEGAL.get(row.state, {}), f"{row.state}: {change.kind} of {alert.rule} {alert.instance}"
            row.state = LEGAL[row.state][change.kind]
            assert row.state == change.state
            assert change.at >= self.times.get(alert.id, 0.0)
            self.times[alert.id] = change.at
        for alert in {change.alert.id: change.alert for change in changes}.values():
            assert self.table[alert.id].state == alert.state
            self.table[alert.id] = dataclasses.replace(alert)
            self.retain(alert)
        for alert in self.fleet.engine.take_passed():
            self.table[alert.id].held = False

    def retain(self, alert: Alert) -> None:
        if alert.is_active:
            self.retained[alert.host.name, alert.key] = alert.told()
        else:
            self.retained.pop((alert.host.name, alert.key), None)

    # What happens

    @rule(pause=st.sampled_from([0.0, 1.0, 5.0, 5.0, 5.0, 20.0, 70.0, 400.0]))
    def tick(self, pause: float) -> None:
        self.now += pause
        self.write(self.fleet.engine.tick(self.now, self.connected_at))

    @rule(chosen=st.sets(hosts, min_size=1), cpu=values, disks=st.dictionaries(st.sampled_from(["/", "/var", "/usb"]), values),
          extra=st.sampled_from([(), ("gpu.percent",), ("memory.percent", "gpu.percent")]),
          pause=st.sampled_from([0.5, 5.0, 5.0]))
    def samples(self, chosen: set[str], cpu: float, disks: dict[str, float], extra: tuple[str, ...], pause: float) -> None:
        self.now += pause
        metrics = {"cpu.percent": cpu, **{f"disk.percent{{mount={mount}}}": value for mount, value in disks.items()},
                   **dict.fromkeys(extra, cpu)}
        fresh = [(host, self.now, metrics) for host in sorted(chosen)]
        self.live |= dict.fromkeys(chosen, self.minute)
        self.sent += fresh
        self.write(self.fleet.frame(fresh, self.now + 0.1))

    @rule(count=st.integers(5, 12), host=hosts)
    def comes_and_goes(self, count: int, host: str) -> None:
        for i in range(count):
            self.now += 60
            self.live[host] = self.minute
            metrics = {"cpu.percent": 30.0, "gpu.percent": 1.0, "disk.percent{mount=/}": 90.0 if i % 2 else 10.0}
            self.write(self.fleet.frame([(host, self.now, metrics)], self.now + 0.1))
        self.sent.append((host, self.now, metrics))

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), earlier=st.sampled_from([0.0, 1.0, 100.0, 5000.0]), cpu=values)
    def late_and_repeated_samples(self, data: st.DataObject, earlier: float, cpu: float) -> None:
        """What was sent before, again; and what is older than that, with other values: nothing happens."""
        self.write(self.fleet.engine.tick(self.now, self.connected_at))
        host, ts, metrics = data.draw(st.sampled_from(self.sent))
        if self.live.get(host) != self.minute:  # old ones alone are a clock that was set back
            return
        newest = float(self.fleet.engine._clock[self.fleet.row(host)])
        late = (host, min(ts, newest) - earlier, metrics | {"cpu.percent": cpu, "disk.percent{mount=/}": cpu})
        assert self.fleet.frame([(host, min(ts, newest), metrics), late], self.now) == []

    @rule(host=hosts, said=st.sampled_from([("online", ""), ("offline", "lost"), ("offline", "stopped"), ("draining", "")]),
          boot=st.sampled_from(["one", "one", "two"]))
    def says(self, host: str, said: tuple[str, str], boot: str) -> None:
        self.write(self.fleet.status(self.now - START, *said, host, boot))

    @rule(host=hosts, states=st.dictionaries(st.sampled_from(["web", "db"]), st.tuples(
        st.sampled_from(["running", "exited"]), st.integers(0, 5)), max_size=2))
    def snapshot(self, host: str, states: dict[str, tuple[str, int]]) -> None:
        said = wire.Containers(host=host, ts=self.now, containers=[
            container(name, state, restarts=restarts) for name, (state, restarts) in states.items()])
        self.snapshots.append(said)
        self.write(self.fleet.engine.containers(self.fleet.row(host), said))

    @precondition(lambda self: self.snapshots)
    @rule(data=st.data())
    def repeated_snapshot(self, data: st.DataObject) -> None:
        """A connection brings the retained snapshot again: nothing happens, unless it is news to who has just taken over."""
        said = data.draw(st.sampled_from(self.snapshots))
        is_known = self.fleet.engine._snapshot_ts.get(self.fleet.row(said.host), 0.0) >= said.ts
        changes = self.fleet.engine.containers(self.fleet.row(said.host), said)
        assert changes == [] or not is_known
        self.write(changes)

    @rule(host=hosts, severity=st.sampled_from([None, *wire.SEVERITIES]), is_over=st.booleans(), job=st.sampled_from(["", "db"]))
    def event(self, host: str, severity: wire.Severity | None, is_over: bool, job: str) -> None:
        self.write(self.fleet.event(self.now - START, "backup", host, severity=severity, resolved=is_over,
                                    instance={"job": job} if job else {}))

    @rule(host=hosts, seconds=st.sampled_from([100.0, 1000.0, 10_000.0, np.inf, np.nan]))
    def forecast(self, host: str, seconds: float) -> None:
        self.write(self.fleet.engine.measured("full", [self.fleet.row(host)], ["mount=/"], np.array([seconds]), self.now))

    @rule(host=hosts, labels=st.sampled_from([{}, {"env": "prod"}]))
    def labels(self, host: str, labels: dict[str, str]) -> None:
        self.fleet.engine.set_labels(self.fleet.row(host), labels)
        self.tick(0.0)

    @rule(left_out=st.sets(st.sampled_from([one.name for one in PALETTE]), max_size=3),
          otherwise=st.lists(st.sampled_from(OTHERWISE), max_size=2, unique_by=lambda one: one.name), is_off=st.booleans())
    def other_rules(self, left_out: set[str], otherwise: list[Rule], is_off: bool) -> None:
        named = {one.name: one for one in (*PALETTE, *otherwise) if one.name not in left_out}
        overrides = {("b", "disk"): Override(enabled=False)} if is_off else {}
        self.write(self.fleet.configure(*named.values(), overrides=overrides, now=self.now))

    @precondition(lambda self: any(alert.is_active for alert in self.table.values()))
    @rule(data=st.data())
    def resolve_by_hand(self, data: st.DataObject) -> None:
        """The table is changed by the API first; ingest follows."""
        number = data.draw(st.sampled_from(sorted(row.id for row in self.table.values() if row.is_active)))
        self.table[number] = dataclasses.replace(self.table[number], state="resolved", held=True, flapping=False)
        self.fleet.engine.release(next(alert for alert in self.fleet.engine.alerts.values() if alert.id == number))
        self.retain(self.table[number])
        self.write([])

    @rule()
    def restart(self) -> None:
        """Ingest is killed, or another one takes over: that alone changes nothing, but that repeated events prolong no more."""
        self.write(self.fleet.engine.tick(self.now, self.connected_at))
        self.fleet = self.fleet.restarted([row for row in self.table.values() if row.state in OPEN or row.held])
        self.connected_at, self.live = self.now, {}
        self.snapshots = list({said.host: said for said in self.snapshots}.values())
        changes = self.fleet.engine.tick(self.now, self.connected_at)
        assert [change for change in changes if change.reason != "its time is over"] == []
        self.write(changes)

    # What always holds

    @invariant()
    def the_table_is_what_the_engine_holds(self) -> None:
        held = {key: _shown(alert) for key, alert in self.fleet.engine.alerts.items()}
        rows = [row for row in self.table.values() if row.state in OPEN or row.held]
        stored = {(row.host.row, row.rule, row.instance): _shown(row) for row in rows}
        assert len(stored) == len(rows), "two open alerts of one fingerprint"
        assert stored == held

    @invariant()
    def the_topics_are_the_active_alerts_of_the_table(self) -> None:
        active = {(row.host.name, row.key): row.told() for row in self.table.values() if row.is_active}
        assert self.retained == active

    @invariant()
    def conditions_are_those_of_alerts(self) -> None:
        turns = self.fleet.engine._turns
        conditions = turns.conditions
        assert conditions.of.keys() == turns.alerts.keys()
        assert [conditions.keys[row] for row in conditions.of.values()] == list(conditions.of)
        assert {row for own in conditions.by_host.values() for row in own} == set(conditions.of.values())
        for key, row in conditions.of.items():
            assert conditions.level[row] == latches.levels(conditions.on[[row]])[0]
            alert = turns.alerts[key]
            if alert.state == "pending":
                assert not conditions.level[row]
                assert conditions.waits[row]
            assert alert.state != "firing" or alert.flapping or conditions.level[row] or conditions.waits[row]
        assert turns.ends.keys() <= {key for key, alert in turns.alerts.items() if alert.is_active}
        assert turns._unknown == {key for key, alert in turns.alerts.items() if alert.state == "unknown"}
        assert turns.down == {alert.host.name for alert in turns.alerts.values() if alert.type == "host_down" and alert.is_active
                              and (alert.value or 0.0) >= LOST}

    @invariant()
    def slots_point_to_their_conditions(self) -> None:
        engine, conditions = self.fleet.engine, self.fleet.engine._turns.conditions
        for row in range(len(engine._blocks.layout)):
            layout = int(engine._blocks.layout.array[row])
            if layout == NONE:
                continue
            base = int(engine._blocks.base.array[row])
            slots = np.arange(base, base + len(engine._plans.of(self.fleet.layouts.all[layout]).entries))
            engine._conditions_of(slots)
            assert engine._blocks.condition[slots].tolist() == [
                conditions.of.get((row, *entry), NONE) for entry in engine._plans.of(self.fleet.layouts.all[layout]).entries]


def _shown(alert: Alert) -> tuple[object, ...]:
    return (alert.id, alert.state, alert.held, alert.severity, alert.flapping, alert.started_at, alert.fired_at, alert.value,
            alert.threshold, alert.message, alert.changed_at, alert.revision, alert.metric)


TestAlertMachine = AlertMachine.TestCase
TestAlertMachine.settings = settings(max_examples=120, stateful_step_count=60, deadline=None,
                                     phases=[Phase.explicit, Phase.generate, Phase.shrink],
                                     suppress_health_check=list(HealthCheck))
