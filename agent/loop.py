"""The agent's one thread: read at the tick, spool, publish once, and between ticks listen and send the backlog."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct, structs

from agent.delivery import Delivery
from agent.ticks import Ticks
from shared import __version__, bus, logs, wire
from shared.topics import Topics

FIRST_TICK_SECONDS = 1.0
INVENTORY_SECONDS = 600.0
LONGEST_WAIT = 5.0


class Queue(Protocol):
    """A spool, on disk or in memory."""

    epoch: str

    @property
    def confirmed(self) -> int: ...
    @property
    def newest(self) -> int: ...
    @property
    def safe(self) -> int: ...
    @property
    def oldest(self) -> int: ...
    @property
    def pending(self) -> int: ...
    def append(self, payload: bytes, now: float) -> bool: ...
    def confirm(self, seq: int, now: float) -> None: ...
    def read(self, first: int, count: int) -> list[tuple[int, bytes]]: ...
    def forget_cache(self) -> None: ...


class Readings(Protocol):
    """What the collectors give at a tick; `agent.collection.Collection` is the real one."""

    def collect(self, now: float, monotonic: float) -> tuple[dict[str, float], dict[str, Struct]]: ...
    def states(self) -> list[wire.CollectorState]: ...


class Tasks(Protocol):
    """What this host is asked to do; `agent.tasks.door.Door` is the real one. Nothing of it ever waits, but `close`."""

    def received(self, payload: bytes) -> None: ...
    def connected(self) -> None: ...
    def step(self, publish: Callable[[bytes], bool]) -> None: ...
    def wait(self) -> float: ...
    def close(self, publish: Callable[[bytes], bool]) -> None: ...


class Agent:
    """One host's agent. `read_inventory` is given the wall clock and the states of the collectors.

    `configure` is given what came on `down/config` and answers with the interval and the readings that count from now on,
    None where they stay.
    """

    def __init__(self, host: str, interval: float, topics: Topics, spool: Queue, collection: Readings,
                 read_inventory: Callable[[float, list[wire.CollectorState]], wire.Inventory], *, boot_id: str = "",
                 tasks: Tasks | None = None,
                 configure: Callable[[bytes], tuple[float, Readings] | None] | None = None,
                 resend_rate: float = 200.0, wall: Callable[[], float] = time.time,
                 monotonic: Callable[[], float] = time.monotonic) -> None:
        self._host, self._interval, self._topics, self._spool = host, interval, topics, spool
        self._collection, self._read_inventory, self._boot_id = collection, read_inventory, boot_id
        self._tasks, self._configure = tasks, configure
        self._wanted: bytes | None = None
        self._ticks = Ticks(0.0, interval)
        self._wall, self._monotonic = wall, monotonic
        self._delivery = Delivery(spool.confirmed, resend_rate)
        self._snapshots: dict[str, bytes] = {}
        self._inventory: wire.Inventory | None = None
        self._inventory_at = 0.0
        self._client: bus.Client | None = None
        self._log = logs.get("agent")
        self._sample_topic = topics.up(host, "sample")
        self.stopping = False
        self.failures = 0

    def run(self, brokers: Sequence[bus.Broker], client_id: str, tls: bus.Tls | None = None, wake: int | None = None) -> None:
        """Work until `stopping` is set (and `wake` is readable), then say goodbye. Raises BusError for TLS files."""
        will = bus.Will(self._topics.up(self._host, "status"), self._status("offline", "lost"))
        with bus.Client(brokers, client_id, self._on_message, subscriptions=[self._topics.all_down(self._host)], will=will,
                        tls=tls, on_connected=self._on_connected, wake=wake) as client:
            self._client = client
            self._guarded(self._prime)
            self._begin_ticks()
            while not self.stopping:
                self._turn(client)
            self._guarded(self._close_tasks)
            self._say_goodbye(client)

    def _begin_ticks(self) -> None:
        self._ticks = Ticks(self._monotonic() + min(FIRST_TICK_SECONDS, self._interval), self._interval)

    def _turn(self, client: bus.Client) -> None:
        now = self._monotonic()
        if not client.is_connected:
            self._delivery.disconnected()
        if now >= self._ticks.due_at:
            self._guarded(self._tick)
            self._ticks.passed(self._monotonic())
        self._guarded(self._catch_up)
        self._guarded(self._follow_wishes)
        now = self._monotonic()
        tasks_wait = LONGEST_WAIT if self._tasks is None else self._tasks.wait()
        client.poll(min(max(self._ticks.due_at - now, 0.0), self._delivery.wait(now), tasks_wait, LONGEST_WAIT))

    def _follow_wishes(self) -> None:
        """Collection settings and tasks that others want of this host."""
        if self._wanted is not None and self._configure is not None:
            wanted, self._wanted = self._wanted, None
            self._reconfigure(self._configure(wanted))
        if self._tasks is not None:
            self._tasks.step(self._report)

    def _reconfigure(self, change: tuple[float, Readings] | None) -> None:
        """Measure as wanted from now on, and tell which settings count."""
        self._inventory_at = -math.inf
        if change is None:
            self._watch_inventory()
            return
        self._interval, self._collection = change
        self._prime()
        self._begin_ticks()

    def _close_tasks(self) -> None:
        if self._tasks is not None:
            self._tasks.close(self._report)

    def _report(self, payload: bytes) -> bool:
        return self._publish(self._topics.up(self._host, "execution"), payload)

    def _guarded(self, step: Callable[[], None]) -> None:
        """A fault of ours costs one step, never the agent."""
        try:
            step()
        except Exception:
            self.failures += 1
            if self.failures in (1, 10, 100) or self.failures % 1000 == 0:
                logs.event(self._log, "a step failed", logging.ERROR, exc_info=True, failures=self.failures)

    def _prime(self) -> None:
        """Read everything once, so that the first sample already has rates; the snapshots count."""
        _, snapshots = self._collection.collect(self._wall(), self._monotonic())
        self._show(snapshots)
        self._watch_inventory()

    def _tick(self) -> None:
        now, monotonic = self._wall(), self._monotonic()
        metrics, snapshots = self._collection.collect(now, monotonic)
        metrics["agent.spool_samples"] = self._spool.pending
        self._send(metrics, now)
        self._show(snapshots)
        self._watch_inventory()

    def _send(self, metrics: dict[str, float], now: float) -> None:
        seq = self._spool.newest + 1
        payload = wire.encode(wire.Sample(
            v=wire.VERSION, host=self._host, epoch=self._spool.epoch, seq=seq, ts=round(now, 3), metrics=metrics,
            oldest=self._spool.oldest or seq, interval=self._interval))
        monotonic = self._monotonic()
        self._spool.append(payload, monotonic)
        if self._publish_sample(seq, payload):
            self._delivery.published(seq, monotonic)

    def _catch_up(self) -> None:
        """Send what is due of the backlog, and ask where there is something to ask."""
        now = self._monotonic()
        first, count = self._delivery.due(now)
        if count:
            self._resend(first, count, now)
        if self._delivery.is_asking_due(now):
            self._say_hello()
            self._delivery.asked(now)

    def _resend(self, first: int, count: int, now: float) -> None:
        end, sent, last = self._delivery.end(), 0, 0
        for seq, payload in self._spool.read(first, count):
            last = seq
            if seq <= end and self._publish_sample(seq, payload):
                sent += 1
        self._delivery.resent(end if not last or last >= end else last, sent, now)
        if not self._delivery.is_resending:
            self._spool.forget_cache()

    def _publish_sample(self, seq: int, payload: bytes) -> bool:
        """What the spool cannot vouch for yet stays backlog: a seq that left must never be given out again."""
        return seq <= self._spool.safe and self._publish(self._sample_topic, payload)

    def _publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> bool:
        return self._client is not None and self._client.publish(topic, payload, qos=qos, retain=retain)

    def _on_connected(self) -> None:
        now = self._monotonic()
        self._publish(self._topics.up(self._host, "status"), self._status("online"), qos=1, retain=True)
        self._say_hello()
        self._delivery.connected(self._spool.newest, now)
        if self._inventory is not None:
            self._publish(self._topics.up(self._host, "inventory"), wire.encode(self._inventory), qos=1, retain=True)
        for kind, payload in self._snapshots.items():
            self._publish(self._topics.up(self._host, kind), payload, retain=True)
        if self._tasks is not None:
            self._tasks.connected()

    def _say_hello(self) -> None:
        hello = wire.Hello(host=self._host, epoch=self._spool.epoch, oldest=self._spool.oldest, newest=self._spool.newest,
                           boot_id=self._boot_id, version=__version__, ts=round(self._wall(), 3))
        self._publish(self._topics.up(self._host, "hello"), wire.encode(hello))

    def _on_message(self, topic: bytes, payload: bytes, _retained: bool) -> None:
        if topic.endswith(b"/down/watermark"):
            self._on_mark(payload)
        elif topic.endswith(b"/down/task") and self._tasks is not None:
            self._tasks.received(payload)
        elif topic.endswith(b"/down/config"):
            self._wanted = payload

    def _on_mark(self, payload: bytes) -> None:
        try:
            mark = wire.decode(wire.Watermark, payload)
        except wire.WireError as error:
            logs.event(self._log, "unusable watermark", logging.WARNING, error=error)
            return
        if mark.epoch == self._spool.epoch:
            self._on_watermark(mark.seq)

    def _on_watermark(self, seq: int) -> None:
        now, newest, before = self._monotonic(), self._spool.newest, self._delivery.confirmed
        meaning = self._delivery.watermark(seq, newest, now)
        if self._delivery.confirmed != self._spool.confirmed:
            self._spool.confirm(self._delivery.confirmed, now)
        if meaning in ("backlog", "rewound", "restored"):
            logs.event(self._log, f"resending: {meaning}", stored=seq, before=before, newest=newest)

    def _show(self, snapshots: dict[str, Struct]) -> None:
        for kind, snapshot in snapshots.items():
            self._snapshots[kind] = wire.encode(snapshot)
            self._publish(self._topics.up(self._host, kind), self._snapshots[kind], retain=True)

    def _watch_inventory(self) -> None:
        """Publish the inventory when a collector came or went, and when something else of it has changed."""
        known, states = self._inventory, self._collection.states()
        now = self._monotonic()
        if known is not None and known.collectors == states and now - self._inventory_at < INVENTORY_SECONDS:
            return
        fresh = self._read_inventory(round(self._wall(), 3), states)
        self._inventory_at = now
        if known is None or structs.replace(fresh, ts=known.ts) != known:
            self._inventory = fresh
            self._tell_what_is_here(fresh)
            self._publish(self._topics.up(self._host, "inventory"), wire.encode(fresh), qos=1, retain=True)

    def _tell_what_is_here(self, here: wire.Inventory) -> None:
        missing = "; ".join(f"{state.name}: {state.reason}" for state in here.collectors if not state.up)
        logs.event(self._log, "this host", found=",".join(state.name for state in here.collectors if state.up),
                   missing=missing or "nothing", system=here.os, cpus=here.cpu_count, memory_bytes=here.memory_bytes)

    def _status(self, state: str, reason: str = "") -> bytes:
        return wire.encode(wire.Status(
            host=self._host, state=state, reason=reason, boot_id=self._boot_id,  # type: ignore[arg-type]
            epoch=self._spool.epoch, version=__version__, ts=round(self._wall(), 3)))

    def _say_goodbye(self, client: bus.Client) -> None:
        if client.publish(self._topics.up(self._host, "status"), self._status("offline", "stopped"), qos=1, retain=True):
            client.flush()
