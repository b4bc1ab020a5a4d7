"""Backups: written from one database, restored into another, and found the same; what is spoilt or in use is refused."""

import contextlib
import hashlib
import json
import threading
from datetime import timedelta

import pytest
from builders import NOW, store_host, store_layout, store_partitions, store_rollup, store_samples, store_snapshot

from aggregator.analysis.rules import Rule
from aggregator.store import backup, default_schedules, partitions, reading, rules, tokens
from compose import membership
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
        connection.execute("INSERT INTO enrolment_token (name, digest) VALUES ('fleet', 'x')")
        connection.execute("INSERT INTO agent_credential (host, bcrypt, pbkdf2, enrolment_id) VALUES ('web-1', 'b', 'p', 1)")
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
def with_history(filled):
    """The same with something in every table of history, in partitions of two days."""
    with database.open_connection(filled, "tests") as connection:
        store_partitions(connection)
        store_samples(connection, 1, [(NOW - timedelta(minutes=9 * n), {"cpu.percent": n / 3, f"custom.n{n % 3}": 1e-9 * n})
                                      for n in range(400)])
        for table in ("rollup_1m", "rollup_1h", "rollup_1d"):
            store_rollup(connection, table, 1, NOW, 12, {"cpu.percent": (1.5, 2.25, 3.125)})
        store_snapshot(connection, 1, "sensors", {"sensors": ["ü \\ ,\n"]})
        connection.execute("INSERT INTO slot (slot, owner, epoch, expires_at) VALUES (0, 'drumbeat-ingest-1', 7, 'infinity')")
        connection.execute("INSERT INTO stream (host_id, epoch, contiguous_seq, ahead) VALUES (1, -5, 9, '{11,12}')")
        connection.execute("INSERT INTO gap (host_id, epoch, from_seq, to_seq, reason) VALUES (1, -5, 1, 2, 'full')")
        connection.execute("""INSERT INTO reject (received_at, host, topic, reason, detail, size, sha256, payload)
                              VALUES (now(), 'web-1', 't', 'json', '', 1, 'x', '\\x00ff')""")
        connection.execute("INSERT INTO rollup_due (host_id, hour, due_at) VALUES (1, now(), now())")
        connection.execute("INSERT INTO inbox (partition, host_id, payload, actor) VALUES (1, 1, '{}', 'ann')")
        connection.execute("INSERT INTO notification_group (route, key, state) VALUES ('all', 'k', '{}')")
        connection.execute("""INSERT INTO notification (channel, route, kind, alert_ids, content)
                              VALUES ('ops', 'all', 'alerts', '{41}', '{}')""")
        connection.execute("INSERT INTO notification_attempt (notification_id, ok, seconds) VALUES (1, false, 0.5)")
        for number, parent in (("b", None), ("a", "b")):  # a child that comes before its parent
            connection.execute("""INSERT INTO execution (id, schedule_id, parent, scheduled_for, host, cause, state, target,
                                    not_before, not_after)
                                  SELECT %s, id, %s, now(), %s, 'schedule', 'completed', '{}', now(), now()
                                  FROM schedule ORDER BY id LIMIT 1""", [number, parent, parent or ""])
        connection.execute("INSERT INTO execution_event (execution_id, state) VALUES ('a', 'completed')")
        connection.execute("""INSERT INTO trigger_key (schedule_id, key, execution_id)
                              SELECT id, 'k', 'b' FROM schedule ORDER BY id LIMIT 1""")
        connection.execute("""INSERT INTO anomaly (id, host_id, began_at, peak_at, peak, threshold, metrics)
                              VALUES (5, 1, now(), now(), 4, 3, '{}')""")
        connection.execute("INSERT INTO anomaly_run (request, result) VALUES ('{}', '{}')")
        connection.execute("INSERT INTO detector_state VALUES (1, 1, now(), '\\x0001')")
    return filled


@pytest.fixture
def second_url(admin_database_url, template_database):
    """Another fresh, migrated database."""
    with database.open_connection(admin_database_url, "tests") as connection:
        connection.execute(f"CREATE DATABASE restored TEMPLATE {template_database}")
        yield f"{admin_database_url.rpartition('/')[0]}/restored"
        connection.execute("DROP DATABASE restored WITH (FORCE)")


def contents(url, tables=backup.TABLES):
    """Every row of every table that is backed up, as text."""
    with database.open_connection(url, "tests") as connection:
        return {table: sorted(row[0] for row in connection.execute(f"SELECT {table}::text FROM {table}")) for table in tables}


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


def test_the_whole_store_comes_back_the_same(with_history, second_url, tmp_path):
    """Every row of every table and partition is equal after a restore, except who held a slot; indexes and counters are there."""
    everything = [*backup.TABLES, *backup.HISTORY]
    before = contents(with_history, everything)
    assert all(before.values())
    made = written(with_history, tmp_path, "--secrets", "--history")
    assert drumbeat("restore", made, "--database-url", second_url) == 0
    after = contents(second_url, everything)
    held, free = before.pop("slot"), after.pop("slot")
    assert after == before
    assert [row.replace("drumbeat-ingest-1", '""').replace(",infinity", ",-infinity") for row in held] == free
    with database.open_connection(with_history, "tests") as old, database.open_connection(second_url, "tests") as new:
        indexes = "SELECT count(*) FROM pg_indexes WHERE tablename ~ '^(sample|rollup_1.)_2'"
        parts = {part.name for part in partitions.fetch_all(old)}
        assert {part.name for part in partitions.fetch_all(new)} == parts
        assert new.execute(indexes).fetchone() == old.execute(indexes).fetchone() == (2 * 3 + len(parts) - 3,)
        assert new.execute("SELECT nextval('anomaly_id'), nextval('alert_id')").fetchone() == (6, 42)
        assert new.execute("INSERT INTO gap (host_id, epoch, from_seq, to_seq, reason) VALUES (1, 1, 1, 1, '') RETURNING id"
                           ).fetchone() == (2,)


def test_a_store_with_partitions_is_filled_where_force_says_so(with_history, tmp_path):
    """Restoring a database over itself leaves what the backup holds, no row twice."""
    before = contents(with_history, backup.HISTORY)
    made = written(with_history, tmp_path, "--secrets", "--history")
    with database.open_connection(with_history, "tests") as connection:
        store_samples(connection, 1, [(NOW, {"cpu.percent": 99.0})])
    assert drumbeat("restore", made, "--database-url", with_history, "--force") == 0
    after = contents(with_history, backup.HISTORY)
    assert {**after, "slot": 0} == {**before, "slot": 0}


def test_nobody_waits_for_a_backup(with_history, tmp_path):
    """While one is being written rows are added and partitions made; they are not in it, and retention is only put off."""
    def meanwhile():
        if connections:
            with connections.pop() as connection:
                connection.execute("SET lock_timeout = '1s'")
                assert partitions.ensure(connection, NOW + timedelta(days=30), NOW + timedelta(days=31))
                store_samples(connection, 1, [(NOW + timedelta(days=30), {"cpu.percent": 99.0})])
                with pytest.raises(database.LockTimeout):
                    partitions.drop_old(connection, dict.fromkeys(partitions.POLICIES.values(), 1), NOW, patience="50ms")

    before = contents(with_history, ["sample"])["sample"]
    connections = [database.open_connection(with_history, "tests")]
    with database.open_connection(with_history, "tests") as connection:
        made, manifest = backup.write(connection, tmp_path, secrets=False, history=True, check=meanwhile)
    assert not connections
    assert sum(file.rows for file in manifest.tables.values() if file.table == "sample") == len(before) == 400
    assert backup.read(made) == manifest


def test_a_backup_of_an_older_drumbeat_is_taken(filled, empty_database_url, tmp_path):
    """One without the tables that came later: the others are filled, and the schema is brought up to date."""
    made = written(filled, tmp_path, "--secrets")
    manifest = json.loads((made / "manifest.json").read_bytes())
    for later in ("enrolment_token", "agent_credential"):
        del manifest["tables"][later]
        (made / f"{later}.csv").unlink()
    for file in manifest["tables"].values():
        del file["table"]
    versions = made / "configuration.csv"
    versions.write_text("".join(line for line in versions.read_text().splitlines(True) if "credentials" not in line))
    manifest["tables"]["configuration"]["rows"] -= 1
    manifest["tables"]["configuration"]["sha256"] = hashlib.sha256(versions.read_bytes()).hexdigest()
    (made / "manifest.json").write_text(json.dumps(manifest | {"revision": "0004", "format": 1}))
    assert drumbeat("restore", made, "--database-url", empty_database_url) == 0
    expected = contents(filled) | {"enrolment_token": [], "agent_credential": []}
    assert contents(empty_database_url) == expected


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
    assert "the database is in use: host, layout, host_now, sample hold rows" in capsys.readouterr().err
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


def assert_followed(url, made):
    """Whoever reads the credentials of a database for a broker has those of the backup once it is restored there."""
    with contextlib.closing(membership.changes(url, "bcrypt", threading.Event())) as seen:
        assert next(seen) == {}
        assert drumbeat("restore", made, "--database-url", url, "--force") == 0
        assert next(seen) == {"web-1": "b"}


def test_a_broker_kept_in_step_is_no_service_at_work(filled, second_url, tmp_path, monkeypatch):
    """Whoever reads credentials for a broker (drumbeat up, drumbeat acl) may stay, and has those of the backup afterwards."""
    monkeypatch.setattr(membership, "POLL_SECONDS", 0.01)
    with database.open_connection(filled, "tests") as connection:
        connection.execute("UPDATE configuration SET version = version + 1 WHERE name = 'credentials'")
    assert_followed(second_url, written(filled, tmp_path))


def test_restored_credentials_are_news_whatever_their_version(filled, second_url, tmp_path, monkeypatch):
    """Where both databases have changed equally often, whoever keeps a broker in step still sees that credentials are others."""
    monkeypatch.setattr(membership, "POLL_SECONDS", 0.01)
    for url in (filled, second_url):
        with database.open_connection(url, "tests") as connection:
            connection.execute("UPDATE configuration SET version = 3 WHERE name = 'credentials'")
    assert_followed(second_url, written(filled, tmp_path))


def test_a_backup_is_whole_or_not_there(filled, tmp_path):
    """One that breaks off leaves nothing; the newest are kept, and what is no backup stays."""
    def break_off():
        raise OSError("no space")

    with database.open_connection(filled, "tests") as connection:
        with pytest.raises(OSError, match="no space"):
            backup.write(connection, tmp_path, secrets=False, check=break_off)
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "backup-mine").mkdir()
        made = [backup.write(connection, tmp_path, secrets=False)[0] for _ in range(3)]
        assert backup.delete_oldest(tmp_path, 2) == [made[0].name]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["backup-mine", made[1].name, made[2].name])


def test_every_table_is_backed_up_or_known_not_to_be(database_url):
    """A table that is new must be given a place: in every backup, in the whole store's, or among those left out."""
    with database.open_connection(database_url, "tests") as connection:
        found = {row[0] for row in connection.execute(
            """SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
                 AND NOT relispartition""")}
    assert found == {*backup.TABLES, *backup.HISTORY, *backup.LEFT_OUT}
