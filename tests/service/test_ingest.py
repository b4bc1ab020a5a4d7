"""Ingest against real brokers and a real Postgres."""

import json
import threading
import time

import pytest

from aggregator.ingest.service import Service
from shared import bus, database, wire
from shared.topics import Topics

EPOCH = "00000000000000aa"


class Agent:
    """A hand-driven agent: publishes what a test says and remembers the watermarks."""

    def __init__(self, url, root, host="web-1", epoch=EPOCH):
        self.topics, self.host, self.epoch = Topics(root), host, epoch
        self.seq, self.watermarks = 0, []
        self.client = bus.Client(bus.read_brokers(url), f"test-{host}-{time.time_ns()}", self._on_message,
                                 subscriptions=[self.topics.all_down(host)])
        self.poll(lambda: self.client.is_connected)

    def _on_message(self, topic, payload, _retained):
        if topic.endswith(b"/watermark"):
            self.watermarks.append(json.loads(payload)["seq"])

    def poll(self, until, seconds=10.0):
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, "did not happen in time"
            self.client.poll(0.02)

    def sample(self, metrics=None, *, seq=None, ts=None, oldest=1, **fields):
        self.seq = seq if seq is not None else self.seq + 1
        message = {"v": 1, "host": self.host, "epoch": self.epoch, "seq": self.seq, "oldest": oldest,
                   "ts": time.time() if ts is None else ts, "interval": 5.0,
                   "metrics": {"cpu.percent": 45.2} if metrics is None else metrics} | fields
        self.raw(json.dumps(message).encode())

    def raw(self, payload, kind="sample", topic=None):
        assert self.client.publish(topic or self.topics.up(self.host, kind), payload)
        self.client.poll(0)

    def hello(self, oldest=1, newest=0):
        self.raw(wire.encode(wire.Hello(host=self.host, epoch=self.epoch, oldest=oldest, newest=newest, ts=time.time())), "hello")

    def await_watermark(self, seq):
        self.poll(lambda: seq in self.watermarks)


@pytest.fixture
def ingest(broker, database_url, topic_root):
    started = []

    def start(slots=1):
        service = Service(database_url, bus.read_brokers(broker.url), bus.Tls(), Topics(topic_root), slots)
        thread = threading.Thread(target=service.run, daemon=True)
        thread.start()
        started.append((service, thread))
        deadline = time.monotonic() + 20
        while any(service.ready().values()):
            assert time.monotonic() < deadline, service.ready()
            time.sleep(0.01)
        return service

    yield start
    for service, thread in started:
        service.stop()
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def agent(broker, topic_root):
    made = Agent(broker.url, topic_root)
    yield made
    made.client.close()


@pytest.fixture
def rows(database_url):
    with database.open_connection(database_url, "test") as connection:
        yield lambda sql, *parameters: connection.execute(sql, parameters).fetchall()


def test_sample_is_stored_scored_and_confirmed(ingest, agent, rows):
    """A sample is stored once with its health scores, then the agent is told so."""
    ingest()
    agent.sample({"cpu.percent": 45.2, "disk.percent{mount=/var}": 60.0})
    agent.await_watermark(1)
    [(ts, value)] = rows("SELECT extract(epoch FROM ts)::float8, value FROM samples WHERE metric = 'cpu.percent'")
    assert abs(ts - time.time()) < 30
    assert value == pytest.approx(45.2, rel=1e-6)
    assert rows("SELECT value FROM samples WHERE metric = 'health.cpu'")[0][0] == pytest.approx(80.63, abs=0.01)
    assert rows("SELECT score FROM host_now")[0][0] == pytest.approx(80.63, abs=0.01)


def test_duplicates_are_stored_once(ingest, agent, rows):
    """The same (epoch, seq) twice is one row, also across a restart of ingest."""
    service = ingest()
    for _ in range(3):
        agent.sample(seq=1)
    agent.sample(seq=2)
    agent.await_watermark(2)
    service.stop()
    ingest()
    agent.sample(seq=1)
    agent.sample(seq=2)
    agent.sample(seq=3)
    agent.await_watermark(3)
    assert rows("SELECT seq FROM sample ORDER BY seq") == [(1,), (2,), (3,)]
