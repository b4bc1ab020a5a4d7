"""`drumbeat audit` and `drumbeat migrate` on a real Postgres."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from aggregator.client import audit, migrate
from aggregator.store import partitions
from shared import database
from shared.settings import SettingsError

EPOCH = 0x5F1C9A3E77B0C2D1
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def connection(database_url):
    with database.open_connection(database_url, "tests") as connection:
        partitions.ensure(connection, NOW - timedelta(days=3), NOW)
        connection.execute("INSERT INTO layout (digest, keys) VALUES ('\\x00', '{cpu.percent}')")
        yield connection


def add_host(connection, name="web-1"):
    row = connection.execute("INSERT INTO host (name, partition) VALUES (%s, 0) RETURNING id", [name])
    return row.fetchone()[0]


def add_samples(connection, host_id, seqs, *, at=NOW, epoch=EPOCH):
    with connection.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO sample (host_id, layout_id, ts, received_at, epoch, seq, values)
               VALUES (%s, 1, %s, %s, %s, %s, '{1}')""",
            [(host_id, at, at, epoch, seq) for seq in seqs])


def add_stream(connection, host_id, contiguous, *, epoch=EPOCH):
    connection.execute("INSERT INTO stream (host_id, epoch, contiguous_seq, created_at) VALUES (%s, %s, %s, %s)",
                       [host_id, epoch, contiguous, NOW - timedelta(days=30)])


def run(capsys, url, *argv):
    status = audit.main(["--json", *argv], {"DRUMBEAT_DATABASE_URL": url})
    return status, json.loads(capsys.readouterr().out)


def test_a_sound_fleet_passes(connection, database_url, capsys):
    """Streams over several partitions, with gaps and refusals that explain what is missing, are sound: exit 0."""
    host = add_host(connection)
    add_samples(connection, host, range(1, 50), at=NOW - timedelta(days=1))
    add_samples(connection, host, [*range(50, 60), *range(65, 70), *range(71, 80)])
    add_stream(connection, host, 79)
    connection.execute("INSERT INTO gap (host_id, epoch, from_seq, to_seq, reason) VALUES (%s, %s, 60, 64, 'spool')",
                       [host, EPOCH])
    connection.execute(
        """INSERT INTO reject (received_at, host, topic, reason, detail, size, sha256, payload, epoch, seq)
           VALUES (now(), 'web-1', 't', 'range', 'd', 1, '', '', %s, 70)""", [EPOCH])
    status, told = run(capsys, database_url)
    assert status == 0
    assert told["sound"] is True
    assert (told["samples"], told["gaps"], told["refused"], told["lost"]) == (73, 5, 1, 0)
    assert told["by_stream"][0]["epoch"] == f"{EPOCH:016x}"


def test_a_loss_and_a_double_fail(connection, database_url, capsys):
    """An unexplained hole or a seq stored twice gives exit 1, and the JSON says where."""
    first, second = add_host(connection, "web-1"), add_host(connection, "web-2")
    add_samples(connection, first, [1, 2, 5])
    add_stream(connection, first, 5)
    add_samples(connection, second, [1, 2, 2, 3])
    add_samples(connection, second, [3], at=NOW - timedelta(days=1))
    add_stream(connection, second, 3)
    status, told = run(capsys, database_url)
    by_host = {row["host"]: row for row in told["by_stream"]}
    assert status == 1
    assert by_host["web-1"]["lost_ranges"] == [[3, 4]]
    assert by_host["web-2"]["duplicates"] == 2


def test_another_epoch_is_another_stream(connection, database_url, capsys):
    """Two epochs of one host may hold the same seqs; an epoch with its top bit set reads as the wire writes it."""
    host = add_host(connection)
    add_samples(connection, host, range(1, 4))
    add_samples(connection, host, range(1, 6), epoch=-1)
    status, told = run(capsys, database_url, "--host", "web-1")
    assert status == 0
    assert sorted(row["epoch"] for row in told["by_stream"]) == [f"{EPOCH:016x}", "f" * 16]


def test_one_host_alone_can_be_audited(connection, database_url, capsys):
    """--host judges that host only; an unknown host is said so, exit 1."""
    for name in ("web-1", "web-2"):
        add_samples(connection, add_host(connection, name), [1, 3] if name == "web-2" else [1, 2])
    assert run(capsys, database_url, "--host", "web-1")[0] == 0
    assert run(capsys, database_url, "--host", "web-2")[0] == 1
    assert audit.main(["--host", "nobody"], {"DRUMBEAT_DATABASE_URL": database_url}) == 1
    assert "no host 'nobody'" in capsys.readouterr().err


def test_people_get_a_table(connection, database_url, capsys):
    """Without --json the loss is named with its seqs."""
    add_samples(connection, add_host(connection), [1, 2, 5])
    assert audit.main([], {"DRUMBEAT_DATABASE_URL": database_url}) == 1
    assert "lost 3-4" in capsys.readouterr().out


def test_a_database_without_schema_is_said_so(empty_database_url, capsys):
    """An empty database gives one line with the mend, not a stack trace."""
    assert audit.main([], {"DRUMBEAT_DATABASE_URL": empty_database_url}) == 1
    assert "drumbeat migrate" in capsys.readouterr().err


def test_migrate_says_what_it_applied(empty_database_url, capsys):
    """The first run applies the revisions, the second nothing."""
    environ = {"DRUMBEAT_DATABASE_URL": empty_database_url}
    assert migrate.main(["--json"], environ) == 0
    assert json.loads(capsys.readouterr().out)["applied"][0] == "0001"
    assert migrate.main(["--json"], environ) == 0
    assert json.loads(capsys.readouterr().out) == {"applied": []}


@pytest.mark.parametrize("command", [audit, migrate])
def test_an_absent_database_is_said_so(command, capsys):
    """A database that does not answer gives exit 1 and one line; the password is not in it."""
    environ = {"DRUMBEAT_DATABASE_URL": "postgresql://someone:canary@127.0.0.1:9/none"}
    assert command.main([], environ) == 1
    told = capsys.readouterr().err
    assert "canary" not in told
    assert len(told.strip().splitlines()) == 1


@pytest.mark.parametrize("command", [audit, migrate])
def test_a_wrong_url_names_the_setting(command):
    """A URL of another scheme is refused by the name of the setting."""
    with pytest.raises(SettingsError, match="--database-url"):
        command.main(["--database-url", "mysql://x/y"], {})
