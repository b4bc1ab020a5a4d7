"""Anomaly runs, trends, correlations, insights and explanations over a real Postgres."""

import json
import math
from datetime import timedelta
from typing import Any

import builders
import numpy as np
import pytest
from alert_rows import store_firing
from analytics_rows import autoregressive, store_series
from api_client import Api
from builders import NOW
from psycopg.types.json import Jsonb

from aggregator.store import partitions
from aggregator.store.duties import fetch_now

DAY, HOUR = 1440, 60


@pytest.fixture
def web(api: Api) -> int:
    """web-1 with nine days of minutes: CPU with noise, at 90 % for an hour until an hour ago; a disk that fills; a constant."""
    builders.store_partitions(api.connection, since=NOW - timedelta(days=20))
    host = builders.store_host(api.connection, "web-1")
    minutes = 9 * DAY
    cpu = 20 + 2 * autoregressive(0.5, (1, minutes))[0]
    cpu[-2 * HOUR:-HOUR] = 90.0
    load = np.roll(cpu, 3) / 20 + 0.05 * autoregressive(0.0, (1, minutes), seed=2)[0]
    disk = 60 + np.arange(minutes) * 4 / DAY + 0.01 * autoregressive(0.0, (1, minutes), seed=3)[0]
    metrics = {"cpu.percent": cpu, "cpu.load1": load, "disk.percent{mount=/var}": disk, "cpu.count": np.full(minutes, 8.0)}
    store_series(api.connection, "rollup_1m", [host], metrics, 60)
    store_series(api.connection, "rollup_1h", [host], {name: hourly(values) for name, values in metrics.items()}, 3600)
    return host


def hourly(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, 60).mean(axis=1)


def run(api: Api, **asked: Any) -> dict[str, Any]:
    answer = api.ask("/api/v1/anomaly-runs", "POST", json={"metrics": ["cpu.percent"], "hosts": ["web-1"]} | asked)
    assert answer.status_code == 201, answer.text
    assert api.get(f"/anomaly-runs/{answer.json()['id']}") == answer.json()
    return dict(answer.json()["result"])


@pytest.mark.parametrize("method", ["zscore", "default"])
def test_anomalies_in_stored_history_are_found(api: Api, web: int, method: str) -> None:
    """The hour at 90 % is the largest anomaly, with begin, end, peak and what was expected; it can be read again by its id."""
    found = run(api, method=method, range="24h", bands=True, sensitivity=0.5)
    largest = found["anomalies"][0]
    assert (largest["host"], largest["metric"], largest["unit"]) == ("web-1", "cpu.percent", "percent")
    assert largest["value"] == pytest.approx(90.0)
    assert largest["high"] < 60
    assert abs((builders.datetime.fromisoformat(largest["from"]) - (NOW - timedelta(hours=2))).total_seconds()) <= found["step"]
    assert found["total"] == len(found["anomalies"])
    band = found["bands"][0]
    assert len(band["ts"]) == len(band["value"]) == len(band["low"]) > 20
    assert found["judged_points"] == len(band["ts"])


def test_a_higher_sensitivity_finds_more(api: Api, web: int) -> None:
    """Sigma over sensitivity is the threshold: 2 by default."""
    counts = [run(api, method="zscore", sensitivity=sensitivity)["total"] for sensitivity in (0.5, 1.0, 2.0)]
    assert counts[0] < counts[1] < counts[2]
    assert run(api, method="zscore", sensitivity=2.0, sigma=3.0)["threshold"] == 1.5


@pytest.mark.parametrize(("body", "field"), [
    ({"metrics": ["no metric"]}, "metric"), ({"metrics": []}, "metrics"), ({"range": "5y"}, "range"),
    ({"window": "1y"}, "window"),
    ({"sigma": 0}, "sigma"), ({"method": "magic"}, "method"), ({"from": "2020-01-01T00:00:00Z"}, "from"),
    ({"range": "1h", "from": "2026-11-21T00:00:00Z"}, "range"), ({"color": 1}, "color")])
def test_what_cannot_be_run_is_named(api: Api, web: int, body: dict[str, Any], field: str) -> None:
    """A 422 names the field; a host that is not there is a 404."""
    answer = api.ask("/api/v1/anomaly-runs", "POST", json={"metrics": ["cpu.percent"], "hosts": ["web-1"]} | body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field
    assert api.ask("/api/v1/anomaly-runs", "POST", json={"metrics": ["cpu.percent"], "hosts": ["none"]}).status_code == 404


@pytest.mark.parametrize("method", ["zscore", "default"])
@pytest.mark.parametrize("metric", ["cpu.count", "no.such", "disk.percent{*}"])
def test_runs_over_little_or_nothing_are_answered(api: Api, web: int, method: str, metric: str) -> None:
    """A constant has no anomaly; an unknown metric and a span before any history say so in a note; nothing is NaN."""
    found = run(api, metrics=[metric], method=method)
    if metric != "disk.percent{*}":
        assert found["total"] == 0
    assert (found["series"] == 0) == (found["notes"] == ["no host has such a metric in that time"])
    before = {"from": "2026-11-03T00:00:00Z", "to": "2026-11-04T00:00:00Z"}
    assert run(api, metrics=[metric], method=method, **before)["series"] == 0


def test_runs_are_kept_for_a_month(api: Api, web: int) -> None:
    """Retention deletes a run of 31 days ago, and leaves that of today."""
    for _ in range(2):
        run(api, method="zscore")
    api.connection.execute("""UPDATE anomaly_run SET created_at = now() - interval '31 days'
                              WHERE id = (SELECT min(id) FROM anomaly_run)""")
    partitions.delete_old(api.connection, partitions.fetch_policies(api.connection), fetch_now(api.connection))
    assert api.connection.execute("SELECT count(*) FROM anomaly_run").fetchone() == (1,)


def test_stored_anomalies_are_listed_by_filter_and_page(api: Api) -> None:
    """The latest begin first; host, open and time narrow it; one is read by its id."""
    hosts = [builders.store_host(api.connection, name) for name in ("web-1", "db-1")]
    explaining = [{"metric": "cpu.percent", "share": 0.7, "value": 93.0, "low": 8.0, "high": 30.0}]
    for n, (host, hours, ended) in enumerate([(hosts[0], 30, 29), (hosts[1], 5, 4), (hosts[0], 2, None)]):
        api.connection.execute(
            """INSERT INTO anomaly (id, host_id, began_at, ended_at, peak_at, peak, threshold, metrics)
               VALUES (%s, %s, %s, %s, %s, 5.5, 3.0, %s)""",
            [n + 1, host, NOW - timedelta(hours=hours), None if ended is None else NOW - timedelta(hours=ended),
             NOW - timedelta(hours=hours), Jsonb(explaining)])

    def ids(**asked: Any) -> list[int]:
        return [one["id"] for one in api.get("/anomalies", **asked)["anomalies"]]

    assert ids() == [3, 2, 1]
    assert (ids(host="web-1"), ids(open="true"), ids(open="false")) == ([3, 1], [3], [2, 1])
    assert ids(**{"from": "2026-11-21T07:30:00Z", "to": "2026-11-21T09:00:00Z"}) == [2]
    first = api.get("/anomalies", limit=2)
    assert [one["id"] for one in api.get("/anomalies", limit=2, cursor=first["next_cursor"])["anomalies"]] == [1]
    assert api.get("/anomalies/3")["metrics"] == explaining
    assert api.ask("/api/v1/anomalies/9").status_code == 404
    assert api.ask("/api/v1/anomalies?cursor=x").status_code == 422
    told = [one for one in api.get("/insights")["insights"] if one["kind"] == "anomaly"]
    assert told[0]["text"].startswith("web-1 was unlike itself for 2 hours so far")
    assert "cpu.percent was 93 % where 8 % to 30 % is usual (70 %)" in told[0]["text"]


def test_trends_tell_direction_slope_and_time_left(api: Api, web: int) -> None:
    """A disk that grows by 4 points a day is up in every window and full when the line says; a CPU that wanders is not."""
    found = api.get("/trends", metric="disk.percent{mount=/var}", host="web-1", window=["24h", "7d"])
    assert [(row["window"], row["direction"]) for row in found["trends"]] == [("24h", "up"), ("7d", "up")]
    week = found["trends"][1]
    assert week["slope_per_day"] == pytest.approx(4.0, rel=0.01)
    assert week["change_percent"] == pytest.approx(100 * 28 / 68, rel=0.02)
    assert week["moving_average"] == pytest.approx(60 + 4 * 5.5, rel=0.01)
    assert week["time_to_threshold"]["seconds"] == pytest.approx((100 - 96) / 4 * 86400, rel=0.02)
    assert week["forecast"]["value"] == pytest.approx(96 + 28, rel=0.01)
    assert week["forecast"]["low"] <= week["forecast"]["value"] <= week["forecast"]["high"]
    cpu = api.get("/trends", metric="cpu.percent", window="7d", at="2026-11-21T09:00:00Z")["trends"][0]
    assert (cpu["direction"], cpu["note"]) == ("neutral", "the slope may be chance")


def test_forecasts_say_when_it_is_full(api: Api, web: int) -> None:
    """The file system that fills is full in a day; a nearer target sooner, one that was passed never, and no constant."""
    found = api.get("/forecasts")["forecasts"]
    assert [(one["host"], one["metric"]) for one in found] == [("web-1", "disk.percent{mount=/var}")]
    assert found[0]["seconds"] == pytest.approx(86400, rel=0.03)
    assert found[0]["low"] <= found[0]["seconds"] <= found[0]["high"]
    assert api.get("/forecasts", metric="disk.*", target=98)["forecasts"][0]["seconds"] == pytest.approx(43200, rel=0.05)
    assert api.get("/forecasts", target=50)["forecasts"] == api.get("/forecasts", metric="cpu.count")["forecasts"] == []


@pytest.mark.parametrize("path", [
    "/hosts/web-1/metrics?to=0001-01-01T00:00:00Z", "/hosts/web-1/metrics?to=9999-12-31T23:59:59Z&step=2592000",
    "/series?metric=cpu.percent&to=0001-01-01T00:00:00Z&range=30d", "/annotations?to=0001-01-01T00:00:00Z",
    "/trends?metric=cpu.percent&window=5m", "/trends?metric=cpu.percent&window=400d&points=true",
    "/trends?metric=a.b{c=d}&window=9m", "/trends?metric=cpu.percent&threshold=1e15",
    "/trends?metric=cpu.percent&at=2001-01-01T00:00:00Z", "/trends?metric=cpu.percent&at=0001-01-01T00:00:00Z",
    "/trends?metric=cpu.percent&threshold=1e308", "/trends?metric=cpu.percent&at=9999-12-31T23:59:59Z",
    "/correlations?metric=cpu.percent&host=web-1&around=0001-01-01T00:00:00Z", "/forecasts?metric=*&target=-1e308",
    "/correlations?metric=cpu.percent&host=web-1&window=5m", "/forecasts?metric=*&target=-1e15",
    "/correlations?metric=cpu.percent&host=web-1&around=9999-12-31T23:59:59Z&lags=60", "/insights?at=2001-01-01T00:00:00Z",
    "/insights?at=0001-01-01T00:00:00Z", "/hosts/web-1/explanation?at=0001-01-01T00:00:00Z",
    "/hosts/web-1/explanation?at=2001-01-01T00:00:00Z&window=400d",
    "/anomalies?from=0001-01-01T00:00:00Z&to=9999-12-31T23:59:59Z",
    "/anomalies?cursor=bnVsbA", "/anomaly-runs/0", "/anomaly-runs/9223372036854775807", "/anomalies/99999999999999999999"])
def test_odd_questions_are_no_fault_of_the_server(api: Api, web: int, path: str) -> None:
    """Times before and after all history, the shortest and longest windows: an answer without NaN, a 404 or a 422."""
    answer = api.ask(f"/api/v1{path}")
    assert answer.status_code in (200, 404, 422), answer.text
    json.loads(answer.text, parse_constant=pytest.fail)


@pytest.mark.parametrize("span", [
    {"to": "0001-01-01T00:00:00Z"}, {"from": "0001-01-01T00:00:00Z", "to": "0001-01-02T00:00:00Z"},
    {"from": "0001-01-01T00:00:00Z"}, {"to": "9999-12-31T23:59:59Z"}])
def test_runs_over_the_ends_of_the_calendar_are_answered(api: Api, web: int, span: dict[str, str]) -> None:
    """Before all history a run is refused by the name of the time; after it there is nothing to find."""
    runs = {"anomaly-runs": {"metrics": ["cpu.percent"]},
            "correlation-runs": {"metric": "cpu.percent", "host": "web-1", "metrics": ["*"]}}
    for path, body in runs.items():
        answer = api.ask(f"/api/v1/{path}", "POST", json=body | span)
        assert answer.status_code == (422 if "0001" in str(span) else answer.status_code), answer.text
        assert answer.status_code in (200, 201, 422), answer.text
        json.loads(answer.text, parse_constant=pytest.fail)


def test_trends_at_any_minute_tell_the_average_before(api: Api, web: int) -> None:
    """Between two steps of history, too, both averages are those of whole windows; a line of few points has no forecast."""
    found = api.get("/trends", metric="disk.percent{mount=/var}", window="24h", at="2026-11-21T11:37:11Z")["trends"]
    assert found[0]["moving_average"] - found[0]["moving_average_before"] == pytest.approx(4.0, rel=0.02)
    assert found[0]["points"] * found[0]["step"] == 86_400
    young = builders.store_host(api.connection, "young-1")
    store_series(api.connection, "rollup_1m", [young], {"swap.percent": (np.arange(12.0) - 5.5) ** 2}, 60)
    bent = api.get("/trends", metric="swap.percent", host="young-1", window="6h")["trends"][0]
    assert (bent["points"], bent["effective_points"] < 3, bent["forecast"]) == (6, True, None)


def test_a_host_of_500_metrics_is_looked_at_wholly(api: Api) -> None:
    """A host may have 512 metrics: correlations, explanations and runs take all of them."""
    host = builders.store_host(api.connection, "web-1")
    noise = autoregressive(0.3, (500, 150))
    store_series(api.connection, "rollup_1m", [host], {f"custom.m{n}": row for n, row in enumerate(noise)}, 60)
    found = api.get("/correlations", metric="custom.m7", host="web-1", window="2h")
    assert (found["compared"], found["left_out"]) == (499, 0)
    assert api.get("/hosts/web-1/explanation")["host"] == "web-1"
    assert run(api, metrics=["*"], method="zscore", range="6h")["series"] == 500


def test_trends_of_nothing_and_of_constants_are_answered(api: Api, web: int) -> None:
    """A constant is neutral, a metric that is not there unknown, a fleet without it an empty list; averages come along."""
    answer = api.get("/trends", metric="cpu.count", window="24h", points=True)
    still = answer["trends"][0]
    assert (still["direction"], still["note"], still["change_percent"]) == ("neutral", "constant", 0)
    assert set(answer["series"][0]["moving_average"]) == {8.0}
    none = api.get("/trends", metric="no.such", host="web-1", window="24h")["trends"][0]
    assert (none["direction"], none["note"]) == ("unknown", "no points in this window")
    assert (none["slope_per_day"], none["forecast"]) == (None, None)
    assert api.get("/trends", metric="no.such")["trends"] == []
    for asked, status in (({"metric": "cpu.*"}, 422), ({"metric": "cpu.percent", "window": "x"}, 422), ({}, 422),
                          ({"metric": "cpu.percent", "host": "none"}, 404), ({"metric": "cpu.percent", "threshold": "nan"}, 422)):
        assert api.ask("/api/v1/trends", params=asked).status_code == status, asked


def test_correlations_name_what_moved_together_and_when(api: Api, web: int) -> None:
    """Load that follows the CPU by three minutes is found at that lag; a constant is left out; the fleet compares hosts."""
    found = api.get("/correlations", metric="cpu.percent", host="web-1", window="2h", around="2026-11-21T08:00:00Z")
    first = found["correlations"][0]
    assert (first["metric"], first["significant"]) == ("cpu.load1", True)
    assert abs(first["lag_seconds"] - 180) <= found["step"]
    assert first["text"].startswith("cpu.load1 moved with it, ")
    assert found["left_out"] == 1
    assert api.get("/correlations", metric="cpu.percent", host="web-1", scope="fleet")["correlations"] == []
    run = api.ask("/api/v1/correlation-runs", "POST", json={
        "metric": "cpu.percent", "host": "web-1", "metrics": ["cpu.*"], "range": "6h"}).json()
    assert run["correlations"][0]["metric"] == "cpu.load1"
    nothing = api.get("/correlations", metric="no.such", host="web-1")
    assert (nothing["correlations"], nothing["notes"]) == ([], ["web-1 has no no.such in that time"])
    still = api.get("/correlations", metric="cpu.count", host="web-1")
    assert (still["correlations"], still["notes"]) == ([], ["it is constant, or nothing else moved"])
    assert api.ask("/api/v1/correlations?metric=cpu.percent&host=none").status_code == 404


def test_short_windows_have_a_sample_in_every_step(api: Api) -> None:
    """Five minutes of samples every 5 s are looked at in steps of 10 s: none is empty, so neighbours are there to compare."""
    host = builders.store_host(api.connection, "web-1")
    builders.store_partitions(api.connection)
    slow = np.cumsum(autoregressive(0.0, (2, 120)), axis=1) + 50
    builders.store_samples(api.connection, host, [
        (NOW - timedelta(seconds=5 * (120 - t)), {"cpu.percent": slow[0, t], "memory.percent": slow[1, t]}) for t in range(120)])
    found = api.get("/correlations", metric="cpu.percent", host="web-1", window="5m", lags=0)
    assert (found["step"], found["correlations"][0]["points"]) == (10, 30)
    trend = api.get("/trends", metric="cpu.percent", host="web-1", window="5m")["trends"][0]
    assert (trend["step"], trend["points"]) == (10, 30)


def test_insights_say_what_stands_out_with_evidence(api: Api, web: int) -> None:
    """A disk that fills is told with its time; the evidence names metric, host, span and the figures of the sentence."""
    found = api.get("/insights", host="web-1")
    full = next(one for one in found["insights"] if one["kind"] == "limit")
    assert full["text"].startswith("/var is full on web-1 in 24 hours")
    assert "Make room" in full["recommendation"]
    evidence = full["evidence"][0]
    assert (evidence["host"], evidence["metric"]) == ("web-1", "disk.percent{mount=/var}")
    assert evidence["figures"]["points_per_day"] == pytest.approx(4.0, rel=0.01)
    span = {"from": evidence["from"], "to": evidence["to"]}
    history = api.get("/hosts/web-1/metrics", **span, metric=evidence["metric"], step="1h")
    assert history["metrics"][evidence["metric"]]["mean"][-1] == pytest.approx(evidence["figures"]["value"])
    changes = [one for one in found["insights"] if one["kind"] == "change"]
    assert any("cpu.load1 of web-1" in one["text"] for one in changes)
    assert {one["kind"] for one in api.get("/insights", kind="limit")["insights"]} == {"limit"}
    assert api.ask("/api/v1/insights?host=none").status_code == 404


def test_an_empty_fleet_has_no_insights(api: Api) -> None:
    """Without hosts, and for a host without history, the list is empty."""
    assert api.get("/insights")["insights"] == []
    builders.store_host(api.connection, "web-1")
    assert api.get("/insights", host="web-1")["insights"] == []
    assert api.get("/hosts/web-1/explanation")["unusual"] == []


def test_a_rule_that_fires_much_is_told(api: Api) -> None:
    """Six firings of one rule on a host are an insight with their number, and how many were short."""
    host = builders.store_host(api.connection, "web-1")
    for n in range(6):
        at = NOW - timedelta(hours=n + 1)
        store_firing(api.connection, host, at=at, state="resolved", resolved_at=at + timedelta(minutes=2 if n else 20),
                     changed_at=at + timedelta(minutes=2), instance=f"x={n}")
    noisy = [one for one in api.get("/insights")["insights"] if one["kind"] == "noisy_rule"]
    assert noisy[0]["text"] == "Rule high_cpu fired 6 times on web-1, 5 times for less than five minutes."


def test_a_time_is_explained(api: Api, web: int) -> None:
    """The CPU's hour is what was unusual; the load moved with it; the alert of that time is listed."""
    store_firing(api.connection, web, at=NOW - timedelta(minutes=90), message="CPU is busy")
    found = api.get("/hosts/web-1/explanation", at="2026-11-21T10:30:00Z", window="1h")
    assert {one["metric"] for one in found["unusual"][:2]} == {"cpu.percent", "cpu.load1"}
    assert "was usual in the day before" in found["unusual"][0]["text"]
    assert found["together"][0]["metric"] in ("cpu.percent", "cpu.load1")
    assert [one["title"] for one in found["alerts"]] == ["CPU is busy"]
    calm = api.get("/hosts/web-1/explanation", at="2026-11-20T03:00:00Z", window="30m")
    assert [one["metric"] for one in calm["unusual"] if one["metric"].startswith("cpu")] == []
    assert (calm["alerts"], calm["executions"], calm["anomalies"]) == ([], [], [])


def test_nothing_impossible_is_called_usual(api: Api, web: int) -> None:
    """A rate that is mostly 0 with bursts has a band from 0 on, in runs and in explanations, and z is that of the whole band."""
    rate = np.where(np.arange(9 * DAY) % 60 < 3, 1e6, 0.0)
    rate[-30:] = 5e6
    store_series(api.connection, "rollup_1m", [builders.store_host(api.connection, "net-1")],
                 {"network.receive_bytes_per_second": rate}, 60)
    for method in ("zscore", "default"):
        found = run(api, metrics=["network.*"], hosts=["net-1"], method=method, bands=True)
        assert {low for low in found["bands"][0]["low"] if low is not None} == {0.0}
        assert {one["low"] for one in found["anomalies"]} == {0.0}
    told = api.get("/hosts/net-1/explanation")["unusual"][0]
    assert (told["low"], told["z"] > 3) == (0.0, True)
    assert "where 0 B/s to " in told["text"]


def test_nothing_in_an_answer_is_nan(api: Api, web: int) -> None:
    """Every number of every answer is finite, gaps and constants included."""
    gap = [NOW - timedelta(hours=9), NOW - timedelta(hours=5)]
    api.connection.execute("DELETE FROM rollup_1m WHERE ts BETWEEN %s AND %s", gap)
    for path in ("/trends?metric=cpu.count", "/trends?metric=cpu.percent&points=true", "/insights", "/hosts/web-1/explanation",
                 "/correlations?metric=cpu.percent&host=web-1"):
        json.loads(api.ask(f"/api/v1{path}").text, parse_constant=pytest.fail)
    found = run(api, metrics=["*"], method="zscore", range="7d", bands=True)
    assert all(math.isfinite(one["score"]) for one in found["anomalies"])
