"""Insights: what is told, what is left untold, and that the sentence has the figures of its evidence."""

from datetime import timedelta

import numpy as np
import pytest
from analytics_rows import autoregressive
from builders import NOW

from aggregator.analysis import figures, insights
from aggregator.analysis.grids import Grid

HOURS = 8 * 24


def grid(values, metrics=("cpu.percent",), hosts=None):
    values = np.asarray(values, float)
    names = hosts or tuple(f"h{n}" for n in range(len(values)))
    return Grid(names, tuple(metrics), NOW - timedelta(hours=values.shape[2]), 3600, values)


def noise(hosts=1, metrics=1, level=20.0, hours=HOURS):
    return (level + autoregressive(0.5, (hosts * metrics, hours))).reshape(hosts, metrics, hours)


def test_what_changed_against_last_week_is_told_with_its_figures():
    """Six hours at twice the usual level, in one of ten hosts: one sentence, whose figures are those of the evidence."""
    values = noise(hosts=10)
    values[3, 0, -6:] = 42.0
    found = insights.changed(grid(values))
    assert [one.host for one in found] == ["h3"]
    evidence = found[0].evidence[0]
    assert (evidence.start, evidence.end) == (NOW - timedelta(hours=6), NOW)
    assert evidence.figures["mean"] == 42.0
    assert evidence.figures["then"] == pytest.approx(values[3, 0, -174:-168].mean(), rel=1e-4)
    assert "cpu.percent of h3 averaged 42 % over 6 hours" in found[0].text
    assert "at the same time last week" in found[0].text


def test_noise_and_trifles_are_not_told():
    """Of 200 figures that only wander none is told, nor is a change that is significant and small."""
    names = ("cpu.percent", "memory.percent", "swap.percent", "gpu.percent")
    assert insights.changed(grid(noise(hosts=50, metrics=4), metrics=names)) == []
    small = np.full((1, 1, HOURS), 20.0)
    small[0, 0, -6:] = 22.0
    assert insights.changed(grid(small)) == []
    assert insights.changed(grid(np.full((2, 1, HOURS), np.nan))) == []


def test_a_week_that_is_not_there_is_not_compared_with():
    """With four days of history yesterday is named; with two nothing is told."""
    values = noise(hours=4 * 24 + 6)
    values[0, 0, -6:] = 60.0
    assert "at the same time yesterday" in insights.changed(grid(values))[0].text
    assert insights.changed(grid(values[:, :, -54:])) == []


def test_what_is_full_soon_is_told_with_its_time():
    """A file system at 90 % that grows by 4.8 points a day is full in about two days; one that stands still is not told."""
    hours = np.arange(72.0)
    values = np.stack([90 - 0.2 * (71.5 - hours), np.full(72, 50.0)])[None]
    found = insights.limits(grid(values, metrics=("disk.percent{mount=/var}", "disk.percent{mount=/}")))
    assert len(found) == 1
    assert found[0].text == ("/var is full on h0 in 2.1 days at its present pace: 89.9 % now, "
                             "4.8 points more a day.")
    assert found[0].evidence[0].figures["seconds_left"] == pytest.approx((100 - 90) / 0.2 * 3600, rel=0.02)


def test_what_is_full_already_is_to_be_mended_now():
    """At 100 % there is no time left: the sentence says so, and the recommendation knows no `before then`."""
    found = insights.limits(grid(np.full((1, 1, 72), 100.0), metrics=("disk.percent{mount=/var}",)))
    assert [(one.text, one.recommendation) for one in found] == [
        ("/var is full on h0: 100 %.", "Make room or more space for /var on h0 now.")]


def test_a_host_unlike_its_peers_is_told():
    """Among twelve web servers one at three times the others' CPU; in a group of five nobody is."""
    values = noise(hosts=12)
    values[7] *= 3
    found = insights.peers(grid(values), {"role:web": range(12)})
    assert [one.host for one in found] == ["h7"]
    assert "its 11 peers (role:web) have" in found[0].text
    assert insights.peers(grid(values), {"role:web": [5, 6, 7, 8, 9]}) == []


def test_a_daily_peak_is_told_with_its_hour():
    """A backup at 02:00 each night is told, once; noise and a constant are not."""
    values = noise(hosts=3, level=10.0)
    values[1, 0, 14::24] = 80.0
    values[2] = 5.0
    found = insights.daily(grid(values))
    assert [one.host for one in found] == ["h1"]
    assert "highest at about 02:00 UTC: 80 % there" in found[0].text
    assert found[0].evidence[0].figures["days_high"] == 8
    assert insights.daily(grid(values[:, :, :72])) == []


def test_rules_that_fire_much_are_told():
    """From five firings on, with how many were short and how many flapped."""
    rows = [{"rule": "high_cpu", "host": "web-1", "metric": "cpu.percent", "fired": fired, "short": fired - 1, "flapping": 1}
            for fired in (9, 4)]
    found = insights.noisy(rows, NOW - timedelta(days=7), NOW)
    assert [one.text for one in found] == [
        "Rule high_cpu fired 9 times on web-1, 8 times for less than five minutes, and flapped once."]


@pytest.mark.parametrize(("metric", "value", "text"), [
    ("cpu.percent", 81.24, "81.2 %"), ("memory.used_bytes", 3.2e9, "2.98 GiB"), ("disk.read_bytes_per_second", 5e6, "4.77 MiB/s"),
    ("disk.await_ms", 0.0451, "0.0451 ms"), ("custom.queue", 1234.0, "1234"), ("cpu.percent", 0.0, "0 %"),
    ("temperature.celsius", -7.5, "-7.5 °C"), ("cpu.load1", 100.0, "100"), ("custom.x", 20.0, "20")])
def test_values_are_written_with_their_unit(metric, value, text):
    """Three digits, and the unit of the catalogue."""
    assert figures.value(metric, value) == text


def test_limits_are_told_where_they_differ():
    """Two limits that are the same in words say nothing."""
    assert figures.within(86_400 * 2.8, 86_400 * 3.9) == " (2.8 days to 3.9 days)"
    assert figures.within(86_400 * 2.81, 86_400 * 2.82) == ""


def test_a_range_of_one_value_is_that_value():
    """`150 to 150` says less than `150`."""
    assert figures.between("processes.total", 150.0, 150.01) == "150"
    assert figures.between("cpu.percent", 8.0, 31.04) == "8 % to 31 %"


@pytest.mark.parametrize(("seconds", "text"), [
    (86_400 * 3.21, "3.2 days"), (86_400 * 30, "30 days"), (40 * 3600, "40 hours"), (3 * 3600, "3 hours"), (5400, "90 minutes"),
    (60, "1 minute"), (0, "0 minutes")])
def test_durations_are_written_in_one_unit(seconds, text):
    """The largest of which there are two."""
    assert figures.time_left(seconds) == text
