"""Where bytes from outside come in, as fuzzers drive it: `TARGETS` by name, each takes any bytes and must survive them.

A target asserts what must hold after any input: no exception but the wire's own leaves, nothing counts as internal, memory stays
within its bounds. tests/unit/test_wire_fuzz.py feeds them in every test run, tests/fuzz/wire.py for as long as one likes.
"""

import contextlib
import functools
import logging
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np

from agent.command import AgentSettings
from agent.delivery import Delivery
from agent.remote_config import Measuring
from agent.tasks.allowed import AllowedTasks
from agent.tasks.desk import Desk
from agent.tasks.journal import Journal
from aggregator.analysis.rule_pack import PACKS
from aggregator.analysis.rules import Stored
from aggregator.ingest import intake
from aggregator.ingest.batch import Batch
from aggregator.live import frame as frames
from aggregator.live.shard import Shard, new_shard
from scheduler.gauges import Gauges
from scheduler.hearing import Ears
from shared import bus, names, slices, wire
from shared.brokers import Broker
from shared.topics import UP_KINDS, Topics

NOW = 1_800_000_000.0
TOPICS = Topics()
KINDS = tuple(wire.SCHEMAS.values())
SHARD_HOSTS = 200
"""After so many hosts a fuzzed shard is thrown away, so that long runs stay fast."""


def decode(data: bytes) -> None:
    """Any payload as any message: a message or a WireError."""
    for kind in KINDS:
        with contextlib.suppress(wire.WireError):
            message = wire.decode(kind, data)
            assert wire.decode(kind, wire.encode(message)) == message
    found = wire.identity(data)
    assert found is None or 0 < found[1] <= wire.MAX_SEQ


def read_topics(data: bytes) -> None:
    """Any topic: what is read leads back to the same topic."""
    topic = data.decode(errors="surrogateescape")
    if (up := TOPICS.read_up(topic)) is not None:
        assert TOPICS.up(*up) == topic
    if (alert := TOPICS.read_alert(topic)) is not None:
        kind, host, key = alert
        assert {"alert": TOPICS.alert, "alert-action": TOPICS.alert_action}.get(
            kind, lambda host, _: TOPICS.event(host))(host, key) == topic
    if (found := TOPICS.read_schedule(topic)) is not None:
        kind, schedule, execution = found
        assert (TOPICS.trigger(schedule) if kind == "trigger" else TOPICS.execution(schedule, execution)) == topic


def read_names(data: bytes) -> None:
    """Any metric name: what is read leads back to the same name; any text can be a label."""
    text = data.decode(errors="surrogateescape")
    if (found := names.split_metric(text)) is not None:
        assert names.metric_name(found[0], **found[1]) == text
    assert names.is_host(names.host_name(text))


class Slot:
    """Ingest's receiver on a live shard without a database, with the rules of the default packs; beats like the real one."""

    def __init__(self) -> None:
        self.shard: Shard = new_shard(NOW)
        stored = [Stored(rule, 1) for pack in PACKS.values() for rule in pack]
        self.shard.engine.configure(stored, {}, NOW)
        self.receiver = intake.Receiver(self.shard, TOPICS)
        self.receiver.now = NOW
        known = self.shard.stream("web-1", "00000000000000aa", NOW).host
        known.id = 1

    def hear(self, topic: bytes, payload: bytes, *, retained: bool = False) -> None:
        """One message; nothing may leave the receiver."""
        self.receiver.now += 0.01
        self.receiver.on_message(topic, payload, retained)

    def beat(self) -> Batch:
        """What a beat does with what came, as far as memory goes."""
        batch, now, shard, engine = self.receiver.take(), self.receiver.now, self.shard, self.shard.engine
        assert "internal" not in batch.refused, batch.rejects
        if len(batch.samples):
            frame, bad = frames.build(batch.samples, shard.layouts, shard.inputs, shard.figures, shard.profile, now,
                                      shard.hosts.unusual)
            frame = frame.part(np.flatnonzero(~bad))
            if len(frame):
                frames.note_newest(shard.hosts, frame)
                engine.frame(frame)
        for name, inventory in batch.inventories.items():
            engine.set_labels(shard.hosts.add(name).row, inventory.labels)
        for (name, _), snapshot in batch.snapshots.items():
            if isinstance(snapshot, wire.Sensors):
                engine.sensors(shard.hosts.add(name).row, snapshot)
            elif isinstance(snapshot, wire.Containers):
                engine.containers(shard.hosts.add(name).row, snapshot)
        for name, hello in batch.hellos.items():
            engine.hello(shard.hosts.add(name).row, hello.boot_id, hello.ts)
        for name, status in batch.states.items():
            engine.status(shard.hosts.add(name).row, status, now)
        for event in batch.events:
            engine.event(shard.hosts.add(event.host).row, event)
        engine.tick(now, NOW)
        return batch


@functools.cache
def _slots() -> list[Slot]:
    return []


def receive(data: bytes) -> None:
    """A kind of message, a byte that says whether it is retained, and a payload, from one host, then a beat."""
    kept = _slots()
    if not kept or len(kept[0].shard.hosts) > SHARD_HOSTS or len(kept[0].shard.layouts.all) > 5 * SHARD_HOSTS:
        kept[:] = [Slot()]
    slot = kept[0]
    kind, retained, payload = UP_KINDS[data[0] % len(UP_KINDS)] if data else "sample", data[1:2] == b"\1", data[2:]
    slot.hear(TOPICS.up("web-1", kind).encode(), payload, retained=retained)
    slot.hear(TOPICS.alert_action("web-1", "high_cpu").encode(), payload, retained=retained)
    slot.hear(TOPICS.event("web-1").encode(), payload, retained=retained)
    slot.hear(payload, data, retained=retained)
    slot.beat()


class AgentSide:
    """What an agent does with messages: watermarks, tasks (none is allowed) and settings, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.measuring = Measuring(AgentSettings(host="web-1", collectors=("system",)), directory / "collection.json")
        self.desk = Desk("web-1", AllowedTasks(None), Journal(directory / "journal"), wall=lambda: NOW, monotonic=lambda: 0.0)
        self.delivery = Delivery(0)

    def hear(self, data: bytes) -> None:
        """Any payload on any topic of the agent."""
        self.desk.received(data)
        self.measuring.receive(data)
        with contextlib.suppress(wire.WireError):
            mark = wire.decode(wire.Watermark, data)
            self.delivery.watermark(mark.seq, 100, 1.0)
        self.delivery.due(2.0)


@functools.cache
def _agent() -> AgentSide:
    logging.getLogger("drumbeat").setLevel(logging.CRITICAL)
    return AgentSide(Path(tempfile.mkdtemp(prefix="drumbeat-fuzz-")))


def agent(data: bytes) -> None:
    """Any payload for an agent."""
    _agent().hear(data)


@functools.cache
def _ears() -> Ears:
    return Ears(TOPICS, Gauges())


def scheduler(data: bytes) -> None:
    """Any payload for the scheduler."""
    for topic in (TOPICS.trigger("nightly"), TOPICS.execution("nightly", "e1"), TOPICS.up("web-1", "execution")):
        _ears().on_message(topic.encode(), data, False)
    _ears().on_message(data, data, False)
    _ears().take()


def packets(data: bytes) -> None:
    """Any bytes as a broker's stream, in two pieces: publications, or OSError; everything is read, nothing is kept for ever."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        sliced = slices.SlicedSocket(ours)
        cut = len(data) // 3
        with contextlib.suppress(OSError):
            for piece in (data[:cut], data[cut:]):
                theirs.sendall(piece)
                while sliced.take_publishes(lambda *_: None) or sliced.fill() or sliced.has_packet():
                    if sliced.has_packet() and sliced.head & 0xFE != slices.PUBLISH_QOS0:
                        sliced.recv(1 + data[0])  # as paho would
                assert not sliced.has_packet()
        assert sliced.held <= slices.LARGEST_BYTES + len(data)


class Peer:
    """A broker of bytes: a client of ours connected to it, past CONNACK and SUBACK."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.heard = 0
        host, port = self._listening.getsockname()
        self.client = bus.Client([Broker(host, port)], "fuzz", self._on_message, subscriptions=["#"],
                                 max_delay=0.0)

    def _on_message(self, topic: bytes, payload: bytes, retained: bool) -> None:
        self.heard += 1

    def connect(self) -> socket.socket:
        """The broker's end of a fresh connection."""
        deadline = time.monotonic() + 10
        self._listening.settimeout(0.0)
        sock = None
        while sock is None:
            assert time.monotonic() < deadline, "the client does not connect"
            self.client.poll(0.01)
            with contextlib.suppress(BlockingIOError):
                sock, _ = self._listening.accept()
        sock.sendall(b"\x20\x02\x00\x00")
        while not self._answer(sock):
            assert time.monotonic() < deadline, "the client does not subscribe"
            self.client.poll(0.01)
        return sock

    def _answer(self, sock: socket.socket) -> bool:
        """Confirm the subscription, once it came."""
        sock.settimeout(0.01)
        try:
            asked = sock.recv(4096)
        except TimeoutError:
            return False
        if (at := asked.find(b"\x82")) >= 0:
            sock.sendall(b"\x90\x03" + asked[at + 2:at + 4] + b"\x00")
            self.client.poll(0.1)
        return self.client.is_connected


@functools.cache
def _peer() -> Peer:
    logging.getLogger("drumbeat").setLevel(logging.CRITICAL)
    return Peer()


def client(data: bytes) -> None:
    """Any bytes from a broker to a connected client: `poll` returns, and what it cannot use costs the connection alone."""
    peer = _peer()
    sock = peer.connect()
    with sock, contextlib.suppress(OSError):
        sock.sendall(data)
        for _ in range(3):
            peer.client.poll(0.0)
    peer.client.drop()


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "decode": decode, "topics": read_topics, "names": read_names, "receive": receive, "agent": agent, "scheduler": scheduler,
    "packets": packets, "client": client}

SAMPLE = {"v": 1, "host": "web-1", "epoch": "00000000000000aa", "seq": 1, "oldest": 1, "ts": NOW, "interval": 5.0,
          "metrics": {"cpu.percent": 45.2, "disk.percent{mount=/var}": 93.0, "memory.percent": 62.8}}
_HOST = {"host": "web-1", "ts": NOW}
VALID: list[bytes] = [msgspec.json.encode(one) for one in (
    SAMPLE, wire.Hello(**_HOST, epoch="00000000000000aa", oldest=1, newest=5, boot_id="b"),
    wire.Status(**_HOST, state="offline", reason="lost", boot_id="b", epoch="00000000000000aa"),
    wire.Inventory(**_HOST, labels={"site": "berlin"}, mounts=[wire.Mount(mount="/", total_bytes=5)]),
    wire.Containers(**_HOST, containers=[wire.Container(id="c", name="web", state="exited", should_run=True, restarts=3)]),
    wire.Processes(**_HOST, total=1, processes=[wire.Process(pid=1, name="init", cpu_percent=5.0)]),
    wire.Sensors(**_HOST, available=True, sensors=[wire.Sensor(kind="temperature", group="g", label="l", current=95.0)]),
    wire.Event(type="backup_failed", **_HOST, message="disk full", instance={"job": "nightly"}),
    wire.AlertAction(action="acknowledge", by="anna", until=NOW + 60),
    wire.Watermark(epoch="00000000000000aa", seq=7),
    wire.CollectionConfig(revision=3, interval=2.0, collectors=["cpu", "memory"]),
    wire.Task(action="run", execution="e1", task="hello", arguments={"code": 3}),
    wire.TaskReport(**_HOST, execution="e1", state="completed", exit_code=0, output="done", started_at=NOW, ended_at=NOW),
    wire.Trigger(by="anna", key="k", payload={"a": [1, 2]}),
    wire.Execution(execution="e1", schedule="nightly", state="completed", ts=NOW, exit_code=0))]
VALID += [TOPICS.up("web-1", kind).encode() for kind in UP_KINDS]
VALID += [b"drumbeat/v1/alert/web-1/high_cpu", b"drumbeat/v1/schedule/nightly/trigger", b"disk.percent{mount=/var}"]
VALID += [slices.publish_packet(b"a/b", b"payload") * 3, b"\x90\x03\x00\x01\x00", b"\x40\x02\x00\x01", b"\xd0\x00",
          b"\x32\x0a\x00\x03a/b\x00\x01xyz", b"\x20\x02\x00\x00"]
"""What fuzzers begin with: one valid message of each kind, topics, a name, packets of a broker."""
