"""Many silent hosts at once, against real brokers: one alert, one notification, and the truth after it."""

import json
import time

import pytest
from ingest_rig import EPOCH, Ingest

from aggregator.analysis.channels import Channel, Target
from aggregator.analysis.routing import Route
from aggregator.notify import routing
from aggregator.store import channels, reading
from shared import bus, database
from shared.topics import Topics

HOSTS = [f"h{i}" for i in range(6)]
INTERVAL = 20.0
"""Of the samples here: a host is down after a minute of silence, overdue after 38 s."""


class Hosts:
    """Hosts that send when a test says so, all through one connection."""

    def __init__(self, url, root, clock, rows):
        self._topics, self._clock, self._rows, self._seq = Topics(root), clock, rows, 0
        self._client = bus.Client(bus.read_brokers(url), f"hosts-{time.time_ns()}", lambda *_: None, max_delay=0.1)

    def send(self, names=HOSTS):
        """A sample of each host; returns when all are stored."""
        self._seq += 1
        self.poll(lambda: self._client.is_connected)
        for name in names:
            message = {"v": 1, "host": name, "epoch": EPOCH, "seq": self._seq, "oldest": self._seq, "ts": self._clock(),
                       "interval": INTERVAL, "metrics": {"cpu.percent": 5.0}}
            assert self._client.publish(self._topics.up(name, "sample"), json.dumps(message).encode())
        self.poll(lambda: self._rows("SELECT count(*) FROM sample WHERE seq = %s", self._seq) == [(len(names),)])

    def poll(self, until, seconds=20.0):
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, "did not happen in time"
            self._client.poll(0.02)

    def close(self):
        self._client.close()


@pytest.fixture
def ingest(private_broker, database_url, topic_root, clock):
    made = Ingest(private_broker.url, database_url, topic_root, clock)
    yield made
    made.close()


@pytest.fixture
def hosts(private_broker, topic_root, clock, rows):
    made = Hosts(private_broker.url, topic_root, clock, rows)
    yield made
    made.close()


@pytest.fixture
def history(rows):
    """`history()`: all transitions of all alerts in their order, as (rule, kind)."""
    return lambda: rows("SELECT a.rule, e.kind FROM alert_event e JOIN alert a ON a.id = e.alert_id ORDER BY e.id")


@pytest.fixture
def notifications(database_url, clock):
    """`notifications()`: how many there are once the notifier has had its time; everything goes to one channel."""
    engine = reading.open_engine(database_url)
    hook = Channel(type="webhook", address="")
    channels.create_channel(engine, "hook", hook, Target(url="http://127.0.0.1:9/", key=""), "tests")
    channels.create_route(engine, "all", None, Route(channels=["hook"]), "tests")
    with database.open_connection(database_url, "tests") as connection:

        def count():
            routing.route(connection, clock())
            routing.route(connection, clock() + 60)
            return connection.execute("SELECT count(*) FROM notification").fetchone()[0]

        yield count
    engine.dispose()


PENDING, FIRING, RESOLVED = (("hosts_silent", kind) for kind in ("pending", "firing", "resolved"))


def test_an_outage_of_the_broker_is_one_alert(ingest, hosts, private_broker, clock, rows, history, notifications):
    """A broker dies for a minute: one alert, one notification; resolved when hosts are back, and who stays away is down."""
    service = ingest(host="h3")
    hosts.send()
    assert private_broker.kill() is None
    clock.ahead += 45
    hosts.poll(lambda: history() == [PENDING])
    clock.ahead += 35
    hosts.poll(lambda: history() == [PENDING, FIRING])
    [(host, message)] = rows("SELECT h.name, a.message FROM alert a JOIN host h ON h.id = a.host_id")
    assert host == "h3"
    assert "6 of 6 hosts (100 %) are silent" in message
    assert "ingest is not connected to its broker either" in message
    assert notifications() == 1
    private_broker.start()
    hosts.poll(lambda: not any(service.ready().values()))
    hosts.send(HOSTS[:5])
    hosts.poll(lambda: history() == [PENDING, FIRING, RESOLVED])
    for _ in range(4):
        clock.ahead += 28
        hosts.send(HOSTS[:5])
    assert history() == [PENDING, FIRING, RESOLVED]
    clock.ahead += 28
    hosts.send(HOSTS[:5])
    hosts.poll(lambda: history()[3:] == [("host_down", "firing")])
    assert rows("SELECT h.name FROM alert a JOIN host h ON h.id = a.host_id WHERE a.rule = 'host_down'") == [("h5",)]


def test_a_takeover_while_hosts_are_silent_tells_of_none_of_them(ingest, hosts, clock, rows, history):
    """Ingest hears its broker, but no host: one alert, across kills of ingest; those that are really gone are told at last."""
    ingest()
    hosts.send()
    clock.ahead += 45
    hosts.poll(lambda: history() == [PENDING])
    ingest.kill()
    clock.ahead += 35
    ingest()
    hosts.poll(lambda: history() == [PENDING, FIRING])
    [(host, message)] = rows("SELECT h.name, a.message FROM alert a JOIN host h ON h.id = a.host_id")
    assert host == "h0"
    assert "ingest is connected to its broker" in message
    ingest.kill()
    clock.ahead += 120
    ingest()

    def is_told_later():
        clock.ahead += 5
        return len(history()) == 9

    hosts.poll(is_told_later)
    assert history() == [PENDING, FIRING, RESOLVED, *[("host_down", "firing")] * 6]
    assert rows("SELECT extract(epoch FROM resolved_at - started_at) > 300 FROM alert WHERE rule = 'hosts_silent'") == [(True,)]
