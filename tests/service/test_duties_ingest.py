"""Duties beside the beat of a real ingest: samples are stored while one works, and rollups that were wrong are made again."""

import threading
from datetime import timedelta

import pytest
from builders import store_rollup, store_samples
from psycopg.types.json import Jsonb

from aggregator.ingest.duties import foreman
from aggregator.store import duties
from shared import database


@pytest.fixture
def connection(database_url):
    with database.open_connection(database_url, "tests") as connection:
        yield connection


def put(connection, duty, **arguments):
    """An execution of a duty that is released."""
    connection.execute(
        """WITH s AS (INSERT INTO schedule (name, definition, enabled) VALUES ('own', '{}', true) RETURNING id)
           INSERT INTO execution (id, schedule_id, scheduled_for, cause, state, target, not_before, not_after, fired_at)
           SELECT 'own', id, now(), 'schedule', 'pending', %s, now(), now() + interval '1 hour', now() FROM s""",
        [Jsonb({"type": "maintenance", "duty": duty, "arguments": arguments})])


def state(connection):
    return connection.execute("SELECT state FROM execution").fetchone()[0]


def test_samples_are_stored_while_a_duty_works(ingest, agent, connection, monkeypatch):
    """A duty that takes long delays no sample; when ingest stops, it is broken off and its row says so."""
    begun, forever = threading.Event(), threading.Event()

    def work(job, _):
        begun.set()
        while not forever.wait(0.05):
            job.check()

    monkeypatch.setitem(foreman.works.WORKS, "retention", work)
    ingest()
    put(connection, "retention")
    assert begun.wait(10)
    for _ in range(20):
        agent.sample()
    agent.await_stored()
    assert connection.execute("SELECT count(*) FROM sample").fetchone() == (20,)
    assert state(connection) == "running"
    ingest.close()
    assert connection.execute("SELECT state, error FROM execution").fetchone() == ("failed", foreman.STOPPED)


def test_rollups_that_were_wrong_are_made_again(ingest, agent, connection):
    """The duty finds them and ingest, which alone writes rollups, mends them: minute and hour follow from raw history."""
    ingest()
    agent.sample()
    agent.await_stored()
    host = connection.execute("SELECT id FROM host").fetchone()[0]
    hour = duties.fetch_now(connection).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    store_samples(connection, host, [(hour + timedelta(seconds=5 * n), {"cpu.percent": 10.0 + n}) for n in range(12)])
    for table in ("rollup_1m", "rollup_1h"):
        store_rollup(connection, table, host, hour, 12, {"cpu.percent": (0.0, 1.0, 2.0)})
    put(connection, "rollups", **{"from": hour.isoformat(), "to": (hour + timedelta(hours=1)).isoformat()})
    agent.poll(lambda: state(connection) == "completed")
    agent.poll(lambda: connection.execute("SELECT count(*) FROM rollup_due").fetchone() == (0,))
    for table in ("rollup_1m", "rollup_1h"):
        assert connection.execute(f"SELECT count, min, mean, max FROM {table} WHERE ts = %s", [hour]).fetchone() == (
            12, [10.0], [15.5], [21.0])
