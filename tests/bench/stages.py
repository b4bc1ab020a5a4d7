"""Where ingest's microseconds go: a slot fed without a broker, its stages timed with the CPU clock of the thread.

Arguments: hosts=2500 frame=200 (samples in one) rounds=24 (samples of each host measured, after 12 of warm-up). Stages that
contain others are told without them. Waiting for Postgres costs no CPU here; Postgres' own CPU is told beside.
"""

import functools
import secrets
import time
from datetime import UTC, datetime

import msgspec
from rig import Rig, cpu_seconds

from aggregator.ingest import commit, intake, outgoing, slot, takeover, upkeep
from aggregator.ingest.devices import Devices
from aggregator.ingest.gauges import Gauges
from aggregator.ingest.timekeeping import Timekeeper
from aggregator.live import frame
from aggregator.live.minutes import OpenMinutes
from aggregator.store import slots
from shared import catalogue, database, wire
from shared.topics import Topics

STAGES = [
    (wire, "decode", "JSON to numbers"), (intake.Receiver, "on_message", "topic, identity, time, layout, duplicates"),
    (frame, "build", "frame: array, bounds, health scores"), (frame, "note_newest", "newest figures of each host"),
    (commit, "_write_samples", "samples as binary COPY"), (commit.Committer, "_write_checkpoint", "checkpoint"),
    (OpenMinutes, "fold", "minutes folded"), (commit.rollups, "write_minute", "minutes written"),
    (commit.Committer, "_transaction", "transactions around all of it"), (commit.Committer, "commit", "commit, the rest"),
    (outgoing.Publisher, "watermarks", "watermarks"), (outgoing.Publisher, "health", "health told"),
    (upkeep.Upkeep, "run", "upkeep"),
]


class Stopwatch:
    """CPU seconds by stage, each without the stages inside it."""

    def __init__(self):
        self.spent, self._stack = {}, []

    def wrap(self, owner, name, label):
        """Time `owner.name` as `label` from now on."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def timed(*args, **kwargs):
            begin = time.thread_time()
            self._stack.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                took = time.thread_time() - begin
                inner = self._stack.pop()
                self.spent[label] = self.spent.get(label, 0.0) + took - inner
                if self._stack:
                    self._stack[-1] += took

        setattr(owner, name, timed)


class Nobody:
    """Stands where the bus client stands: takes what is published."""

    is_connected, failures, connections, handed, confirmed = True, 0, 1, 0, 0

    def publish(self, *_args, **_options):
        return True

    def publish_all(self, messages):
        return len(messages)


class Paced(Timekeeper):
    """The time of a feed."""

    def __init__(self, feed):
        super().__init__()
        self._feed = feed

    def __call__(self):
        return self._feed.now

    def hear(self, _database_at):
        return 0.0


class Feed:
    """A slot and the samples it is fed, 100 numbers each."""

    def __init__(self, connection, hosts):
        self.now = time.time()
        lease = slots.acquire(connection, "bench", 1)
        upkeep.make_rooms(connection, datetime.now(UTC))
        shard = takeover.load(connection, lease, self.now)
        self.receiver = intake.Receiver(shard, Topics())
        self.slot = slot.Slot(connection, lease, shard, self.receiver, Nobody(), Topics(), Gauges(), Paced(self),
                              Devices(Nobody(), Topics(), shard, ""))
        names = (*catalogue.CORE_NAMES, *(f"disk.percent{{mount=/m{i}}}" for i in range(100)))[:100]
        self.body = msgspec.json.encode({name: round(min(max(catalogue.bounds(name)[1] / 3, 1), 1e9) + i / 10, 1)
                                         if catalogue.bounds(name)[1] < float("inf") else i * 1000.5
                                         for i, name in enumerate(names)})
        self.hosts = [(f"sim-{i}", Topics().up(f"sim-{i}", "sample").encode(), secrets.token_hex(8)) for i in range(hosts)]

    def metrics(self, _host, _seq):
        """The metrics of a host's sample as JSON."""
        return self.body

    def round(self, seq, size):
        """One sample of every host, in frames of `size`; the CPU seconds that ingest's thread took."""
        spent = 0.0
        for start in range(0, len(self.hosts), size):
            part = self.hosts[start:start + size]
            self.now += 5.0 * len(part) / len(self.hosts)
            messages = [(topic, b'{"v":1,"host":"%b","epoch":"%b","seq":%d,"oldest":1,"ts":%.3f,"interval":5.0,"metrics":%b}' % (
                name.encode(), epoch.encode(), seq, self.now, self.metrics(start + i, seq)))
                for i, (name, topic, epoch) in enumerate(part)]
            begin = time.thread_time()
            self.receiver.now = self.now
            for topic, payload in messages:
                self.receiver.on_message(topic, payload, False)
            self.slot._store(self.receiver.take(), self.now)
            self.slot._upkeep.run(self.now)
            spent += time.thread_time() - begin
        return spent


def main(arguments):
    """Run it; the figures, µs a sample."""
    hosts, size = int(arguments.get("hosts", 2500)), int(arguments.get("frame", 200))
    rounds, watch = int(arguments.get("rounds", 24)), Stopwatch()
    with Rig("mosquitto") as rig:
        database.migrate(rig.database_url)
        with database.open_connection(rig.database_url, "bench") as connection:
            feed = Feed(connection, hosts)
            for seq in range(1, 13):
                feed.round(seq, size)
            postgres, samples = cpu_seconds(rig.postgres.pid), hosts * rounds
            plain = sum(feed.round(12 + i, size) for i in range(1, rounds + 1)) / samples * 1e6
            postgres = (cpu_seconds(rig.postgres.pid) - postgres) / samples * 1e6
            for owner, name, label in STAGES:
                watch.wrap(owner, name, label)
            timed = sum(feed.round(12 + rounds + i, size) for i in range(1, rounds + 1)) / samples * 1e6
    stages = {label: seconds / samples * 1e6 for label, seconds in watch.spent.items()}
    stages["everything else"] = timed - sum(stages.values())
    print(f"ingest {plain:.1f} µs a sample ({timed:.1f} with the stopwatch), Postgres {postgres:.1f}")
    for label, microseconds in sorted(stages.items(), key=lambda item: -item[1]):
        print(f"  {microseconds:6.1f} µs  {label}")
    return {"ingest_us": round(plain, 1), "postgres_us": round(postgres, 1),
            "stages_us": {label: round(each, 1) for label, each in stages.items()}}
