"""What each credential may say and hear on a running broker: every user tries every topic of the protocol, both ways.

What is allowed is written out by hand, not taken from the grants. Neither PUBACK nor SUBACK is believed: brokers give both for
what they deny, so only what arrives counts.
"""

import secrets
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from shared import bus
from shared.topics import DOWN_KINDS, UP_KINDS, Topics

TOPICS = Topics()
HOSTS = ("web-1", "db-1")
UP, DOWN = ({host: [topic(host, kind) for kind in kinds] for host in HOSTS}
            for topic, kinds in ((TOPICS.up, UP_KINDS), (TOPICS.down, DOWN_KINDS)))
FIRE, TRIGGER, EXECUTION = (
    {name: topic(name) for name in ("nightly", "other")}
    for topic in (TOPICS.fire, TOPICS.trigger, lambda name: TOPICS.execution(name, "e1")))
ALERTS = [TOPICS.alert("web-1", "cpu_high"), TOPICS.alert("db-1", "cpu_high")]
ACTIONS = [TOPICS.alert_action("web-1", "cpu_high"), TOPICS.alert_action("db-1", "cpu_high")]
EVENTS = [TOPICS.event("web-1"), TOPICS.event("db-1")]
TOLD = [TOPICS.health("web-1"), TOPICS.fleet_health(), *ALERTS, TOPICS.alert_event("critical", "web-1"),
        TOPICS.alert_summary("web-1"), TOPICS.anomaly("web-1")]
DEVICE, HOME = "homeassistant/device/drumbeat_web-1/config", "homeassistant/status"
ELSEWHERE = ["other/topic", "drumbeat/v2/agent/10/web-1/up/sample", f"{TOPICS.root}/agent/10/web-1/up",
             f"{TOPICS.root}/agent/10/web-1/up/sample/more", f"{TOPICS.root}/agent/10/10/web-1/up/sample"]
EVERY = [*UP["web-1"], *UP["db-1"], *DOWN["web-1"], *DOWN["db-1"], *FIRE.values(), *TRIGGER.values(), *EXECUTION.values(),
         *ACTIONS, *EVENTS, *TOLD, DEVICE, HOME, *ELSEWHERE]
FILTERS = ["#", "+/#", "+/+/+/+/+/+/+", f"{TOPICS.root}/#", f"{TOPICS.root}/agent/+/+/up/+", f"{TOPICS.root}/agent/+/+/down/+",
           f"{TOPICS.root}/alert/#", f"{TOPICS.root}/*/*/*/*/*", f"{TOPICS.root}/>", "homeassistant/#", "$SYS/#", "$MQTT/#",
           "$MQTT/sub/#", "$JS/#"]
"""Filters that a nosy client tries beside the topics; those with `*` and `>` are wildcards to NATS alone."""

SAYS: Mapping[str, Sequence[str]] = {
    "web-1": UP["web-1"],
    "db-1": UP["db-1"],
    "ingest": [TOPICS.down(host, kind) for host in HOSTS for kind in ("watermark", "config")] + TOLD + [DEVICE],
    "scheduler": [TOPICS.down(host, "task") for host in HOSTS] + [*FIRE.values(), *EXECUTION.values()],
    "operator": [topic for topic in EVERY if topic.startswith((f"{TOPICS.root}/", "homeassistant/"))],
    "homeassistant": [DEVICE, HOME, *ACTIONS],
    "backup": EVENTS,
    "worker": [EXECUTION["nightly"]],
    "starter": [TRIGGER["nightly"]],
    "ber": [*UP["web-1"], *UP["db-1"]],
}
"""User → what others hear of it."""
HEARS: Mapping[str, Sequence[str]] = {
    "web-1": DOWN["web-1"],
    "db-1": DOWN["db-1"],
    "ingest": [*UP["web-1"], *UP["db-1"], *ALERTS, *ACTIONS, *EVENTS],
    "scheduler": [*TRIGGER.values(), *EXECUTION.values(), *(TOPICS.up(host, "execution") for host in HOSTS)],
    "operator": SAYS["operator"],
    "homeassistant": [DEVICE, HOME, *(TOPICS.up(host, "status") for host in HOSTS), TOPICS.health("web-1"),
                      TOPICS.alert_summary("web-1")],
    "backup": [],
    "worker": [FIRE["nightly"]],
    "starter": [],
    "ber": [*DOWN["web-1"], *DOWN["db-1"]],
}
"""User → what it hears of others, whatever it subscribes to."""

Eventually = Callable[[Callable[[], object], float], object]


class Spy:
    """A client that does as it likes: any client id, session, will and QoS. It remembers what it hears."""

    def __init__(self, url: str, *filters: str, qos: int = 0, client_id: str = "", clean: bool = True,
                 will: str | None = None) -> None:
        broker = bus.read_brokers(url)[0]
        self.heard: list[str] = []
        self.retained: list[str] = []
        self.refusal = ""
        self._ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id or secrets.token_hex(8), clean_session=clean,
                                   protocol=paho.MQTTv311)
        self._client.username_pw_set(broker.username, broker.password)
        self._client.on_message, self._client.on_connect = self._note, self._connected(filters, qos)
        self._client.on_subscribe = lambda *_: self._ready.set()
        if will is not None:
            self._client.will_set(will, b"{}", 1, retain=True)
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()

    def _connected(self, filters: Sequence[str], qos: int) -> Callable[..., None]:
        def subscribe(client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            self.refusal = str(reason) if reason.is_failure else ""
            if filters and not self.refusal:
                client.subscribe([(each, qos) for each in filters])
            else:
                self._ready.set()
        return subscribe

    def _note(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        (self.retained if message.retain else self.heard).append(message.topic)

    def __enter__(self) -> Self:
        assert self._ready.wait(5), "no answer to CONNECT or SUBSCRIBE"
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def say(self, topics: Iterable[str], payload: bytes = b"{}", *, retain: bool = False) -> None:
        """Publish to each topic at QoS 1, and wait for the PUBACKs. What this client was sent before those, it has."""
        for sent in [self._client.publish(topic, payload, 1, retain) for topic in topics]:
            sent.wait_for_publish(5)
            assert sent.is_published()

    @property
    def is_connected(self) -> bool:
        return self._client.is_connected()

    def vanish(self) -> None:
        """Break the connection off without a word: the broker publishes the will."""
        sock: Any = self._client.socket()
        if sock is not None:
            sock.shutdown(socket.SHUT_RDWR)
        self._client.loop_stop()


def check_said(urls: Mapping[str, str], user: str, eventually: Eventually) -> None:
    """Of all topics that `user` publishes to, those in `SAYS` arrive, and no other."""
    last = SAYS[user][0]
    with Spy(urls["witness"], "#") as witness, Spy(urls[user]) as speaker:
        speaker.say([*EVERY, last])
        eventually(lambda: witness.heard.count(last) == 2, 5)
    assert sorted(witness.heard) == sorted([*SAYS[user], last])


def check_heard(urls: Mapping[str, str], user: str, eventually: Eventually, qos: int = 0) -> None:
    """Of everything that is said, `user` hears what is in `HEARS`, whatever it subscribes to, and nothing else."""
    with Spy(urls["witness"], "#") as witness, Spy(urls[user], *EVERY, *FILTERS, qos=qos) as listener:
        witness.say(EVERY)
        eventually(lambda: set(witness.heard) == set(EVERY), 5)
        if HEARS[user]:
            eventually(lambda: set(listener.heard) >= set(HEARS[user]), 5)
        listener.say(ELSEWHERE[:1])
    assert set(listener.heard) == set(HEARS[user])
