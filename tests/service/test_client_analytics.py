"""`drumbeat anomalies`, `trends` and `explain` against the real API over a real Postgres."""

import json
from datetime import UTC, datetime, timedelta

import builders
import numpy as np
import pytest
from alert_rows import store_firing
from analytics_rows import autoregressive, store_series
from builders import NOW
from psycopg.types.json import Jsonb

from aggregator.client import anomalies, explain, trends

EXPLAINING = [{"metric": "cpu.percent", "share": 0.7, "value": 93.0, "low": 8.0, "high": 30.5}]


@pytest.fixture
def environ(api, data_directory):
    """The environment of a command that asks this API."""
    return {"DRUMBEAT_API_URL": str(api.client.base_url), "DRUMBEAT_TOKEN": api.token, "DRUMBEAT_DATA": str(data_directory)}


@pytest.fixture
def web(api):
    """web-1 with two days of minutes: a CPU that was at 90 % from 11:00 to 11:30, and a disk that fills."""
    host = builders.store_host(api.connection, "web-1")
    cpu = 20 + autoregressive(0.5, (1, 2880))[0]
    cpu[-60:-30] = 90
    store_series(api.connection, "rollup_1m", [host], {"cpu.percent": cpu, "disk.percent": 60 + np.arange(2880) / 100}, 60)
    return host


def run(capsys, command, environ, *argv):
    code = command.main([str(part) for part in argv], environ)
    told = capsys.readouterr()
    return code, told.out, told.err


def test_anomalies_are_listed(api, web, environ, capsys):
    """One row each with what explains it; filters reach the API; nothing is said in words."""
    began = datetime.now(UTC) - timedelta(hours=3)
    api.connection.execute("""INSERT INTO anomaly (id, host_id, began_at, ended_at, peak_at, peak, threshold, metrics)
                              VALUES (1, %s, %s, %s, %s, 5.5, 3, %s)""",
                           [web, began, began + timedelta(hours=1), began, Jsonb(EXPLAINING)])
    code, out, _ = run(capsys, anomalies, environ)
    assert code == 0
    assert "web-1" in out
    assert " 1h " in out
    assert "cpu.percent 93 % (8 % to 30.5 %)" in out
    assert json.loads(run(capsys, anomalies, environ, "--json")[1])["anomalies"][0]["id"] == 1
    assert run(capsys, anomalies, environ, "--open")[1] == "No anomaly fits in the last 7d.\n"
    assert run(capsys, anomalies, environ, "--since", "1h")[1] == "No anomaly fits in the last 1h.\n"


def test_trends_are_shown(api, web, environ, capsys):
    """Direction, slope and time left; an unknown metric and a window that is none are said in one line."""
    code, out, _ = run(capsys, trends, environ, "disk.percent", "--window", "24h")
    assert (code, out.splitlines()[1].split()[:3]) == (0, ["web-1", "24h", "up"])
    assert "+14.4 %" in out
    assert "100 % in 19 hours " in out
    assert json.loads(run(capsys, trends, environ, "disk.percent", "--host", "web-1", "--json")[1])["unit"] == "percent"
    assert run(capsys, trends, environ, "no.such")[1] == "No host has no.such in that time.\n"
    code, _, err = run(capsys, trends, environ, "disk.percent", "--window", "x")
    assert (code, len(err.splitlines()), "is no window" in err) == (1, 1, True)


def test_a_time_is_explained(api, web, environ, capsys):
    """What was unusual first, then what else happened then."""
    store_firing(api.connection, web, at=NOW - timedelta(minutes=50), message="CPU is busy")
    code, out, _ = run(capsys, explain, environ, "web-1", "--at", "2026-11-21T11:15:00Z")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "web-1 from 2026-11-21 10:45:00Z to 2026-11-21 11:45:00Z"
    assert lines[2].strip().startswith("cpu.percent was 90 % at 11:")
    assert "CPU is busy" in out
    assert json.loads(run(capsys, explain, environ, "web-1", "--json")[1])["host"] == "web-1"
    assert "there is no host" in run(capsys, explain, environ, "nobody")[2]
