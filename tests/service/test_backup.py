"""Backups: written from one database, restored into another, and found the same; what is spoilt or in use is refused."""

import contextlib
import json

import pytest
from builders import NOW, store_host, store_layout, store_partitions, store_samples

from aggregator.analysis.rules import Rule
from aggregator.store import backup, default_schedules, reading, rules, tokens
from shared import cli, database


@pytest.fixture
def filled(database_url):
    """A database with something in every table that is backed up."""
    engine = reading.open_engine(database_url)
    with database.open_connection(database_url, "tests") as connection:
        rules.ensure_packs(connection)
        rules.create(engine, Rule(name="own", kind="threshold", metric="cpu.percent", warning=80.0), "ann")
        default_schedules.ensure(connection, has_output=True)
        tokens.create(engine, "ann", ["admin"])
        web, db = store_host(connection, labels={"role": 'web, "north"\n'}), store_host(connection, "db-1")
        connection.execute("INSERT INTO rule_override (host_id, rule, override) VALUES (%s, 'own', '{\"warning\": 95}')", [web])
        connection.execute("INSERT INTO silence (owner, reason, match, ends_at) VALUES ('ann', '', '{}', now())")
        connection.execute("INSERT INTO maintenance_window (name, definition) VALUES ('nightly', '{}')")
        connection.execute("""INSERT INTO schedule_failing (schedule_id, host, type, told)
                              SELECT id, '', 'backup_failed', 'web-1' FROM schedule ORDER BY id LIMIT 1""")
        connection.execute("INSERT INTO dependency VALUES (%s, %s)", [web, db])
        connection.execute("""INSERT INTO notification_channel (name, definition, secret)
                              VALUES ('ops', '{"type": "ntfy"}', '{"url": "ntfy://topsecret"}')""")
        connection.execute("INSERT INTO notification_route (name, position, definition) VALUES ('all', 1, '{}')")
        connection.execute("INSERT INTO health_profile (name, profile) VALUES ('default', '{\"x\": null}')")
        connection.execute("INSERT INTO collection_config (name, definition) VALUES ('slow', '{}')")
        connection.execute("INSERT INTO host_config (host_id, revision, desired) VALUES (%s, 4, '{\"interval\": 30}')", [web])
        connection.execute(
            """INSERT INTO alert (id, host_id, rule, type, state, severity, rule_revision, muted_by, started_at, changed_at)
               VALUES (41, %s, 'own', 'own', 'firing', 'warning', 1, '{a,b}', now(), now())""", [web])
        connection.execute("""INSERT INTO alert_event (id, alert_id, at, kind, severity, rule_revision, reason)
                              VALUES (17, 41, now(), 'firing', 'warning', 1, '')""")
    engine.dispose()
    return database_url


@pytest.fixture
def second_url(admin_database_url, template_database):
    """Another fresh, migrated database."""
    with database.open_connection(admin_database_url, "tests") as connection:
        connection.execute(f"CREATE DATABASE restored TEMPLATE {template_database}")
        yield f"{admin_database_url.rpartition('/')[0]}/restored"
        connection.execute("DROP DATABASE restored WITH (FORCE)")


def contents(url):
    """Every row of every table that is backed up, as text."""
    with database.open_connection(url, "tests") as connection:
        return {table: sorted(row[0] for row in connection.execute(f"SELECT {table}::text FROM {table}"))
                for table in backup.TABLES}


def drumbeat(*argv):
    return cli.main([str(word) for word in argv])


def written(url, tmp_path, *more):
    """A backup of the database."""
    assert drumbeat("backup", "--database-url", url, "--to", tmp_path, *more) == 0
    return max(tmp_path.glob("backup-*"))


def test_what_was_backed_up_comes_back_the_same(filled, second_url, tmp_path, capsys):
    """Every table is equal after a restore, and new rows get ids of their own."""
    before = contents(filled)
    assert all(before.values())
    made = written(filled, tmp_path, "--secrets")
    assert drumbeat("restore", made, "--database-url", second_url) == 0
    assert contents(second_url) == before
    assert "secret" not in capsys.readouterr().out.partition("Restored")[2]
    with database.open_connection(second_url, "tests") as connection:
        assert store_host(connection, "new", received_at=None) == 3
        assert connection.execute("SELECT nextval('alert_id'), nextval('alert_event_id')").fetchone() == (42, 18)


def test_an_empty_database_gets_its_schema_first(filled, empty_database_url, tmp_path):
    """A database without tables is migrated to the backup's revision, filled, and migrated to the newest."""
    made = written(filled, tmp_path, "--secrets")
    assert drumbeat("restore", made, "--database-url", empty_database_url) == 0
    assert contents(empty_database_url) == contents(filled)


def test_secrets_stay_out_unless_they_are_wanted(filled, second_url, tmp_path, capsys):
    """The secret of a channel is in no file, only its owner may read the files, and the restore says what is missing."""
    made = written(filled, tmp_path)
    assert not any(b"topsecret" in path.read_bytes() for path in made.iterdir())
    assert {path.stat().st_mode & 0o777 for path in made.iterdir()} == {0o600}
    assert made.stat().st_mode & 0o777 == 0o700
    assert drumbeat("restore", made, "--database-url", second_url) == 0
    assert "set each anew" in capsys.readouterr().out
    with database.open_connection(second_url, "tests") as connection:
        assert connection.execute("SELECT secret FROM notification_channel").fetchone() == ('{"url": ""}',)


def test_a_spoilt_backup_is_refused(filled, second_url, tmp_path, capsys):
    """A byte changed, a file gone, no manifest: nothing is restored, and the file is named."""
    made = written(filled, tmp_path)
    silences = made / "silence.csv"
    good = silences.read_bytes()
    silences.write_bytes(good.replace(b"ann", b"bob"))
    empty = contents(second_url)
    for spoil, said in ((lambda: None, "silence.csv is spoilt"), (silences.unlink, "silence.csv cannot be read"),
                        ((made / "manifest.json").unlink, "is no backup")):
        spoil()
        assert drumbeat("restore", made, "--database-url", second_url) == 1
        assert said in capsys.readouterr().err
    assert contents(second_url) == empty


def test_another_revision_is_refused(filled, second_url, tmp_path, capsys):
    """A backup of an older schema does not go into a newer one."""
    made = written(filled, tmp_path)
    manifest = json.loads((made / "manifest.json").read_bytes())
    (made / "manifest.json").write_text(json.dumps(manifest | {"revision": "0001"}))
    assert drumbeat("restore", made, "--database-url", second_url) == 1
    assert "the backup is of schema 0001" in capsys.readouterr().err


def test_a_used_database_is_refused_without_force(filled, second_url, tmp_path, capsys):
    """One with rows is left alone; with --force everything in it goes, history included."""
    made = written(filled, tmp_path, "--secrets")
    with database.open_connection(second_url, "tests") as connection:
        store_partitions(connection)
        store_samples(connection, store_host(connection, "old"), [(NOW, {"cpu.percent": 1.0})])
        store_layout(connection, ["b"])
    assert drumbeat("restore", made, "--database-url", second_url) == 1
    assert "the database is in use: host hold rows" in capsys.readouterr().err
    assert drumbeat("restore", made, "--database-url", second_url, "--force") == 0
    assert contents(second_url) == contents(filled)
    with database.open_connection(second_url, "tests") as connection:
        assert connection.execute("SELECT (SELECT count(*) FROM sample), (SELECT count(*) FROM layout)").fetchone() == (0, 0)


def test_services_at_work_are_not_pulled_from_under(filled, second_url, tmp_path, capsys):
    """While a service is connected nothing is restored."""
    made = written(filled, tmp_path)
    with contextlib.closing(database.open_connection(second_url, "drumbeat-ingest-1234")):
        assert drumbeat("restore", made, "--database-url", second_url, "--force") == 1
    assert "drumbeat-ingest is at work" in capsys.readouterr().err


def test_a_backup_is_whole_or_not_there(filled, tmp_path):
    """One that breaks off leaves nothing; the newest are kept, and what is no backup stays."""
    def break_off():
        raise OSError("no space")

    with database.open_connection(filled, "tests") as connection:
        with pytest.raises(OSError, match="no space"):
            backup.write(connection, tmp_path, secrets=False, check=break_off)
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "backup-mine").mkdir()
        made = [backup.write(connection, tmp_path, secrets=False) for _ in range(3)]
        assert backup.delete_oldest(tmp_path, 2) == [made[0].name]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["backup-mine", made[1].name, made[2].name])


def test_every_table_is_backed_up_or_known_not_to_be(database_url):
    """A table that is new must be given a place, in the backup or among those left out."""
    left_out = {"schema_version", "host_now", "stream", "gap", "reject", "layout", "sample", "rollup_1m", "rollup_1h",
                "rollup_1d", "rollup_due", "slot", "snapshot", "outbox", "inbox", "notification", "notification_attempt",
                "notification_group", "execution", "execution_event", "schedule_outbox", "trigger_key",
                "anomaly", "anomaly_run", "detector_state"}
    with database.open_connection(database_url, "tests") as connection:
        found = {row[0] for row in connection.execute(
            """SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
                 AND NOT relispartition""")}
    assert found == left_out | set(backup.TABLES)
