"""Collection settings from the tables over ingest and a real broker to an agent, and back: what it says it has applied."""

import os
import signal
import subprocess
import sys
import time

import pytest
from ingest_rig import Agent, Ingest, Listener

from aggregator.analysis.collection import read
from aggregator.store import collection, reading
from shared import wire
from shared.topics import Topics


@pytest.fixture
def engine(database_url):
    engine = reading.open_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def configure(engine):
    """`configure(name, settings, **match)` writes a config; without settings it is deleted."""
    def act(name, settings=None, **match):
        if settings is None:
            assert collection.delete(engine, name, "ann")
        else:
            collection.write(engine, read({"name": name, "settings": settings, "match": match}), "ann")

    return act


@pytest.fixture
def listener(broker, topic_root):
    made = Listener(broker.url, [f"{topic_root}/agent/+/+/down/config"])
    yield made
    made.client.close()


def introduce(agent, **more):
    """The host describes itself."""
    told = {"config_revision": 0, **more}
    agent.raw(wire.encode(wire.Inventory(host=agent.host, ts=time.time(), **told)), "inventory")


def test_settings_are_retained_changed_and_cleared(configure, ingest, agent, listener, rows, topic_root):
    """Known and new hosts get theirs, others nothing; a change is a higher revision; once nothing is wanted it is cleared."""
    topics = Topics(topic_root)
    mine, other = topics.down("web-1", "config"), topics.down("db-1", "config")
    ingest()
    agent.sample()
    agent.await_stored()
    configure("web", {"interval": 30.0}, hosts=["web-*"])
    configure("slow", {"interval": 60.0}, labels={"site": "far"})
    listener.poll(lambda: mine in listener.retained)
    first = listener.retained[mine]
    assert (first["interval"], first.get("collectors")) == (30.0, None)
    listener.poll(lambda: rows("SELECT published_at IS NOT NULL FROM host_config") == [(True,)])

    introduce(agent, labels={"site": "far"}, config_revision=first["revision"])
    configure("web", {"interval": 20.0, "collectors": ["cpu"]}, hosts=["web-*"])
    listener.poll(lambda: listener.retained[mine].get("collectors") == ["cpu"])
    assert listener.retained[mine]["revision"] > first["revision"]
    configure("web")
    configure("slow")
    listener.poll(lambda: mine not in listener.retained)
    assert other not in {topic for topic, _ in listener.heard}


def test_a_new_host_and_one_with_new_labels_get_their_settings(configure, ingest, agent, listener, broker, topic_root):
    """Whoever comes later, or says that it has another label, is told what is wanted of such hosts."""
    topics = Topics(topic_root)
    configure("far", {"interval": 60.0}, labels={"site": "far"})
    configure("web", {"interval": 30.0}, hosts=["web-*"])
    ingest()
    agent.sample()
    listener.poll(lambda: topics.down("web-1", "config") in listener.retained)
    other = Agent(broker.url, topic_root, "db-1")
    try:
        introduce(other)
        introduce(other, labels={"site": "far"})
        listener.poll(lambda: listener.retained.get(topics.down("db-1", "config"), {}).get("interval") == 60.0)
    finally:
        other.client.close()


def test_what_an_agent_has_applied_is_written(configure, ingest, agent, listener, rows, topic_root):
    """The revision that it says it has, and what is wrong with one that it refused."""
    configure("web", {"interval": 30.0})
    ingest()
    introduce(agent)
    listener.poll(lambda: listener.retained)
    revision = next(iter(listener.retained.values()))["revision"]
    ask = "SELECT applied_revision, problem, applied_at IS NOT NULL FROM host_config"
    introduce(agent, config_problem="there is no collector 'nothing'")
    agent.poll(lambda: rows(ask) == [(0, "there is no collector 'nothing'", True)])
    introduce(agent, config_revision=revision)
    agent.poll(lambda: rows(ask) == [(revision, "", True)])


def test_an_agent_with_settings_that_nobody_wants_is_told_again(ingest, agent, listener, topic_root):
    """It was away while they were withdrawn, from a database that is no more: its topic is cleared, each time that it says so."""
    mine = Topics(topic_root).down("web-1", "config")
    ingest()
    for count in (1, 2):
        introduce(agent, config_revision=7)
        listener.poll(lambda count=count: listener.heard.count((mine, b"")) == count)


def test_a_broker_that_forgot_is_told_again(private_broker, database_url, topic_root, configure, clock, rows):
    """What the broker retained may be gone with it: on every connection all is said again."""
    mine = Topics(topic_root).down("web-1", "config")
    configure("web", {"interval": 30.0})
    ingest = Ingest(private_broker.url, database_url, topic_root, clock)
    try:
        ingest()
        agent = Agent(private_broker.url, topic_root)
        introduce(agent)
        agent.poll(lambda: rows("SELECT published_at IS NOT NULL FROM host_config") == [(True,)])
        agent.client.publish(mine, b"", qos=1, retain=True)
        agent.client.flush()
        private_broker.restart()
        listener = Listener(private_broker.url, [mine])
        listener.poll(lambda: mine in listener.retained, 20)
        listener.client.close()
        agent.client.close()
    finally:
        ingest.close()


def test_a_real_agent_applies_them_and_says_so(configure, ingest, broker, data_directory, topic_root, rows, eventually):
    """From the table to the agent's samples and back to the table, and back to its own settings once nothing is wanted."""
    ingest()
    process = subprocess.Popen(
        [sys.executable, "-m", "shared.cli", "agent", "--host", "box-1", "--interval", "0.2", "--data", str(data_directory),
         "--topic-root", topic_root, "--collectors", "cpu,memory"],
        env={"PATH": os.environ["PATH"], "DRUMBEAT_BROKER_URL": broker.url}, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: rows("SELECT 1 FROM host WHERE inventory IS NOT NULL"), 20)
        configure("box", {"interval": 0.3, "collectors": ["memory"]}, hosts=["box-*"])
        eventually(lambda: rows("SELECT 1 FROM host_config WHERE applied_revision = revision AND problem = ''"), 20)
        eventually(lambda: rows("SELECT interval FROM host_now")[0][0] == pytest.approx(0.3), 20)
        configure("box")
        eventually(lambda: rows("SELECT 1 FROM host_config WHERE applied_revision = 0"), 20)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
