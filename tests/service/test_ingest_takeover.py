"""A slot taken over: from owners that are killed, stopped, without a broker, or whose database connection hangs."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import psycopg
import pytest
from ingest_rig import Agent
from tcp_proxy import Proxy

from aggregator.ingest import outgoing
from aggregator.ingest.commit import Committer
from aggregator.store import slots
from compose import programs
from shared import bus, database

TABLES = ("sample", "stream", "host_now", "alert", "alert_event", "outbox", "rollup_due", "reject", "gap")
WHO_WRITES = """
CREATE TABLE written (what text, who text, at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION note_writer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO written (what, who) VALUES (TG_TABLE_NAME, current_setting('application_name')); RETURN NULL; END $$;
CREATE TRIGGER note AFTER UPDATE ON slot FOR EACH ROW EXECUTE FUNCTION note_writer();
""" + "".join(f"CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON {table} EXECUTE FUNCTION note_writer();\n"
              for table in TABLES)

STATE = "SELECT state FROM pg_stat_activity WHERE application_name = 'slow-owner'"


class Process:
    """An ingest process behind a proxy to its broker."""

    def __init__(self, broker_url, database_url, topic_root):
        self.proxy, self.port = Proxy(broker_url), programs.free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "shared.cli", "ingest", "--topic-root", topic_root, "--probe-port", str(self.port)],
            env={"PATH": os.environ["PATH"], "DRUMBEAT_BROKER_URL": self.proxy.url, "DRUMBEAT_DATABASE_URL": database_url},
            stderr=subprocess.DEVNULL)

    def parts(self):
        """What /readyz says of the parts; empty while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=1) as reply:
                return json.load(reply)["parts"]
        except urllib.error.HTTPError as error:
            return json.load(error)["parts"]
        except OSError:
            return {}

    def is_owner(self):
        return self.parts().get("slot") == "ok"

    def is_standby(self):
        return "standby" in self.parts().get("slot", "")

    def signal(self, number):
        self.process.send_signal(number)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.proxy.close()


@pytest.fixture
def start(broker, database_url, topic_root):
    """Start an ingest process."""
    started = []

    def start():
        started.append(Process(broker.url, database_url, topic_root))
        return started[-1]

    yield start
    for process in started:
        process.close()


@pytest.fixture
def published(monkeypatch):
    """What bus clients of this process publish from now on: (client, topic)."""
    heard = []
    publish, publish_all = bus.Client.publish, bus.Client.publish_all

    def noted(client, topic, payload, **options):
        sent = publish(client, topic, payload, **options)
        heard.extend([(client, topic)] if sent else [])
        return sent

    def all_noted(client, messages):
        sent = publish_all(client, messages)
        heard.extend((client, topic) for topic, _ in messages[:sent])
        return sent

    monkeypatch.setattr(bus.Client, "publish", noted)
    monkeypatch.setattr(bus.Client, "publish_all", all_noted)
    return heard


def until_stored(agent, rows, within):
    """Seconds until a sample sent from now on is stored."""
    begun = time.monotonic()
    while not rows("SELECT 1 FROM sample WHERE seq = %s", agent.seq):
        assert time.monotonic() - begun < within, "nobody has taken over"
        agent.sample(seq=max(agent.seq, 2))
        agent.client.poll(0.1)
    return time.monotonic() - begun


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_an_owner_that_stands_still_is_replaced_and_stays_silent(start, agent, rows, database_url, eventually, number):
    """The standby stores within ten seconds; an owner that goes on after a stop writes no row, says nothing, and stands by."""
    with database.open_connection(database_url, "test") as connection:
        connection.execute(WHO_WRITES)
    owner = start()
    eventually(owner.is_owner, 30)
    standby = start()
    eventually(standby.is_standby, 30)
    agent.sample()
    agent.await_watermark(1)
    topics = agent.topics
    eventually(lambda: owner.proxy.published[-2:] == [topics.health(agent.host), topics.fleet_health()])  # all is said
    [(name,)] = rows("SELECT owner FROM slot")
    owner.signal(number)
    agent.seq = 2
    print(f"{number.name}: taken over in {until_stored(agent, rows, 10.0):.1f} s")
    if number == signal.SIGKILL:
        return
    [(taken_at,)] = rows("SELECT clock_timestamp()")
    said = len(owner.proxy.published)
    owner.signal(signal.SIGCONT)
    eventually(owner.is_standby, 20)
    agent.sample()
    agent.await_watermark(3)
    assert owner.proxy.published[said:] == []
    assert rows("SELECT what FROM written WHERE who = %s AND at > %s", name, taken_at) == []
    assert rows("SELECT DISTINCT who = %s FROM written WHERE at > %s", name, taken_at) == [(False,)]
    assert rows("SELECT seq FROM sample ORDER BY 1") == [(1,), (2,), (3,)]


def test_an_owner_stopped_after_its_commit_tells_nothing_any_more(ingest, agent, rows, clock, database_url, published,
                                                                  monkeypatch):
    """What an owner would publish for a commit of its own is left unsaid when its lease has run out meanwhile."""
    first = ingest()
    agent.sample()
    agent.await_watermark(1)
    standby = ingest(wait=False)
    stopped, go_on, commit = threading.Event(), threading.Event(), Committer.commit
    owner = first._client

    def commit_and_stop(committer, batch, *arguments):
        refused = commit(committer, batch, *arguments)
        if len(batch.samples) and not stopped.is_set():
            stopped.set()
            assert go_on.wait(20)
        return refused

    monkeypatch.setattr(Committer, "commit", commit_and_stop)
    agent.sample()
    agent.hello()  # the agent would be told at once
    agent.poll(stopped.is_set)
    clock.stalled += slots.LEASE_SECONDS
    with database.open_connection(database_url, "test") as connection:
        connection.execute("UPDATE slot SET expires_at = now() - interval '1 second'")
    agent.poll(lambda: not any(standby.ready().values()), 20)
    del published[:]
    go_on.set()
    agent.poll(lambda: "standby" in first.ready()["slot"])
    assert [topic for client, topic in published if client is owner] == []
    agent.hello()
    agent.await_watermark(2)
    assert rows("SELECT count(*) FROM sample") == [(2,)]


@pytest.mark.parametrize("is_taken_over", [True, False], ids=["taken-over", "still-ours"])
def test_an_owner_stopped_between_two_messages_sends_no_other(ingest, agent, rows, clock, database_url, published, monkeypatch,
                                                              is_taken_over):
    """Watermarks were sent, the health of hosts was not: it stays unsaid, or is said by an owner that still is one."""
    stopped, go_on, watermarks = threading.Event(), threading.Event(), outgoing.Publisher.watermarks

    def tell_and_stop(publisher, streams):
        told = watermarks(publisher, streams)
        if told and not stopped.is_set():
            stopped.set()
            assert go_on.wait(20)
        return told

    monkeypatch.setattr(outgoing.Publisher, "watermarks", tell_and_stop)
    first = ingest()
    owner = first._client
    agent.sample()
    agent.poll(stopped.is_set)
    clock.stalled += slots.LEASE_SECONDS
    if is_taken_over:
        with database.open_connection(database_url, "test") as connection:
            connection.execute("UPDATE slot SET expires_at = now() - interval '1 second'")
        standby = ingest(wait=False)
        agent.poll(lambda: not any(standby.ready().values()), 20)
        agent.sample()
        agent.await_watermark(2)
    del published[:]
    go_on.set()
    if is_taken_over:
        agent.poll(lambda: "standby" in first.ready()["slot"])
        assert [topic for client, topic in published if client is owner] == []
    else:
        agent.poll(lambda: owner.connections == 2)
        agent.sample()
        agent.await_watermark(2)
        agent.poll(lambda: any("/health/web-1" in topic for client, topic in published if client is owner))


def test_an_owner_without_a_broker_leaves_its_slot_to_one_that_has_one(ingest, agent, rows, broker, clock):
    """An owner that cannot hear gives way to a standby that can; where none can, it keeps the slot."""
    proxy = Proxy(broker.url)
    first = ingest(broker_url=proxy.url)
    agent.sample()
    agent.await_watermark(1)
    [(epoch,)] = rows("SELECT epoch FROM slot")
    proxy.cut()
    agent.poll(lambda: first.ready()["broker"])
    clock.stalled += 30
    rows("SELECT pg_sleep(1.5)")
    assert rows("SELECT epoch FROM slot") == [(epoch,)]
    assert first.ready()["slot"] == ""
    standby = ingest(wait=False)
    agent.poll(lambda: not any(standby.ready().values()), 20)
    agent.poll(lambda: "standby" in first.ready()["slot"])
    agent.sample()
    agent.await_watermark(2)
    assert rows("SELECT seq FROM sample ORDER BY 1") == [(1,), (2,)]
    proxy.close()


def test_an_owner_whose_database_does_not_answer_is_replaced(ingest, agent, rows, database_url):
    """A connection that hangs without breaking is no reason to wait for it: its lease runs out like any other."""
    ingest()
    agent.sample()
    agent.await_watermark(1)
    standby = ingest(wait=False)
    agent.poll(lambda: "standby" in standby.ready()["slot"])
    [(pid,)] = rows("SELECT a.pid FROM pg_stat_activity a JOIN slot s ON s.owner = a.application_name")
    os.kill(pid, signal.SIGSTOP)
    try:
        agent.seq = 2
        assert until_stored(agent, rows, 12.0) < 12.0
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_slow_commit_is_no_reason_to_end_its_owner(database_url):
    """While the database works for an owner, its connection is left alone, even when the lease has run out; else it is ended."""
    with (database.open_connection(database_url, "slow-owner") as owner, database.open_connection(database_url, "next") as other,
          database.open_connection(database_url, "test") as obstacle):
        slots.acquire(owner, "slow-owner", 1)
        other.execute("UPDATE slot SET expires_at = now() - interval '1 second'")
        obstacle.execute("SELECT pg_advisory_lock(1)")
        owner.execute("BEGIN")
        owner.execute("SELECT 1 FROM slot FOR SHARE")
        working = threading.Thread(target=lambda: owner.execute("SELECT pg_advisory_lock(1)"))
        working.start()
        while other.execute(STATE).fetchone() != ("active",):
            time.sleep(0.01)
        assert slots.acquire(other, "next", 1) is None
        obstacle.execute("SELECT pg_advisory_unlock(1)")
        working.join()
        owner.execute("SELECT 1")
        while slots.acquire(other, "next", 1) is None:  # its connection is ended, its lock goes a moment later
            time.sleep(0.01)
        with pytest.raises(psycopg.OperationalError):
            owner.execute("SELECT 1")


def test_what_was_stored_after_a_checkpoint_survives_two_takeovers(ingest, agent, broker, topic_root, rows, monkeypatch):
    """The position of a host that fell silent at a takeover is not lost with the next one: a resend is still recognised."""
    ingest()
    agent.sample()
    agent.await_watermark(1)
    monkeypatch.setattr("aggregator.ingest.slot.Slot._due_checkpoint", lambda *_: None)
    agent.sample()
    agent.poll(lambda: rows("SELECT count(*) FROM sample") == [(2,)])
    ingest.kill()
    monkeypatch.undo()
    ingest()
    other = Agent(broker.url, topic_root, "web-2")
    other.sample()
    other.await_watermark(1)  # a checkpoint
    other.client.close()
    rows("UPDATE slot SET checkpoint_at = checkpoint_at + interval '5 seconds' RETURNING 1")  # before which nobody looks
    ingest.kill()
    ingest()
    agent.sample(seq=2)
    agent.sample(seq=3)
    agent.await_watermark(3)
    assert rows("SELECT s.seq FROM sample s JOIN host h ON h.id = host_id WHERE name = 'web-1' ORDER BY 1") == [(1,), (2,), (3,)]
