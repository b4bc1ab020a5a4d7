"""What each credential may say and hear about alerts, tried on a running broker: the topics of `shared/topics.py`, both ways."""

import secrets
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Self

from shared import bus
from shared.topics import Topics

TOPICS = Topics()
ALERTS = ("alert/+/+", "alert-event/+/+", "alert-summary/+", "alert-action/+/+", "event/+", "agent/+/+/up/event")
FORBIDDEN = (
    TOPICS.alert("web-1", "cpu_high"), TOPICS.alert("db-1", "cpu_high"), TOPICS.alert_event("critical", "web-1"),
    TOPICS.alert_summary("web-1"), TOPICS.alert_action("web-1", "cpu_high"), TOPICS.alert_action("db-1", "cpu_high"),
    TOPICS.event("web-1"), TOPICS.event("db-1"), TOPICS.up("db-1", "event"))
"""What the agent of web-1 must not say."""
SAID_BY_INGEST = (
    TOPICS.alert("web-1", "cpu_high"), TOPICS.alert_event("critical", "web-1"), TOPICS.alert_summary("web-1"))
HEARD_BY_INGEST = (
    TOPICS.alert("web-1", "cpu_high"), TOPICS.alert_action("web-1", "cpu_high"), TOPICS.event("web-1"),
    TOPICS.up("web-1", "event"))

Eventually = Callable[[Callable[[], object], float], object]


class Ear:
    """A client that remembers the topics that it hears."""

    def __init__(self, url: str, *filters: str) -> None:
        self.heard: list[str] = []
        self.client = bus.Client(bus.read_brokers(url), secrets.token_hex(8), self._note, max_delay=0.2, connect_timeout=2,
                                 subscriptions=[f"{TOPICS.root}/{each}" for each in filters])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.client.close()

    def _note(self, topic: bytes, _payload: bytes, _retained: bool) -> None:
        self.heard.append(topic.decode())

    def say(self, topics: Iterable[str]) -> None:
        """Publish to each topic, at QoS 0, and see it sent."""
        for topic in topics:
            assert self.client.publish(topic, b"{}")
        self.client.flush()


def drive(ears: Iterable[Ear], is_done: Callable[[], object], eventually: Eventually) -> None:
    """Poll every client until `is_done`."""
    def step() -> object:
        for ear in ears:
            ear.client.poll(0.01)
        return is_done()

    eventually(step, 5.0)


def check_agents(urls: Mapping[str, str], eventually: Eventually) -> None:
    """An agent's events of its own host arrive; nothing else that it says about alerts does, and it hears nothing of them.

    `urls`: of ingest, operator and the agent of web-1.
    """
    with Ear(urls["operator"], *ALERTS) as operator, Ear(urls["web-1"]) as agent, Ear(urls["web-1"], *ALERTS) as curious:
        drive([operator, agent, curious], lambda: operator.client.is_connected and agent.client.is_connected
              and (curious.client.is_connected or "refused" in curious.client.last_error), eventually)
        agent.say([*FORBIDDEN, TOPICS.up("web-1", "event")])
        drive([operator, agent, curious], lambda: TOPICS.up("web-1", "event") in operator.heard, eventually)
        operator.say([TOPICS.alert("db-1", "disk_full"), TOPICS.event("web-1")])
        drive([operator, curious], lambda: len(operator.heard) >= 3, eventually)
    assert operator.heard == [TOPICS.up("web-1", "event"), TOPICS.alert("db-1", "disk_full"), TOPICS.event("web-1")]
    assert curious.heard == []


def check_ingest(urls: Mapping[str, str], eventually: Eventually) -> None:
    """What ingest says of alerts is heard by people, and it hears what is said to it."""
    with Ear(urls["operator"], *ALERTS) as operator, Ear(urls["ingest"], "alert/+/+", "alert-action/+/+", "event/+",
                                                        "agent/+/+/up/+") as ingest, Ear(urls["web-1"]) as agent:
        everyone = [operator, ingest, agent]
        drive(everyone, lambda: all(ear.client.is_connected for ear in everyone), eventually)
        ingest.say(SAID_BY_INGEST)
        drive(everyone, lambda: set(operator.heard) >= set(SAID_BY_INGEST), eventually)
        operator.say([TOPICS.alert_action("web-1", "cpu_high"), TOPICS.event("web-1")])
        agent.say([TOPICS.up("web-1", "event")])
        drive(everyone, lambda: set(ingest.heard) >= set(HEARD_BY_INGEST), eventually)
