"""`drumbeat hosts`, `status` and `top` against the real API over a real Postgres."""

import json
from datetime import timedelta

import builders
import pytest
from builders import NOW

from aggregator.client import hosts, status, top

METRICS = {"cpu.percent": 45.2, "memory.percent": 20.0, "disk.percent": 64.0, "disk.percent{mount=/}": 64.0,
           "health.score": 87.5, "system.uptime_seconds": 90.0}


@pytest.fixture
def environ(api, data_directory):
    """The environment of a command that asks this API."""
    return {"DRUMBEAT_API_URL": str(api.client.base_url), "DRUMBEAT_TOKEN": api.token, "DRUMBEAT_DATA": str(data_directory)}


@pytest.fixture
def fleet(api):
    """Two hosts online, one of them unwell, and one long silent."""
    web = builders.store_host(api.connection, "web-1", labels={"site": "berlin"}, score=87.5)
    builders.store_samples(api.connection, web, [(NOW, METRICS)])
    builders.store_snapshot(api.connection, web, "processes", {
        "total": 143, "processes": [{"pid": 812, "name": "postgres", "user": "me", "cpu_percent": 31.0,
                                     "memory_bytes": 1024, "started_at": 1.0}]})
    builders.store_snapshot(api.connection, web, "containers", {
        "total": 1, "containers": [{"id": "1", "name": "shop", "state": "running", "health": "unhealthy"}]})
    full = builders.store_host(api.connection, "db-1", score=45.0)
    builders.store_samples(api.connection, full, [(NOW, METRICS | {"disk.percent": 97.0})])
    builders.store_host(api.connection, "old-1", received_at=NOW - timedelta(days=1))


def run(capsys, command, environ, *argv):
    code = command.main(list(argv), environ)
    told = capsys.readouterr()
    return code, told.out, told.err


def test_hosts_are_listed(api, fleet, environ, capsys):
    """The table has every host; filters and order reach the API."""
    code, out, _ = run(capsys, hosts, environ)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["db-1", "old-1", "web-1"]
    narrowed = json.loads(run(capsys, hosts, environ, "--json", "--label", "site:berlin", "--state", "online")[1])
    assert [host["name"] for host in narrowed["hosts"]] == ["web-1"]
    worst = json.loads(run(capsys, hosts, environ, "--json", "--sort", "score", "--limit", "1")[1])
    assert (worst["hosts"][0]["name"], worst["total"]) == ("db-1", 3)


def test_status_is_told(api, fleet, environ, capsys):
    """The glance has the fleet's score, the unwell host with its reason, and that nobody writes."""
    code, out, _ = run(capsys, status, environ)
    assert code == 0
    assert "2 of 3 hosts online" in out
    assert "db-1" in out
    assert "97.0 % full" in out
    assert "start drumbeat ingest" in out
    assert set(json.loads(run(capsys, status, environ, "--json")[1])) == {"alerts", "health", "stats", "storage"}


def test_an_empty_fleet_says_what_to_do(api, environ, capsys):
    """Without any host status and hosts name the next step, and top has none to show."""
    assert run(capsys, hosts, environ)[1] == "No host yet: start drumbeat agent on one.\n"
    assert run(capsys, hosts, environ, "--status", "critical")[1] == "No host fits.\n"
    assert "start drumbeat agent" in run(capsys, status, environ)[1]
    code, _, err = run(capsys, top, environ, "--once")
    assert code == 1
    assert "start drumbeat agent" in err


def test_top_shows_a_host(api, fleet, environ, capsys):
    """One look has score, mount, process and container; the JSON has the same."""
    code, out, _ = run(capsys, top, environ, "web-1", "--once")
    assert code == 0
    for word in ("web-1", "45.2", "812", "of 143", "shop", "unhealthy", "1m 30s"):
        assert word in out
    assert json.loads(run(capsys, top, environ, "web-1", "--json")[1])["metrics"]["cpu.percent"] == pytest.approx(45.2)


def test_a_host_unknown_or_silent_is_told(api, fleet, environ, capsys):
    """A host that is not there, or has no sample yet, gives one line and exit 1."""
    assert "no host 'nobody'" in run(capsys, top, environ, "nobody", "--once")[2]
    code, _, err = run(capsys, top, environ, "old-1", "--once")
    assert (code, len(err.splitlines())) == (1, 1)


@pytest.mark.parametrize("command", [hosts, status, top])
def test_a_wrong_token_is_told(command, api, environ, capsys):
    """A token that the API does not know gives exit 1 and says where to look; it is not shown."""
    code, _, err = run(capsys, command, environ | {"DRUMBEAT_TOKEN": "dbt_canarycanary"})
    assert code == 1
    assert "drumbeat token list" in err
    assert "canary" not in err
