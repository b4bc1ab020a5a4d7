"""One message at a time: topic, decoding, checks, deduplication. What is wrong with a message costs only itself.

`Receiver.on_message` is the bus client's callback. It sorts what comes into a `Batch`: samples of the next frame, refused
messages, gaps, states, inventories and snapshots. The loop takes the batch at every beat.
"""

import logging
from typing import Any, TypeVar

from aggregator.ingest import writers
from aggregator.ingest.batch import Asked, Batch, Snapshot
from aggregator.live.hosts import Host, Stream
from aggregator.live.layouts import Layout
from aggregator.live.shard import Shard
from aggregator.store.rejects import HEAD_BYTES, Reject
from shared import catalogue, logs, wire
from shared.names import partition
from shared.topics import Topics
from shared.wire import WireError

log = logs.get("ingest")

MAX_ROUTES = 200_000
MAX_KEPT = 50_000
"""Hosts not known here of which retained messages are kept until they say something themselves."""
KEPT = ("status", "inventory", "containers", "processes", "sensors")
"""What brokers keep of a host. It makes none: a host that was deleted must not come back by what its broker remembers."""
MAX_KEPT_BYTES = 67_108_864
"""Of all of them together."""
MAX_ECHOES, MAX_ECHO_BYTES = 50_000, 16_384
"""Topics of alerts heard in a beat, and how much of each: more than ingest says is wrong, whatever follows."""
MAX_REJECT_BYTES = 8_388_608
"""Of refused messages kept whole per beat; of further ones the beginning is kept, as in the table."""
MAX_ANONYMOUS_REJECTS = 500
"""Refused messages kept per beat that say no (epoch, seq); more are only counted."""
MAX_UNTIL_SECONDS = 10 * 365 * 86_400

_RESENT = ("epochs", "hosts")
"""Refused for now: the sample comes again, and may be taken then."""
_CORE = tuple(metric.name for metric in catalogue.CORE)

SNAPSHOTS: dict[str, type[Any]] = {
    "containers": wire.Containers, "processes": wire.Processes, "sensors": wire.Sensors}


M = TypeVar("M", wire.Hello, wire.Status, wire.Inventory, wire.Containers, wire.Processes, wire.Sensors, wire.Event)


class Receiver:
    """Sorts messages into the current batch. `now` (Unix s) is set by the loop before it reads.

    What names no partition in its topic comes to the owners of all slots; it is for the one of slot `slot` of `slots`.
    """

    def __init__(self, shard: Shard, topics: Topics, slot: int = 0, slots: int = 1) -> None:
        self.shard, self.batch, self.now = shard, Batch(), 0.0
        self._topics, self._slot, self._slots = topics, slot, slots
        self._routes: dict[bytes, tuple[str, str]] = {}
        self._kept: dict[str, dict[str, bytes]] = {}
        self._kept_bytes = 0

    def take(self) -> Batch:
        """The batch so far; a new one begins."""
        batch, self.batch = self.batch, Batch()
        return batch

    def on_message(self, topic: bytes, payload: bytes, retained: bool) -> None:
        self.batch.messages += 1
        route = self._routes.get(topic) or self._route(topic)
        if route is not None and self._kept and not retained:
            self._take_kept(route[0])
        try:
            if route is None:
                self._about_alerts(topic.decode(errors="replace"), payload, retained)
            elif route[1] == "sample":
                self._sample(route[0], payload)
            else:
                self._other(route[0], route[1], payload, retained)
        except WireError as error:
            self._refuse(topic, route, payload, error)
        except Exception as error:
            logs.event(log, "message could not be handled", logging.ERROR, exc_info=True, topic=topic.decode(errors="replace"))
            self._refuse(topic, route, payload, WireError("internal", type(error).__name__))

    def _take_kept(self, host_name: str) -> None:
        """The host lives: what the broker had kept of it counts."""
        for kind, payload in self._kept.pop(host_name, {}).items():
            self._kept_bytes -= len(payload)
            self.on_message(self._topics.up(host_name, kind).encode(), payload, False)

    def _route(self, topic: bytes) -> tuple[str, str] | None:
        try:
            route = self._topics.read_up(topic.decode())
        except UnicodeDecodeError:
            return None
        if route is not None:  # others may be of any length, and without end
            if len(self._routes) >= MAX_ROUTES:
                self._routes.clear()
            self._routes[topic] = route
        return route

    def _sample(self, host_name: str, payload: bytes) -> None:
        sample = wire.decode(wire.Sample, payload)
        if sample.host != host_name:
            raise WireError("spoof", f"the payload says {sample.host[:63]!r}, the topic {host_name!r}")
        stream = self.shard.stream(host_name, sample.epoch, self.now)
        batch = self.batch
        batch.touched.add(stream)
        if sample.oldest > stream.contiguous + 1:
            self._forget_before(stream, min(sample.oldest, sample.seq))
        if stream.has(sample.seq):
            batch.duplicates += 1
            self._notice(writers.second_time(stream, sample, self._topics.up(host_name, "sample"), payload, self.now))
            return
        wire.check_time(sample.ts, self.now, self.shard.oldest_ts)
        metrics = sample.metrics
        layout = self.shard.layouts.get(tuple(metrics))
        if layout is None:
            layout, metrics = self._new_layout(stream.host, metrics)
        was_ahead = bool(stream.ahead)
        if not stream.take(sample.seq):
            return
        stream.note_time(sample.seq, sample.ts)
        if stream.host.writer is not stream:
            self._notice(writers.turn(stream, self.now))
        if was_ahead and not stream.ahead:
            batch.answers.add(stream)
        batch.samples.add(stream, layout, sample.seq, sample.ts, sample.interval, list(metrics.values()))

    def _notice(self, noticed: writers.Noticed | None) -> None:
        """Something about who writes: it is stored and told with the batch."""
        if noticed is None:
            return
        batch = self.batch
        batch.rejects += noticed.rejects
        batch.events += noticed.events
        batch.new_epochs += noticed.new_epochs
        if noticed.left_out:
            batch.refused["twins"] = batch.refused.get("twins", 0) + noticed.left_out

    def _new_layout(self, host: Host, metrics: dict[str, float]) -> tuple[Layout, dict[str, float]]:
        """The layout of names met for the first time; of the core metrics alone where the host brings too many new sets.

        Raises WireError where even of these there are too many.
        """
        budget = host.new_layouts
        if not budget.take(self.now):
            metrics = {name: metrics[name] for name in _CORE if name in metrics}
            if not metrics or (budget.used > 2 * budget.limit and self.shard.layouts.get(tuple(metrics)) is None):
                raise WireError("layouts")
            self.batch.stripped += 1
        return self.shard.layouts.add(tuple(metrics)), metrics

    def _other(self, host_name: str, kind: str, payload: bytes, retained: bool) -> None:
        if not payload and kind != "hello":
            return  # a retained message was cleared
        if retained and kind in KEPT and self.shard.hosts.get(host_name) is None:
            self._keep(host_name, kind, payload)
            return
        if kind == "hello":
            self._hello(host_name, payload)
        elif kind == "status":
            self.batch.states[host_name] = self._of_host(wire.Status, host_name, payload)
        elif kind == "inventory":
            self.batch.inventories[host_name] = self._of_host(wire.Inventory, host_name, payload)
        elif kind == "event":
            _check_live(retained)
            self._event(host_name, payload)
        elif kind in SNAPSHOTS:
            snapshot: Snapshot = self._of_host(SNAPSHOTS[kind], host_name, payload)
            self.batch.snapshots[host_name, kind] = snapshot

    def _keep(self, host_name: str, kind: str, payload: bytes) -> None:
        """Keep what the broker had of a host that is not known, as far as there is room."""
        own = self._kept.get(host_name, {})
        more = len(payload) - len(own.get(kind, b""))
        if self._kept_bytes + more <= MAX_KEPT_BYTES and (own or len(self._kept) < MAX_KEPT):
            self._kept.setdefault(host_name, {})[kind] = payload
            self._kept_bytes += more

    def _hello(self, host_name: str, payload: bytes) -> None:
        hello = self._decoded(wire.Hello, host_name, payload)
        stream = self.shard.stream(host_name, hello.epoch, self.now)
        self._forget_before(stream, hello.oldest)
        self.batch.touched.add(stream)
        self.batch.answers.add(stream)
        self.batch.hellos[host_name] = hello

    def _about_alerts(self, topic: str, payload: bytes, retained: bool) -> None:
        """Events and actions of programs that are no agents, and what comes back of what ingest told."""
        about = self._topics.read_alert(topic)
        if about is None:
            raise WireError("topic")
        kind, host_name, alert = about
        if int(partition(host_name)) % self._slots != self._slot:
            return
        if kind == "alert":
            if topic in self.batch.echoes or len(self.batch.echoes) < MAX_ECHOES:
                self.batch.echoes[topic] = payload[:MAX_ECHO_BYTES]
            return
        _check_live(retained)
        known = self.shard.hosts.get(host_name)
        if known is None or not known.id:
            raise WireError("host", f"no host {host_name!r} is known; hosts are known from their first message on")
        if kind == "event":
            self._event(host_name, payload)
        else:
            action = wire.decode(wire.AlertAction, payload)
            _check_text(payload)
            if action.until is not None and not 0 <= action.until <= self.now + MAX_UNTIL_SECONDS:
                raise WireError("range", "until is Unix seconds, within the next ten years")
            self.batch.actions.append(Asked(host_name, alert, action, topic, payload))

    def _event(self, host_name: str, payload: bytes) -> None:
        event = self._decoded(wire.Event, host_name, payload)
        wire.check_time(event.ts, self.now, self.now - wire.MAX_EVENT_AGE_SECONDS)
        if event.type not in {rule.event_type for rule in self.shard.engine.watched("event")}:
            raise WireError("rule", f"no rule of kind event watches for {event.type!r}; drumbeat rules list shows them")
        if not self.shard.host(host_name, self.now).events.take(self.now):
            raise WireError("events")
        self.batch.events.append(event)

    def _of_host(self, kind: type[M], host_name: str, payload: bytes) -> M:
        """What a host says of itself, which makes it known."""
        message = self._decoded(kind, host_name, payload)
        self.shard.host(host_name, self.now)
        return message

    def _decoded(self, kind: type[M], host_name: str, payload: bytes) -> M:
        message = wire.decode(kind, payload)
        if message.host != host_name:
            raise WireError("spoof", f"the payload says {message.host[:63]!r}, the topic {host_name!r}")
        wire.check_time(message.ts, self.now, 0.0)
        _check_text(payload)
        return message

    def _forget_before(self, stream: Stream, oldest: int) -> None:
        gaps = stream.forget_before(oldest, "no longer held by the agent")
        if gaps:
            self.batch.gaps += gaps
            logs.event(log, "gap", logging.WARNING, host=stream.host.name, from_seq=gaps[0].from_seq, to_seq=gaps[-1].to_seq)

    def _refuse(self, topic: bytes, route: tuple[str, str] | None, payload: bytes, error: WireError) -> None:
        batch = self.batch
        batch.refused[error.reason] = batch.refused.get(error.reason, 0) + 1
        host_name = route[0] if route else (self._topics.read_alert(topic.decode(errors="replace")) or ("", ""))[1]
        place = wire.identity(payload) if route and route[1] == "sample" and error.reason not in _RESENT else None
        epoch = seq = None
        if place is not None:
            try:
                stream = self.shard.stream(host_name, place[0], self.now)
            except WireError:
                stream = None
            if stream is not None:
                batch.touched.add(stream)
                if not stream.take(place[1]):
                    return
                epoch, seq = stream.epoch, place[1]
        if seq is None and len(batch.rejects) >= MAX_ANONYMOUS_REJECTS:
            return
        if batch.reject_bytes + len(payload) > MAX_REJECT_BYTES:
            payload = payload[:HEAD_BYTES]
        batch.reject_bytes += len(payload)
        name = topic[:1024].decode(errors="replace")
        batch.rejects.append(Reject(host_name, name, error.reason, error.detail, payload, epoch, seq))


def _check_live(retained: bool) -> None:
    """Raises WireError for an event or action that the broker has kept: it would be done again with every connection."""
    if retained:
        raise WireError("topic", "events and actions must not be retained; clear it with an empty retained message")


def _check_text(payload: bytes) -> None:
    """Raises WireError for text that the database does not take."""
    if b"\\u0000" in payload:
        raise WireError("type", "text holds a NUL character")
