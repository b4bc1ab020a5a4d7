"""`drumbeat alerts` against the real API over a real Postgres."""

import json

import builders
import pytest
from alert_rows import store_firing

from aggregator.client import alerts, hosts, status


@pytest.fixture
def environ(api, data_directory):
    """The environment of a command that asks this API."""
    return {"DRUMBEAT_API_URL": str(api.client.base_url), "DRUMBEAT_TOKEN": api.token, "DRUMBEAT_DATA": str(data_directory)}


@pytest.fixture
def alert(api):
    """A critical alert of db-1, beside a warning of web-1; its id."""
    store_firing(api.connection, builders.store_host(api.connection, "web-1"), message="CPU is busy")
    return store_firing(api.connection, builders.store_host(api.connection, "db-1"), rule="low_disk", instance="mount=/var",
                        severity="critical", message="/var is full", metric="disk.percent{mount=/var}")[0]


def run(capsys, command, environ, *argv):
    code = command.main([str(part) for part in argv], environ)
    told = capsys.readouterr()
    return code, told.out, told.err


def test_alerts_are_listed(api, alert, environ, capsys):
    """The table has every active alert; filters reach the API; nothing is said in words."""
    code, out, _ = run(capsys, alerts, environ)
    assert code == 0
    assert [line.split()[1:3] for line in out.splitlines()[1:]] == [["critical", "db-1"], ["warning", "web-1"]]
    assert "low_disk /var" in out
    narrowed = json.loads(run(capsys, alerts, environ, "list", "--severity", "critical", "--json")[1])
    assert [one["id"] for one in narrowed["alerts"]] == [alert]
    assert run(capsys, alerts, environ, "--host", "nobody")[1] == "No alert fits.\n"
    assert "1 of 2 alerts" in run(capsys, alerts, environ, "--limit", "1")[1]
    api.connection.execute("DELETE FROM alert")
    assert run(capsys, alerts, environ)[1] == "No alert.\n"


def test_an_alert_is_shown_and_acted_upon(api, alert, environ, capsys):
    """Acknowledge, dismiss and undo them, then resolve: each says what is so now, and the story tells of all."""
    code, out, _ = run(capsys, alerts, environ, "ack", alert, "--note", "ordered", "--for", "876000h")
    assert (code, out.startswith(f"Alert {alert} (low_disk /var on db-1) is acknowledged until 21")) == (0, True)
    assert "is no longer acknowledged" in run(capsys, alerts, environ, "unack", alert)[1]
    assert "is dismissed" in run(capsys, alerts, environ, "dismiss", alert, "--note", "known")[1]
    assert "is no longer dismissed" in run(capsys, alerts, environ, "undismiss", alert)[1]
    assert json.loads(run(capsys, alerts, environ, "resolve", alert, "--json")[1])["state"] == "resolved"
    code, out, _ = run(capsys, alerts, environ, "show", alert)
    assert code == 0
    for words in ("low_disk /var on db-1", "by tests: ordered", "by tests: known", "resolved by hand", "nobody"):
        assert words in out
    assert len(json.loads(run(capsys, alerts, environ, "show", alert, "--json")[1])["events"]) == 6


def test_what_is_refused_is_said_in_one_line(api, alert, environ, capsys):
    """A state that forbids it, and an alert that never was, end with 1 and the API's reason."""
    run(capsys, alerts, environ, "resolve", alert)
    code, _, err = run(capsys, alerts, environ, "resolve", alert)
    assert (code, len(err.splitlines()), "is resolved" in err) == (1, 1, True)
    assert "there is no alert" in run(capsys, alerts, environ, "show", 4711)[2]


def test_alerts_at_a_glance(api, alert, environ, capsys):
    """Status counts alerts and names the worst first; the list of hosts has their number."""
    out = run(capsys, status, environ)[1]
    assert "1 critical  1 warning" in out
    assert out.index("/var is full") < out.index("CPU is busy")
    row = next(line for line in run(capsys, hosts, environ)[1].splitlines() if line.startswith("db-1"))
    assert row.split()[7] == "1"
