"""Checks of the MQTT broker: what drumbeat needs is really tried, on a scratch topic that is cleaned up after."""

import dataclasses
import secrets
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from compose.checks.finding import Finding, fail, ok, unknown, warn
from shared import bus, encryption, wire

PATIENCE_SECONDS = 3.0
ROUND_TRIPS = 5
MANY_SUBSCRIPTIONS = 100
SLOW_SECONDS = 0.25
NATS_HOSTS = 300
MOSQUITTO_NEEDED = (2, 0, 22)
VERSION_TOPIC = "$SYS/broker/version"

_RIGHTS = "grant this user read and write on {}/#; the access rules in compose/ show how"


class _Ear:
    """A client on the scratch topics that remembers what it hears."""

    def __init__(self, brokers: Sequence[bus.Broker], tls: bus.Tls, subscriptions: Sequence[str] = (),
                 will: bus.Will | None = None) -> None:
        self.heard: dict[str, tuple[bytes, bool]] = {}
        self._is_alone = len(brokers) == 1
        self.client = bus.Client(brokers, f"drumbeat-doctor-{secrets.token_hex(8)}", self._hear, will=will, tls=tls,
                                 subscriptions=subscriptions, max_delay=0.5, connect_timeout=PATIENCE_SECONDS)

    def _hear(self, topic: bytes, payload: bytes, retained: bool) -> None:
        if payload:
            self.heard[topic.decode()] = (payload, retained)

    def until(self, is_done: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> bool:
        """Poll until `is_done`; False when time ran out."""
        deadline = time.monotonic() + seconds
        while not is_done():
            if time.monotonic() > deadline:
                return False
            self.client.poll(0.02)
        return True

    def open(self) -> bool:
        """Connect and subscribe; a single broker that refuses is believed at once."""
        self.until(lambda: self.client.is_connected or (self._is_alone and self.client.last_error))
        return self.client.is_connected

    def hears(self, topic: str, seconds: float = PATIENCE_SECONDS) -> bool:
        return self.until(lambda: topic in self.heard, seconds)


class Examination:
    """The checks of one broker, in order; the later ones rest on the earlier."""

    def __init__(self, url: str, tls: bus.Tls, root: str, hosts: int | None, host: str | None) -> None:
        self._brokers, self._tls, self._root, self._hosts, self._host = bus.read_brokers(url), tls, root, hosts, host
        self._scratch = f"{root}/doctor/{secrets.token_hex(6)}"
        self._kind = ""

    def findings(self) -> Iterator[Finding]:
        """Everything that can be found out."""
        is_agent = bool(self._host) and self._brokers[0].username == self._host
        ear = self._ear(f"{self._root}/agent/+/{self._host}/down/+" if is_agent else f"{self._scratch}/+")
        try:
            if not ear.open():
                yield self._unreachable(ear.client.last_error)
            else:
                yield from self._of_agent(ear) if is_agent else self._of_all(ear)
        finally:
            ear.client.close()

    def _of_agent(self, ear: _Ear) -> Iterator[Finding]:
        """What the credential of an agent lets us find out: it may try nothing, and should not."""
        yield ok("broker", f"connected to {ear.client.broker} with the credential of {self._host}'s agent")
        yield unknown("broker rights", "an agent's credential may try nothing else",
                      "look at the rest where drumbeat up runs, or as service.operator")

    def _of_all(self, ear: _Ear) -> Iterator[Finding]:
        """What a user who may try things can find out, the later checks only where messages come back."""
        yield ok("broker", f"connected to {ear.client.broker}")
        if self._tls.cert_file is None:
            yield self._strangers(ear.client.broker)
        round_trip = self._round_trip(ear)
        yield round_trip
        if round_trip.level != "fail":
            yield self._retained(ear)
            yield self._will(ear)
            yield self._subscriptions(ear)
            yield self._payload(ear)
        yield self._make()

    def _ear(self, *subscriptions: str, will: bus.Will | None = None) -> _Ear:
        return _Ear(self._brokers, self._tls, subscriptions, will)

    def _unreachable(self, error: str) -> Finding:
        where = ", ".join(map(str, self._brokers))
        if "refused: " in error and "subscription" not in error:
            return fail("broker", f"{where} refuses the connection: {error}",
                        "check the user name and password in --broker-url; drumbeat enroll --replace gets an agent others")
        if "subscription refused" in error:
            return fail("broker", error, _RIGHTS.format(self._root))
        if any(word in error for word in ("certificate", "TLS")):
            return fail("broker", f"{where}: {error}", "mend TLS as it says")
        return fail("broker", f"{where} cannot be reached: {error or 'no answer'}",
                    "is the broker (or drumbeat up) running, and is --broker-url right?")

    def _strangers(self, broker: bus.Broker) -> Finding:
        nobody = _Ear([dataclasses.replace(broker, username=None, password=None)], self._tls)
        try:
            is_open = nobody.open()
        finally:
            nobody.client.close()
        if not is_open:
            return ok("broker logins", "nobody gets in without a password")
        return (warn if encryption.is_loopback(broker.host) else fail)(
            "broker logins", "everybody gets in without a password, and may speak for any host",
            "give every user a password and topics of its own: drumbeat acl (Mosquitto: allow_anonymous false)")

    def _round_trip(self, ear: _Ear) -> Finding:
        topic, times = f"{self._scratch}/echo", []
        for _ in range(ROUND_TRIPS):
            ear.heard.pop(topic, None)
            sent = time.monotonic()
            ear.client.publish(topic, b"1")
            if not ear.hears(topic):
                return fail("broker round trip", f"what is published on {topic} does not come back",
                            _RIGHTS.format(self._root))
            times.append(time.monotonic() - sent)
        median = statistics.median(times)
        text = f"{median * 1000:.1f} ms"
        return ok("broker round trip", text) if median < SLOW_SECONDS else warn(
            "broker round trip", text, "the broker is far away or overloaded; put ingest beside it")

    def _retained(self, ear: _Ear) -> Finding:
        topic = f"{self._scratch}/retained"
        ear.client.publish(topic, b"1", qos=1, retain=True)
        ear.hears(topic)
        late = self._ear(topic)
        try:
            found = late.open() and late.hears(topic) and late.heard[topic][1]
        finally:
            late.client.close()
            self._clear(ear, topic)
        return ok("retained messages", "kept and delivered") if found else warn(
            "retained messages", "not delivered to one who subscribes later: health and status on the bus are not "
            "seen by newcomers (nothing is lost)", "allow retained messages in the broker")

    def _will(self, ear: _Ear) -> Finding:
        topic = f"{self._scratch}/will"
        mortal = self._ear(will=bus.Will(topic, b"1"))
        try:
            is_open = mortal.open()
            mortal.client.drop()
            came = is_open and ear.hears(topic)
        finally:
            mortal.client.close()
            self._clear(ear, topic)
        return ok("last will", "published when a client vanishes") if came else warn(
            "last will", "not published when a client vanishes: a dead host is noticed by its silence only",
            "allow last wills in the broker")

    def _subscriptions(self, ear: _Ear) -> Finding:
        topics = [f"{self._scratch}/many/{number}" for number in range(MANY_SUBSCRIPTIONS)]
        many = self._ear(*topics)
        try:
            if not many.open():
                why = many.client.last_error[:200]
                return fail("subscriptions", f"{MANY_SUBSCRIPTIONS} at once are not granted: {why}",
                            "raise the broker's limit (NATS: jetstream { limits { default_max_consumers: 20000 } })")
            ear.client.publish(topics[-1], b"1")
            ear.client.flush()
            came = many.hears(topics[-1])
        finally:
            many.client.close()
        return ok("subscriptions", f"{MANY_SUBSCRIPTIONS} granted and served") if came else fail(
            "subscriptions", f"{MANY_SUBSCRIPTIONS} granted, but nothing is delivered", _RIGHTS.format(self._root))

    def _payload(self, ear: _Ear) -> Finding:
        topic, size = f"{self._scratch}/large", wire.MAX_PAYLOAD_BYTES
        ear.client.publish(topic, b"x" * size)
        if ear.hears(topic) and len(ear.heard[topic][0]) == size:
            return ok("payload", f"{size // 1024} KiB pass, the largest that drumbeat sends")
        return fail("payload", f"{size // 1024} KiB do not pass: {ear.client.last_error or 'dropped'}",
                    "raise the broker's limit (Mosquitto: max_packet_size 1048576; NATS: max_payload: 1MB)")

    def _make(self) -> Finding:
        probe = self._ear(VERSION_TOPIC)
        try:
            probe.open()
            probe.hears(VERSION_TOPIC, 1.0)
            return make(probe.heard.get(VERSION_TOPIC, (b"", False))[0].decode(errors="replace"),
                        is_refused="refused" in probe.client.last_error, hosts=self._hosts)
        finally:
            probe.client.close()

    def _clear(self, ear: _Ear, topic: str) -> None:
        ear.client.publish(topic, b"", qos=1, retain=True)
        ear.client.flush()


def make(version: str, *, is_refused: bool, hosts: int | None) -> Finding:
    """Which broker this is, by what it says on $SYS (NATS refuses that topic), and whether it suits the fleet. Pure."""
    if version.startswith("mosquitto"):
        numbers = tuple(int(part) for part in version.rsplit(maxsplit=1)[-1].split(".") if part.isdigit())
        if numbers < MOSQUITTO_NEEDED:
            return warn("broker make", f"{version}: releases before 2.0.22 have known faults in flow control",
                        "upgrade Mosquitto when you can; drumbeat loses nothing meanwhile")
        return ok("broker make", version)
    if is_refused:
        if hosts is not None and hosts > NATS_HOSTS:
            return warn("broker make", f"NATS, it seems, with {hosts} hosts: ten times Mosquitto's CPU a message",
                        "run Mosquitto (compose/README.md) and give its URL as --broker-url")
        return ok("broker make", f"NATS, it seems: right for a fleet of up to {NATS_HOSTS} hosts")
    return unknown("broker make", "the broker does not say what it is (this user may not read $SYS)")


def check(url: str, tls: bus.Tls, root: str, hosts: int | None, host: str | None = None) -> Iterator[Finding]:
    """Findings about the broker at `url`; `hosts` is the size of the fleet where known. Raises bus.BusError.

    `host`: the machine that we are on; where that is the user of the URL, the credential is that of its agent.
    """
    return Examination(url, tls, root, hosts, host).findings()
