"""Who writes as a host: two agents that speak as one are noticed, whatever was cloned; one agent alone never is."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.ingest import writers
from aggregator.ingest.batch import Batch
from aggregator.ingest.intake import Receiver
from aggregator.live.hosts import Stream
from aggregator.live.shard import new_shard
from shared.topics import Topics

NOW = 1_763_668_800.0
FIRST, SECOND, THIRD = "00000000000000aa", "00000000000000bb", "00000000000000cc"


@pytest.fixture
def receiver() -> Receiver:
    return opened()


def opened() -> Receiver:
    made = Receiver(new_shard(NOW), Topics())
    made.now = NOW
    return made


def sample(receiver: Receiver, seq: int, ts: float, epoch: str = FIRST, oldest: int = 1) -> None:
    payload = {"v": 1, "host": "web-1", "epoch": epoch, "seq": seq, "oldest": oldest, "ts": ts, "interval": 5.0,
               "metrics": {"cpu.percent": 45.2}}
    receiver.now = max(receiver.now, ts)
    receiver.on_message(Topics().up("web-1", "sample").encode(), json.dumps(payload).encode(), retained=False)


def told(batch: Batch) -> list[str]:
    return [event.message for event in batch.events if event.type == writers.RULE]


def test_two_writers_of_one_epoch_are_said_and_the_first_wins(receiver, caplog):
    """The same seqs with other times: every one is counted, some are kept and told, and nothing is stored twice."""
    for seq in range(1, 25):
        sample(receiver, seq, NOW + 5 * seq)
        sample(receiver, seq, NOW + 5 * seq + 2)
    batch = receiver.take()
    assert len(batch.samples) == 24
    assert batch.refused == {"twins": 24}
    assert batch.duplicates == 24
    assert [(reject.reason, reject.seq) for reject in batch.rejects] == [("twins", None)] * 2
    assert len(told(batch)) == len(caplog.records) == 2
    assert f"in one epoch, {FIRST}: seq 1 came with ts" in told(batch)[0]


def test_two_epochs_that_take_turns_are_said(receiver, caplog):
    """Two agents of one name with spools of their own: both are stored, and it is said once a minute."""
    for at in range(1, 25):
        sample(receiver, at, NOW + 5 * at)
        sample(receiver, at, NOW + 5 * at + 2, SECOND)
    batch = receiver.take()
    assert len(batch.samples) == 48
    assert batch.refused == {}
    assert [text for text in told(batch) if "take turns" in text] == told(batch)
    assert 1 <= len(told(batch)) <= 3


def test_a_spool_made_anew_is_information(receiver, caplog):
    """A new epoch of a host that had one is noted once and raises nothing, nor do late samples of the old one."""
    for at in range(1, 5):
        sample(receiver, at, NOW + at)
    sample(receiver, 1, NOW + 10, SECOND)
    sample(receiver, 6, NOW + 6)
    for at in range(2, 9):
        sample(receiver, at, NOW + 10 + at, SECOND)
    batch = receiver.take()
    assert [stream.epoch for stream in batch.new_epochs] == [0xBB]
    assert told(batch) == []
    caplog.set_level("INFO")
    writers.say_new_epochs(batch.new_epochs)
    writers.say_new_epochs([])
    assert [record.fields["such_as"] for record in caplog.records] == [f"web-1/{SECOND}"]


def test_a_host_that_is_new_has_no_new_spool(receiver):
    """The first epoch of a host is nothing to speak of."""
    sample(receiver, 1, NOW)
    assert receiver.take().new_epochs == []


@settings(max_examples=60, deadline=None)
@given(order=st.lists(st.integers(1, 40), min_size=1, max_size=120), epochs=st.integers(1, 3), seed=st.integers(0, 99))
def test_one_agent_is_never_two(order, epochs, seed):
    """Whatever is sent again, late or out of order, also through spools made anew: the same content accuses nobody."""
    receiver, chance = opened(), random.Random(seed)
    for number, epoch in enumerate([FIRST, SECOND, THIRD][:epochs]):
        for seq in order:
            sample(receiver, seq, NOW - 1000 + 200 * number + seq, epoch)
            if chance.random() < 0.3:
                sample(receiver, seq, NOW - 1000 + 200 * number + seq, epoch)
    batch = receiver.take()
    assert told(batch) == []
    assert "twins" not in batch.refused


def test_times_are_known_of_the_last_samples_alone():
    """A time is given for the seq that it belongs to, and for no other."""
    stream = Stream(new_shard(NOW).hosts.add("web-1"), 1)
    for seq in range(1, 40):
        stream.note_time(seq, float(seq) + 0.5)
        assert stream.time_of(seq) == seq + 0.5
    assert stream.time_of(1) is None
    assert stream.time_of(100) is None
