"""`drumbeat doctor` against real brokers and a real Postgres."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from access_rig import MOSQUITTO

from aggregator.store import partitions
from compose import doctor, nats, programs
from compose.checks import broker as broker_checks
from compose.checks import database as database_checks
from compose.checks import machine, service
from compose.checks.finding import Finding
from shared import bus, database
from shared.settings import SettingsError

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def run(capsys, environ, *argv):
    status = doctor.main(["--json", *argv], environ)
    told = json.loads(capsys.readouterr().out)
    return status, {finding["check"]: finding for finding in told["findings"]}


@pytest.fixture
def environ(data_directory):
    return {"DRUMBEAT_DATA": str(data_directory)}


def test_a_good_broker_is_found_good(broker, topic_root, environ, capsys):
    """Round trip, retained, last will, many subscriptions and the largest payload are really tried on each broker."""
    status, found = run(capsys, environ | {"DRUMBEAT_BROKER_URL": broker.url}, "--topic-root", topic_root)
    for check in ("broker", "broker logins", "broker round trip", "retained messages", "last will", "subscriptions", "payload"):
        assert found[check]["level"] == "ok", found[check]
    assert status == 0
    assert found["database"]["level"] == "unknown"


def test_the_scratch_topics_are_cleaned_up(broker, topic_root, environ, capsys, eventually):
    """Nothing retained stays behind on the broker."""
    run(capsys, environ | {"DRUMBEAT_BROKER_URL": broker.url}, "--topic-root", topic_root)
    heard = []
    late = bus.Client(bus.read_brokers(broker.url), "tests-late", lambda topic, payload, _: heard.append((topic, payload)),
                      subscriptions=[f"{topic_root}/doctor/+/+", f"{topic_root}/mark"], max_delay=0.1)
    with late:
        eventually(lambda: late.poll(0.02) or late.is_connected, 5)
        late.publish(f"{topic_root}/mark", b"1")
        eventually(lambda: late.poll(0.02) or heard, 5)
    assert [topic.decode() for topic, payload in heard if payload] == [f"{topic_root}/mark"]


def test_a_wrong_password_is_told_from_an_absent_broker(broker, environ, capsys):
    """Refused credentials and a dead port are different findings, with different mends; both fail."""
    host = broker.url.rpartition("@")[2]
    status, found = run(capsys, environ | {"DRUMBEAT_BROKER_URL": f"mqtt://tests:canary@{host}"})
    assert status == 1
    assert "password" in found["broker"]["mend"]
    assert "canary" not in json.dumps(found)
    status, found = run(capsys, environ | {"DRUMBEAT_BROKER_URL": "mqtt://127.0.0.1:9"})
    assert status == 1
    assert "running" in found["broker"]["mend"]


@pytest.mark.mosquitto
def test_a_broker_that_lets_everybody_in_is_told(data_directory, environ, capsys):
    """Who needs no password may speak for any host: a finding, with the mend."""
    if not Path(MOSQUITTO).exists():
        pytest.skip("Mosquitto is not installed")
    port, conf = programs.free_port(), data_directory / "open.conf"
    conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n" + ("user root\n" if os.geteuid() == 0 else ""))
    process = programs.spawn(programs.Program("mosquitto", [MOSQUITTO, "-c", str(conf)], dict(os.environ)))
    try:
        assert nats.wait_until_ready(f"mqtt://127.0.0.1:{port}", lambda: process.poll() is None, 10)
        _, found = run(capsys, environ | {"DRUMBEAT_BROKER_URL": f"mqtt://127.0.0.1:{port}"})
    finally:
        programs.kill(process)
    assert found["broker logins"]["level"] == "warn"
    assert "drumbeat acl" in found["broker logins"]["mend"]


def test_a_database_that_works(database_url, environ, capsys):
    """With partitions, a held lease and fresh samples every database check is well."""
    with database.open_connection(database_url, "tests") as connection:
        now = datetime.now(UTC)
        partitions.ensure(connection, now, now + timedelta(days=1))
        connection.execute("INSERT INTO slot (slot, owner, expires_at) VALUES (0, 'me', now() + interval '10 s')")
        connection.execute("INSERT INTO host (name, partition) VALUES ('web-1', 0)")
        connection.execute("INSERT INTO host_now (host_id, ts, received_at) SELECT id, now(), now() FROM host")
    status, found = run(capsys, environ | {"DRUMBEAT_DATABASE_URL": database_url})
    assert status == 0
    for check in ("database", "postgres version", "database rights", "clock offset", "partitions", "ingest", "samples",
                  "refusals", "alerts", "notifications", "retention"):
        assert found[check]["level"] == "ok", found[check]


def test_a_database_without_ingest_fails(database_url, environ, capsys):
    """No partitions and no lease are failures that name ingest; refusals of the last hour are a warning by reason."""
    with database.open_connection(database_url, "tests") as connection:
        connection.execute("INSERT INTO slot (slot) VALUES (0)")
        connection.execute("""INSERT INTO reject (received_at, host, topic, reason, detail, size, sha256, payload)
                              VALUES (now(), 'web-1', 't', 'future', 'd', 1, '', '')""")
    status, found = run(capsys, environ | {"DRUMBEAT_DATABASE_URL": database_url})
    assert status == 1
    assert (found["partitions"]["level"], found["ingest"]["level"]) == ("fail", "fail")
    assert "drumbeat ingest" in found["ingest"]["mend"]
    assert found["samples"]["level"] == "warn"
    assert "1 of future" in found["refusals"]["text"]


def test_alerts_that_nobody_tells_are_found(database_url, environ, capsys):
    """Transitions that wait for ingest or for the notifier fail, with who should run; a channel that fails is a warning."""
    with database.open_connection(database_url, "tests") as connection:
        connection.execute("""INSERT INTO notification_channel (name, definition, secret, failing_since)
                              VALUES ('mail', '{}', 'canary', now())""")
        _, found = run(capsys, environ | {"DRUMBEAT_DATABASE_URL": database_url})
        assert (found["alerts"]["level"], found["notifications"]["level"]) == ("ok", "warn")
        assert "mail" in found["notifications"]["text"]
        store_old_alert(connection)
    status, found = run(capsys, environ | {"DRUMBEAT_DATABASE_URL": database_url})
    assert (status, found["alerts"]["level"], found["notifications"]["level"]) == (1, "fail", "fail")
    assert "drumbeat notifier" in found["notifications"]["mend"]
    assert "canary" not in json.dumps(found)


def store_old_alert(connection):
    """An alert whose transition nobody has told for five minutes."""
    connection.execute("""
        WITH h AS (INSERT INTO host (name, partition) VALUES ('web-1', 10) RETURNING id),
             a AS (INSERT INTO alert (id, host_id, rule, type, state, severity, rule_revision, started_at, changed_at)
                   SELECT 1, id, 'cpu_high', 'cpu_high', 'firing', 'warning', 1, now(), now() FROM h RETURNING id),
             e AS (INSERT INTO alert_event (id, alert_id, at, recorded_at, kind, severity, rule_revision)
                   SELECT 1, id, now(), now() - interval '5 min', 'firing', 'warning', 1 FROM a RETURNING id)
        INSERT INTO outbox (partition, alert_id, event_id, created_at) SELECT 10, 1, id, now() - interval '5 min' FROM e""")


def test_a_database_without_schema_is_a_warning(empty_database_url, environ, capsys):
    """An empty database is not broken: ingest makes the schema."""
    status, found = run(capsys, environ | {"DRUMBEAT_DATABASE_URL": empty_database_url})
    assert status == 0
    assert "migrate" in found["schema"]["mend"]


def test_an_absent_database_and_api_fail(environ, capsys):
    """What does not answer fails, says what to mend, and shows no password."""
    urls = {"DRUMBEAT_DATABASE_URL": "postgresql://me:canary@127.0.0.1:9/none", "DRUMBEAT_API_URL": "http://127.0.0.1:9"}
    status, found = run(capsys, environ | urls)
    assert status == 1
    assert (found["database"]["level"], found["api"]["level"]) == ("fail", "fail")
    assert "canary" not in json.dumps(found)


@pytest.mark.parametrize(("flag", "value"), [("--broker-url", "http://x"), ("--database-url", "mysql://x/y")])
def test_wrong_urls_name_the_setting(environ, flag, value):
    """A URL that cannot be used is a wrong setting, not a finding."""
    with pytest.raises(SettingsError, match=flag):
        doctor.main(["--json", flag, value], environ)


def test_people_read_the_mend_below_the_finding():
    """The text form has the mend on its own line; control characters of a server never reach the terminal."""
    text = doctor.shown(Finding("broker", "fail", "said \033[2J", "start it"))
    assert text == "FAIL  broker: said ?[2J\n        mend: start it"
    assert doctor.summary([Finding("broker", "fail", "x")]) == "\nNot well: broker."
    assert doctor.summary([Finding("clock", "warn", "x")]) == "\nWorks, but look at: clock."
    unseen = [Finding("clock", "warn", "x"), Finding("broker", "unknown", "x")]
    assert doctor.summary(unseen) == "\nLook at: clock. Not looked at: broker."
    assert doctor.summary([Finding("clock", "ok", "x")]) == "\nAll is well."


@pytest.mark.parametrize(("version", "is_refused", "hosts", "level"), [
    ("mosquitto version 2.0.11", False, 10, "warn"),
    ("mosquitto version 2.0.22", False, 5000, "ok"),
    ("mosquitto version 2.1.2", False, 5000, "ok"),
    ("", True, 300, "ok"),
    ("", True, 301, "warn"),
    ("", True, None, "ok"),
    ("", False, 10, "unknown"),
])
def test_the_broker_suits_the_fleet(version, is_refused, hosts, level):
    """An old Mosquitto, and NATS beyond 300 hosts, are worth a warning."""
    assert broker_checks.make(version, is_refused=is_refused, hosts=hosts).level == level


@pytest.mark.parametrize(("offset", "uncertainty", "level"), [
    (0.5, 0.01, "ok"), (-3.0, 0.1, "warn"), (3.0, 2.0, "ok"), (90.0, 0.1, "fail")])
def test_clock_offsets(offset, uncertainty, level):
    """Only what the round trip cannot explain counts as an offset."""
    assert database_checks.clock_offset(offset, uncertainty).level == level


def test_tomorrows_partition_missing_is_a_warning():
    """Today's partitions are needed now, tomorrow's soon."""
    day = NOW.replace(hour=0)
    today = [(table, day, day + timedelta(days=1)) for table in database_checks.HISTORY]
    assert database_checks.missing_partitions(today, NOW).level == "warn"
    assert database_checks.missing_partitions(today[1:], NOW).level == "fail"
    both = [(table, day, day + timedelta(days=2)) for table in database_checks.HISTORY]
    assert database_checks.missing_partitions(both, NOW).level == "ok"


def test_the_need_for_disk_follows_the_pace_of_a_full_day():
    """Bytes at full retention are the bytes of the newest full day times the days to keep; a young one is scaled up."""
    day = NOW.replace(hour=0)
    sizes = [("sample", day - timedelta(days=1), day, 1000), ("sample", day, day + timedelta(days=1), 700)]
    keep = {"raw": 7, "rollup_1m": 30}
    assert database_checks.bytes_needed(sizes, keep, None, NOW) == (7000, 1700)
    assert database_checks.bytes_needed(sizes[1:], keep, None, NOW) == (9800, 700)
    assert database_checks.bytes_needed(sizes[1:], keep, NOW - timedelta(hours=1), NOW)[0] == 700 * 24 * 7
    assert database_checks.bytes_needed([], keep, None, NOW) == (0, 0)


@pytest.mark.parametrize(("need", "used", "free", "level"), [
    (100, 50, 1000, "ok"), (1000, 0, 1050, "warn"), (2000, 100, 1000, "fail"), (10, 0, None, "ok"),
    (0, 10, 1000, "ok")])
def test_disk_left_for_the_retention(need, used, free, level):
    """What is still to come must fit into what is free."""
    assert database_checks.room(need, used, free).level == level


def test_the_machine():
    """Few file handles, an undisciplined clock and a full disk are found."""
    assert machine.file_handles(1024, 524_288).level == "warn"
    assert machine.file_handles(524_288, 524_288).level == "ok"
    assert machine.clock(False).level == "warn"
    assert machine.clock(None).level == "warn"
    assert machine.clock(True).level == "ok"
    assert machine.read_clock_state() in (True, False, None)
    assert [machine.disk_space("/", free, 100).level for free in (50, 5, 1)] == ["ok", "warn", "fail"]


@pytest.mark.parametrize(("status", "level"), [(200, "ok"), (401, "warn"), (500, "warn")])
def test_the_token(status, level):
    """A refused token is told from a broken API."""
    assert service.judged_token(status, is_given=True).level == level
