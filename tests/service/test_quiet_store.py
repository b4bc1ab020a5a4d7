"""What mutes, read by ingest from a real Postgres."""

from datetime import timedelta

import pytest
from builders import NOW, store_host
from psycopg.types.json import Jsonb

from aggregator.store import quiet
from shared import database

AT = NOW.timestamp()
WINDOW = {"name": "nightly", "match": {"hosts": ["web-*"]}, "cron": "0 12 * * *", "duration": 3600.0,
          "timezone": "UTC", "reason": "", "enabled": True}


@pytest.fixture
def connection(database_url):
    with database.open_connection(database_url, "tests") as connection:
        yield connection


def add_silence(connection, match, *, hours=1):
    return connection.execute(
        """INSERT INTO silence (owner, reason, match, starts_at, ends_at)
           VALUES ('me', 'why', %s, %s, %s) RETURNING id""",
        [Jsonb(match), NOW - timedelta(days=1), NOW + timedelta(hours=hours)]).fetchone()[0]


def add_window(connection, **fields):
    definition = WINDOW | fields
    connection.execute("INSERT INTO maintenance_window (name, definition) VALUES (%s, %s)",
                       [definition["name"], Jsonb(definition)])


def reasons(own, host="web-1", down=()):
    return own.at(AT, down).reasons(host=host, labels={}, rule="r", type_="r", instance="", severity="info")


def test_everything_in_force_is_read(connection):
    """Silences that have not ended, windows and dependencies come out as they were stored."""
    number = add_silence(connection, {"hosts": ["web-1"]})
    add_silence(connection, {"hosts": ["web-1"]}, hours=0)
    add_window(connection)
    add_window(connection, name="off", enabled=False)
    web, router = store_host(connection, "web-1"), store_host(connection, "router-1")
    connection.execute("INSERT INTO dependency VALUES (%s, %s)", [web, router])
    own = quiet.fetch_quiet(connection, AT)
    assert reasons(own, down={"router-1"}) == (f"silence {number}", "window nightly", "host_down router-1")
    assert reasons(own, "router-1", down={"router-1"}) == ()


def test_unusable_rows_are_skipped(connection, caplog):
    """A row that a person broke costs itself: it is logged by name, the others hold."""
    broken = add_silence(connection, {"hosts": "web-1"})
    number = add_silence(connection, {})
    add_window(connection, name="feb", cron="0 0 31 2 *")
    add_window(connection, name="mars", timezone="Mars/Olympus")
    add_window(connection, name="short", duration=1)
    add_window(connection, name="odd", extra=1)
    add_window(connection)
    assert reasons(quiet.fetch_quiet(connection, AT)) == (f"silence {number}", "window nightly")
    assert {record.fields["name"] for record in caplog.records} == {broken, "feb", "mars", "short", "odd"}
