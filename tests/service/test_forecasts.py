"""Forecasts from stored rollups through the engine, on a real Postgres."""

from datetime import timedelta

import builders
import msgspec
import numpy as np
import pytest
from builders import NOW

from aggregator.analysis.rules import Rule, Stored
from aggregator.ingest.forecasts import EVERY, HOSTS_AT_ONCE, Forecasts
from aggregator.live.shard import new_shard
from shared import database

AT = NOW.timestamp() + 1800  # half past, so that the present hour has a tail
HOUR = 3600.0
RULE = Rule(name="disk_full_soon", kind="forecast", metric="disk.percent{mount=*}", comparison="<=", target=100.0,
            window=72 * HOUR, warning=24 * HOUR, critical=6 * HOUR)


@pytest.fixture
def connection(database_url):
    with database.open_connection(database_url, "tests") as connection:
        builders.store_partitions(connection, NOW - timedelta(days=4), NOW)
        yield connection


def add_history(connection, host_id, growth, mount="/var", level=90.0):
    """Hours as far as they are made, then minutes: `level` at AT after growing by `growth` an hour."""
    def stored(table, ts, width):
        middle = ts + timedelta(seconds=width / 2)
        value = level - growth * (AT - middle.timestamp()) / HOUR
        metrics = {"cpu.percent": (1.0, 1.0, 1.0), f"disk.percent{{mount={mount}}}": (0.0, value, 100.0)}
        builders.store_rollup(connection, table, host_id, ts, 10, metrics)

    for n in range(2, 72):
        stored("rollup_1h", NOW - timedelta(hours=n), HOUR)
    for n in range(0, 90, 5):
        stored("rollup_1m", NOW - timedelta(hours=1) + timedelta(minutes=n), 60.0)


def fleet(connection, *growths, rule=RULE, age=0.0):
    """A shard with one host for each growth, in the order of their rows."""
    shard = new_shard(AT)
    for n, growth in enumerate(growths):
        host = shard.hosts.add(f"web-{n}")
        host.id = builders.store_host(connection, host.name)
        shard.hosts.newest_ts[host.row] = AT - age
        if growth is not None:
            add_history(connection, host.id, growth)
    shard.engine.configure([Stored(rule, 1)], {}, AT)
    return shard


def told(changes):
    return {(change.alert.host.name, change.alert.instance): (change.kind, change.severity) for change in changes}


def test_a_disk_that_will_be_full_fires_and_a_steady_one_does_not(connection):
    """10 % are left: at 1 % an hour 10 hours (warning), at 2.5 % 4 hours (critical); steady, slow, falling, unknown: nothing."""
    shard = fleet(connection, 1.0, 2.5, 0.0, 0.1, -1.0, None)
    changes = Forecasts(connection, shard).run(AT)
    assert told(changes) == {("web-0", "mount=/var"): ("firing", "warning"), ("web-1", "mount=/var"): ("firing", "critical")}
    assert [change.value for change in changes] == [pytest.approx(10 * HOUR, rel=0.02), pytest.approx(4 * HOUR, rel=0.02)]


def test_the_alert_ends_when_the_growth_does_or_the_mount_goes(connection):
    """Judged again after five minutes and not before: without growth, and without the metric, the alert is over."""
    shard = fleet(connection, 1.0, 1.0)
    forecasts = Forecasts(connection, shard)
    assert len(forecasts.run(AT)) == 2
    connection.execute("DELETE FROM rollup_1h")
    connection.execute("DELETE FROM rollup_1m")
    assert forecasts.run(AT + EVERY - 1) == []
    assert {change.kind for change in forecasts.run(AT + EVERY)} == {"resolved"}


def test_only_hosts_that_report_and_are_selected_are_judged(connection):
    """A silent host, one that is down, and one that the rule does not select raise nothing."""
    assert Forecasts(connection, fleet(connection, 1.0, age=3600.0)).run(AT) == []


def test_a_rule_for_other_hosts_judges_none(connection):
    """The rule's hosts and labels hold for forecasts, too."""
    assert Forecasts(connection, fleet(connection, 1.0, rule=msgspec.structs.replace(RULE, hosts=["db-*"]))).run(AT) == []


def test_a_host_that_is_down_keeps_its_alert(connection):
    """What was forecast before a host went stays unknown: its old figures say nothing new."""
    down = Rule(name="host_down", kind="host_down", severity="critical")
    shard = fleet(connection, 1.0)
    shard.engine.configure([Stored(RULE, 1), Stored(down, 1)], {}, AT)
    forecasts = Forecasts(connection, shard)
    alert = forecasts.run(AT)[0].alert
    shard.hosts.received_at[:] = AT
    shard.hosts.interval[:] = 5.0
    for n in range(120):
        shard.engine.tick(AT + n, AT - 3600)
    assert shard.engine.down == {"web-0"}
    assert alert.state == "unknown"
    shard.hosts.newest_ts[:] = AT + EVERY
    assert forecasts.run(AT + EVERY) == []
    assert alert.state == "unknown"


def test_a_round_is_taken_in_turns(connection):
    """More hosts than one turn takes are judged in several, each host once a round."""
    shard = fleet(connection, *[None] * HOSTS_AT_ONCE, 1.0)
    forecasts = Forecasts(connection, shard)
    assert forecasts.run(AT) == []
    turns = [forecasts.run(AT + second) for second in range(1, 60)]
    assert [len(changes) for changes in turns if changes] == [1]


def test_a_plain_metric_is_forecast_too(connection):
    """A metric without labels has one instance, the empty one; layouts that lack it are no matter."""
    rule = msgspec.structs.replace(RULE, metric="memory.available_bytes", target=0.0)
    shard = fleet(connection, 0.0, rule=rule)
    for n in range(2, 72):
        builders.store_rollup(connection, "rollup_1h", shard.hosts.all[0].id, NOW - timedelta(hours=n), 5,
                              {"memory.available_bytes": (0.0, 1e6 * (n + 2), np.inf)})
    assert told(Forecasts(connection, shard).run(AT)) == {("web-0", ""): ("firing", "critical")}
