"""Duties of drumbeat's own upkeep, executed on a real Postgres: done once, watched over, and told in their execution."""

import contextlib
import json
import threading
from datetime import timedelta

import msgspec
import pytest
from builders import store_host, store_rollup, store_samples
from psycopg.types.json import Jsonb
from scheduler_rig import Schedulers, due, manual, store

from aggregator.analysis import notices
from aggregator.ingest.duties import foreman
from aggregator.store import backup, default_schedules, duties, partitions
from shared import database
from shared.schedules import Target


@pytest.fixture
def connection(database_url):
    with database.open_connection(database_url, "tests") as connection:
        yield connection


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The clocks of the foreman run faster."""
    monkeypatch.setattr(foreman, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(foreman, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(foreman, "BUSY_SECONDS", 0.2)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "output"


@pytest.fixture
def work(database_url, output):
    """Start one more foreman: `work()`; all are closed at the end."""
    with contextlib.ExitStack() as stack:
        def start(directory=output):
            made = foreman.Foreman(database_url, directory)
            stack.callback(made.close)
            made.start()
            return made

        yield start


class Board:
    """Executions as the scheduler releases them, and what becomes of them."""

    def __init__(self, connection, eventually):
        self.connection, self._eventually, self._count = connection, eventually, 0

    def put(self, duty, arguments=None, **definition):
        """One execution that is due; its id."""
        self._count += 1
        number = f"{self._count:016d}"
        target = {"type": "maintenance", "duty": duty, "arguments": arguments or {}}
        self.connection.execute(
            """WITH s AS (INSERT INTO schedule (name, definition, enabled) VALUES (%(id)s, %(definition)s, true) RETURNING id)
               INSERT INTO execution (id, schedule_id, scheduled_for, cause, state, target, not_before, not_after, fired_at)
               SELECT %(id)s, id, now(), 'schedule', 'pending', %(target)s, now(), now() + interval '1 hour', now() FROM s""",
            {"id": number, "definition": Jsonb(definition), "target": Jsonb(target)})
        return number

    def now(self, number):
        """state, output, error."""
        return self.connection.execute("SELECT state, output, error FROM execution WHERE id = %s", [number]).fetchone()

    def wait(self, number, *states):
        """What it says once it is in one of the states, or over."""
        wanted = states or ("completed", "failed", "cancelled", "timed_out")
        return self._eventually(lambda: (row := self.now(number))[0] in wanted and row, 20)

    def done(self, duty, arguments=None):
        """What a duty says that is done well."""
        state, said, error = self.wait(self.put(duty, arguments))
        assert (state, error) == ("completed", "")
        return said

    def refused(self, duty, arguments=None):
        """What is said about a duty that fails."""
        state, _, error = self.wait(self.put(duty, arguments))
        assert state == "failed"
        return error


@pytest.fixture
def board(connection, eventually):
    return Board(connection, eventually)


@pytest.fixture
def gate(monkeypatch):
    """A duty that a test holds: `retention` runs until the gate is opened; `gate.runs` counts."""
    class Gate:
        def __init__(self):
            self.open, self.runs = threading.Event(), 0

        def __call__(self, job, _):
            self.runs += 1
            while not self.open.wait(0.02):
                job.check()
            return "through"

    made = Gate()
    monkeypatch.setitem(foreman.works.WORKS, "retention", made)
    yield made
    made.open.set()


def today(connection):
    """The present hour of the database, with partitions around it."""
    now = duties.fetch_now(connection)
    partitions.ensure(connection, now - timedelta(days=8), now + timedelta(days=1))
    return now.replace(minute=0, second=0, microsecond=0)


def test_one_duty_is_done_by_one_at_a_time(board, work, gate, eventually):
    """However many processes look for work, an execution runs once, and two of the same duty one after the other."""
    foremen = [work() for _ in range(3)]
    numbers = [board.put("retention") for _ in range(2)]
    eventually(lambda: sum(bool(one._busy) for one in foremen) == 2, 10)
    assert gate.runs == 1
    assert sorted(board.now(number)[0] for number in numbers) == ["pending", "running"]
    gate.open.set()
    assert [board.wait(number)[:2] for number in numbers] == [("completed", "through")] * 2
    assert gate.runs == 2


def test_a_running_duty_holds_its_lease(board, work, gate):
    """While it works, the end of its lease moves on; who executes it stands in the row."""
    work()
    number = board.put("retention")
    board.wait(number, "running")
    ask = "SELECT lease_until, executor FROM execution WHERE id = %s"
    first, executor = board.connection.execute(ask, [number]).fetchone()
    assert executor.startswith(duties.WORKER)
    board._eventually(lambda: board.connection.execute(ask, [number]).fetchone()[0] > first, 5)


def test_a_cancelled_duty_ends_as_cancelled(board, work, gate):
    """Whoever cancels a running duty sees it end within moments."""
    work()
    number = board.put("retention")
    board.wait(number, "running")
    board.connection.execute("UPDATE execution SET is_cancelling = true WHERE id = %s", [number])
    assert board.wait(number)[0] == "cancelled"


def test_a_duty_that_takes_too_long_is_broken_off(board, work, gate):
    """Its schedule's time-out ends it, as timed out."""
    work()
    assert board.wait(board.put("retention", timeout=0.2)) == ("timed_out", "", "it took longer than 0.2 s")


def test_a_statement_that_runs_is_cancelled_too(board, work, monkeypatch):
    """What the duty asks of the database does not outlive it."""
    monkeypatch.setitem(foreman.works.WORKS, "vacuum", lambda job, _: str(job.connection.execute("SELECT pg_sleep(60)")))
    work()
    number = board.put("vacuum")
    board.wait(number, "running")
    board.connection.execute("UPDATE execution SET is_cancelling = true WHERE id = %s", [number])
    assert board.wait(number)[0] == "cancelled"
    assert board.connection.execute("SELECT 1 FROM pg_stat_activity WHERE query LIKE '%%pg_sleep(60)%%' AND state = 'active' "
                                    "AND pid <> pg_backend_pid()").fetchone() is None


def test_ingest_that_stops_says_so(board, work, gate):
    """A duty that is at work when the process ends is failed at once, not left running."""
    made = work()
    number = board.put("retention")
    board.wait(number, "running")
    made.close()
    assert board.now(number) == ("failed", "", foreman.STOPPED)


def test_a_late_result_corrects_what_the_scheduler_supposed(board, work, gate):
    """A row closed for its lease while the work went on is completed after all, marked late; once."""
    work()
    number = board.put("retention")
    board.wait(number, "running")
    board.connection.execute("UPDATE execution SET state = 'failed', reason = 'its executor fell silent' WHERE id = %s", [number])
    gate.open.set()
    row = board._eventually(lambda: (found := board.connection.execute(
        "SELECT state, is_late FROM execution WHERE id = %s", [number]).fetchone())[1] and found, 10)
    assert row[1] is True
    assert not duties.write_end(board.connection, duties.Ended(number, "another", "failed"))


def test_a_stopped_worker_is_ended(board, database_url, monkeypatch):
    """A connection that has the duty's lock without a living execution goes, one that has one stays."""
    number = board.put("retention")
    with contextlib.closing(database.open_connection(database_url, f"{duties.WORKER}stopped")) as stopped:
        assert duties.lock(stopped, "retention")
        assert duties.end_stopped(board.connection, "retention") == 0  # it has just come
        monkeypatch.setattr(duties, "LEASE_SECONDS", 0.0)
        board.connection.execute("""UPDATE execution SET state = 'running', executor = %s, lease_until = now() + interval '9 s'
                                    WHERE id = %s""", [f"{duties.WORKER}stopped", number])
        assert duties.end_stopped(board.connection, "retention") == 0
        board.connection.execute("UPDATE execution SET state = 'failed' WHERE id = %s", [number])
        assert duties.end_stopped(board.connection, "retention") == 1
        board._eventually(lambda: duties.lock(board.connection, "retention"), 5)


def test_bad_duties_and_arguments_are_named(board, work):
    """The error says which field is wrong and what is allowed."""
    work()
    assert "there is no duty 'tidy'" in board.refused("tidy")
    assert "target.arguments.dryrun: there is no such field (did you mean dry_run" in board.refused("retention", {"dryrun": True})
    assert "target.arguments.metrics: it is missing" in board.refused("export")
    assert "target.arguments.tables: there is no table 'nope'" in board.refused("vacuum", {"tables": ["nope"]})


@pytest.mark.parametrize("name", ["../x", "/tmp", "a/b", "..", "", "A"])
def test_nothing_leads_out_of_the_output_directory(board, work, name):
    """A folder is named by one plain word."""
    work()
    assert "target.arguments.directory" in board.refused("backup", {"directory": name})


def test_a_link_does_not_lead_out_either(board, work, output, tmp_path):
    """A folder of the output directory that is a link elsewhere is not written to."""
    (tmp_path / "elsewhere").mkdir()
    output.mkdir()
    (output / "backups").symlink_to(tmp_path / "elsewhere")
    work()
    assert "leads out of the output directory" in board.refused("backup")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_without_an_output_directory_files_are_refused(board, work):
    """The error says which setting is missing."""
    work(None)
    for duty, arguments in (("backup", {}), ("report", {}), ("export", {"metrics": ["cpu.percent"]})):
        assert "--output-directory" in board.refused(duty, arguments)


def test_retention_says_what_it_would_delete_and_then_does(board, work, connection):
    """A dry run changes nothing and names partitions and rows; the real one deletes what it said."""
    now = duties.fetch_now(connection)
    old = partitions.Partition("sample", now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=20),
                               now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=19))
    partitions.ensure(connection, old.since, old.since)
    connection.execute("""INSERT INTO audit_log (at, actor, action, kind, object)
                          SELECT now() - interval '500 days', '', '', '', '' FROM generate_series(1, 3)""")
    work()
    said = board.done("retention", {"dry_run": True})
    assert said.startswith("would delete (nothing was deleted): partitions")
    assert old.name in said
    assert "3 rows of audit_log" in said
    assert old.name in partitions.fetch_names(connection)
    assert old.name in board.done("retention")
    assert old.name not in partitions.fetch_names(connection)
    assert connection.execute("SELECT count(*) FROM audit_log").fetchone() == (0,)
    assert board.done("retention") == "deleted: nothing is old"


def test_partitions_are_made_ahead(board, work, connection):
    """Missing days are made and named, a second run finds nothing to do."""
    work()
    assert "sample_" in board.done("partitions")
    assert board.done("partitions") == "made: nothing was missing"


def test_refused_messages_that_are_old_go(board, work, connection):
    """By the policy reject."""
    connection.execute("""INSERT INTO reject (received_at, host, topic, reason, detail, size, sha256, payload)
                          SELECT now() - make_interval(days => d), 'h', 't', 'json', '', 0, '', ''
                          FROM unnest('{31,29}'::int[]) AS d""")
    work()
    assert board.done("rejects") == "deleted: 1 refused messages"


def test_rollups_that_differ_are_found_and_due(board, work, connection):
    """A minute that is wrong, one that is missing and an hour that is wrong are counted; their hours are due to be made again."""
    hour = today(connection) - timedelta(hours=2)
    good, bad = store_host(connection), store_host(connection, "web-2")
    for host in (good, bad):
        store_samples(connection, host, [(hour + timedelta(seconds=5 * n), {"cpu.percent": 10.0 + n}) for n in range(24)])
        store_rollup(connection, "rollup_1m", host, hour, 12, {"cpu.percent": (10.0, 15.5, 21.0)})
        store_rollup(connection, "rollup_1h", host, hour, 24, {"cpu.percent": (10.0, 21.5, 33.0)})
    store_rollup(connection, "rollup_1m", good, hour + timedelta(minutes=1), 12, {"cpu.percent": (22.0, 27.5, 33.0)})
    connection.execute("UPDATE rollup_1m SET max = '{99}' WHERE host_id = %s", [bad])
    work()
    assert "nobody ingests" in board.refused("rollups")
    connection.execute("INSERT INTO slot (slot, expires_at, rolled_up_to) VALUES (0, now() + interval '1 hour', now())")
    span = {"from": hour.isoformat(), "to": (hour + timedelta(hours=1)).isoformat()}
    # Of web-2: the wrong minute, the missing one, and the hour that does not follow from its minutes.
    assert board.done("rollups", span).startswith("2 hours of hosts compared with raw history: 3 rows differed; 1 hours are due")
    assert connection.execute("SELECT host_id, hour, raw_from, raw_to FROM rollup_due").fetchall() == [
        (bad, hour, hour, hour + timedelta(hours=1))]
    # What is due already is not found again, and a host that is not meant is not looked at.
    assert "0 rows differed" in board.done("rollups", span)
    assert board.done("rollups", span | {"hosts": ["db-*"]}).startswith("0 hours of hosts")


def test_tables_are_vacuumed_and_their_statistics_told(board, work, connection):
    """The named table: dead rows before and after."""
    store_host(connection)
    for n in range(50):
        connection.execute("UPDATE host SET state_reason = %s", [str(n)])
    connection.execute("SELECT pg_stat_force_next_flush()")
    work()
    assert "host: " in board.done("vacuum", {"tables": ["host"]})
    assert board.done("vacuum").endswith("tables vacuumed or analyzed")


def test_a_backup_is_written_and_the_newest_are_kept(board, work, output):
    """Each is whole and can be checked; beyond `keep` the oldest go."""
    work()
    told = [board.done("backup", {"keep": 2}) for _ in range(3)]
    kept = sorted(path.name for path in (output / "backups").iterdir())
    assert kept == sorted(said.partition(":")[0].removeprefix("backups/") for said in told[1:])
    assert backup.read(output / "backups" / kept[0]).secrets is False


def test_an_export_holds_the_chosen_points(board, work, connection, output):
    """CSV with a header or a JSON object a line, of the metrics, hosts and span that were asked for."""
    hour = today(connection) - timedelta(hours=1)
    mounts = {'disk.percent{mount=/a"b\\c}': 1.5, "disk.percent{mount=/}": 2.5, "cpu.percent": 3.5}
    for name in ("web-1", "db-1"):
        store_samples(connection, store_host(connection, name), [(hour, mounts), (hour - timedelta(days=1), mounts)])
    work()
    asked = {"metrics": ["disk.percent{mount=*}"], "hosts": ["web-*"], "resolution": "raw", "hours": 3}
    rows = (output / board.done("export", asked).partition(":")[0]).read_text().splitlines()
    assert rows[0] == "host,ts,metric,value"
    assert [row.partition(",")[0] for row in rows[1:]] == ["web-1", "web-1"]
    lines = (output / board.done("export", asked | {"format": "ndjson"}).partition(":")[0]).read_text().splitlines()
    assert {(line["metric"], line["value"]) for line in map(json.loads, lines)} == {
        ('disk.percent{mount=/a"b\\c}', 1.5), ("disk.percent{mount=/}", 2.5)}


def test_the_report_tells_how_the_fleet_has_been(board, work, connection, output):
    """Scores, silent hosts, alerts, disks that fill up and schedules, as text in which nothing of a host becomes markup."""
    hour, now = today(connection), duties.fetch_now(connection)
    web = store_host(connection, received_at=now, score=35.0)
    store_host(connection, "gone", received_at=now - timedelta(hours=1))
    for back in range(24, 0, -1):
        store_rollup(connection, "rollup_1h", web, hour - timedelta(hours=back), 1,
                     {"disk.percent{mount=/var}": (0.0, 90.0 - back / 4, 99.0)})
    connection.execute(
        """INSERT INTO alert (id, host_id, rule, type, state, severity, message, rule_revision, started_at, fired_at, changed_at)
           VALUES (1, %s, 'cpu_high', 'cpu', 'firing', 'critical', '<b>hot</b>', 1, now(), now() - interval '1 minute', now())""",
        [web])
    work()
    board.refused("tidy")
    connection.execute("INSERT INTO notification_channel (name, definition, secret) VALUES ('ops', '{}', '{}')")
    text = (output / board.done("report", {"channel": "ops"}).partition(",")[0]).read_text()
    assert "2 hosts, mean health score 35.0" in text
    assert "silent: gone" in text
    assert "web-1: score 35.0" in text
    assert "cpu_high: once on 1 host, at worst critical" in text
    assert "critical: web-1: \\<b\\>hot\\</b\\>" in text
    assert "web-1: disk.percent{mount=/var} is" in text
    assert "1 failed; target.duty: there is no duty 'tidy'" in text
    kind, content = connection.execute("SELECT kind, content FROM notification").fetchone()
    assert (kind, content["text"]) == ("report", text)
    assert notices.title(msgspec.convert(content, notices.Content)) == f"drumbeat: {now:%Y-%m-%d}"
    assert "no channel 'none'" in board.refused("report", {"channel": "none"})


def test_a_schedule_is_fired_done_and_its_failure_told(connection, work, broker, database_url, topic_root, eventually):
    """From a schedule that is due over scheduler and worker to an end; a failed backup raises an alert, a good one ends it."""
    store_host(connection)
    store(connection, due("nightly", kind="interval", tags=["backup"], target=Target(type="maintenance", duty="backup")))
    schedulers = Schedulers(broker.url, database_url, topic_root)
    try:
        schedulers()
        without = work(None)
        ask = "SELECT state, told, error FROM execution ORDER BY created_at"
        eventually(lambda: [row[:2] for row in connection.execute(ask)] == [("failed", "failed")], 20)
        assert "--output-directory" in connection.execute(ask).fetchone()[2]
        told = "SELECT payload->>'type', coalesce(payload->'resolved', 'false') FROM inbox ORDER BY id"
        assert connection.execute(told).fetchall() == [("backup_failed", False)]
        without.close()
        work()
        manual(connection, "nightly")
        eventually(lambda: [row[:2] for row in connection.execute(ask)][1:] == [("completed", "completed")], 20)
        assert connection.execute(told).fetchall() == [("backup_failed", False), ("backup_failed", True)]
    finally:
        schedulers.close()


def test_a_worker_that_died_is_followed_by_another(connection, work, nats_server, database_url, topic_root, eventually):
    """Its execution is closed for its lease, and the next attempt is done by whoever is there."""
    target = Target(type="maintenance", duty="backup")
    store(connection, due("nightly", kind="interval", retries=1, retry_delay=0.0, target=target))
    schedulers = Schedulers(nats_server.url, database_url, topic_root)
    try:
        schedulers()
        eventually(lambda: duties.fetch_waiting(connection) == ["backup"], 10)
        with contextlib.closing(database.open_connection(database_url, f"{duties.WORKER}dead")) as dying:
            assert duties.lock(dying, "backup")
            assert duties.claim(connection, f"{duties.WORKER}dead", "backup")
        connection.execute("UPDATE execution SET lease_until = now() - interval '1 second'")
        work()
        ask = "SELECT attempt, state FROM execution ORDER BY attempt"
        eventually(lambda: connection.execute(ask).fetchall() == [(1, "failed"), (2, "completed")], 20)
    finally:
        schedulers.close()


def test_default_schedules_come_once_and_stay_as_people_made_them(connection):
    """A deleted one stays deleted, a changed one changed; a backup is enabled where there is somewhere to write to."""
    default_schedules.ensure(connection, has_output=False)
    ask = "SELECT name, enabled, next_at IS NOT NULL FROM schedule WHERE deleted_at IS NULL ORDER BY name"
    first = {row[0]: row[1:] for row in connection.execute(ask)}
    assert first == {schedule.name: (schedule.enabled, schedule.enabled)
                     for schedule in default_schedules.defaults(has_output=False)}
    assert first["drumbeat-backup"] == (False, False)
    connection.execute("UPDATE schedule SET deleted_at = now(), enabled = false, next_at = NULL WHERE name = 'drumbeat-vacuum'")
    connection.execute("UPDATE schedule SET enabled = false, changed_by = 'ann' WHERE name = 'drumbeat-rejects'")
    version = "SELECT version FROM configuration WHERE name = 'schedules'"
    before = connection.execute(version).fetchone()[0]
    for has_output in (True, False):
        default_schedules.ensure(connection, has_output=has_output)
        now = {row[0]: row[1] for row in connection.execute(ask)}
        assert now == {name: enabled for name, (enabled, _) in first.items() if name != "drumbeat-vacuum"} | {
            "drumbeat-rejects": False, "drumbeat-backup": True}
    assert connection.execute(version).fetchone()[0] == before + 1


def test_default_schedules_are_good():
    """Each passes the checks of the API, and names a duty with arguments that it takes."""
    from shared import schedules
    from shared.duties import ARGUMENTS, read_arguments
    from shared.schedule_problems import problems

    assert tuple(ARGUMENTS) == schedules.DUTIES
    for schedule in default_schedules.defaults(has_output=True):
        assert problems(schedule, None) == {}
        read_arguments(schedule.target.duty, msgspec.to_builtins(schedule.target.arguments))
