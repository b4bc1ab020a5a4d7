"""Events as ingest takes them from the bus: what they may name, and how many a host may tell."""

import json
from typing import Any

import pytest

from aggregator.analysis.rules import Rule, Stored
from aggregator.ingest.intake import Receiver
from aggregator.live.hosts import MAX_EVENTS_PER_HOUR
from aggregator.live.shard import new_shard
from shared.topics import Topics

NOW = 1_763_668_800.0


@pytest.fixture
def receiver() -> Receiver:
    """The receiver of a slot with one rule that hears events."""
    shard = new_shard(NOW)
    shard.engine.configure([Stored(Rule(name="backup_failed", kind="event"), 1)], {}, NOW)
    made = Receiver(shard, Topics())
    made.now = NOW
    return made


def tell(receiver: Receiver, **fields: Any) -> None:
    payload = {"type": "backup_failed", "host": "web-1", "ts": NOW} | fields
    receiver.on_message(Topics().up("web-1", "event").encode(), json.dumps(payload).encode(), retained=False)


@pytest.mark.parametrize("instance", [
    {"a,b=c": "x"}, {"": "x"}, {"A": "x"}, {"a b": "x"}, {"x" * 64: "x"}, {"\ud800": "x"}, {"job": "x" * 101}, {"job": 5},
    {f"k{n}": "x" for n in range(9)}])
def test_labels_of_an_instance_are_words(receiver: Receiver, instance: dict[str, Any]) -> None:
    """A label that would read otherwise in the fingerprint, or be as long as it likes, is refused."""
    tell(receiver, instance=instance)
    assert not receiver.batch.events
    assert sum(receiver.batch.refused.values()) == 1


def test_events_of_long_ago_raise_nothing(receiver: Receiver) -> None:
    """As by REST: what happened more than a day ago is refused, whatever the rule says."""
    tell(receiver, ts=NOW - 86_500)
    assert receiver.batch.refused == {"too_old": 1}
    tell(receiver, ts=NOW - 86_300)
    assert len(receiver.batch.events) == 1


def test_a_host_cannot_raise_alerts_without_end(receiver: Receiver) -> None:
    """Each instance is an alert of its own: a host that invents them is cut off until the next hour, and only that host."""
    for n in range(MAX_EVENTS_PER_HOUR + 5):
        tell(receiver, instance={"job": str(n)})
    assert len(receiver.batch.events) == MAX_EVENTS_PER_HOUR
    assert receiver.batch.refused == {"events": 5}
    receiver.now = NOW + 3600
    tell(receiver, ts=NOW + 3600)
    assert len(receiver.batch.events) == MAX_EVENTS_PER_HOUR + 1
