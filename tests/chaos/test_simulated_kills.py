"""A simulated fleet while ingest and the broker are killed: nothing lost, nothing doubled. Takes a minute or two a broker."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from shared import database


def test_kills_lose_and_double_nothing(private_broker, database_url, tmp_path: Path):
    """kill -9 of ingest, of the broker, and of both: each seq of the ledger is in the tables exactly once."""
    environ = {"PATH": os.environ["PATH"], "DRUMBEAT_BROKER_URL": private_broker.url, "DRUMBEAT_DATABASE_URL": database_url}

    def start(*argv: str) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-m", "shared.cli", *argv], env=environ, text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL)

    ingest = start("ingest", "--probe-port", "0")
    fleet = start("simulate", "--hosts", "40", "--interval", "0.5", "--duration", "25", "--drain", "120", "--json",
                  "--ledger", str(tmp_path / "ledger"))
    try:
        for kills_broker, kills_ingest, pause in ((False, True, 5), (True, False, 5), (True, True, 5)):
            time.sleep(pause)
            if kills_ingest:
                ingest.kill()
                ingest.wait()
            if kills_broker:
                private_broker.kill()
            time.sleep(1)
            if kills_broker:
                private_broker.start()
            if kills_ingest:
                ingest = start("ingest", "--probe-port", "0")
        out, _ = fleet.communicate(timeout=200)
    finally:
        ingest.kill()
        fleet.kill()
    figures = json.loads(out.splitlines()[-1])
    assert (fleet.returncode, figures["lost"]) == (0, 0), figures
    assert figures["reconnects"] >= 40
    ledger = [json.loads(line) for line in (tmp_path / "ledger").read_text().splitlines()]
    with database.open_connection(database_url, "tests") as connection:
        rows = connection.execute("SELECT h.name, max(seq), count(*), count(DISTINCT seq) FROM sample s "
                                  "JOIN host h ON h.id = s.host_id GROUP BY 1").fetchall()
        assert connection.execute("SELECT count(*) FROM gap").fetchone() == (0,)
    assert sorted(rows) == [(entry["host"], entry["last"], entry["last"], entry["last"]) for entry in ledger]
