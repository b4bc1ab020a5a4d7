"""History over a real Postgres: sources, steps, layouts, tails and extremes."""

from datetime import datetime, timedelta

import builders
import pytest
from api_client import Api
from builders import NOW

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def test_raw_points_are_answered_as_they_were_sent(api: Api) -> None:
    """step=raw shows every sample with its own time and value."""
    host = builders.store_host(api.connection)
    builders.store_samples(api.connection, host, [
        (NOW - n * timedelta(seconds=5.25), {"cpu.percent": 45.2 + n}) for n in range(3)])
    found = api.get("/hosts/web-1/metrics", range="1h", step="raw", metric="cpu.percent")
    assert found["ts"] == ["2026-11-21T11:59:49.500Z", "2026-11-21T11:59:54.750Z"]
    assert found["metrics"]["cpu.percent"] == {"unit": "percent", "min": [47.2, 46.2], "mean": [47.2, 46.2], "max": [47.2, 46.2]}
    assert (found["source"], found["step"], found["count"]) == ("raw", 0, [1, 1])


def test_a_spike_survives_downsampling(api: Api) -> None:
    """An hour in 10-second points still shows the one second at 99 %."""
    host = builders.store_host(api.connection)
    values = [99.0 if n == 100 else 10.0 for n in range(300)]
    builders.store_samples(api.connection, host, [
        (NOW - HOUR + n * timedelta(seconds=2), {"cpu.percent": value}) for n, value in enumerate(values)])
    found = api.get("/hosts/web-1/metrics", range="1h", metric="cpu.percent")
    column = found["metrics"]["cpu.percent"]
    assert found["step"] == 10
    assert max(column["max"]) == 99.0
    assert column["mean"][column["max"].index(99.0)] == pytest.approx((99 + 4 * 10) / 5)
    assert found["count"] == [5] * 60


def test_layouts_are_merged_by_metric_name(api: Api) -> None:
    """A host that changes its set of metrics has one history: values are found by name, absence is null."""
    host = builders.store_host(api.connection)
    builders.store_samples(api.connection, host, [
        (NOW - 3 * MINUTE, {"a.x": 1.0, "b.x": 2.0}), (NOW - 2 * MINUTE, {"b.x": 3.0, "a.x": 4.0}), (NOW - MINUTE, {"b.x": 5.0})])
    found = api.get("/hosts/web-1/metrics", range="1h", step="raw", metric=["a.x", "b.x", "c.x"])["metrics"]
    assert (found["a.x"]["mean"], found["b.x"]["mean"], found["c.x"]["mean"]) == ([1.0, 4.0, None], [2.0, 3.0, 5.0], [None] * 3)


def test_rollups_of_two_layouts_in_one_minute_are_one_point(api: Api) -> None:
    """Two rollup rows of a minute merge: least minimum, greatest maximum, mean weighted by count."""
    host = builders.store_host(api.connection)
    minute = NOW - HOUR
    builders.store_rollup(api.connection, "rollup_1m", host, minute, 9, {"cpu.percent": (1, 10, 20), "a.x": (1, 1, 1)})
    builders.store_rollup(api.connection, "rollup_1m", host, minute, 3, {"cpu.percent": (5, 50, 90)})
    found = api.get("/hosts/web-1/metrics", range="6h", step="1m", metric=["cpu.percent", "a.x"])
    assert (found["ts"], found["count"]) == (["2026-11-21T11:00:00Z"], [12])
    assert found["metrics"]["cpu.percent"] == {"unit": "percent", "min": [1.0], "mean": [20.0], "max": [90.0]}
    assert found["metrics"]["a.x"]["mean"] == [1.0]


def test_what_rollups_lack_yet_is_filled_from_finer_history(api: Api) -> None:
    """Hours until the last rollup, then minutes, then raw: each sample counts once and the chart reaches now."""
    host = builders.store_host(api.connection)
    for n in range(2, 5):
        builders.store_rollup(api.connection, "rollup_1h", host, NOW - n * HOUR, 720, {"cpu.percent": (1, 2, 3)})
    for n in range(1, 150):
        builders.store_rollup(api.connection, "rollup_1m", host, NOW - n * MINUTE, 12, {"cpu.percent": (4, 5, 6)})
    builders.store_samples(api.connection, host, [
        (NOW - n * timedelta(seconds=5), {"cpu.percent": 7.0}) for n in range(24, -1, -1)])
    found = api.get("/hosts/web-1/metrics", **{"from": "2026-11-21T08:00:00Z", "to": "2026-11-21T12:00:01Z"},
                    step="1h", metric="cpu.percent")
    assert found["source"] == "rollup_1h"
    assert found["count"] == [720, 720, 720, 720, 1]
    assert found["metrics"]["cpu.percent"]["mean"] == [2.0, 2.0, 2.0, 5.0, 7.0]


@pytest.mark.parametrize(("query", "step", "source"), [
    ({"range": "1h"}, 10, "raw"), ({"range": "6h"}, 60, "rollup_1m"), ({"range": "24h"}, 300, "rollup_1m"),
    ({"range": "7d"}, 3600, "rollup_1h"), ({"range": "30d"}, 7200, "rollup_1h"),
    ({"range": "30d", "step": "1d"}, 86400, "rollup_1d"),
    ({"range": "24h", "max_points": "10"}, 10800, "rollup_1h"), ({}, 300, "rollup_1m"),
    ({"step": "90", "range": "6h"}, 90, "raw"),
    ({"from": "2026-11-01T00:00:00+01:00", "to": "2026-11-01T01:00:00+01:00"}, 60, "rollup_1m")])
def test_step_and_source_fit_the_span(api: Api, query: dict[str, str], step: int, source: str) -> None:
    """The coarsest history that still answers exactly is read; where raw is gone, rollups answer."""
    builders.store_host(api.connection)
    found = api.get("/hosts/web-1/metrics", **query)
    assert (found["step"], found["source"], found["ts"]) == (step, source, [])


def test_patterns_choose_metrics_that_the_host_had(api: Api) -> None:
    """`*` in a metric stands for any characters; braces stand for themselves."""
    host = builders.store_host(api.connection)
    builders.store_rollup(api.connection, "rollup_1m", host, NOW - 5 * HOUR, 1, {"disk.percent{mount=/old}": (1, 1, 1)})
    builders.store_samples(api.connection, host, [
        (NOW - timedelta(seconds=1), {"disk.percent": 1.0, "disk.percent{mount=/}": 2.0})])
    found = api.get("/hosts/web-1/metrics", range="6h", metric=["disk.percent{*}", "cpu.percent"])
    assert list(found["metrics"]) == ["cpu.percent", "disk.percent{mount=/old}", "disk.percent{mount=/}"]
    assert found["metrics"]["disk.percent{mount=/}"]["max"] == [None, 2.0]


def _two_sites(api: Api) -> None:
    for n, site in enumerate(("x", "x", "y")):
        host = builders.store_host(api.connection, f"h{n}", labels={"site": site})
        builders.store_samples(api.connection, host, [
            (NOW - MINUTE + timedelta(seconds=s), {"cpu.percent": 10.0 * n + s}) for s in range(0, 20, 5)])


def test_series_of_many_hosts(api: Api) -> None:
    """One metric of many hosts is a series each; of a host that has none there is none."""
    _two_sites(api)
    builders.store_host(api.connection, "silent")
    found = api.get("/series", metric="cpu.percent", range="1h", step="60")
    assert [(one["host"], one["min"], one["mean"], one["max"]) for one in found["series"]] == [
        ("h0", [0.0], [7.5], [15.0]), ("h1", [10.0], [17.5], [25.0]), ("h2", [20.0], [27.5], [35.0])]
    assert (found["hosts"], found["unit"]) == (4, "percent")
    chosen = api.get("/series", metric="cpu.percent", label="site:y", step="raw", range="1h")["series"]
    assert [one["host"] for one in chosen] == ["h2"]


@pytest.mark.parametrize(("agg", "value"), [("mean", 17.5), ("min", 0.0), ("max", 35.0), ("sum", 52.5), ("count", 3.0)])
def test_series_are_aggregated_over_hosts(api: Api, agg: str, value: float) -> None:
    """agg makes one figure of all hosts a point: extremes of the extremes, the rest of the means."""
    _two_sites(api)
    (series,) = api.get("/series", metric="cpu.percent", range="1h", step="60", agg=agg)["series"]
    assert series["value"] == [value]


def test_series_are_grouped_by_label(api: Api) -> None:
    """group_by makes one series a label value."""
    _two_sites(api)
    found = api.get("/series", metric="cpu.percent", range="1h", step="60", group_by="site")
    assert [(one["group"], one["value"]) for one in found["series"]] == [("x", [12.5]), ("y", [27.5])]


def test_health_history_is_ordinary_history(api: Api) -> None:
    """Scores are stored as metrics, so health over time is asked like any other."""
    host = builders.store_host(api.connection)
    builders.store_rollup(api.connection, "rollup_1m", host, NOW - HOUR, 12, {"health.score": (70, 80, 90)})
    found = api.get("/hosts/web-1/health/history", range="24h")
    assert found["metrics"]["health.score"]["min"] == [70.0]


def test_history_as_csv_has_a_row_a_point_and_metric(api: Api) -> None:
    """CSV of history is tidy: time, metric, count, min, mean, max."""
    host = builders.store_host(api.connection)
    builders.store_samples(api.connection, host, [(NOW - timedelta(seconds=30), {"cpu.percent": 45.2})])
    text = api.ask("/api/v1/hosts/web-1/metrics?range=1h&metric=cpu.percent&metric=disk.percent&format=csv").text
    assert text == ("ts,metric,count,min,mean,max\r\n2026-11-21T11:59:30Z,cpu.percent,1,45.2,45.2,45.2\r\n"
                    "2026-11-21T11:59:30Z,disk.percent,1,,,\r\n")


def test_series_as_ndjson(api: Api) -> None:
    """NDJSON of series has an object a point."""
    _two_sites(api)
    lines = api.ask("/api/v1/series?metric=cpu.percent&range=1h&step=60&agg=sum",
                    headers={"Accept": "application/x-ndjson"}).text.splitlines()
    assert lines == ['{"group":"","ts":"2026-11-21T11:59:00Z","value":52.5}']


@pytest.mark.parametrize(("query", "field"), [
    ("range=2h", "range"), ("range=1h&from=2026-11-21T00:00:00Z", "range"), ("from=yesterday", "from"),
    ("from=2026-11-21T00:00:00", "from"), ("from=2026-02-30T00:00:00Z", "from"), ("from=2026-11-22T00:00:00Z", "from"),
    ("from=1500-01-01T00:00:00Z", "from"), ("from=0001-01-01T00:00:00%2B23:59", "from"), ("step=0", "step"), ("step=-5", "step"),
    ("step=1e9", "step"), ("range=7d&step=1", "step"), ("max_points=0", "max_points"),
    ("max_points=99999", "max_points"), ("metric=DROP", "metric"), ("metric=cpu%00", "metric"), ("format=xml", "format")])
def test_unusable_spans_are_refused_by_name(api: Api, query: str, field: str) -> None:
    """A parameter outside its bounds is a 422 that names it."""
    builders.store_host(api.connection)
    response = api.ask(f"/api/v1/hosts/web-1/metrics?{query}")
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["errors"][0]["field"].startswith(field)


def test_a_time_before_the_first_sample_is_empty(api: Api) -> None:
    """A host without data in the span answers empty columns, not an error."""
    host = builders.store_host(api.connection)
    builders.store_samples(api.connection, host, [(datetime(2026, 11, 20, tzinfo=NOW.tzinfo), {"cpu.percent": 1.0})])
    found = api.get("/hosts/web-1/metrics", range="1h", metric="cpu.percent")
    assert found["metrics"]["cpu.percent"]["mean"] == []


def test_tails_of_many_hosts_follow_each_host(api: Api) -> None:
    """Hosts whose rollups end at different hours each get the rest from minutes, and nothing twice."""
    for name, hours in (("ahead", 1), ("behind", 2), ("new", 0)):
        host = builders.store_host(api.connection, name)
        for n in range(3, 3 - hours, -1):
            builders.store_rollup(api.connection, "rollup_1h", host, NOW - n * HOUR, 60, {"cpu.percent": (1, 1, 1)})
        for n in range(1, 61 if name == "new" else 181):
            builders.store_rollup(api.connection, "rollup_1m", host, NOW - n * MINUTE, 1, {"cpu.percent": (1, 1, 1)})
    found = api.get("/series", metric="cpu.percent", range="6h", step="1h", agg="count")
    assert found["series"][0]["value"] == [2.0, 2.0, 3.0]


@pytest.mark.parametrize("span", ["1h", "24h", "30d"])
def test_a_fleet_without_hosts_has_no_series(api: Api, span: str) -> None:
    """A filter that fits no host answers no series, from whatever source."""
    found = api.get("/series", metric="cpu.percent", label="site:none", range=span)
    assert (found["hosts"], found["series"]) == (0, [])


def test_rates_of_counters_survive_a_restart(api: Api) -> None:
    """A counter's growth per second: a fall counts from 0, and the greatest rate inside a point is kept."""
    host = builders.store_host(api.connection)
    values = [100.0, 110.0, 160.0, 5.0, 10.0]
    builders.store_samples(api.connection, host, [
        (NOW - MINUTE + n * timedelta(seconds=10), {"custom.hits_total": value}) for n, value in enumerate(values)])
    raw = api.get("/hosts/web-1/metrics", range="1h", step="raw", metric="custom.hits_total", rate="true")
    assert raw["metrics"]["custom.hits_total"]["mean"] == [1.0, 5.0, 0.5, 0.5]
    merged = api.get("/hosts/web-1/metrics", range="1h", step="60", metric="custom.hits_total", rate="true")
    assert merged["metrics"]["custom.hits_total"] == {"unit": None, "min": [0.5], "mean": [1.75], "max": [5.0]}
    fleet = api.get("/series", range="1h", step="60", metric="custom.hits_total", rate="true", agg="sum")
    assert fleet["series"][0]["value"] == [1.75]
    assert api.get("/series", range="1h", metric="cpu.percent", rate="true")["unit"] == "percent/s"


def test_a_question_that_would_fill_memory_is_refused(api: Api) -> None:
    """A week of raw history of many hosts is refused, saying what to mend; with a larger step it is answered."""
    for n in range(50):
        builders.store_host(api.connection, f"h{n}")
    refused = api.ask("/api/v1/series?metric=cpu.percent&range=7d&step=10")
    assert refused.status_code == 422
    assert "fewer hosts" in refused.json()["detail"]
    assert api.ask("/api/v1/series?metric=cpu.percent&range=7d&step=1h").status_code == 200
