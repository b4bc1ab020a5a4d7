"""The connections of a simulated fleet and the loop that drives them all from one thread.

Sending goes in the order of the hosts' phases, so finding who is due costs nothing. A socket is read when epoll says so;
every connection has its housekeeping (keep-alive, stalls) every few seconds; only hosts with a backlog or a question are
looked at more often. Process lists are shown anew in turn.
"""

import dataclasses
import select
import time
from collections import deque
from collections.abc import Callable, Sequence

from agent.simulation.hosts import Host
from agent.simulation.rota import Rota
from shared import bus, wire
from shared.topics import Topics

DIALLING = 64
HOUSEKEEPING_SECONDS = 4.0
PROCESSES_SECONDS = 45.0
LOOP_SECONDS = 0.02


class Connection:
    """One connection, of one host or of several."""

    def __init__(self, hosts: Sequence[Host], brokers: Sequence[bus.Broker], tls: bus.Tls, client_id: str, topics: Topics,
                 on_connected: Callable[["Connection"], None], on_watermark: Callable[[Host, int], None]) -> None:
        self.hosts, self._on_watermark = hosts, on_watermark
        self._by_topic = {host.down: host for host in hosts}
        self.file: int | None = None
        self.was_connected = self.is_held = False
        only = hosts[0] if len(hosts) == 1 else None
        will = None if only is None else bus.Will(topics.up(only.name, "status"), only.status(time.time(), "offline", "lost"))
        self.client = bus.Client(brokers, client_id, self._on_message, will=will, tls=tls, keepalive=20, connect_timeout=15.0,
                                 subscriptions=[topics.all_down(host.name) for host in hosts],
                                 on_connected=lambda: on_connected(self))

    def _on_message(self, topic: bytes, payload: bytes, _retained: bool) -> None:
        host = self._by_topic.get(topic)
        if host is not None:
            mark = wire.decode(wire.Watermark, payload)
            if mark.epoch == host.epoch:
                self._on_watermark(host, mark.seq)


@dataclasses.dataclass(slots=True)
class Tally:
    """What happened so far."""

    sent: int = 0
    resent: int = 0
    unsent: int = 0
    late_max_seconds: float = 0.0


class Fleet:
    """All hosts and their connections; `turn` is one pass of the loop. Seconds are counted from the start."""

    def __init__(self, hosts: Sequence[Host], connections: int, brokers: Sequence[bus.Broker], tls: bus.Tls, run: str,
                 topics: Topics, begun: float, process_interval: float = PROCESSES_SECONDS) -> None:
        self.hosts, self._topics, self._begun = hosts, topics, begun
        self.tally = Tally()
        self.connections = [Connection(hosts[index::connections], brokers, tls, f"drumbeat-sim-{run}-{index}", topics,
                                       self._on_connected, self._on_watermark) for index in range(connections)]
        self._of = {host.name: connection for connection in self.connections for host in connection.hosts}
        self._poller = select.epoll()
        self._by_file: dict[int, Connection] = {}
        self._waiting = deque(self.connections)
        self._dialling: list[Connection] = []
        self._busy: dict[str, Host] = {}
        self._next_host = 0
        self._housekeeping = Rota(self.connections, HOUSEKEEPING_SECONDS, begun)
        self._process_lists = Rota(hosts, process_interval, begun)
        self.is_producing = True

    def turn(self) -> None:
        """Dial, send what is due, read what has come, catch up, keep house."""
        self._dial()
        if self.is_producing:
            self._produce(time.monotonic() - self._begun)
        for file, _ in self._poller.poll(LOOP_SECONDS):
            self._serve(self._by_file[file])
        now = time.monotonic()
        for host in list(self._busy.values()):
            self._catch_up(host, now)
        self._keep_house(now)
        for host in self._process_lists.due(now):
            self._publish(host, "processes", host.processes(time.time()), retain=True)

    def unconfirmed(self) -> int:
        """Samples that no watermark covers yet."""
        return sum(max(0, host.newest - host.delivery.confirmed) for host in self.hosts)

    def connected(self) -> int:
        return sum(connection.client.is_connected for connection in self.connections)

    def close(self) -> None:
        """Say goodbye for every host and disconnect."""
        for connection in self.connections:
            for host in connection.hosts:
                self._publish(host, "status", host.status(time.time(), "offline", "stopped"), qos=1, retain=True)
        deadline = time.monotonic() + 5.0
        for connection in self.connections:
            connection.client.flush(max(0.0, min(1.0, deadline - time.monotonic())))
            connection.client.close()
        self._poller.close()

    def _dial(self) -> None:
        while self._waiting and len(self._dialling) < DIALLING:
            self._dialling.append(self._waiting.popleft())
        for connection in self._dialling:
            connection.client.poll(0.0)
        self._dialling = [connection for connection in self._dialling if not connection.client.is_connected]

    def _produce(self, at: float) -> None:
        for _ in range(len(self.hosts)):
            host = self.hosts[self._next_host]
            if (due_at := host.due_at) > at:
                return
            self._next_host = (self._next_host + 1) % len(self.hosts)
            self.tally.late_max_seconds = max(self.tally.late_max_seconds, at - due_at)
            host.newest += 1
            client = self._of[host.name].client
            if client.is_connected and client.publish(host.topic, host.payload(host.newest)):
                host.delivery.published(host.newest, time.monotonic())
                self.tally.sent += 1
            else:
                self.tally.unsent += 1

    def _serve(self, connection: Connection) -> None:
        connection.client.poll(0.0)
        self._watch(connection)

    def _watch(self, connection: Connection) -> None:
        """Follow the connection's socket through loss and return."""
        client = connection.client
        if connection.was_connected and not client.is_connected:
            for host in connection.hosts:
                host.delivery.disconnected()
            if not connection.is_held:
                self._waiting.append(connection)
        connection.was_connected = client.is_connected
        file = client.fileno() if client.is_connected else None
        if file == connection.file:
            return
        if connection.file is not None and self._by_file.get(connection.file) is connection:
            del self._by_file[connection.file]
            if file is None:
                self._forget(connection.file)
        connection.file = file
        if file is not None:
            self._by_file[file] = connection
            self._forget(file)
            self._poller.register(file, select.EPOLLIN)

    def _forget(self, file: int) -> None:
        try:
            self._poller.unregister(file)
        except OSError:
            return

    def _catch_up(self, host: Host, now: float) -> None:
        state, client = host.delivery, self._of[host.name].client
        first, count = state.due(now)
        if count:
            sent = sum(client.publish(host.topic, host.payload(seq)) for seq in range(first, first + count))
            state.resent(first + count - 1, sent, now)
            self.tally.resent += sent
        if state.is_asking_due(now):
            client.publish(self._topics.up(host.name, "hello"), host.hello(time.time()))
            state.asked(now)
        if client.wants_write():
            client.poll(0.0)
        if not state.is_resending or not client.is_connected:
            self._busy.pop(host.name, None)

    def _keep_house(self, now: float) -> None:
        for connection in self._housekeeping.due(now):
            self._hold_or_free(connection, now - self._begun)
            if connection.client.is_connected:
                connection.client.poll(0.0)
            self._watch(connection)
            for host in connection.hosts:
                self._catch_up(host, now)
                if host.delivery.is_resending:
                    self._busy[host.name] = host

    def _hold_or_free(self, connection: Connection, at: float) -> None:
        is_held = len(connection.hosts) == 1 and connection.hosts[0].is_silent(at)
        if is_held and connection.client.is_connected:
            connection.is_held = True
            connection.client.drop()
        elif connection.is_held and not is_held:
            connection.is_held = False
            self._waiting.append(connection)

    def _on_connected(self, connection: Connection) -> None:
        now, monotonic = time.time(), time.monotonic()
        for host in connection.hosts:
            self._publish(host, "status", host.status(now, "online"), qos=1, retain=True)
            self._publish(host, "hello", host.hello(now))
            host.delivery.connected(host.newest, monotonic)
            self._publish(host, "inventory", host.inventory(now), qos=1, retain=True)
            for kind, payload in host.snapshots(now).items():
                self._publish(host, kind, payload, retain=True)
        self._watch(connection)

    def _publish(self, host: Host, kind: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        self._of[host.name].client.publish(self._topics.up(host.name, kind), payload, qos=qos, retain=retain)

    def _on_watermark(self, host: Host, seq: int) -> None:
        if seq > host.newest:
            host.jump(seq)
        host.delivery.watermark(seq, host.newest, time.monotonic())
        if host.delivery.is_resending:
            self._busy[host.name] = host
