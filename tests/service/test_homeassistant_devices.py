"""Hosts made known to Home Assistant by a running ingest, on both brokers."""

import json
import threading
import time

import pytest

from aggregator.ingest import homeassistant
from aggregator.ingest.service import Service
from aggregator.store import fleet, hosts, reading
from shared import bus, database, wire
from shared.topics import Topics


class Ear:
    """A client that keeps the last payload of each topic, and how often each came anew."""

    def __init__(self, url, *filters):
        self.last, self.counts = {}, {}
        self.client = bus.Client(bus.read_brokers(url), f"ear-{time.time_ns()}", self._note, subscriptions=filters, max_delay=0.1)

    def _note(self, topic, payload, _retained):
        name = topic.decode()
        self.last[name] = payload
        self.counts[name] = self.counts.get(name, 0) + 1

    def hears(self, eventually, check):
        def step():
            self.client.poll(0.02)
            return check()

        eventually(step, 10)


@pytest.fixture
def prefix(topic_root):
    return f"{topic_root}-homeassistant"


@pytest.fixture
def ear():
    opened = []

    def open_ear(url, *filters):
        opened.append(Ear(url, *filters))
        return opened[-1]

    yield open_ear
    for each in opened:
        each.client.close()


@pytest.fixture
def ingest(database_url, topic_root, eventually):
    started = []

    def start(broker, prefix):
        service = Service(database_url, bus.read_brokers(broker.url), bus.Tls(), Topics(topic_root), 1,
                          homeassistant_prefix=prefix)
        thread = threading.Thread(target=service.run, daemon=True)
        thread.start()
        started.append((service, thread))
        eventually(lambda: not any(service.ready().values()), 20)
        return service

    yield start
    for service, thread in started:
        service.stop()
        thread.join(10)
        assert not thread.is_alive()


def store_host(url, name, site):
    with database.open_connection(url, "tests") as connection, connection.transaction(), connection.cursor() as cursor:
        host_id = hosts.ensure(connection, [name])[name]
        inventory = wire.Inventory(host=name, ts=1.0, os="Debian", labels={"site": site})
        hosts.write_inventories(cursor, [(host_id, 1.0, wire.encode(inventory), b"{}")])


def test_hosts_are_made_known_and_again_when_they_change(broker, database_url, topic_root, prefix, ingest, ear, eventually):
    """A known host is told at the start, a new one when it comes, and anew with its inventory; whoever comes later has all."""
    store_host(database_url, "db-1", "berlin")
    known, new = homeassistant.topic("db-1", prefix), homeassistant.topic("web-1", prefix)
    listener = ear(broker.url, f"{prefix}/device/+/config")
    listener.hears(eventually, lambda: listener.client.is_connected)
    ingest(broker, prefix)
    listener.hears(eventually, lambda: known in listener.last)
    assert json.loads(listener.last[known])["device"]["suggested_area"] == "berlin"
    topics = Topics(topic_root)
    agent = ear(broker.url)
    agent.hears(eventually, lambda: agent.client.is_connected)
    for area in ("paris", "lyon"):
        inventory = wire.Inventory(host="web-1", ts=time.time(), labels={"site": area})
        agent.client.publish(topics.up("web-1", "inventory"), wire.encode(inventory), qos=1, retain=True)
        agent.client.flush()
        listener.hears(eventually, lambda: area.encode() in listener.last.get(new, b""))  # noqa: B023 (called within the turn)
    assert listener.counts[known] == 1
    late = ear(broker.url, f"{prefix}/device/+/config")
    late.hears(eventually, lambda: len(late.last) == 2)
    assert late.last == listener.last


def test_a_broker_that_forgot_is_told_again(private_broker, database_url, prefix, ingest, ear, eventually):
    """Each connection tells every host anew, whatever the broker has kept."""
    store_host(database_url, "db-1", "berlin")
    topic = homeassistant.topic("db-1", prefix)
    ingest(private_broker, prefix)
    listener = ear(private_broker.url, f"{prefix}/device/+/config")
    listener.hears(eventually, lambda: topic in listener.last)
    right = listener.last[topic]
    listener.client.publish(topic, b"", qos=1, retain=True)
    listener.hears(eventually, lambda: listener.last[topic] == b"")
    private_broker.restart()
    listener.hears(eventually, lambda: listener.last[topic] == right)


def test_nothing_is_told_unless_asked(broker, database_url, topic_root, prefix, ingest, ear, eventually):
    """Without the setting no device is made known, though hosts are there and ingest answers them beat by beat."""
    store_host(database_url, "db-1", "berlin")
    topics = Topics(topic_root)
    agent = ear(broker.url, f"{prefix}/device/+/config", topics.all_down("db-1"))
    agent.hears(eventually, lambda: agent.client.is_connected)
    ingest(broker, "")
    for answers in (1, 2):
        agent.client.publish(topics.up("db-1", "hello"), wire.encode(wire.Hello(host="db-1", epoch="0" * 16, ts=time.time())))
        agent.hears(eventually, lambda: sum(agent.counts.values()) == answers)  # noqa: B023 (called within the turn)
    assert list(agent.last) == [topics.down("db-1", "watermark")]


def test_a_deleted_host_leaves_nothing_behind(broker, database_url, topic_root, prefix, ingest, ear, eventually):
    """What ingest retains of a host goes with it: its device, health and summary of alerts; of others nothing goes."""
    topics, engine = Topics(topic_root), reading.open_engine(database_url)
    for name in ("db-1", "web-1"):
        store_host(database_url, name, "berlin")
    ingest(broker, prefix)
    listener = ear(broker.url, f"{prefix}/device/+/config", topics.health("+"), topics.alert_summary("+"))
    of = {name: {homeassistant.topic(name, prefix), topics.alert_summary(name), topics.health(name)}
          for name in ("db-1", "web-1")}
    agent = ear(broker.url)
    agent.hears(eventually, lambda: agent.client.is_connected)
    for name in of:
        sample = wire.Sample(v=1, host=name, epoch="0" * 16, seq=1, ts=time.time(), metrics={"cpu.percent": 1.0}, oldest=1)
        agent.client.publish(topics.up(name, "sample"), wire.encode(sample))
    agent.client.flush()
    listener.hears(eventually, lambda: set(listener.last) == of["db-1"] | of["web-1"])
    assert fleet.delete(engine, "web-1", "tests")
    listener.hears(eventually, lambda: not any(listener.last[topic] for topic in of["web-1"]))
    assert all(listener.last[topic] for topic in of["db-1"])
    with database.open_connection(database_url, "tests") as connection:
        eventually(lambda: connection.execute("SELECT count(*) FROM departed_host").fetchone() == (0,), 10)
    engine.dispose()
