"""The one door to MQTT: a client without threads, driven by its owner's loop.

`Client.poll(timeout)` does all the work: it connects (a list of brokers in turn, full jitter between attempts; the TCP
and TLS handshake alone run in a helper thread, so that a dead address never holds up the caller), reads the socket in
slices, hands every message to `on_message`, writes and keeps the session alive. MQTT 3.1.1, clean sessions.

An exception in a callback is logged and counted in `Client.failures`; it never leaves a deaf client that looks alive.

paho speaks the protocol, on a socket that is read in slices (`shared.slices`); `shared.brokers` reads addresses.
"""

import dataclasses
import random
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from shared import logs
from shared.brokers import Broker, BusError, Stage, Tls, explained, read_brokers, read_tls
from shared.slices import OnMessage, SlicedSocket, publish_packet

__all__ = ["MAX_PACKET_BYTES", "Broker", "BusError", "Client", "OnMessage", "Tls", "Will", "read_brokers", "read_tls"]

log = logs.get("bus")

MAX_PACKET_BYTES = 1_048_576

@dataclasses.dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes for a client that vanishes: QoS 1, retained."""

    topic: str
    payload: bytes


def _wait_for(readable: Sequence[int], writable: int | None, timeout: float) -> None:
    """Wait until one of the descriptors is ready; poll, since select takes none above 1023."""
    poll = select.poll()
    for descriptor in readable:
        poll.register(descriptor, select.POLLIN | (select.POLLOUT if descriptor == writable else 0))
    poll.poll(timeout * 1000)


class _Paho(paho.Client):
    """paho's client on a sliced socket."""

    slices: SlicedSocket | None = None

    def _create_socket(self) -> Any:
        sock: Any = super()._create_socket()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.slices = SlicedSocket(sock)
        return self.slices

    def _ssl_wrap_socket(self, tcp_sock: Any) -> ssl.SSLSocket:
        """The one of paho leaves the socket open where the handshake fails; our contexts check the host's name."""
        context: Any = self._ssl_context
        sock: ssl.SSLSocket = context.wrap_socket(tcp_sock, server_hostname=self._host, do_handshake_on_connect=False)
        try:
            sock.settimeout(self._connect_timeout)
            sock.do_handshake()
        except BaseException:
            sock.close()
            raise
        return sock


class Client:
    """An MQTT client driven by `poll`. Not thread-safe: one thread owns it.

    `may_publish`: asked before every message; where it says no, nothing is handed over, as without a connection.
    """

    def __init__(self, brokers: Sequence[Broker], client_id: str, on_message: OnMessage, *,
                 subscriptions: Sequence[str] = (), will: Will | None = None, tls: Tls | None = None,
                 on_connected: Callable[[], None] | None = None, keepalive: int = 20,
                 max_delay: float = 60.0, connect_timeout: float = 5.0, wake: int | None = None) -> None:
        """`wake`: a file descriptor that ends a waiting `poll` when there is something to read on it."""
        self._brokers, self._client_id, self._on_message = tuple(brokers), client_id, on_message
        self._subscriptions, self._will, self._on_connected = tuple(subscriptions), will, on_connected
        self._context = (tls or Tls()).context() if any(broker.tls for broker in brokers) else None
        self._keepalive, self._max_delay, self._timeout = keepalive, max_delay, connect_timeout
        self._wake = [] if wake is None else [wake]
        self._paho: _Paho | None = None
        self._dial: threading.Thread | None = None
        self._dialled: Exception | None = None
        self._attempts = 0
        self._next_attempt = 0.0
        self._started = 0.0
        self._attempts_failed = 0
        self._handed = 0
        self._unconfirmed: dict[int, int] = {}
        self.is_connected = False
        self.may_publish: Callable[[], bool] = lambda: True
        self.connections = 0
        self.failures = 0
        self.last_error = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def broker(self) -> Broker:
        """The broker in use, or tried next."""
        return self._brokers[self._attempts % len(self._brokers)]

    def fileno(self) -> int | None:
        """The socket's descriptor, for an owner that waits for many clients at once; None while not connected."""
        sock: Any = self._paho.socket() if self._paho is not None and self._dial is None else None
        return None if sock is None else int(sock.fileno())

    def wants_write(self) -> bool:
        """Whether something waits for the socket to take it; `poll` writes it."""
        sock: Any = None if self._paho is None else self._paho.socket()
        return self._paho is not None and (bool(self._paho.want_write()) or (sock is not None and sock.has_unsent))

    def poll(self, timeout: float = 0.0, max_messages: int = 1_000_000) -> int:
        """Connect where needed, wait up to `timeout` s for something to read, handle it; the number of messages."""
        if self._paho is None or self._dial is not None:
            self._connect(timeout)
            return 0
        client = self._paho
        sock: Any = client.socket()
        if sock is None:
            self._lost((client.slices and client.slices.failure) or "connection lost")
            return 0
        try:
            if timeout > 0 and not sock.has_packet() and not sock.pending():
                self._wait(sock, timeout)
            taken = self._read(client, sock, max_messages)
            if sock.has_unsent:
                sock.flush()
            if client.want_write():
                client.loop_write()
            client.loop_misc()
        except (OSError, ValueError) as error:
            self._lost(error)
            return 0
        if self._paho is not None and client.socket() is None:
            self._lost(self.last_error or "closed by the broker")
        elif not self.is_connected and time.monotonic() - self._started > self._timeout:
            self._lost("no answer to CONNECT or SUBSCRIBE")
        return taken

    def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> bool:
        """Hand one message over for sending; False where there is no connection. Raises BusError for one too large."""
        if len(payload) > MAX_PACKET_BYTES - 1024:
            raise BusError(f"message for {topic} is {len(payload)} bytes; at most {MAX_PACKET_BYTES - 1024}")
        if self._paho is None or not self.is_connected or not self.may_publish():
            return False
        sent = self._paho.publish(topic, payload, qos, retain)
        if sent.rc != paho.MQTT_ERR_SUCCESS:
            return False
        if qos:
            self._handed += 1
            self._unconfirmed[sent.mid] = self._handed
        return True

    @property
    def handed(self) -> int:
        """How many messages of QoS 1 were handed over so far."""
        return self._handed

    @property
    def confirmed(self) -> int:
        """The broker has the first so many of them, those apart that a connection took with it when it was lost."""
        return next(iter(self._unconfirmed.values()), self._handed + 1) - 1

    def publish_all(self, messages: Sequence[tuple[str, bytes]]) -> int:
        """Publish many (topic, payload) at QoS 0 with one write; the number handed over, 0 where there is no connection."""
        if self._paho is None or not self.is_connected or not messages or not self.may_publish():
            return 0
        if self._paho.want_write():  # a packet may be half sent: stay behind it
            return sum(self.publish(topic, payload) for topic, payload in messages)
        sock: Any = self._paho.socket()
        try:
            sock.send_later(b"".join(publish_packet(topic.encode(), payload) for topic, payload in messages))
        except OSError as error:
            self._lost(error)
            return 0
        return len(messages)

    def flush(self, timeout: float = 2.0) -> bool:
        """Send everything handed over so far, acknowledgements of QoS 1 included; False when time ran out."""
        deadline = time.monotonic() + timeout
        while self.is_connected and self._paho is not None and time.monotonic() < deadline:
            if not self.wants_write() and not self._paho._out_messages:  # noqa: SLF001 (paho has no public count)
                return True
            self.poll(0.02)
        return False

    def drop(self) -> None:
        """Break the connection without DISCONNECT (the broker publishes the will); `poll` connects anew."""
        if self._paho is not None:
            self._lost("dropped on request")

    def close(self) -> None:
        """Disconnect for good; the will is not published."""
        if self._paho is not None and self._dial is None:
            self._paho.disconnect()
            sock: Any = self._paho.socket()
            if sock is not None:
                sock.close()
        self._paho, self.is_connected = None, False

    def _read(self, client: _Paho, sock: SlicedSocket, max_messages: int) -> int:
        taken = 0
        while taken < max_messages:
            taken += sock.take_publishes(self._deliver)
            if sock.has_packet():
                client.loop_read()
                if client.socket() is None:
                    break
            elif not sock.fill():
                break
        return taken

    def _deliver(self, topic: bytes, payload: bytes, retained: bool) -> None:
        try:
            self._on_message(topic, payload, retained)
        except Exception:
            self.failures += 1
            logs.event(log, "message handler failed", 40, exc_info=True, topic=topic.decode(errors="replace"))

    def _wait(self, sock: SlicedSocket, timeout: float) -> None:
        _wait_for([sock.fileno(), *self._wake], sock.fileno() if self.wants_write() else None, timeout)

    def _connect(self, timeout: float) -> None:
        now = time.monotonic()
        if self._dial is not None:
            self._dial.join(timeout)
            if not self._dial.is_alive():
                self._dial = None
                if self._dialled is not None:
                    self._lost(self._dialled, "dialling")
            return
        if now < self._next_attempt:
            _wait_for(self._wake, None, max(0.0, min(timeout, self._next_attempt - now)))
            return
        self._started = now
        self._paho = self._new_paho(self.broker)
        self._dial = threading.Thread(target=self._open, args=(self._paho, self.broker), name="mqtt-connect", daemon=True)
        self._dial.start()
        self._connect(timeout)

    def _open(self, client: _Paho, broker: Broker) -> None:
        self._dialled = None
        try:
            client.connect(broker.host, broker.port, self._keepalive)
        except Exception as error:
            self._dialled = error

    def _new_paho(self, broker: Broker) -> _Paho:
        client = _Paho(CallbackAPIVersion.VERSION2, self._client_id, protocol=paho.MQTTv311, clean_session=True)
        client.connect_timeout = self._timeout
        client.suppress_exceptions = True
        client.max_inflight_messages_set(100)
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        if broker.tls and self._context is not None:
            client.tls_set_context(self._context)
        if self._will is not None:
            client.will_set(self._will.topic, self._will.payload, 1, retain=True)
        client.on_connect = self._on_connack
        client.on_subscribe = self._on_suback
        client.on_publish = self._on_published
        client.on_message = lambda _client, _data, message: self._deliver(
            message.topic.encode(), bytes(message.payload), message.retain)
        return client

    def _on_connack(self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self.last_error = f"refused: {reason}; is user or password wrong, or was it revoked?"
        elif self._subscriptions:
            client.subscribe([(topic, 0) for topic in self._subscriptions])
        else:
            self._ready()

    def _on_suback(self, _client: paho.Client, _data: Any, _mid: int, reasons: Sequence[Any], _properties: Any) -> None:
        refused = [topic for topic, reason in zip(self._subscriptions, reasons, strict=False) if reason.is_failure]
        if refused:
            self.last_error = f"subscription refused: {', '.join(refused)}; see the broker's access rules and limits"
        else:
            self._ready()

    def _on_published(self, _client: paho.Client, _data: Any, mid: int, _reason: Any, _properties: Any) -> None:
        self._unconfirmed.pop(mid, None)

    def _ready(self) -> None:
        self.is_connected, self.last_error, self._attempts_failed = True, "", 0
        self.connections += 1
        logs.event(log, "connected", broker=str(self.broker))
        if self._on_connected is not None:
            try:
                self._on_connected()
            except Exception:
                self.failures += 1
                logs.event(log, "connect handler failed", 40, exc_info=True)

    def _lost(self, cause: Exception | str, stage: Stage | None = None) -> None:
        reason = explained(cause, self.broker, stage or ("connected" if self.is_connected else "greeting"))
        sock: Any = None if self._paho is None else self._paho.socket()
        if sock is not None:
            sock.close()
        was_connected, self.is_connected, self._paho = self.is_connected, False, None
        self._unconfirmed.clear()
        self._attempts_failed = 0 if was_connected else self._attempts_failed + 1
        delay = random.uniform(0, min(self._max_delay, 2.0 ** min(self._attempts_failed, 16) / 2))  # noqa: S311
        self._next_attempt = time.monotonic() + delay
        self.last_error = self.last_error or reason
        level = 30 if was_connected or self._attempts_failed in (1, 5) or self._attempts_failed % 20 == 0 else 10
        logs.event(log, "not connected", level, broker=str(self.broker), reason=self.last_error, retry_in=round(delay, 2))
        self._attempts += 1
