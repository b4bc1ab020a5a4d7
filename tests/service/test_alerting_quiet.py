"""What keeps alerts quiet, through ingest: hosts behind one that is down, and maintenance windows."""

import pytest
from ingest_rig import Agent
from psycopg.types.json import Jsonb

from aggregator.analysis.rules import Rule, definition

QUEUE = Rule(name="queue_long", metric="custom.queue", warning=10.0)


@pytest.fixture
def router(broker, topic_root):
    made = Agent(broker.url, topic_root, "router-1")
    yield made
    made.client.close()


@pytest.fixture
def changed(rows):
    """`changed(sql, *parameters)`: make a change of what mutes, as the API does, so that ingest reads it anew."""
    def change(sql, *parameters):
        rows(f"{sql} RETURNING 1", *parameters)
        rows("UPDATE configuration SET version = version + 1 WHERE name = 'quiet' RETURNING 1")

    return change


@pytest.fixture
def muted_by(rows):
    """`muted_by(rule)`: what mutes the rule's alert on web-1."""
    return lambda rule: rows("""SELECT a.muted_by FROM alert a JOIN host h ON h.id = a.host_id
                                WHERE h.name = 'web-1' AND a.rule = %s""", rule)


@pytest.fixture
def long_queue(rows):
    """A rule that fires at once."""
    rows("INSERT INTO rule (name, definition) VALUES (%s, %s) RETURNING 1", QUEUE.name, Jsonb(definition(QUEUE)))


def test_alerts_behind_a_host_that_is_down_are_muted(ingest, agent, router, clock, long_queue, changed, muted_by, rows):
    """While the router is down, alerts of the host behind it are muted by it, its own is not; both are heard once it is back."""
    ingest()
    for each in (agent, router):
        each.sample({"custom.queue": 50.0})
        each.await_stored()
    changed("""INSERT INTO dependency SELECT h.id, r.id FROM host h, host r WHERE (h.name, r.name) = ('web-1', 'router-1')""")
    for _ in range(2):
        clock.ahead += 11
        agent.sample({"custom.queue": 50.0}, ts=clock())
        agent.await_stored()
    agent.poll(lambda: muted_by("queue_long") == [(["host_down router-1"],)])
    assert rows("""SELECT h.name, a.muted_by FROM alert a JOIN host h ON h.id = a.host_id
                   WHERE a.rule = 'host_down'""") == [("router-1", [])]
    router.sample(ts=clock())
    agent.poll(lambda: muted_by("queue_long") == [([],)])
    kinds = rows("""SELECT e.kind, e.reason FROM alert_event e JOIN alert a ON a.id = e.alert_id JOIN host h ON h.id = a.host_id
                    WHERE h.name = 'web-1' ORDER BY e.id""")
    assert [kind for kind, _ in kinds] == ["firing", "muted", "unmuted"]
    assert kinds[1:] == [("muted", "host_down router-1"), ("unmuted", "no longer muted by host_down router-1")]


def test_a_window_mutes_while_it_is_open(ingest, agent, long_queue, changed, muted_by, rows):
    """A window that opens every minute for an hour mutes an alert by its name, until it is deleted."""
    ingest()
    agent.sample({"custom.queue": 50.0})
    agent.poll(lambda: muted_by("queue_long") == [([],)])
    changed("INSERT INTO maintenance_window (name, definition) VALUES ('always', %s)", Jsonb(
        {"name": "always", "match": {"rules": ["queue_*"]}, "cron": "* * * * *", "duration": 3600.0}))
    agent.poll(lambda: muted_by("queue_long") == [(["window always"],)])
    changed("DELETE FROM maintenance_window")
    agent.poll(lambda: muted_by("queue_long") == [([],)])
