"""Ingest while its database is away, full or read-only, and while it is itself too slow for the broker: nothing is lost."""

import contextlib
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import conftest
import pytest
from ingest_rig import Agent, Clock, Ingest

from compose import doctor, postgres, programs
from compose.startup import is_ready
from shared import database

ALLOWED_MB = 60
"""By how much a process may grow through an outage: far less than what is produced meanwhile."""

TS = time.time() - 3600
"""Of the sample before the first: what is sent again has the time that it had."""


@pytest.fixture
def own_postgres(data_directory):
    """A migrated Postgres of the test's own."""
    password, port = secrets.token_urlsafe(16), programs.free_port()
    cluster = postgres.prepare(data_directory, password)
    server = conftest.Server("postgres", postgres.url(port, password), postgres.program(cluster, port, {"fsync": "off"}),
                             postgres.wait_until_ready)
    database.migrate(server.url)
    yield server
    server.stop()


@pytest.fixture
def command(topic_root):
    """Start a command of drumbeat: (process, port of its probes)."""
    started = []

    def start(name, broker_url, database_url, *flags, probes=True, **options):
        port = programs.free_port()
        given = [*flags, *(["--probe-port", str(port)] if probes else [])]
        root = [] if name == "notifier" else ["--topic-root", topic_root]
        started.append(subprocess.Popen(
            [sys.executable, "-m", "shared.cli", name, *given, *root], **{"stderr": subprocess.DEVNULL} | options,
            env={"PATH": os.environ["PATH"], "DRUMBEAT_BROKER_URL": broker_url, "DRUMBEAT_DATABASE_URL": database_url}))
        return started[-1], port

    yield start
    for process in started:
        process.kill()
        process.communicate()


def resident_mb(process):
    return int(Path(f"/proc/{process.pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


def stored(url):
    """(host, count, distinct, last) of what is stored."""
    with database.open_connection(url, "tests") as connection:
        return connection.execute("SELECT name, count(*), count(DISTINCT (epoch, seq)), max(seq) FROM sample s "
                                  "JOIN host h ON h.id = s.host_id GROUP BY 1").fetchall()


def test_an_outage_of_the_database_loses_nothing_and_fills_no_memory(own_postgres, nats_server, command, tmp_path, eventually):
    """Postgres is killed while a fleet reports: services say so, stay small, come back by themselves; agents resend the rest."""
    services = {name: command(name, nats_server.url, own_postgres.url) for name in ("ingest", "scheduler", "notifier")}
    for _, port in services.values():
        eventually(lambda port=port: is_ready(port), 30)
    ledger = tmp_path / "ledger"
    fleet, _ = command("simulate", nats_server.url, "", "--hosts", "300", "--interval", "0.5", "--metrics", "60", "--duration",
                       "14", "--drain", "60", "--json", "--ledger", str(ledger), probes=False, stdout=subprocess.PIPE)
    eventually(lambda: len(stored(own_postgres.url)) == 300, 20)
    before = {name: resident_mb(process) for name, (process, _) in services.items()}
    own_postgres.kill()
    time.sleep(8)
    assert not any(is_ready(port) for _, port in services.values())
    after = {name: resident_mb(process) for name, (process, _) in services.items()}
    own_postgres.start()
    figures = json.loads(fleet.communicate(timeout=90)[0].splitlines()[-1])
    assert fleet.returncode == 0, figures
    for name, (process, port) in services.items():
        eventually(lambda port=port: is_ready(port), 30)
        assert process.poll() is None
        assert after[name] - before[name] < ALLOWED_MB, name
    assert resident_mb(services["ingest"][0]) - before["ingest"] < ALLOWED_MB
    last = {entry["host"]: entry["last"] for entry in map(json.loads, ledger.read_text().splitlines())}
    assert {name: (count, different) for name, count, different, _ in stored(own_postgres.url)} == {
        name: (count, count) for name, count in last.items()}


def until_refused(service, agent, why):
    """Bring samples until ingest says that the database takes nothing."""
    metrics = {f"custom.m{i}": float(i) for i in range(400)}
    agent.poll(lambda: (agent.sample(metrics, ts=TS + agent.seq + 1), why in service.ready()["database"])[1], 30)


def assert_said_once(caplog):
    told = [record for record in caplog.records if "takes nothing" in record.message or "cannot be used" in record.message]
    assert 1 <= len(told) <= 3, [record.message for record in told]


def recovered(service, agent):
    """Send everything again, as an agent does, until it is confirmed."""
    last = agent.seq

    def again():
        for seq in range(1, last + 1):
            agent.sample(seq=seq, ts=TS + seq)
        agent.client.poll(0.3)
        return last in agent.watermarks

    agent.poll(again, 40)
    assert not any(service.ready().values())
    assert service.gauges.registry.get_sample_value("drumbeat_ingest_database_refusing") == 0


def test_a_database_that_is_read_only_is_waited_for(ingest, agent, rows, database_url, admin_database_url, caplog):
    """After a failover to a replica ingest says so once, takes nothing, and goes on once the database takes writes again."""
    caplog.set_level(logging.WARNING)
    service = ingest()
    agent.sample(ts=TS + 1)
    agent.await_watermark(1)
    name = database_url.rpartition("/")[2]
    with database.open_connection(admin_database_url, "tests") as admin:
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'drumbeat-%%' "
                      "AND datname = %s", [name])
        until_refused(service, agent, "25006")
        assert service.gauges.registry.get_sample_value("drumbeat_ingest_database_refusing") == 1
        agent.poll(lambda: service._client is None or not service._client._subscriptions)
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
    recovered(service, agent)
    assert_said_once(caplog)
    assert rows("SELECT count(*), count(DISTINCT seq) FROM sample") == [(agent.seq, agent.seq)]


@pytest.fixture
def small_disk(data_directory, postgres_server):
    """A directory on a disk of 48 MB, for Postgres to write to."""
    place = data_directory / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", place], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    tablespace = place / "tablespace"
    tablespace.mkdir(mode=0o700)
    owner = Path(f"/proc/{postgres_server.process.pid}").stat()
    os.chown(tablespace, owner.st_uid, owner.st_gid)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def small_database_url(small_disk, admin_database_url, template_database):
    """A database that lives on it; the log of transactions does not."""
    name = f"test_{secrets.token_hex(6)}"
    with database.open_connection(admin_database_url, "tests") as admin:
        admin.execute(f"CREATE TABLESPACE {name} LOCATION '{small_disk / 'tablespace'}'")
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template_database} TABLESPACE {name}")
        yield f"{admin_database_url.rpartition('/')[0]}/{name}"
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        admin.execute(f"DROP TABLESPACE {name}")


def fill(disk):
    """Write until nothing goes any more; the file."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        for size in (65536, 512):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    return ballast


def test_a_full_disk_stops_ingest_until_there_is_room(small_disk, small_database_url, broker, topic_root, caplog, capsys):
    """A full disk is said once, by /readyz, a gauge and doctor; nothing is taken meanwhile, and nothing is lost in the end."""
    caplog.set_level(logging.WARNING)
    ingest, agent = Ingest(broker.url, small_database_url, topic_root, Clock()), Agent(broker.url, topic_root)
    try:
        service = ingest()
        agent.sample(ts=TS + 1)
        agent.await_watermark(1)
        ballast = fill(small_disk)
        until_refused(service, agent, "53100")
        assert service.gauges.registry.get_sample_value("drumbeat_ingest_database_refusing") == 1
        agent.poll(lambda: service._client is None or not service._client._subscriptions)
        assert doctor.main(["--json"], {"DRUMBEAT_DATABASE_URL": small_database_url}) == 1
        [found] = [each for each in json.loads(capsys.readouterr().out)["findings"] if each["check"] == "database writes"]
        assert found["level"] == "fail"
        assert "disk is full" in found["text"]
        ballast.unlink()
        recovered(service, agent)
    finally:
        ingest.close()
        agent.client.close()
    assert_said_once(caplog)
    [(_, count, different, last)] = stored(small_database_url)
    assert count == different == last == agent.seq
    with database.open_connection(small_database_url, "tests") as connection:
        assert connection.execute("SELECT count(*) FROM reject").fetchone() == (0,)


@pytest.fixture(params=["nats", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
def strict_broker(request, data_directory):
    """Brokers that keep little for who does not read: NATS 8 MB, then it cuts the connection; Mosquitto 500 messages."""
    server = (conftest._nats if request.param == "nats" else conftest._mosquitto)(data_directory)
    configuration = data_directory / request.param / f"{request.param}.conf"
    text = configuration.read_text()
    strict = text.replace("max_pending: 256MB", "max_pending: 8MB").replace("messages 20000", "messages 500")
    assert strict != text
    configuration.write_text(strict)
    server.restart()
    yield server
    server.stop()


def test_what_a_broker_dropped_for_a_slow_reader_is_sent_again(strict_broker, database_url, command, tmp_path, eventually):
    """Ingest is stopped while far more flows than any broker keeps for it, and goes on: everything is stored once."""
    ingest, port = command("ingest", strict_broker.url, database_url)
    eventually(lambda: is_ready(port), 30)
    ledger = tmp_path / "ledger"
    fleet, _ = command("simulate", strict_broker.url, "", "--hosts", "150", "--interval", "0.5", "--metrics", "500", "--duration",
                       "8", "--drain", "60", "--json", "--ledger", str(ledger), probes=False, stdout=subprocess.PIPE)
    eventually(lambda: len(stored(database_url)) == 150, 20)
    ingest.send_signal(signal.SIGSTOP)
    time.sleep(6)
    ingest.send_signal(signal.SIGCONT)
    figures = json.loads(fleet.communicate(timeout=90)[0].splitlines()[-1])
    assert fleet.returncode == 0, figures
    assert figures["resent"] > 0, "the broker dropped nothing"
    last = {entry["host"]: entry["last"] for entry in map(json.loads, ledger.read_text().splitlines())}
    assert {name: (count, different) for name, count, different, _ in stored(database_url)} == {
        name: (count, count) for name, count in last.items()}
