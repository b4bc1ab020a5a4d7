"""What mutes an alert: silences, windows in real time zones, dependencies; and the alerts of a slot brought up to it."""

import itertools
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.analysis import quiet
from aggregator.analysis.matching import Match
from aggregator.analysis.quiet import Quiet, Silence, Timetable, Window
from aggregator.live.alerts import Alert
from aggregator.live.hosts import Host
from aggregator.live.quiet import remute
from shared import cron as cron_times

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC).timestamp()
ZONES = ("Europe/Berlin", "America/New_York", "America/Santiago", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Tokyo",
         "Pacific/Apia")
ALERT = {"host": "web-1", "labels": {"site": "berlin"}, "rule": "low_disk", "type_": "low_disk", "instance": "mount=/var",
         "severity": "warning"}


def window(**fields):
    return Window(**({"name": "nightly", "match": Match(), "cron": "30 2 * * *", "duration": 3600.0} | fields))


def silence(number=12, since=-60.0, until=60.0, **fields):
    return Silence(number, Match(**fields), NOW + since, NOW + until)


def reasons(own, now=NOW, down=(), **fields):
    return own.at(now, down).reasons(**(ALERT | fields))


def local_fire(day, hour, minute, zone):
    """When a fixed local time of a day comes: its first pass; where the clocks skip it, the first minute after the skip."""
    naive = datetime(day.year, day.month, day.day, hour, minute)  # noqa: DTZ001 (local on purpose)
    while (aware := naive.replace(tzinfo=zone)).astimezone(UTC).astimezone(zone).replace(tzinfo=None) != naive:
        naive += timedelta(minutes=1)
    return aware.timestamp()


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize(("hour", "minute"), [(0, 0), (2, 0), (2, 30)])
def test_a_daily_window_opens_once_for_every_local_day(name, hour, minute):
    """Over twelve years of real clock changes each local day has one opening: at the local time, or after what is skipped."""
    zone = ZoneInfo(name)
    days = [date(2011, 1, 2) + timedelta(days=n) for n in range(12 * 365)]
    expected = sorted({local_fire(day, hour, minute, zone) for day in days})
    cron, since = f"{minute} {hour} * * *", local_fire(days[0], hour, minute, zone) - 1
    assert list(itertools.takewhile(lambda at: at <= expected[-1], cron_times.fires(cron, zone, since))) == expected


def test_a_skipped_time_opens_after_the_skip_and_a_doubled_one_once():
    """Berlin, 02:30: on 2026-03-29 it does not exist and opens at 03:00; on 2026-10-25 it comes twice and opens at the first."""
    zone = ZoneInfo("Europe/Berlin")
    spring = next(cron_times.fires("30 2 * * *", zone, datetime(2026, 3, 28, 12, tzinfo=UTC).timestamp()))
    autumn = list(itertools.islice(cron_times.fires("30 2 * * *", zone, datetime(2026, 10, 24, 12, tzinfo=UTC).timestamp()), 2))
    assert spring == datetime(2026, 3, 29, 1, 0, tzinfo=UTC).timestamp()
    assert [datetime.fromtimestamp(at, UTC) for at in autumn] == [datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
                                                                  datetime(2026, 10, 26, 1, 30, tzinfo=UTC)]


CHANGES = [datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC), datetime(2026, 3, 8, 7, tzinfo=UTC),
           datetime(2026, 11, 1, 6, tzinfo=UTC), datetime(2026, 4, 4, 15, tzinfo=UTC)]


CRONS = ["30 2 * * *", "15 1,2 * * *", "*/20 * * * *", "0 * * * SUN", "0 0 1 * *"]


@settings(deadline=None)
@given(name=st.sampled_from(ZONES), cron=st.sampled_from(CRONS), change=st.sampled_from(CHANGES),
       offset=st.floats(-10_000, 10_000), duration=st.sampled_from([60.0, 1800.0, 7200.0, 604_800.0]))
def test_open_means_that_it_fired_less_than_its_duration_ago(name, cron, change, offset, duration):
    """Around clock changes, asked at any instant and in any order, a window is open exactly within `duration` of a fire."""
    now, zone = change.timestamp() + offset, ZoneInfo(name)
    fired = list(itertools.takewhile(lambda at: at <= now + 86_400, cron_times.fires(cron, zone, now - 9 * 86_400)))
    table = Timetable(window(cron=cron, duration=duration, timezone=name))
    for at in (now, now + 3600, now - 7200, now + 60):
        assert table.is_open(at) == any(start <= at < start + duration for start in fired)


def test_the_next_openings_begin_with_the_one_that_is_open():
    """Asked while open, the list begins with the present opening; each lasts `duration`."""
    at = datetime(2026, 11, 21, 2, 45, tzinfo=UTC).timestamp()
    found = list(itertools.islice(quiet.openings(window(), at), 3))
    assert [round(start - at) for start, _ in found] == [-900, 85_500, 171_900]
    assert {end - start for start, end in found} == {3600.0}


@pytest.mark.parametrize(("cron", "words"), [
    ("0 0 31 2 *", "never comes"), ("0 0 30 2 *", "never comes"), ("0 0 31 4,6,9,11 *", "never comes"),
    ("0 0 32 1 *", "day-of-month"), ("60 * * * *", "minute"), ("*/0 * * * *", "minute"), ("* 24 * * *", "hour"),
    ("@daily", "not five"), ("* * * * * *", "not five"), ("0 0 * * FUNDAY", "day-of-week"), ("", "not five"),
    ("\N{ARABIC-INDIC DIGIT THREE} * * * *", "minute")])
def test_a_cron_that_cannot_open_is_told(cron, words):
    """What is no cron expression, or names a day that never comes, says so."""
    assert words in quiet.problems(window(cron=cron), NOW)["cron"]


@pytest.mark.parametrize("cron", ["0 0 31 2 1", "0 0 29 2 *", "0 0 L * *", "0 0 * * MON#1", "*/5 8-18 * * MON-FRI"])
def test_a_cron_that_opens_is_taken(cron):
    """Rare days, and a day of the month that never comes beside a weekday that does, are well."""
    assert quiet.problems(window(cron=cron), NOW) == {}


@pytest.mark.parametrize(("zone", "words"), [
    ("europe/berln", "Europe/Berlin"), ("", "UTC"), ("Mars/Olympus", "there is no time zone"),
    ("../../etc/passwd", "there is no time zone"), ("America", "there is no time zone"), ("UTC\0", "there is no time zone")])
def test_an_unknown_zone_is_told_with_a_near_one(zone, words):
    """A time zone that does not exist is named, with the nearest where one is near."""
    assert words in quiet.problems(window(timezone=zone), NOW)["timezone"]


def test_a_silence_mutes_what_fits_while_it_lasts():
    """From its start up to its end, alerts that fit all fields are muted by its number, others are not."""
    own = Quiet([silence(hosts=["web-*"], types=["low_disk"], labels={"site": "*"}, severity="warning")])
    assert reasons(own) == ("silence 12",)
    assert reasons(own, NOW - 60) == ("silence 12",)
    assert reasons(own, NOW + 60) == reasons(own, NOW - 61) == ()
    for other in ({"host": "db-1"}, {"type_": "high_cpu"}, {"labels": {}}, {"severity": "info"}):
        assert reasons(own, **other) == ()


def test_one_moment_answers_for_many_alerts_of_a_host():
    """What was found for a host does not leak into its other alerts, nor into other hosts."""
    moment = Quiet([silence(1, hosts=["web-1"], rules=["low_disk"]), silence(2, instances=["mount=/"])]).at(NOW, ())
    assert moment.reasons(**ALERT) == ("silence 1",)
    assert moment.reasons(**ALERT | {"rule": "high_cpu"}) == ()
    assert moment.reasons(**ALERT | {"instance": "mount=/"}) == ("silence 1", "silence 2")
    assert moment.reasons(**ALERT | {"host": "db-1", "instance": "mount=/"}) == ("silence 2",)


def test_a_window_mutes_while_it_is_open_and_enabled():
    """Inside its opening it mutes by its name; outside, or switched off, it does not."""
    night = datetime(2026, 11, 21, 2, 31, tzinfo=UTC).timestamp()
    assert reasons(Quiet([], [window()]), night) == ("window nightly",)
    assert reasons(Quiet([], [window()]), NOW) == ()
    assert reasons(Quiet([], [window(enabled=False)]), night) == ()


def test_hosts_behind_one_that_is_down_are_muted():
    """Through any number of hops, by the host that is down; never by itself, and not by those behind it."""
    own = Quiet(dependencies={"web-1": frozenset({"switch-1"}), "switch-1": frozenset({"router-1"})})
    assert reasons(own, down={"router-1"}) == ("host_down router-1",)
    assert reasons(own, down={"router-1", "switch-1", "web-1"}) == ("host_down router-1", "host_down switch-1")
    assert reasons(own, host="router-1", down={"router-1", "web-1"}) == ()
    assert reasons(own) == ()


def test_a_circle_is_found_and_does_not_hang():
    """A circle of hosts is named as a chain, each behind the next; asked nevertheless, it ends."""
    circle = {"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("a"), "d": frozenset("a")}
    chain = quiet.cycle(circle)
    assert chain[0] == chain[-1]
    assert all(above in circle[name] for name, above in itertools.pairwise(chain))
    assert len(chain) == 4
    assert quiet.upstream("a", circle) == {"b", "c"}


def test_what_stands_behind_a_host_is_found_at_once() -> None:
    """The map turned round leads to everything behind a host, however long the chain, without asking each host in turn."""
    chain = {f"h{n}": [f"h{n - 1}"] for n in range(1, 20_000)}
    assert quiet.upstream("h0", quiet.turned(chain)) == chain.keys()
    assert quiet.turned({"a": ["b", "c"], "b": ["c"]}) == {"b": ["a"], "c": ["a", "b"]}
    assert quiet.cycle({"a": frozenset("bc"), "b": frozenset("c")}) == []


def alert(host="web-1", state="firing", **fields):
    known = {"rule": "low_disk", "instance": "mount=/var", "type": "low_disk", "source": "system", "revision": 1,
             "severity": "warning", "started_at": NOW - 600, "changed_at": NOW - 300}
    return Alert(Host(host, 0), state=state, **(known | fields))


def test_active_alerts_are_muted_and_heard_again():
    """A change is told when reasons come, change or end, each once; alerts that are not active are left alone."""
    firing, pending = alert(value=91.0, threshold=80.0), alert(state="pending")
    own, everyone = Quiet([silence(1, since=0, until=20), silence(2, since=10, until=30)]), [firing, pending]

    def at(offset):
        changes = remute(everyone, lambda _: {}, own, (), NOW + offset)
        return [(change.alert, change.kind, change.reason, change.at) for change in changes]

    assert at(-1) == []
    assert at(0) == [(firing, "muted", "silence 1", NOW)]
    assert at(5) == []
    assert at(10) == [(firing, "muted", "silence 1, silence 2", NOW + 10)]
    assert at(20) == [(firing, "muted", "silence 2", NOW + 20)]
    assert at(30) == [(firing, "unmuted", "no longer muted by silence 2", NOW + 30)]
    assert (firing.muted_by, pending.muted_by) == ((), ())


def test_a_change_carries_the_alert_as_it_is():
    """Value, threshold, severity, state and words of the alert go with the change; labels are those of its host."""
    own = alert(state="unknown", value=91.0, threshold=80.0, message="full", recommendation="clean")
    change, = remute([own, alert("db-1")], {"web-1": {"site": "berlin"}, "db-1": {}}.__getitem__,
                     Quiet([silence(labels={"site": "berlin"})]), (), NOW)
    assert (change.alert, change.state, change.value, change.threshold) == (own, "unknown", 91.0, 80.0)
    assert (change.severity, change.message, change.recommendation) == ("warning", "full", "clean")


def test_a_host_behind_another_is_quiet_about_being_down():
    """The host_down alert of a host behind a dead one is muted; that of the dead one itself is told."""
    behind, dead = alert("web-1", rule="host_down", instance=""), alert("router-1", rule="host_down", instance="")
    own = Quiet(dependencies={"web-1": frozenset({"router-1"})})
    changes = remute([behind, dead], lambda _: {}, own, {"web-1", "router-1"}, NOW)
    assert [(change.alert, change.reason) for change in changes] == [(behind, "host_down router-1")]
