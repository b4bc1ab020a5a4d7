"""The mass-silence guard: many hosts that go together are one alert about the way to them, not one for each."""

import copy
import math
from collections.abc import Collection, Sequence

import msgspec
from alert_builders import LONG_AGO, START, Fleet, kinds, told
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.analysis.rule_pack import PACKS
from aggregator.analysis.rules import Override, Rule
from aggregator.live.alerts import Alert, Change
from aggregator.live.silence import LEAST_HOSTS

DOWN = Rule(name="host_down", kind="host_down", severity="critical")
SILENT, = (rule for pack in PACKS.values() for rule in pack if rule.kind == "mass_silence")
CPU = Rule(name="high_cpu", metric="cpu.percent", warning=80)


class Site:
    """Hosts `h00`, `h01`, … that send every 5 s, not all at once, except those that are `silent`; there is a tick a second."""

    def __init__(self, count: int, *rules: Rule, fleet: Fleet | None = None) -> None:
        self.names = [f"h{i:02d}" for i in range(count)]
        self.fleet = fleet or Fleet(*(rules or (DOWN, SILENT)))
        self.at = 0
        self.silent: set[str] = set()
        self.connected_at = LONG_AGO
        self.run(10)

    def taken_over(self, seconds: int, *, own_host: str = "") -> "Site":
        """The same hosts with whoever takes the slot over, so many seconds later."""
        after = copy.copy(self)
        after.fleet = self.fleet.restarted(list(self.fleet.engine.alerts.values()))
        after.fleet.engine.own_host = own_host
        after.at += seconds
        after.connected_at = START + after.at
        return after

    def run(self, seconds: int) -> list[Change]:
        """What so many seconds lead to."""
        changes = []
        for _ in range(seconds):
            self.at += 1
            due = [(name, START + self.at, {"cpu.percent": 1.0}) for i, name in enumerate(self.names)
                   if i % 5 == self.at % 5 and name not in self.silent]
            if due:
                changes += self.fleet.frame(due, START + self.at)
            changes += self.fleet.tick(self.at, self.connected_at)
        return changes


def named(changes: Sequence[Change], rule: str = "host_down") -> list[str]:
    """The hosts of which a rule fired."""
    return sorted(change.alert.host.name for change in changes if change.alert.rule == rule and change.kind == "firing")


def test_hosts_that_go_together_are_one_alert() -> None:
    """All hosts silent at once are one alert that says how many, since when and where to look; it is over when they are back."""
    site = Site(40)
    site.silent = set(site.names)
    changes = site.run(120)
    assert told(changes) == [("hosts_silent", "pending"), ("hosts_silent", "firing")]
    assert "40 of 40 hosts (100 %) are silent, the last heard of at 08:00:10 UTC" in changes[-1].message
    assert "ingest is connected to its broker" in changes[-1].message
    assert "broker" in changes[-1].recommendation
    assert (changes[-1].value, changes[-1].threshold, changes[-1].severity) == (100.0, 30.0, "critical")
    site.silent = set()
    assert told(site.run(200)) == [("hosts_silent", "resolved")]
    assert site.fleet.engine.alerts == {}


def test_a_blip_is_told_to_nobody() -> None:
    """Hosts that are back within the rule's `for` raise nothing at all."""
    site = Site(40)
    site.silent = set(site.names)
    changes = site.run(25)
    site.silent = set()
    assert told(changes + site.run(100)) == [("hosts_silent", "pending"), ("hosts_silent", "cancelled")]


def test_some_hosts_of_many_are_told_one_by_one() -> None:
    """Below the share, and below the least number of hosts whatever their share, each host that goes is told as ever."""
    site = Site(40)
    site.silent = set(site.names[:11])
    assert named(site.run(60)) == site.names[:11]
    small = Site(3)
    small.silent = {"h01"}
    assert named(small.run(60)) == ["h01"]
    small = Site(LEAST_HOSTS - 1)
    small.silent = set(small.names)
    changes = small.run(60)
    assert named(changes) == small.names
    assert named(changes, "hosts_silent") == []


def test_a_part_that_is_really_gone_is_told_after_the_hold() -> None:
    """When half of the fleet stays away the guard lets go after `keep`: the hosts are down, each once, and no second guard."""
    site = Site(40)
    site.silent = set(site.names[:20])
    changes = site.run(300)
    assert (named(changes), kinds(changes)) == ([], ["pending", "firing"])
    changes = site.run(30)
    assert named(changes) == site.names[:20]
    assert [change.kind for change in changes if change.alert.rule == "hosts_silent"] == ["resolved"]
    assert site.run(600) == []


def test_a_fleet_that_is_gone_as_a_whole_is_told_once() -> None:
    """Where nobody is left to be heard, the guard lets go once, for good, and whoever takes over does not begin anew."""
    site = Site(20)
    site.silent = set(site.names)
    changes = site.run(900)
    assert (named(changes), named(changes, "hosts_silent")) == (site.names, ["h01"])
    assert site.taken_over(5).run(600) == []


def test_who_stays_away_when_the_others_are_back_is_down() -> None:
    """After the guard each host that is still silent has a minute and its beats to come back, then it is down."""
    site = Site(40)
    site.silent = set(site.names)
    site.run(60)
    site.silent = {"h07"}
    changes = site.run(75)
    assert (named(changes), kinds(changes)) == ([], ["resolved"])
    assert named(site.run(10)) == ["h07"]
    site.silent = set()
    assert told(site.run(20)) == [("host_down", "resolved")]


def test_an_outage_of_ingest_s_own_connection_is_told() -> None:
    """Without a broker nobody is down, but that nobody is heard is told, and that ingest itself is not connected."""
    site = Site(10)
    site.silent, site.connected_at = set(site.names), math.inf
    changes = site.run(60)
    assert told(changes) == [("hosts_silent", "pending"), ("hosts_silent", "firing")]
    assert "ingest is not connected to its broker either" in changes[-1].message
    assert site.run(900) == []
    site.connected_at = START + site.at
    assert site.run(20) == []
    site.silent = {"h03"}
    changes = site.run(70)
    assert told(changes) == [("hosts_silent", "resolved")]
    assert named(site.run(20)) == ["h03"]


def test_what_does_not_come_back_after_an_outage_is_one_alert() -> None:
    """Hosts that do not return in their minute after ingest was away went together; those that were gone before did not."""
    site = Site(40)
    site.silent = {*site.names[:6]}
    assert len(named(site.run(120))) == 6
    after = site.taken_over(3000)
    after.silent = {*site.names[:20]}
    assert after.run(60) == []
    changes = after.run(60)
    assert told(changes) == [("hosts_silent", "pending"), ("hosts_silent", "firing")]
    assert "14 of 34 hosts" in changes[-1].message


def test_hosts_that_were_gone_long_ago_do_not_count() -> None:
    """Whoever takes over does not take hosts that were told to be down before for a mass that went."""
    site = Site(20)
    site.silent = {*site.names[:10]}
    site.run(400)
    after = site.taken_over(100)
    assert after.run(400) == []
    after.silent = {*site.names[:12]}
    assert named(after.run(30)) == ["h10", "h11"]


def test_hosts_gone_long_ago_do_not_count_though_nobody_told_of_them() -> None:
    """Without rules of kind host_down, too: who takes over counts the hosts that were there when ingest last heard any."""
    site = Site(20, SILENT)
    site.silent = {*site.names[:10]}
    site.run(400)
    assert site.taken_over(100).run(200) == []


def test_hosts_with_long_intervals_do_not_hide_the_others() -> None:
    """Of hosts that send once a minute nobody knows yet: the share is that of the hosts that should have been heard."""
    fleet = Fleet(DOWN, SILENT)
    for i in range(90):
        fleet.frame([(f"slow{i:02d}", START + 5, {"cpu.percent": 1.0})], START + 5, 60.0)
    site = Site(10, fleet=fleet)
    site.silent = set(site.names)
    assert told(site.run(60)) == [("hosts_silent", "pending"), ("hosts_silent", "firing")]


def test_the_guard_stays_on_through_a_takeover() -> None:
    """Who takes the slot over while the guard is on emits no host_down; the hold counts on, and the end is told once."""
    for seconds in (20, 60):
        site = Site(40)
        site.silent = set(site.names)
        before = site.run(seconds)
        after = site.taken_over(5, own_host="h05")
        changes = before + after.run(100)
        assert told(changes) == [("hosts_silent", "pending"), ("hosts_silent", "firing")]
        after.silent = set()
        assert told(after.run(100)) == [("hosts_silent", "resolved")]


def test_hosts_that_were_stopped_are_no_mass() -> None:
    """Agents that were stopped on purpose, or drain, are told as such and count neither way."""
    site = Site(20)
    for name in site.names[:12]:
        site.fleet.status(site.at, "offline", "stopped", name)
    site.silent = set(site.names[:12])
    changes = site.run(60)
    assert {(change.alert.rule, change.severity) for change in changes} == {("host_down", "info")}
    site.silent |= {"h12"}
    assert named(site.run(30)) == ["h12"]


def test_wills_of_many_hosts_are_one_alert() -> None:
    """Last wills of all hosts at once (a gateway that closed their connections) shorten the wait, and are one alert too."""
    site = Site(20)
    site.silent = set(site.names)
    for name in site.names:
        site.fleet.status(site.at, "offline", "lost", name)
    assert told(site.run(40)) == [("hosts_silent", "pending"), ("hosts_silent", "firing")]


def test_a_clock_that_is_set_forward_is_no_mass_of_dead_hosts() -> None:
    """All hosts seem silent for an hour until their next samples: nobody is told to be down."""
    site = Site(20)
    site.at += 3600
    changes = site.run(20)
    assert told(changes) == [("hosts_silent", "pending"), ("hosts_silent", "cancelled")]


def test_the_alert_is_that_of_the_host_that_ingest_runs_on() -> None:
    """Ingest's own host has the alert where it is known and the rule applies to it; else the first by name that is overdue."""
    for own, host in (("h33", "h33"), ("elsewhere", "h11"), ("", "h11")):
        site = Site(40)
        site.fleet.engine.own_host = own
        site.silent = set(site.names[11:])
        assert named(site.run(60), "hosts_silent") == [host]


def test_a_rule_guards_the_hosts_that_it_selects() -> None:
    """With a selector the share is that of the hosts with those labels; an override takes one host out."""
    berlin = msgspec.structs.replace(SILENT, name="berlin_silent", selector={"site": "berlin"})
    fleet = Fleet(DOWN, berlin, overrides={("h01", "berlin_silent"): Override(enabled=False)})
    for i in range(10):
        fleet.engine.set_labels(fleet.row(f"h{i:02d}"), {"site": "berlin"})
    site = Site(100, fleet=fleet)
    site.silent = set(site.names[:10]) | {"h50"}
    changes = site.run(60)
    assert named(changes) == ["h01", "h50"]
    assert "9 of 9 hosts" in changes[-1].message
    fleet.engine.set_labels(fleet.row("h02"), {"site": "paris"})
    assert named(site.run(5)) == ["h02"]


def test_without_its_rule_each_host_is_told() -> None:
    """A guard that is disabled guards nothing; one that is disabled while it is on lets go at once."""
    site = Site(40, DOWN, msgspec.structs.replace(SILENT, enabled=False))
    site.silent = set(site.names)
    assert len(named(site.run(60))) == 40
    site = Site(40)
    site.silent = set(site.names)
    site.run(60)
    assert kinds(site.fleet.configure(DOWN, now=START + site.at)) == ["resolved"]
    assert len(named(site.run(5))) == 40


def test_a_guard_resolved_by_hand_goes_on_guarding() -> None:
    """Who resolves the alert by hand is told no more of it; the hosts are still held back, and told when they come back."""
    site = Site(40)
    site.silent = set(site.names)
    site.run(60)
    alert, = site.fleet.engine.alerts.values()
    site.fleet.engine.release(alert)
    assert site.run(100) == []
    site.silent = set()
    assert site.run(100) == []
    assert site.fleet.engine.alerts == {}


def test_other_alerts_of_silent_hosts_stay_as_they_were() -> None:
    """While the way to the hosts is gone nobody knows more of them: what fired goes on, and no alert is unknown or over."""
    site = Site(20, DOWN, SILENT, CPU)
    site.fleet.send(10.5, {"cpu.percent": 99.0}, "h04")
    site.silent = set(site.names)
    site.run(100)
    assert site.fleet.alert("high_cpu", host="h04").state == "firing"  # type: ignore[union-attr]


@st.composite
def plans(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    """By host: interval, when it falls silent, when it is back; most of them in groups that go at one moment."""
    moments = draw(st.lists(st.integers(20, 120), min_size=1, max_size=3))
    hosts = []
    for _ in range(draw(st.integers(1, 24))):
        gone = draw(st.sampled_from(moments)) if draw(st.integers(0, 9)) else draw(st.integers(1, 160))
        gone += draw(st.sampled_from([0, 0, 0, 1000]))
        hosts.append((draw(st.sampled_from([2, 5, 5, 10, 30])), gone, gone + draw(st.integers(1, 300))))
    return hosts


@settings(deadline=None, max_examples=12)
@given(plans())
def test_never_both_the_alert_and_its_hosts(plan: list[tuple[int, int, int]]) -> None:
    """Whatever hosts fall silent when: nobody is told to be down while a guard is on, and only few are in the window before."""
    fleet = Fleet(DOWN, SILENT)
    firings: list[tuple[float, str]] = []
    for at in range(260):
        due = [(f"h{i:02d}", START + at, {"cpu.percent": 1.0}) for i, (interval, gone, back) in enumerate(plan)
               if at % interval == i % interval and not gone <= at < back]
        for interval in {plan[int(name[1:])][0] for name, _, _ in due}:
            fleet.frame([one for one in due if plan[int(one[0][1:])][0] == interval], START + at, float(interval))
        changes = fleet.tick(at)
        down = named(changes)
        is_over = any(change.alert.rule == "hosts_silent" and change.kind in ("resolved", "cancelled") for change in changes)
        assert not down or is_over or not guards(fleet.engine.alerts.values())
        firings += [(START + at, name) for name in down]
        for change in changes:
            if change.alert.rule == "hosts_silent" and change.kind == "pending":
                before = {name for when, name in firings if when > change.at - SILENT.window}
                assert len(before) <= max(LEAST_HOSTS, 0.3 * len(plan))


def guards(alerts: Collection[Alert]) -> list[Alert]:
    return [alert for alert in alerts if alert.rule == "hosts_silent"]
