"""A database restored from a backup is filled again by the agents: they keep what they have sent for a while."""

import os
import signal
import subprocess
import sys
from datetime import timedelta

import pytest
from ingest_rig import Clock, Ingest, Listener
from scheduler_rig import process, schedule, store

from aggregator.store import audit, backup, reading
from shared import cli, database
from shared.topics import Topics

HOST = "box-1"


@pytest.fixture
def agent(broker, data_directory, topic_root):
    """A real agent, ten samples a second."""
    running = subprocess.Popen(
        [sys.executable, "-m", "shared.cli", "agent", "--host", HOST, "--interval", "0.1", "--data", str(data_directory),
         "--topic-root", topic_root, "--collectors", "cpu,memory", "--log-level", "error"],
        env={"PATH": os.environ["PATH"], "DRUMBEAT_BROKER_URL": broker.url})
    yield running
    running.kill()
    running.wait()


def saved(url, directory):
    """A backup of the whole store, made while its services are at work."""
    with database.open_connection(url, "tests") as connection:
        return backup.write(connection, directory, secrets=True, history=True)[0]


def test_what_came_after_the_backup_is_sent_again(broker, agent, topic_root, database_url, empty_database_url, tmp_path,
                                                  eventually):
    """Samples stored and confirmed since the backup are gone with the database, and come again: each once, none missing."""
    def newest(url):
        with database.open_connection(url, "tests") as connection:
            return connection.execute("SELECT count(*), coalesce(max(seq), 0) FROM sample").fetchone()

    first = Ingest(broker.url, database_url, topic_root, Clock())
    first()
    eventually(lambda: newest(database_url)[1] >= 20, 30)
    made = saved(database_url, tmp_path)
    at_backup = newest(database_url)[1]
    confirmed = Listener(broker.url, [Topics(topic_root).down(HOST, "watermark")])
    confirmed.poll(lambda: any(told["seq"] >= at_backup + 20 for told in confirmed.retained.values()), 30)
    confirmed.client.close()
    first.close()
    lost = newest(database_url)[1]
    assert cli.main(["restore", str(made), "--database-url", empty_database_url]) == 0
    assert newest(empty_database_url)[1] <= at_backup + 5 < lost
    second = Ingest(broker.url, empty_database_url, topic_root, Clock())
    second()
    eventually(lambda: (found := newest(empty_database_url))[0] == found[1] > lost, 60)
    agent.send_signal(signal.SIGTERM)
    agent.wait()
    second.close()
    verdict, = audit.fetch_audit(reading.open_engine(empty_database_url))
    assert verdict.is_sound
    assert (verdict.rows, verdict.first, verdict.gaps, verdict.duplicates) == (verdict.distinct, 1, 0, 0)
    assert verdict.rows > lost


def test_schedules_of_a_restored_store_do_not_storm(broker, topic_root, database_url, empty_database_url, tmp_path):
    """Of the fire times between backup and restore, each schedule makes up for as many as it says, by default one."""
    topics = Topics(topic_root)
    with database.open_connection(database_url, "tests") as connection:
        store(connection, *(schedule(f"beat-{number}") for number in range(3)))
        connection.execute("UPDATE schedule SET next_at = now() - %s", [timedelta(hours=3)])
    assert cli.main(["restore", str(saved(database_url, tmp_path)), "--database-url", empty_database_url]) == 0
    listener = Listener(broker.url, [topics.fire("+")])
    running = process(broker.url, empty_database_url, topic_root)
    try:
        listener.poll(lambda: {topic for topic, _ in listener.heard} == {topics.fire(f"beat-{n}") for n in range(3)}, 30)
    finally:
        running.kill()
        running.wait()
        listener.client.close()
    with database.open_connection(empty_database_url, "tests") as connection:
        found = connection.execute(
            """SELECT bool_or(scheduled_for < now() - interval '2 minutes'), min(next_at) > now() - interval '30 s'
               FROM schedule, execution""").fetchone()
    assert found == (False, True)
