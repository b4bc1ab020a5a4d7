"""The alert engine by example: each kind of rule, and what it does not raise."""

import math

import numpy as np
import pytest
from alert_builders import LONG_AGO, START, Fleet, container, kinds, told

from aggregator.analysis.rules import Comparison, Override, Rule
from shared import wire

CPU = Rule(name="high_cpu", metric="cpu.percent", warning=80, critical=95, for_=60, recover_value=75, recover_for=30)
AT_ONCE = Rule(name="high_cpu", metric="cpu.percent", warning=80, critical=95)
MEMORY = Rule(name="low_memory", metric="memory.percent", warning=80, critical=95)
DISK = Rule(name="low_disk", metric="disk.percent{mount=*}", warning=80, critical=90)
DOWN = Rule(name="host_down", kind="host_down", severity="critical")
REBOOT = Rule(name="reboot", kind="reboot", severity="info", keep=3600)
STOPPED = Rule(name="service_down", kind="state", subject="container_stopped", severity="error")
RESTARTED = Rule(name="restarted", kind="state", subject="container_restarted", warning=2, error=5, window=900, keep=900)
BACKUP = Rule(name="backup_failed", kind="event", severity="error")


# The named cases


def test_cpu_alert() -> None:
    """A busy CPU is pending, fires after its `for` with value, threshold, culprits and words, and is over when it is calm."""
    fleet = Fleet(CPU)
    pending, firing = fleet.cpu([85.0] * 13)
    assert (pending.kind, pending.at, firing.kind, firing.at) == ("pending", START, "firing", START + 60)
    assert (firing.severity, firing.value, firing.threshold, firing.culprits) == ("warning", 85.0, 80.0, "cpu")
    assert firing.reason == "cpu.percent 85 ≥ 80 for 1 m"
    assert "85" in firing.message
    assert firing.alert.revision == 1
    assert fleet.cpu([50.0] * 6, 65) == []
    assert kinds(fleet.cpu([50.0], 95)) == ["resolved"]
    assert fleet.engine.alerts == {}


def test_memory_alert() -> None:
    """Memory above its critical threshold is critical, and names the processes by memory."""
    change, = Fleet(MEMORY).send(0, {"memory.percent": 96.0})
    assert (change.kind, change.severity, change.threshold, change.culprits) == ("firing", "critical", 95.0, "memory")


def test_disk_alert_is_one_for_each_mount() -> None:
    """Each mount has an alert of its own, with the mount in its metric; the plain figure raises none."""
    fleet = Fleet(DISK)
    changes = fleet.send(0, {"disk.percent": 99.0, "disk.percent{mount=/}": 85.0, "disk.percent{mount=/var}": 95.0})
    assert {(change.alert.instance, change.severity, change.alert.metric) for change in changes} == {
        ("mount=/", "warning", "disk.percent{mount=/}"), ("mount=/var", "critical", "disk.percent{mount=/var}")}
    over, = fleet.send(5, {"disk.percent": 99.0, "disk.percent{mount=/}": 50.0, "disk.percent{mount=/var}": 95.0})
    assert (over.kind, over.alert.instance) == ("resolved", "mount=/")


def test_service_alert() -> None:
    """A container that should run and is stopped is an alert of its own; one that need not run is none."""
    fleet = Fleet(STOPPED)
    change, = fleet.containers(0, container("web", "exited"), container("job", "exited", should_run=False), container("db"))
    assert (change.kind, change.severity, change.alert.instance) == ("firing", "error", "container=web")
    assert kinds(fleet.containers(30, container("web"), container("db"))) == ["resolved"]


def test_deduplication() -> None:
    """A condition that lasts is one alert: told once, whatever number of samples and snapshots say it again."""
    fleet = Fleet(AT_ONCE, STOPPED, BACKUP)
    changes = fleet.cpu([85.0] * 50)
    for i in range(10):
        changes += fleet.containers(i, container("web", "exited"))
        changes += fleet.event(i, "backup_failed", message="disk full")
        changes += fleet.tick(i)
    assert told(changes) == [("high_cpu", "firing"), ("service_down", "firing"), ("backup_failed", "firing")]
    assert len(fleet.engine.alerts) == 3


# Thresholds, waiting, hysteresis


@pytest.mark.parametrize(("comparison", "at", "beyond", "short"), [
    (">=", True, 81.0, 79.0), (">", False, 81.0, 79.0), ("<=", True, 79.0, 81.0), ("<", False, 79.0, 81.0)])
def test_comparisons(comparison: Comparison, at: bool, beyond: float, short: float) -> None:
    """The threshold itself passes `>=` and `<=`, not `>` and `<`; and is over likewise."""
    fleet = Fleet(Rule(name="r", metric="cpu.percent", comparison=comparison, warning=80))
    assert fleet.cpu([short]) == []
    assert kinds(fleet.cpu([80.0], 5)) == (["firing"] if at else [])
    assert kinds(fleet.cpu([beyond], 10)) == ([] if at else ["firing"])
    assert fleet.engine.alerts
    assert kinds(fleet.cpu([short if at else 80.0], 15)) == ["resolved"]


def test_every_severity() -> None:
    """The highest threshold that is passed gives the severity; up and down it is told, once a step."""
    fleet = Fleet(Rule(name="r", metric="cpu.percent", info=10, warning=20, error=30, critical=40))
    changes = fleet.cpu([5, 15, 25, 35, 45, 45, 12, 9])
    assert [(change.kind, change.severity) for change in changes] == [
        ("firing", "info"), ("severity", "warning"), ("severity", "error"), ("severity", "critical"), ("severity", "info"),
        ("resolved", "info")]


def test_short_peaks_are_cancelled() -> None:
    """What comes back before its `for` has passed is cancelled, and waits anew the next time."""
    fleet = Fleet(CPU)
    assert kinds(fleet.cpu([85.0] * 12 + [60.0] + [85.0] * 12)) == ["pending", "cancelled", "pending"]
    assert kinds(fleet.cpu([85.0], 125)) == ["firing"]


def test_recovery_needs_its_value_and_its_time() -> None:
    """Between threshold and recovery value nothing ends; behind it, only after `recover_for` without a break."""
    fleet = Fleet(CPU)
    fleet.cpu([85.0] * 13)
    assert fleet.cpu([77.0] * 20, 65) == []
    assert fleet.cpu([70.0] * 6 + [77.0] + [70.0] * 6, 165) == []
    assert kinds(fleet.cpu([70.0], 230)) == ["resolved"]


def test_the_recovery_value_itself_is_recovery() -> None:
    """A rule that recovers at 0 errors is over at 0 errors."""
    fleet = Fleet(Rule(name="errors", metric="network.errors_per_second", warning=10, recover_value=0))
    fleet.send(0, {"network.errors_per_second": 12.0})
    assert fleet.send(5, {"network.errors_per_second": 0.5}) == []
    assert kinds(fleet.send(10, {"network.errors_per_second": 0.0})) == ["resolved"]


def test_a_higher_severity_needs_its_for_too() -> None:
    """A firing alert becomes more severe only when the higher threshold was passed for as long as the rule says."""
    fleet = Fleet(CPU)
    fleet.cpu([85.0] * 13)
    assert fleet.cpu([97.0] * 12, 65) == []
    change, = fleet.cpu([97.0], 125)
    assert (change.kind, change.severity, change.threshold) == ("severity", "critical", 95.0)
    assert "warning became critical" in change.reason


def test_severity_falls_by_the_same_distance() -> None:
    """The recovery value is for the mildest threshold; the severe one keeps the same distance, and `recover_for`."""
    fleet = Fleet(CPU)
    fleet.cpu([97.0] * 13)
    assert fleet.cpu([92.0] * 10, 65) == []
    assert [(change.kind, change.severity) for change in fleet.cpu([89.0] * 7, 115)] == [("severity", "warning")]


def test_a_gap_restarts_the_wait() -> None:
    """What was pending when samples stopped for a minute is cancelled and begins anew: nobody knows what was between."""
    fleet = Fleet(CPU)
    fleet.cpu([85.0] * 5)
    assert kinds(fleet.cpu([85.0] * 12, 100)) == ["cancelled", "pending"]
    assert kinds(fleet.cpu([85.0], 160)) == ["firing"]


def test_a_gap_restarts_the_recovery() -> None:
    """The same for a firing alert that was about to be over."""
    fleet = Fleet(CPU)
    fleet.cpu([85.0] * 13)
    fleet.cpu([50.0] * 3, 65)
    assert fleet.cpu([50.0] * 6, 200) == []
    assert kinds(fleet.cpu([50.0], 230)) == ["resolved"]


# Late, replayed, early


def test_late_samples_change_nothing() -> None:
    """A sample older than what was looked at raises and ends nothing, nor does the same one again."""
    fleet = Fleet(AT_ONCE)
    assert fleet.cpu([10.0], 100) == []
    assert fleet.cpu([99.0], 95) == fleet.cpu([99.0], 100) == []
    fleet.cpu([85.0], 105)
    assert fleet.cpu([10.0], 50) == fleet.cpu([10.0], 105) == []


def test_a_replayed_backlog_changes_nothing() -> None:
    """Samples that an agent had kept through an outage are history, even when they are newer than the last one looked at."""
    fleet = Fleet(AT_ONCE)
    fleet.cpu([10.0])
    assert [change for i in range(10) for change in fleet.send(5 + 5 * i, {"cpu.percent": 99.0}, late=3600)] == []
    for i in range(100):
        assert fleet.cpu([10.0], 3660 + 5.0 * i) == fleet.send(60 + 30 * i, {"cpu.percent": 99.0}, late=3600 - 25 * i) == []


def test_two_samples_of_one_host_in_one_frame_are_taken_in_their_order() -> None:
    """A frame holds what came within a beat, in any order: each host's samples are looked at by their time."""
    fleet = Fleet(AT_ONCE)
    changes = fleet.frame([("a", START + 10, {"cpu.percent": 10.0}), ("b", START + 5, {"cpu.percent": 85.0}),
                           ("a", START + 5, {"cpu.percent": 85.0})], START + 11)
    assert [change.kind for change in changes if change.alert.host.name == "a"] == ["firing", "resolved"]
    assert [change.kind for change in changes if change.alert.host.name == "b"] == ["firing"]


def test_the_same_instant_twice_in_one_frame_counts_once() -> None:
    """Two samples of one host for one moment: the second is a duplicate."""
    fleet = Fleet(AT_ONCE)
    changes = fleet.frame([("a", START, {"cpu.percent": 85.0}), ("a", START, {"cpu.percent": 10.0})], START + 1)
    assert kinds(changes) == ["firing"]


def test_a_host_with_a_slow_clock_is_watched_after_a_minute() -> None:
    """A clock that is an hour slow makes all samples late; what is usual for the host is known within two minutes."""
    fleet = Fleet(AT_ONCE)
    changes = [(i, change.kind) for i in range(30) for change in fleet.send(5 * i, {"cpu.percent": 85.0}, late=3600)]
    assert [kind for _, kind in changes] == ["firing"]
    assert changes[0][0] <= 24


# Which hosts, which rules


def test_selector_and_hosts_choose() -> None:
    """A rule applies to hosts with its labels and with a name that fits; labels may come later."""
    fleet = Fleet(Rule(name="labelled", metric="cpu.percent", warning=80, selector={"env": "prod"}),
                  Rule(name="named", metric="cpu.percent", warning=80, hosts=["web-*"]))
    assert told(fleet.cpu([90.0], host="web-1")) == [("named", "firing")]
    assert told(fleet.cpu([90.0], host="db-1")) == []
    fleet.engine.set_labels(fleet.row("db-1"), {"env": "prod"})
    assert told(fleet.cpu([90.0], 5, host="db-1")) == [("labelled", "firing")]
    fleet.engine.set_labels(fleet.row("db-1"), {"env": "test"})
    assert told(fleet.tick(6)) == [("labelled", "resolved")]


def test_overrides_give_one_host_other_thresholds() -> None:
    """An override changes its fields for its host alone; it can switch a rule off, or on where it is off for all others."""
    off = Rule(name="off", metric="cpu.percent", warning=1, enabled=False)
    fleet = Fleet(AT_ONCE, off, overrides={("b", "high_cpu"): Override(warning=50), ("c", "high_cpu"): Override(enabled=False),
                                           ("c", "off"): Override(enabled=True)})
    changes = fleet.frame([(host, START, {"cpu.percent": 60.0}) for host in "abc"], START)
    assert [(change.alert.host.name, change.alert.rule, change.threshold) for change in changes] == [
        ("b", "high_cpu", 50.0), ("c", "off", 1.0)]


def test_an_override_of_severity_holds_for_events() -> None:
    """A kind without thresholds takes the severity of the override; what the event says goes before."""
    fleet = Fleet(BACKUP, overrides={("a", "backup_failed"): Override(severity="info")})
    assert [change.severity for change in fleet.event(0, "backup_failed")] == ["info"]
    assert [change.severity for change in fleet.event(0, "backup_failed", "b")] == ["error"]


def test_a_sensor_has_its_own_limits() -> None:
    """A sensor's own high and critical limits replace the rule's; another sensor of the same host keeps the rule's."""
    fleet = Fleet(Rule(name="hot", metric="temperature.celsius{sensor=*}", warning=80, critical=90, recover_value=75,
                       sensor_limits=True))
    fleet.engine.sensors(fleet.row(), wire.Sensors(host="a", ts=START, available=True, sensors=[
        wire.Sensor(kind="temperature", group="nvme", label="Composite", current=50, high=60, critical=70)]))
    own, other = "temperature.celsius{sensor=nvme Composite}", "temperature.celsius{sensor=cpu}"
    change, = fleet.send(0, {own: 65.0, other: 65.0})
    assert (change.alert.instance, change.severity, change.threshold) == ("sensor=nvme Composite", "warning", 60.0)
    assert fleet.send(5, {own: 56.0, other: 65.0}) == []
    assert kinds(fleet.send(10, {own: 55.0, other: 65.0})) == ["resolved"]


def test_a_changed_threshold_is_used_for_what_fires() -> None:
    """A rule that is made milder ends its alert with the next sample, one that is made stricter makes it more severe."""
    fleet = Fleet(AT_ONCE)
    fleet.cpu([85.0])
    assert fleet.configure(Rule(name="high_cpu", metric="cpu.percent", warning=50, critical=84)) == []
    assert [(change.kind, change.severity) for change in fleet.cpu([85.0], 5)] == [("severity", "critical")]
    fleet.configure(Rule(name="high_cpu", metric="cpu.percent", warning=90))
    assert kinds(fleet.cpu([85.0], 10)) == ["resolved"]


@pytest.mark.parametrize("rules", [(), (Rule(name="high_cpu", metric="cpu.percent", warning=80, enabled=False),)])
def test_alerts_of_a_rule_that_is_gone_or_off_are_over(rules: tuple[Rule, ...]) -> None:
    """Removing or disabling a rule resolves what fires and cancels what is pending."""
    fleet = Fleet(AT_ONCE, CPU)
    fleet.cpu([85.0])
    assert kinds(fleet.configure(*rules, now=START + 1)) in (["resolved"], ["cancelled"])
    assert fleet.engine.alerts == {}
    assert fleet.cpu([99.0], 5) == []


def test_alerts_of_a_rule_that_watches_something_else_are_over() -> None:
    """A rule whose metric or kind was changed ends its alerts: they told of something else."""
    fleet = Fleet(AT_ONCE)
    fleet.send(0, {"cpu.percent": 90.0, "memory.percent": 10.0})
    assert kinds(fleet.configure(Rule(name="high_cpu", kind="event"))) == ["resolved"]
    fleet.configure(AT_ONCE)
    fleet.send(5, {"cpu.percent": 90.0, "memory.percent": 90.0})
    assert kinds(fleet.configure(Rule(name="high_cpu", metric="memory.percent", warning=80))) == ["resolved"]
    change, = fleet.send(10, {"cpu.percent": 10.0, "memory.percent": 90.0})
    assert (change.kind, change.alert.metric) == ("firing", "memory.percent")


# Layouts


def test_a_mount_that_is_gone_ends_its_alert_after_two_minutes() -> None:
    """A metric that the host has no more may only be late: its alert is over after 2 minutes of event time without it."""
    fleet = Fleet(DISK)
    fleet.send(0, {"disk.percent{mount=/}": 50.0, "disk.percent{mount=/usb}": 95.0})
    changes = []
    for at in range(5, 150, 5):
        changes += fleet.send(at, {"disk.percent{mount=/}": 50.0}) + fleet.tick(at + 0.5)
    change, = changes
    assert (change.kind, change.alert.instance, change.at) == ("resolved", "mount=/usb", START + 125)


def test_a_mount_that_is_back_in_time_keeps_its_alert() -> None:
    """Other samples in between change nothing for a condition that goes on, whatever the order of its metrics."""
    fleet = Fleet(DISK)
    fleet.send(0, {"disk.percent{mount=/}": 50.0, "disk.percent{mount=/usb}": 95.0})
    fleet.send(5, {"disk.percent{mount=/}": 50.0})
    assert fleet.tick(100) == []
    fleet.send(100, {"disk.percent{mount=/usb}": 95.0, "cpu.percent": 1.0, "disk.percent{mount=/}": 50.0})
    assert fleet.tick(200) == fleet.send(200, {"disk.percent{mount=/usb}": 96.0, "disk.percent{mount=/}": 50.0}) == []
    assert kinds(fleet.send(205, {"disk.percent{mount=/}": 50.0, "disk.percent{mount=/usb}": 40.0})) == ["resolved"]


# Other kinds


def test_a_counter_growth_over_a_window_survives_its_reset() -> None:
    """The growth of a counter is told over the window; a restart from 0 is no fall, and no jump."""
    rule = Rule(name="grows", kind="rate", metric="custom.jobs_total", window=100, warning=50)
    fleet = Fleet(rule)
    count, changes = 1000.0, []
    for i in range(60):
        count = 3.0 if i == 30 else count + 3
        changes += fleet.send(5 * i, {"custom.jobs_total": count})
    change, = changes
    assert (change.kind, change.at) == ("firing", START + 85)
    assert change.value == pytest.approx(51)


def test_the_rate_of_a_gauge_may_fall() -> None:
    """A rule on a gauge's change sees falls as falls."""
    fleet = Fleet(Rule(name="falls", kind="rate", metric="memory.available_bytes", comparison="<=", window=100, warning=-500))
    changes = [change for i in range(40)
               for change in fleet.send(5 * i, {"memory.available_bytes": 1e6 - (10 * i if i < 20 else 40 * i)})]
    assert kinds(changes) == ["firing"]


def test_a_rate_rule_with_another_metric_begins_anew() -> None:
    """Readings of the former metric say nothing of the new one."""
    fleet = Fleet(Rule(name="r", kind="rate", metric="custom.x", window=100, warning=50))
    for i in range(30):
        fleet.send(5 * i, {"custom.x": 1.0, "custom.y": 1e6})
    fleet.configure(Rule(name="r", kind="rate", metric="custom.y", window=100, warning=50))
    assert [change for i in range(30, 60) for change in fleet.send(5 * i, {"custom.x": 1.0, "custom.y": 1e6})] == []


def test_a_missing_metric() -> None:
    """A host that reports, but without the metric, raises it; with the metric it is over."""
    fleet = Fleet(Rule(name="no_gpu", kind="missing", metric="gpu.percent", severity="error", for_=10))
    assert fleet.send(0, {"cpu.percent": 1.0, "gpu.percent": 5.0}) == []
    changes = fleet.send(5, {"cpu.percent": 1.0}) + fleet.send(15, {"cpu.percent": 1.0})
    assert [(change.kind, change.severity) for change in changes] == [("pending", "error"), ("firing", "error")]
    assert kinds(fleet.send(20, {"cpu.percent": 1.0, "gpu.percent": 5.0})) == ["resolved"]


def test_a_reboot_is_told_once() -> None:
    """Another boot id is a reboot; the same one, an older message or the first one ever are none. It is over by itself."""
    fleet = Fleet(REBOOT)
    assert fleet.status(0, "online", boot="one") == fleet.status(5, "online", boot="one") == []
    assert kinds(fleet.status(10, "online", boot="two")) == ["firing"]
    assert fleet.status(3, "online", boot="one") == fleet.status(11, "online", boot="two") == []
    assert fleet.tick(3600) == []
    assert kinds(fleet.tick(3610)) == ["resolved"]
    assert kinds(fleet.status(4000, "online", boot="three")) == ["firing"]


def test_an_unhealthy_container() -> None:
    """A failing health check lasts its `for`; a container that is gone is unhealthy no more."""
    fleet = Fleet(Rule(name="sick", kind="state", subject="container_unhealthy", severity="error", for_=60))
    changes = [change for at in (0, 30, 60) for change in fleet.containers(at, container("web", health="unhealthy"))]
    assert kinds(changes) == ["pending", "firing"]
    assert kinds(fleet.containers(90)) == ["resolved"]


def test_a_container_that_restarts_again_and_again() -> None:
    """Restarts within the window count from the first snapshot on; severity follows their number; old ones count no more."""
    fleet = Fleet(RESTARTED)
    assert fleet.containers(0, container("web", restarts=7)) == fleet.containers(30, container("web", restarts=8)) == []
    assert [(change.kind, change.severity, change.value) for change in fleet.containers(60, container("web", restarts=9))] == [
        ("firing", "warning", 2.0)]
    assert [(change.kind, change.severity) for change in fleet.containers(90, container("web", restarts=12))] == [
        ("severity", "error")]
    changes = [change for at in range(120, 1200, 30) for change in fleet.containers(at, container("web", restarts=12))]
    assert [change.kind for change in changes] == ["severity", "resolved"]


def test_restarts_that_go_on_are_one_alert() -> None:
    """`keep` ends an alert of which nothing more is heard, not one whose restarts go on."""
    fleet = Fleet(RESTARTED)
    changes = []
    for i in range(100):
        changes += fleet.containers(30 * i, container("web", restarts=i // 4)) + fleet.tick(30 * i + 1)
    assert kinds(change for change in changes if change.kind != "severity") == ["firing"]


def test_an_old_snapshot_changes_nothing() -> None:
    """The broker repeats the retained snapshot at every connection: what is not newer is not looked at."""
    fleet = Fleet(STOPPED, RESTARTED)
    fleet.containers(0, container("web", restarts=1))
    fleet.containers(30, container("web", restarts=2))
    assert fleet.containers(0, container("web", "exited", restarts=0)) == []
    assert fleet.containers(30, container("web", "exited", restarts=2)) == []
    assert fleet.containers(60, container("web", restarts=2)) == []


def test_an_event_has_severity_words_and_an_end() -> None:
    """An event raises its rule's alert with the severity and message it brings, one an instance, until it is said to be over."""
    fleet = Fleet(BACKUP)
    assert fleet.event(0, "something_else") == []
    change, = fleet.event(0, "backup_failed", message="no space left", instance={"job": "db"})
    assert (change.kind, change.severity, change.message, change.alert.instance) == ("firing", "error", "no space left", "job=db")
    change, = fleet.event(5, "backup_failed", severity="critical", message="again", instance={"job": "db"})
    assert (change.kind, change.severity) == ("severity", "critical")
    assert kinds(fleet.event(6, "backup_failed", instance={"job": "web"})) == ["firing"]
    change, = fleet.event(10, "backup_failed", resolved=True, message="mended", instance={"job": "db"})
    assert (change.kind, change.reason) == ("resolved", "mended")
    assert fleet.event(11, "backup_failed", resolved=True, instance={"job": "db"}) == []


def test_an_event_that_is_told_again_late_changes_nothing() -> None:
    """Events are told at least once: one from before the newest of its instance is known already."""
    fleet = Fleet(BACKUP)
    fleet.event(0, "backup_failed")
    fleet.event(10, "backup_failed", resolved=True)
    assert fleet.event(0, "backup_failed") == []
    assert kinds(fleet.event(20, "backup_failed")) == ["firing"]


@pytest.mark.parametrize("name", ["base", "template", "self", "host", "x=y", "a,b", "{}", ""])
def test_an_event_may_name_its_instance_as_it_likes(name: str) -> None:
    """Labels of an instance come from outside: none of them is an error."""
    fleet = Fleet(BACKUP)
    assert kinds(fleet.event(0, "backup_failed", instance={name: 'v="{},='})) == ["firing"]
    assert kinds(fleet.event(1, "backup_failed", resolved=True, instance={name: 'v="{},='})) == ["resolved"]


def test_an_event_is_kept_for_its_time_from_the_newest() -> None:
    """With `keep` the alert is over that long after the last event."""
    fleet = Fleet(Rule(name="warned", kind="event", event="security_warning", keep=100))
    assert kinds(fleet.event(0, "security_warning")) == ["firing"]
    fleet.event(50, "security_warning")
    assert fleet.tick(149) == []
    assert kinds(fleet.tick(150)) == ["resolved"]
    assert kinds(fleet.event(200, "security_warning")) == ["firing"]


def test_a_forecast_counts_down() -> None:
    """A forecast is the time that is left: less is worse, never (inf) is over, and unknown (NaN) changes nothing."""
    rule = Rule(name="full", kind="forecast", metric="disk.percent{mount=*}", comparison="<=", target=100, window=86_400,
                warning=86_400, critical=21_600, recover_value=172_800)
    fleet = Fleet(rule)
    row = fleet.row()

    def measured(at: float, value: float) -> list[tuple[str, str]]:
        changes = fleet.engine.measured("full", [row], ["mount=/"], np.array([value]), START + at)
        return [(change.kind, change.severity) for change in changes]

    assert measured(0, math.inf) == measured(1, 90_000.0) == measured(2, math.nan) == []
    assert measured(3, 50_000.0) == [("firing", "warning")]
    assert measured(4, 20_000.0) == [("severity", "critical")]
    assert measured(5, math.nan) == []
    assert measured(6, 100_000.0) == []
    assert measured(7, 200_000.0) == [("resolved", "critical")]


def test_a_forecast_of_never_raises_nothing_where_its_rule_does_not_apply() -> None:
    """Values of a rule that a host does not have are not looked at, even infinite ones."""
    fleet = Fleet(Rule(name="full", kind="forecast", metric="disk.percent", target=100, window=3600, warning=3600, hosts=["b"]))
    assert fleet.engine.measured("full", [fleet.row("a")], [""], np.array([math.inf]), START) == []
    assert fleet.engine.alerts == {}


@pytest.mark.parametrize(("combine", "first", "both"), [("all", [], ["firing"]), ("any", ["firing"], [])])
def test_a_composite_follows_its_rules(combine: str, first: list[str], both: list[str]) -> None:
    """`all` fires once every rule has an active alert on the host, `any` with the first; it is over likewise."""
    fleet = Fleet(AT_ONCE, MEMORY, Rule(name="both", kind="composite", rules=["high_cpu", "low_memory"],
                                        combine=combine))  # type: ignore[arg-type]

    def of_both(at: float, cpu: float, memory: float) -> list[str]:
        return [change.kind for change in fleet.send(at, {"cpu.percent": cpu, "memory.percent": memory}) + fleet.tick(at + 1)
                if change.alert.rule == "both"]

    assert of_both(0, 85.0, 10.0) == first
    assert of_both(5, 85.0, 85.0) == both
    assert of_both(10, 85.0, 10.0) == (["resolved"] if combine == "all" else [])
    assert of_both(15, 10.0, 10.0) == ([] if combine == "all" else ["resolved"])


def test_a_new_composite_sees_what_fires_already() -> None:
    """A composite rule that is made while its rules fire is raised, without waiting for another change."""
    fleet = Fleet(AT_ONCE)
    fleet.cpu([90.0])
    fleet.configure(AT_ONCE, Rule(name="any", kind="composite", rules=["high_cpu"]))
    assert told(fleet.tick(1)) == [("any", "firing")]


# Hosts that go


def test_silence_is_host_down_after_three_beats() -> None:
    """Without a will a host is down after 3 intervals, at least 15 s, and back with its next sample."""
    fleet = Fleet(DOWN)
    fleet.cpu([1.0])
    assert fleet.tick(15.1) == []
    change, = fleet.tick(15.3)
    assert (change.kind, change.severity) == ("firing", "critical")
    assert "nothing was heard for 15 s" in change.message
    assert fleet.engine.down == {"a"}
    assert fleet.tick(60) == []
    fleet.cpu([1.0], 60)
    assert kinds(fleet.tick(60.5)) == ["resolved"]
    assert fleet.engine.down == set()


def test_the_will_alone_decides_nothing() -> None:
    """A will shortens the wait to 1.5 intervals, at least 5 s of silence; samples after it refute it."""
    fleet = Fleet(DOWN)
    fleet.cpu([1.0])
    fleet.status(1, "offline", "lost")
    assert fleet.tick(2) == []
    fleet.cpu([1.0], 5)
    assert fleet.tick(14) == []
    fleet.status(14, "offline", "lost")
    change, = fleet.tick(14.1)
    assert (change.kind, change.severity) == ("firing", "critical")
    assert "connection was lost" in change.message


def test_a_clean_stop_is_information() -> None:
    """An agent that was stopped is told at once, as info; and over with the next sample."""
    fleet = Fleet(DOWN)
    fleet.cpu([1.0])
    fleet.status(1, "offline", "stopped")
    change, = fleet.tick(1.5)
    assert (change.kind, change.severity) == ("firing", "info")
    assert "stopped" in change.message
    assert fleet.tick(3600) == []
    fleet.cpu([1.0], 4000)
    assert kinds(fleet.tick(4000.5)) == ["resolved"]


def test_a_stopped_host_that_is_lost_after_all_is_down() -> None:
    """A host that came back only to be lost before a sample is no longer merely stopped."""
    fleet = Fleet(DOWN)
    fleet.cpu([1.0])
    fleet.status(1, "offline", "stopped")
    fleet.tick(1.5)
    assert fleet.engine.down == set()
    fleet.status(100, "offline", "lost")
    assert [(change.kind, change.severity) for change in fleet.tick(101)] == [("severity", "critical")]
    assert fleet.engine.down == {"a"}


def test_a_draining_host_raises_nothing() -> None:
    """While an agent drains its samples raise nothing, and its silence is given a minute more."""
    fleet = Fleet(DOWN, AT_ONCE)
    fleet.cpu([1.0])
    fleet.status(1, "draining")
    assert fleet.cpu([99.0], 5) == []
    fleet.status(6, "draining")
    assert fleet.tick(75) == []
    assert kinds(fleet.tick(81)) == ["firing"]
    fleet.status(90, "online")
    assert ("high_cpu", "firing") in told(fleet.cpu([99.0], 90))


def test_after_an_outage_of_the_broker_hosts_have_a_minute_to_come_back() -> None:
    """While ingest hears nothing nobody is judged; hosts silent since are down only after a minute and their beats."""
    fleet = Fleet(DOWN)
    fleet.cpu([1.0])
    assert fleet.tick(300, connected_at=math.inf) == []
    assert fleet.tick(310, connected_at=START + 305) == fleet.tick(380, connected_at=START + 305) == []
    assert kinds(fleet.tick(380.5, connected_at=START + 305)) == ["firing"]


def test_a_host_that_is_down_makes_its_other_alerts_unknown() -> None:
    """What fired is unknown, silently; what was pending is cancelled; with the next samples it is known again, or over."""
    fleet = Fleet(DOWN, AT_ONCE, DISK, Rule(name="slow", metric="cpu.percent", warning=80, for_=600))
    fleet.send(0, {"cpu.percent": 90.0, "disk.percent{mount=/}": 95.0})
    changes = fleet.tick(20)
    assert set(told(changes)) == {("host_down", "firing"), ("high_cpu", "unknown"), ("low_disk", "unknown"),
                                  ("slow", "cancelled")}
    assert changes[0].alert.rule == "host_down"
    assert fleet.tick(30) == []
    back = fleet.send(100, {"cpu.percent": 10.0, "disk.percent{mount=/}": 95.0})
    assert set(told(back)) == {("high_cpu", "resolved"), ("low_disk", "known")}
    assert told(fleet.tick(100.5)) == [("host_down", "resolved")]


def test_an_unknown_alert_is_not_known_before_its_host_is() -> None:
    """A composite, a forecast or a repeated snapshot says nothing new of a host from which nothing comes."""
    forecast = Rule(name="full", kind="forecast", metric="disk.percent", comparison="<=", target=100, window=3600, warning=3600)
    fleet = Fleet(DOWN, AT_ONCE, STOPPED, forecast, Rule(name="any", kind="composite", combine="any", rules=["high_cpu"]))
    fleet.cpu([90.0])
    fleet.containers(0, container("web", "exited"))
    fleet.engine.measured("full", [0], [""], np.array([100.0]), START + 1)
    assert {change.kind for change in fleet.tick(20)} == {"firing", "unknown"}
    assert len(fleet.engine.alerts) == 5
    assert fleet.tick(21) == fleet.tick(22) == []
    assert fleet.engine.measured("full", [0], [""], np.array([50.0]), START + 30) == []
    assert fleet.containers(0, container("web", "exited")) == []
    fleet.cpu([90.0], 100)
    fleet.tick(100.5)
    assert told(fleet.containers(101, container("web", "exited"))) == [("service_down", "known")]
    assert told(fleet.engine.measured("full", [0], [""], np.array([50.0]), START + 102)) == [("full", "known")]
    assert {alert.state for alert in fleet.engine.alerts.values()} == {"firing"}


@pytest.mark.parametrize("is_fresh", [True, False], ids=["reports-again", "repeats-itself"])
def test_a_composite_is_looked_at_when_its_host_is_back(is_fresh: bool) -> None:
    """However quietly: its host_down was resolved by hand, or nothing but an old sample came; no other change tells of it."""
    fleet = Fleet(DOWN, BACKUP, Rule(name="any", kind="composite", rules=["backup_failed"]))
    fleet.cpu([1.0])
    down, = fleet.tick(20)
    fleet.engine.release(down.alert)
    assert told(fleet.event(21, "backup_failed")) == [("backup_failed", "firing")]
    assert fleet.tick(22) == []
    assert fleet.send(100 if is_fresh else 0, {"cpu.percent": 1.0}, late=0.2 if is_fresh else 100.2) == []
    assert told(fleet.tick(101)) == [("any", "firing")]


def test_an_event_of_a_host_that_is_down_is_heard() -> None:
    """Events come from others, too: they are told whether or not their host reports."""
    fleet = Fleet(DOWN, BACKUP)
    fleet.cpu([1.0])
    fleet.tick(20)
    assert told(fleet.event(30, "backup_failed")) == [("backup_failed", "firing")]


# Resolved by hand


def test_a_held_alert_does_not_fire_before_it_has_cleared() -> None:
    """Resolved by hand, it is over although the condition lasts; it fires again once the condition has been away."""
    fleet = Fleet(AT_ONCE)
    fleet.cpu([85.0])
    alert = fleet.alert("high_cpu")
    assert alert is not None
    fleet.engine.release(alert)
    assert fleet.cpu([85.0, 99.0, 85.0], 5) == fleet.tick(60) == []
    assert fleet.engine.take_passed() == []
    assert fleet.cpu([10.0], 65) == []
    assert fleet.engine.take_passed() == [alert]
    assert not alert.held
    assert kinds(fleet.cpu([85.0], 70)) == ["firing"]


@pytest.mark.parametrize("restarts", [False, True])
def test_events_and_reboots_that_were_resolved_by_hand_are_told_anew(restarts: bool) -> None:
    """They are of a moment: nothing lasts that would have to clear first."""
    fleet = Fleet(BACKUP, REBOOT)
    fleet.event(0, "backup_failed")
    fleet.status(0, "online", boot="one")
    fleet.status(1, "online", boot="two")
    alerts = list(fleet.engine.alerts.values())
    if restarts:
        for alert in alerts:
            alert.state, alert.held = "resolved", True
        fleet.engine.restore(alerts)
    else:
        for alert in alerts:
            fleet.engine.release(alert)
    assert fleet.engine.take_passed() == alerts
    assert fleet.engine.alerts == {}
    assert kinds(fleet.event(10, "backup_failed") + fleet.status(11, "online", boot="three")) == ["firing", "firing"]


# Flapping


def _flapping(fleet: Fleet, minutes: int, begin: int = 0) -> list[str]:
    return [change.kind for minute in range(begin, begin + minutes)
            for change in fleet.cpu([85.0 if minute % 2 else 10.0], 60.0 * minute) + fleet.tick(60.0 * minute + 1)]


def test_what_comes_and_goes_stays_open_until_it_is_calm() -> None:
    """Once a third of the last 20 minutes saw a change the alert stays open, silently; calm, it is what it is: here over."""
    fleet = Fleet(AT_ONCE)
    told_kinds = _flapping(fleet, 40)
    assert told_kinds.count("flapping") == 1
    assert told_kinds.index("flapping") == len(told_kinds) - 1
    assert told_kinds.count("firing") == told_kinds.count("resolved") + 1 <= 4
    calm = [change for i in range(40) for change in fleet.cpu([10.0], 2400 + 60.0 * i) + fleet.tick(2401 + 60.0 * i)]
    assert kinds(calm) == ["calm", "resolved"]
    assert calm[0].at - (START + 2340) >= 600


def test_a_flapping_alert_that_goes_on_is_calm_and_firing() -> None:
    """Calm while its condition lasts, it goes on firing, and ends as any other."""
    fleet = Fleet(AT_ONCE)
    _flapping(fleet, 20)
    calm = [change for i in range(40) for change in fleet.cpu([85.0], 1200 + 60.0 * i) + fleet.tick(1201 + 60.0 * i)]
    assert kinds(calm) == ["calm"]
    assert "resolved" in kinds(fleet.cpu([10.0], 4000))


def test_a_flapping_alert_outlives_its_host() -> None:
    """Unknown while its host is silent, it is known with the next sample and calm in the end, as any other."""
    fleet = Fleet(DOWN, AT_ONCE)
    for second in range(0, 1260, 5):
        fleet.cpu([85.0 if second // 60 % 2 else 10.0], second)
        fleet.tick(second + 1)
    alert = fleet.alert("high_cpu")
    assert alert is not None
    assert alert.flapping
    assert ("high_cpu", "unknown") in told(fleet.tick(1300))
    changes = []
    for second in range(1400, 3600, 5):
        changes += fleet.cpu([10.0], second) + fleet.tick(second + 1)
    assert [kind for rule, kind in told(changes) if rule == "high_cpu"] == ["known", "calm", "resolved"]


def test_a_slow_rule_does_not_flap_by_waiting() -> None:
    """Peaks shorter than `for` are neither alerts nor changes of a flapping one."""
    fleet = Fleet(CPU)
    changes = [change for i in range(240) for change in fleet.cpu([85.0 if i % 2 else 10.0], 15.0 * i) + fleet.tick(15.0 * i + 1)]
    assert {change.kind for change in changes} == {"pending", "cancelled"}


# Restarts of ingest


def test_open_alerts_are_taken_up_as_they_were() -> None:
    """A new owner of the slot goes on where the former ended: nothing is told twice, and the wait goes on."""
    before = Fleet(CPU, DISK)
    before.send(0, {"cpu.percent": 85.0, "disk.percent{mount=/}": 95.0})
    after = Fleet(CPU, DISK, known={"a": START})
    after.engine.restore(list(before.engine.alerts.values()))
    for at in range(5, 60, 5):
        assert after.send(at, {"cpu.percent": 85.0, "disk.percent{mount=/}": 95.0}) == after.tick(at + 1, LONG_AGO) == []
    assert told(after.send(60, {"cpu.percent": 85.0, "disk.percent{mount=/}": 50.0})) == [
        ("high_cpu", "firing"), ("low_disk", "resolved")]


def test_alerts_whose_rule_went_meanwhile_are_over() -> None:
    """A rule that was deleted while nobody owned the slot leaves no alert behind."""
    before = Fleet(AT_ONCE)
    before.cpu([85.0])
    after = Fleet(DISK)
    after.row()
    after.engine.restore(list(before.engine.alerts.values()))
    change, = after.tick(10)
    assert (change.alert.rule, change.kind, change.alert.resolved_at) == ("high_cpu", "resolved", START)


def test_a_clock_that_was_set_back_is_followed():
    """A host whose clock is set back by an hour is watched again after a minute, and never counts as down."""
    fleet = Fleet(CPU, DOWN)
    fleet.cpu([50.0] * 12, begin=3600.0)
    heard = []
    for after in range(0, 200, 5):
        heard += fleet.frame([("a", START + 60 + after, {"cpu.percent": 99.0})], START + 3660 + after)
        heard += fleet.tick(3661 + after)
    assert [change.kind for change in heard if change.alert.rule == CPU.name][:2] == ["pending", "firing"]
    assert not [change for change in heard if change.alert.rule == DOWN.name]


def test_a_backlog_is_no_clock_that_was_set_back():
    """A host that samples rarely sends nothing but old samples for minutes: they are not judged for a second time."""
    fleet = Fleet(AT_ONCE)
    fleet.frame([("a", START + 3600, {"cpu.percent": 5.0})], START + 3600.1, 300.0)
    for after in range(5, 280, 5):
        assert fleet.frame([("a", START + 10 * after, {"cpu.percent": 99.0})], START + 3600 + after, 300.0) == []
    assert fleet.frame([("a", START + 3900, {"cpu.percent": 5.0})], START + 3900.1, 300.0) == []


def test_a_clock_set_back_of_a_host_that_samples_rarely_is_followed():
    """Three intervals of old samples alone are a clock that was set back, also where no other host keeps time."""
    fleet = Fleet(AT_ONCE)
    fleet.frame([("a", START + 7200, {"cpu.percent": 5.0})], START + 7200.1, 300.0)
    heard = [(after, change.kind) for after in range(300, 2400, 300)
             for change in fleet.frame([("a", START + 3600 + after, {"cpu.percent": 99.0})], START + 7200 + after, 300.0)]
    assert heard == [(1500, "firing")]
