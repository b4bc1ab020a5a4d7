"""The API over a real Postgres: every route answers what is stored."""

import csv
import io
import json
from datetime import timedelta
from typing import Any

import builders
import pytest
from api_client import Api
from builders import NOW

METRICS = {"cpu.percent": 45.2, "cpu.load1": 1.5, "cpu.count": 4.0, "memory.percent": 20.0, "disk.percent": 64.0,
           "disk.percent{mount=/}": 64.0, "memory.total_bytes": 8589934592.0, "health.score": 87.5, "health.cpu": 80.63}


def test_hosts_are_listed_with_state_and_figures(api: Api) -> None:
    """The list shows liveness, the word of the score and the main figures of each host."""
    builders.store_host(api.connection, "web-1", labels={"site": "berlin"})
    builders.store_host(api.connection, "web-2", score=55.0, received_at=NOW - timedelta(hours=1))
    found = api.get("/hosts")
    assert [(h["name"], h["state"], h["status"], h["score"]) for h in found["hosts"]] == [
        ("web-1", "online", "healthy", 90.0), ("web-2", "offline", "warning", 55.0)]
    assert found["total"] == 2
    assert found["next_cursor"] is None
    assert found["hosts"][0]["labels"] == {"site": "berlin"}
    assert found["hosts"][0]["received_at"] == "2026-11-21T12:00:00Z"


@pytest.mark.parametrize(("query", "names"), [
    ({"state": "offline"}, ["c"]), ({"status": ["critical", "unknown"]}, ["a", "d"]), ({"label": "site:x"}, ["a", "b"]),
    ({"label": "rack"}, ["b"]), ({"label": ["site:x", "rack:1"]}, ["b"]), ({"q": "C"}, ["c"]),
    ({"host": ["a", "d"]}, ["a", "d"]),
    ({"label": "site:none"}, [])])
def test_hosts_are_filtered(api: Api, query: dict[str, Any], names: list[str]) -> None:
    """Each filter narrows the list, and several together narrow it further."""
    builders.store_host(api.connection, "a", labels={"site": "x"}, score=10.0)
    builders.store_host(api.connection, "b", labels={"site": "x", "rack": "1"})
    builders.store_host(api.connection, "c", received_at=NOW - timedelta(days=1), labels={"site": "y"})
    builders.store_host(api.connection, "d", score=None)
    found = api.get("/hosts", **query)
    assert [h["name"] for h in found["hosts"]] == names
    assert found["total"] == len(names)


@pytest.mark.parametrize("sort", ["name", "-name", "score", "-score", "cpu", "-cpu", "last_seen", "-last_seen", "memory",
                                  "-disk"])
def test_pages_together_are_the_whole_list(api: Api, sort: str) -> None:
    """Following the cursor shows every host once, in the asked order, hosts without the figure last."""
    for n in range(11):
        builders.store_host(api.connection, f"h{n}", score=[None, 50.0, 70.1][n % 3], cpu=float(n % 4) or None, memory=n / 7,
                            received_at=None if n == 10 else NOW - timedelta(seconds=n // 2))
    whole = [h["name"] for h in api.get("/hosts", sort=sort)["hosts"]]
    assert sorted(whole) == sorted(f"h{n}" for n in range(11))
    pages, page = [], None
    while True:
        found = api.get("/hosts", sort=sort, limit=3, **({"cursor": page} if page else {}))
        pages += [h["name"] for h in found["hosts"]]
        assert found["total"] == 11
        if (page := found["next_cursor"]) is None:
            break
    assert pages == whole
    if sort.strip("-") == "score":
        ends = ["h0", "h10", "h3", "h6", "h9"]
        lower, higher = ["h1", "h4", "h7"], ["h2", "h5", "h8"]
        assert whole == (lower + higher if sort == "score" else higher + lower) + ends


def test_one_host_and_its_deletion(api: Api) -> None:
    """A host is shown, and once deleted it is gone with every row of it; ingest, which remembers it, loses its lease."""
    host = builders.store_host(api.connection)
    builders.store_samples(api.connection, host, [(NOW, METRICS)])
    builders.store_rollup(api.connection, "rollup_1m", host, NOW, 1, {"cpu.percent": (1, 2, 3)})
    api.connection.execute("INSERT INTO slot (slot, owner, epoch, expires_at) VALUES (0, 'x', 7, now() + interval '9 s')")
    assert api.get("/hosts/web-1")["name"] == "web-1"
    assert api.ask("/api/v1/hosts/web-2", "DELETE").status_code == 404
    assert api.connection.execute("SELECT epoch FROM slot").fetchone() == (7,)
    assert api.ask("/api/v1/hosts/web-1", "DELETE").status_code == 204
    assert api.ask("/api/v1/hosts/web-1").status_code == 404
    for table in ("host", "host_now", "sample", "rollup_1m"):
        assert api.connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    assert api.connection.execute("SELECT epoch, expires_at < now() FROM slot").fetchone() == (8, True)
    assert api.connection.execute("SELECT actor, action, object FROM audit_log").fetchall() == [("tests", "delete", "web-1")]


def test_latest_shows_every_metric_of_the_newest_sample(api: Api) -> None:
    """Latest is the newest sample whole, with numbers as they were sent."""
    host = builders.store_host(api.connection)
    builders.store_samples(api.connection, host, [(NOW - timedelta(seconds=5), {"cpu.percent": 1.0}), (NOW, METRICS)])
    found = api.get("/hosts/web-1/latest")
    assert found["metrics"] == METRICS
    assert found["ts"] == "2026-11-21T12:00:00Z"


def test_health_has_a_reason_for_every_lost_point(api: Api) -> None:
    """Health shows score, components and reasons: 45.2 % CPU costs 19.37 points of the CPU's health."""
    host = builders.store_host(api.connection)
    builders.store_samples(api.connection, host, [(NOW, METRICS)])
    found = api.get("/hosts/web-1/health")
    assert found["components"]["cpu"]["score"] == 80.63
    assert {"component": "cpu", "points": 19.37, "text": "CPU is 45.2 % busy"} in found["reasons"]
    assert found["recommendations"] == ["All systems operating normally."]
    assert found["ts"] == "2026-11-21T12:00:00Z"
    assert found["components"]["cpu"]["details"].keys() >= {"cpu.percent", "base_score", "load_penalty"}
    assert found["components"]["disk"]["details"]["disk.percent{mount=/}"] == 64.0


def test_fleet_health_counts_live_hosts_and_shows_the_worst(api: Api) -> None:
    """Fleet health is the mean of the hosts online, with the worst and why, also by label."""
    full = builders.store_host(api.connection, "db-1", score=40.0, labels={"site": "x"})
    builders.store_host(api.connection, "web-1", score=100.0, labels={"site": "y"})
    builders.store_host(api.connection, "gone", score=1.0, received_at=NOW - timedelta(days=1))
    builders.store_samples(api.connection, full, [(NOW, {"disk.percent": 95.0, "disk.percent{mount=/var}": 95.0})])
    found = api.get("/fleet/health", group_by="site")
    assert (found["score"], found["hosts"], found["online"]) == (70.0, 3, 2)
    assert found["by_state"]["offline"] == 1
    assert found["by_status"] == {"healthy": 1, "degraded": 0, "warning": 1, "critical": 0, "unknown": 0}
    assert found["worst"][0]["host"] == "db-1"
    assert found["worst"][0]["reasons"] == ["disk: /var is 95.0 % full"]
    assert [(g["group"], g["score"]) for g in found["groups"]] == [("", None), ("x", 40.0), ("y", 100.0)]
    advice = api.get("/recommendations")["recommendations"]
    assert [one["host"] for one in advice] == ["db-1"]
    assert "/var is nearly full" in advice[0]["recommendation"]


def test_snapshots_are_shown(api: Api) -> None:
    """Containers, processes and sensors come from the latest snapshots, sorted and bounded; absence has its reason."""
    host = builders.store_host(api.connection, inventory={"host": "web-1", "ts": 1.0, "boot_at": 2.0, "collectors": [
        {"name": "sensors", "up": False, "reason": "no sensor chips"}]})
    builders.store_snapshot(api.connection, host, "containers", {"total": 2, "containers": [
        {"id": "2", "name": "shop", "state": "running", "health": "unhealthy", "started_at": 1763668800.0},
        {"id": "1", "name": "db", "state": "exited", "should_run": True}]})
    builders.store_snapshot(api.connection, host, "processes", {"total": 99, "processes": [
        {"pid": n, "name": f"p{n}", "cpu_percent": float(n), "memory_bytes": 100 - n, "io_bytes_per_second": None}
        for n in range(60)]})
    containers = api.get("/hosts/web-1/containers")
    assert [c["name"] for c in containers["containers"]] == ["db", "shop"]
    assert [c["uptime_seconds"] for c in containers["containers"]] == [None, 31_593_600.0]
    assert containers["containers"][1]["started_at"] == "2025-11-20T20:00:00Z"
    assert (containers["total"], containers["running"], containers["stopped"]) == (2, 1, 1)
    processes = api.get("/hosts/web-1/processes")
    assert [p["pid"] for p in processes["processes"]] == list(range(59, 49, -1))
    assert processes["total"] == 99
    assert [p["pid"] for p in api.get("/hosts/web-1/processes", sort="memory", limit=2)["processes"]] == [0, 1]
    assert api.ask("/api/v1/hosts/web-1/processes?limit=51").status_code == 422
    sensors = api.get("/hosts/web-1/sensors")
    assert (sensors["available"], sensors["reason"]) == (False, "no sensor chips")
    assert api.get("/hosts/web-1/inventory")["boot_at"] == "1970-01-01T00:00:02Z"


def test_containers_of_the_fleet_are_filtered_counted_and_paged(api: Api) -> None:
    """The fleet's containers are one list by host and name; filters narrow list and counts, pages show each once."""
    for host in ("web-2", "web-1"):
        builders.store_snapshot(api.connection, builders.store_host(api.connection, host), "containers", {"containers": [
            {"id": f"{host}{n}", "name": "shop" if n else "db", "state": "running" if n else "exited", "should_run": n < 1,
             "health": "unhealthy" if n == 1 else ""} for n in range(3)]})
    found = api.get("/containers")
    assert [(c["host"], c["name"]) for c in found["containers"]] == [
        (host, name) for host in ("web-1", "web-2") for name in ("db", "shop", "shop")]
    assert (found["total"], found["running"], found["stopped"], found["next_cursor"]) == (6, 4, 2, None)
    assert [c["id"] for c in api.get("/containers", health="unhealthy")["containers"]] == ["web-11", "web-21"]
    exited = api.get("/containers", state="exited", q="d", host="web-2")
    assert ([c["id"] for c in exited["containers"]], exited["total"], exited["stopped"]) == (["web-20"], 1, 1)
    pages, page = [], {}
    while page.get("cursor", "") is not None:
        one = api.get("/containers", limit=2, **page)
        pages += [c["id"] for c in one["containers"]]
        page = {"cursor": one["next_cursor"]}
    assert pages == [c["id"] for c in found["containers"]]


def test_temperatures_of_graphics_cards_are_sensors_too(api: Api) -> None:
    """A host without sensor chips but with a graphics card has a temperature."""
    host = builders.store_host(api.connection)
    builders.store_samples(api.connection, host, [
        (NOW, {"gpu.temperature_celsius": 61.0, "gpu.temperature_celsius{gpu=0}": 61.0})])
    found = api.get("/hosts/web-1/sensors")
    assert (found["available"], found["reason"]) == (True, "")
    assert found["sensors"] == [
        {"kind": "temperature", "group": "gpu", "label": "0", "current": 61.0, "high": None, "critical": None}]


def test_what_came_late_is_shown_as_backfill(api: Api) -> None:
    """An outage of ten minutes that was made up for is one backfill; what came in time is none."""
    host = builders.store_host(api.connection)
    begin = NOW - timedelta(hours=2)
    builders.store_samples(api.connection, host, [(begin + n * timedelta(minutes=1), {"cpu.percent": 1.0}) for n in range(30)])
    api.connection.execute("UPDATE sample SET received_at = %s WHERE ts BETWEEN %s AND %s",
                           [begin + timedelta(minutes=20), begin + timedelta(minutes=5), begin + timedelta(minutes=14)])
    (one,) = api.get("/hosts/web-1/gaps")["backfills"]
    assert one == {"from": "2026-11-21T10:05:00Z", "to": "2026-11-21T10:14:00Z", "samples": 10,
                   "received_from": "2026-11-21T10:20:00Z", "received_to": "2026-11-21T10:20:00Z"}


def test_the_spools_of_a_host_are_shown(api: Api) -> None:
    """A spool that was lost or copied shows as a second epoch, the newest first; another host's do not."""
    for name in ("web-1", "web-2"):
        host = builders.store_host(api.connection, name)
        for day, epoch in enumerate((5, -2)):
            api.connection.execute("INSERT INTO stream (host_id, epoch, contiguous_seq, created_at, updated_at) "
                                   "VALUES (%s, %s, %s, %s, %s)", [host, epoch, 10 + day, NOW + timedelta(days=day), NOW])
    assert api.get("/hosts/web-1/gaps")["epochs"] == [
        {"epoch": "fffffffffffffffe", "began_at": "2026-11-22T12:00:00Z", "heard_at": "2026-11-21T12:00:00Z", "stored_to": 11},
        {"epoch": "0000000000000005", "began_at": "2026-11-21T12:00:00Z", "heard_at": "2026-11-21T12:00:00Z", "stored_to": 10}]


def test_gaps_and_rejects_are_paged_newest_first(api: Api) -> None:
    """Gaps and rejects are lists by cursor, newest first, filtered by host and reason."""
    host = builders.store_host(api.connection)
    for n in range(5):
        api.connection.execute("INSERT INTO gap (host_id, epoch, from_seq, to_seq, reason) VALUES (%s, -1, %s, %s, 'full')",
                               [host, n * 10, n * 10 + 4])
        api.connection.execute(
            """INSERT INTO reject (received_at, host, topic, reason, detail, size, sha256, payload)
               VALUES (%s, 'web-1', 't', %s, 'd', 3, '\\x00', '\\xff7b')""", [NOW, "json" if n % 2 else "size"])
    first = api.get("/hosts/web-1/gaps", limit=3)
    rest = api.get("/hosts/web-1/gaps", limit=3, cursor=first["next_cursor"])
    assert [g["from_seq"] for g in first["gaps"] + rest["gaps"]] == [40, 30, 20, 10, 0]
    assert first["gaps"][0] | {"id": 0, "noticed_at": ""} == {
        "id": 0, "host": "web-1", "epoch": "ffffffffffffffff", "from_seq": 40, "to_seq": 44, "samples": 5, "reason": "full",
        "noticed_at": ""}
    rejects = api.get("/rejects", reason="json", limit=1)
    assert rejects["counts"] == {"json": 2, "size": 3}
    assert rejects["rejects"][0]["payload"] == "\\xff{"
    assert len(api.get("/rejects", reason="json", limit=1, cursor=rejects["next_cursor"])["rejects"]) == 1
    assert api.ask("/api/v1/rejects?reason=nonsense").status_code == 422


def test_fleet_latest_and_prometheus_show_newest_values(api: Api) -> None:
    """Latest values of all hosts are a table of chosen metrics, and an exposition that Prometheus reads."""
    for name, value in (("a", 1.5), ("b", 2.5)):
        host = builders.store_host(api.connection, name)
        builders.store_samples(api.connection, host, [(NOW, {"cpu.percent": value, f"disk.percent{{mount=/{name}}}": 9.0})])
    builders.store_host(api.connection, "gone", received_at=NOW - timedelta(days=2))
    found = api.get("/fleet/latest", metric=["cpu.percent", "disk.*"])
    assert [(h["host"], h["values"]["cpu.percent"]) for h in found["hosts"]] == [("a", 1.5), ("b", 2.5)]
    assert found["metrics"] == ["cpu.percent", "disk.percent{mount=/a}", "disk.percent{mount=/b}"]
    text = api.ask("/metrics").text
    assert 'drumbeat_cpu_percent{host="a"} 1.5\n' in text
    assert 'drumbeat_disk_percent{mount="/b",host="b"} 9.0\n' in text
    assert 'drumbeat_host_up{host="gone"} 0\n' in text
    from prometheus_client.parser import text_string_to_metric_families
    assert len(list(text_string_to_metric_families(text))) == 3
    host = builders.store_host(api.connection, "c")
    builders.store_samples(api.connection, host, [(NOW, {"custom.hits_total{host=x}": 3.0})])
    assert '# TYPE drumbeat_custom_hits_total counter\ndrumbeat_custom_hits_total{exported_host="x",host="c"} 3.0\n' in api.ask(
        "/metrics").text
    only = api.ask("/metrics?metric=cpu*&host=a").text
    assert "disk" not in only
    assert 'host="b"' not in only


def test_lists_are_csv_and_ndjson_too(api: Api) -> None:
    """Accept header or ?format= choose CSV or NDJSON; a cell is never a formula."""
    builders.store_host(api.connection, "a", labels={"site": "x"})
    builders.store_host(api.connection, "b", state="offline")
    api.connection.execute("UPDATE host SET state_reason = '=1+1' WHERE name = 'b'")
    response = api.ask("/api/v1/hosts", headers={"Accept": "text/html;q=0.1, text/csv"})
    assert response.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert [row["name"] for row in rows] == ["a", "b"]
    assert rows[1]["state_reason"] == "'=1+1"
    assert rows[0]["received_at"] == "2026-11-21T12:00:00Z"
    lines = api.ask("/api/v1/hosts?format=ndjson").text.splitlines()
    assert [json.loads(line)["labels"] for line in lines] == [{"site": "x"}, {}]
    for path, first in (("retention-policies", "name,keep_days,changed_at"), ("tokens", "name,scopes,created_at"),
                        ("storage", "name,bytes,rows"), ("containers", "host,ts,id,name"), ("metrics", "name,labels,kind")):
        assert api.ask(f"/api/v1/{path}?format=csv").text.startswith(first)


def test_storage_and_statistics(api: Api) -> None:
    """Storage names tables, partitions and retention; statistics count hosts, samples, rejects, gaps."""
    host = builders.store_host(api.connection)
    builders.store_samples(api.connection, host, [(NOW, METRICS)])
    found = api.get("/storage")
    sample = next(table for table in found["tables"] if table["name"] == "sample")
    assert sample["keep_days"] == 7
    assert sample["newest"] == "2026-11-21T12:00:00Z"
    assert {"sample_20261121", "sample_20261120"} <= {part["name"] for part in sample["partitions"]}
    api.connection.execute("UPDATE sample SET received_at = now() - interval '2 minutes'")
    stats = api.get("/stats")
    assert (stats["hosts"], stats["online"], stats["layouts"], stats["gaps"]) == (1, 1, 1, 0)
    assert stats["recent_samples_count"] == 0
    api.connection.execute("UPDATE sample SET received_at = now(), ts = date_trunc('second', now())")
    api.forget()
    assert api.get("/stats")["recent_samples_count"] == 1


def test_words_are_published(api: Api) -> None:
    """The catalogue and the schemas of the payloads are there for readers."""
    metrics = api.get("/metrics")["metrics"]
    assert {"name": "disk.percent", "unit": "percent", "help": "used on one file system", "low": 0.0, "high": 100.0,
            "labels": ["mount"], "kind": "instance"} in metrics
    for name in api.get("/schemas")["schemas"]:
        assert api.get(f"/schemas/{name}")["$schema"].startswith("https://json-schema.org/")
    assert api.get("")["links"]["hosts"] == "/api/v1/hosts"


def test_policies_and_profile_are_changed(api: Api) -> None:
    """Retention and health constants are changed by an administrator, within bounds."""
    assert api.ask("/api/v1/retention-policies", "PUT", json={"raw": 3, "gap": 100}).status_code == 200
    days = {row["name"]: row["keep_days"] for row in api.get("/retention-policies")["policies"]}
    assert (days["raw"], days["gap"], days["rollup_1m"]) == (3, 100, 30)
    for body in ({"raw": 0}, {"raw": "x"}, {"nonsense": 5}, {"raw": 10**9}, {"raw": 3, "alerts": 6}):
        assert api.ask("/api/v1/retention-policies", "PUT", json=body).status_code == 422
    assert api.ask("/api/v1/retention-policies", "PUT", json={"alerts": 7}).status_code == 200
    profile = api.ask("/api/v1/health-profiles/default", "PUT", json={"cpu_weight": 0.5}).json()["profile"]
    assert (profile["cpu_weight"], profile["memory_weight"]) == (0.5, 0.25)
    assert api.get("/health-profiles/default")["profile"] == profile
    refused = api.ask("/api/v1/health-profiles/default", "PUT", json={"cpu_weight": 7})
    assert refused.status_code == 422
    assert "cpu_weight" in refused.json()["detail"]
    assert api.ask("/api/v1/health-profiles/other").status_code == 404
    noted = api.connection.execute("SELECT actor, kind, object FROM audit_log ORDER BY id").fetchall()
    assert noted == [("tests", "retention policy", name) for name in ("raw", "gap", "alerts")] + [
        ("tests", "health profile", "default")]
