"""Ingest as tests drive it: agents by hand, a clock that a test moves, a listener on the bus."""

import json
import threading
import time

from aggregator.ingest.service import Service
from aggregator.ingest.timekeeping import Timekeeper
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

    def await_stored(self):
        """Until everything sent so far is stored: a hello is answered at once, with a watermark."""
        self.hello()
        self.await_watermark(self.seq)


class Clock(Timekeeper):
    """The time as ingest sees it: real, moved by what a test adds.

    `set_by`: by how much somebody has set the database's clock; `stall` is time that passes without ingest's noticing.
    """

    ahead = set_by = stalled = 0.0

    def __init__(self):
        super().__init__(lambda: time.monotonic() + self.stalled)

    def __call__(self):
        return super().__call__() + self.ahead

    def hear(self, database_at):
        return super().hear(database_at + self.set_by + self.stalled)

    def move_to(self, at):
        """Make it `at` (Unix s) for ingest."""
        self.ahead = at - time.time()


class HandClock(Timekeeper):
    """A clock that says what `read` says, whatever the database's says."""

    def __init__(self, read):
        super().__init__()
        self._read = read

    def __call__(self):
        return self._read()

    def hear(self, database_at):
        return 0.0


class Ingest:
    """Ingest processes as threads of the test: `start` one, `kill` what runs."""

    def __init__(self, broker_url, database_url, topic_root, clock):
        self._broker_url, self._database_url, self._root, self._clock = broker_url, database_url, topic_root, clock
        self._started = []

    def __call__(self, slots=1, *, wait=True, broker_url="", **options):
        """Start one more; `wait` until it ingests. `broker_url`: another way to the broker. `options`: of the service."""
        brokers = bus.read_brokers(broker_url or self._broker_url)
        service = Service(self._database_url, brokers, bus.Tls(), Topics(self._root), slots, self._clock, **options)
        thread = threading.Thread(target=service.run, daemon=True)
        thread.start()
        self._started.append((service, thread))
        deadline = time.monotonic() + 20
        while wait and any(service.ready().values()):
            assert time.monotonic() < deadline, service.ready()
            time.sleep(0.01)
        return service

    def kill(self):
        """Break off what runs without letting it finish: nothing is committed or said any more."""
        with database.open_connection(self._database_url, "test") as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                               "WHERE application_name LIKE 'drumbeat-ingest-%'")
        self.close()

    def close(self):
        for service, thread in self._started:
            service.stop()
            thread.join(10)
            assert not thread.is_alive()
        self._started = []


class Listener:
    """Whoever subscribes: everything heard since, and what is retained by topic (empty payloads taken out)."""

    def __init__(self, url, topics):
        self.heard, self.retained = [], {}
        self.client = bus.Client(bus.read_brokers(url), f"listener-{time.time_ns()}", self._on_message, subscriptions=topics,
                                 max_delay=0.1)
        self.poll(lambda: self.client.is_connected)

    def _on_message(self, topic, payload, _retained):
        topic = topic.decode()
        self.heard.append((topic, payload))
        if payload:
            self.retained[topic] = json.loads(payload)
        else:
            self.retained.pop(topic, None)

    def poll(self, until, seconds=10.0):
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, "did not happen in time"
            self.client.poll(0.02)
