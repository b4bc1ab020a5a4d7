"""A simulated fleet against a real ingest: everything produced is stored once, and the ledger agrees with the tables."""

import json
import os
import signal
import subprocess
import sys

import pytest

from shared import database


@pytest.fixture
def command(broker, database_url, topic_root):
    running: list[subprocess.Popen] = []

    def start(*argv: str, **options) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "shared.cli", *argv, "--topic-root", topic_root],
            env={"PATH": os.environ["PATH"], "DRUMBEAT_BROKER_URL": broker.url, "DRUMBEAT_DATABASE_URL": database_url}, **options)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def simulate(command, tmp_path, *flags: str) -> tuple[dict, list[dict]]:
    """The figures and the ledger of a run."""
    process = command("simulate", "--json", "--ledger", str(tmp_path / "ledger"), *flags, stdout=subprocess.PIPE, text=True)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    return json.loads(out.splitlines()[-1]), [json.loads(line) for line in (tmp_path / "ledger").read_text().splitlines()]


def stored(url: str) -> dict[tuple[str, int], tuple[int, int, int, int]]:
    """(host, epoch) → first, last, count and distinct count of the stored seqs."""
    with database.open_connection(url, "tests") as connection:
        rows = connection.execute("SELECT h.name, s.epoch, min(seq), max(seq), count(*), count(DISTINCT seq) FROM sample s "
                                  "JOIN host h ON h.id = s.host_id GROUP BY 1, 2").fetchall()
    return {(name, epoch): tuple(figures) for name, epoch, *figures in rows}


def expected(ledger: list[dict]) -> dict[tuple[str, int], tuple[int, int, int, int]]:
    epochs = {entry["host"]: int.from_bytes(bytes.fromhex(entry["epoch"]), "big", signed=True) for entry in ledger}
    return {(entry["host"], epochs[entry["host"]]): (1, entry["last"], entry["last"], entry["last"]) for entry in ledger}


@pytest.mark.parametrize("flags", [["--hosts", "30"], ["--hosts", "30", "--connections", "3", "--profile", "incident"]])
def test_a_fleet_is_stored_once_and_whole(command, tmp_path, database_url, flags):
    """A backlog and live samples of every host end in the tables, each seq once; exit status 0 says so."""
    command("ingest", "--probe-port", "0", stderr=subprocess.DEVNULL)
    figures, ledger = simulate(command, tmp_path, *flags, "--interval", "0.5", "--backlog", "40", "--duration", "3",
                               "--drain", "40")
    assert figures["confirmed"] == figures["produced"] >= 30 * 45
    assert stored(database_url) == expected(ledger)


def test_nobody_to_store_is_said(command):
    """Without an aggregator nothing is confirmed: the figures and the exit status say so; SIGTERM ends the run."""
    process = command("simulate", "--hosts", "3", "--drain", "0", "--json", "--interval", "0.2", stdout=subprocess.PIPE,
                      text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.5)
    process.send_signal(signal.SIGTERM)
    figures = json.loads(process.communicate(timeout=10)[0].splitlines()[-1])
    assert process.returncode == 1
    assert figures["lost"] == figures["produced"] >= 3
