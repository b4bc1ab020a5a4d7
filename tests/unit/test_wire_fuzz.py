"""Whatever comes over the wire is taken, or refused in the wire's own words, within bounds of memory. Seeds are printed."""

import json
import math
import random
from typing import Any

import pytest
import wire_targets
from hypothesis import given, note, settings
from hypothesis import strategies as st
from wire_targets import NOW, SAMPLE, TARGETS, TOPICS, VALID, Slot

from aggregator.ingest import intake
from aggregator.live import hosts as live_hosts
from shared import catalogue, names, slices, wire

EXAMPLES = settings(deadline=None, max_examples=500, derandomize=True)
ODD = (b"", b"\0", b"\\u0000", b"\\ud800", b"\xff", b"1e999", b"-0", b"9" * 400, b"18446744073709551616", b"[" * 3000,
       b'{"a":' * 3000, b'"v":2,', b'"host":"web-2",', b"NaN", b"null", b"true", b"{}", b"[]", b'"', b"\xef\xbb\xbf",
       b"\xe2\x80\xae")
NUMBERS = (0, -1, 2**31, 2**63 - 1, 2**63, 2**64, 10**400, 1e308, -1e308, 5e-324, True, None, "1", NOW * 1e3, NOW + 1e9)


def mutated(valid: bytes, seed: int) -> bytes:
    """The message with some bytes flipped, cut, repeated or put in; or a field or number of it replaced by an odd one."""
    chance = random.Random(seed)
    note(f"seed {seed}")
    data = bytearray(_altered(valid, chance) if valid[:1] == b"{" and chance.random() < 0.5 else valid)
    for _ in range(chance.randrange(4)):
        at, to = sorted((chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)))
        change = chance.randrange(5)
        if change == 0 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif change == 1:
            del data[at:to]
        elif change == 2:
            data[at:at] = data[at:to]
        elif change == 3:
            data[at:at] = chance.choice(ODD)
        elif at < len(data):
            data[at] = chance.randrange(256)
    return bytes(data)


def _altered(valid: bytes, chance: random.Random) -> bytes:
    """The object with one value replaced, at any depth, a field left out or one twice."""
    document = json.loads(valid)
    inside: Any = document
    while True:
        key = chance.choice(list(inside))
        if not isinstance(inside[key], dict) or not inside[key] or chance.random() < 0.5:
            break
        inside = inside[key]
    if chance.random() < 0.2:
        del inside[key]
    else:
        inside[key] = chance.choice([*NUMBERS, "x" * 2000, [inside[key]] * 300, {"a": {"b": []}}])
    text = json.dumps(document)
    return (text[:-1] + f', "{key}": 1}}' if chance.random() < 0.2 else text).encode()


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "client"])
@EXAMPLES
@given(data=st.one_of(st.binary(max_size=300),
                      st.builds(mutated, st.sampled_from(VALID), st.integers(0, 2**32)),
                      st.builds(lambda kind, data: bytes([kind, 0]) + data, st.integers(0, 8),
                                st.builds(mutated, st.sampled_from(VALID), st.integers(0, 2**32)))))
def test_any_bytes(target: str, data: bytes) -> None:
    """Arbitrary bytes and mutated valid messages leave every entry point as its target says."""
    TARGETS[target](data)


@settings(EXAMPLES, max_examples=30)
@given(data=st.one_of(st.binary(max_size=100), st.builds(mutated, st.sampled_from(VALID[-5:]), st.integers(0, 2**32))))
def test_any_bytes_of_a_broker(data: bytes) -> None:
    """Whatever a broker sends to a connected client, `poll` returns, and the next connection works."""
    wire_targets.client(data)


# What was found, and stays mended


@pytest.mark.parametrize("payload", [b'{"v":1,"host":5,"x":' + b"[" * 100_000, b'{"host":5,"v":1,"x":' + b'{"a":' * 40_000])
def test_depth_behind_another_fault_is_refused(payload: bytes) -> None:
    """A payload that is wrong in its types first and too deep further on is refused, too, not an error of the interpreter."""
    with pytest.raises(wire.WireError):
        wire.decode(wire.Sample, payload)


@pytest.mark.parametrize("packet", [b"\x30\x00", b"\x30\x01\x00", b"\x31\x02\x00\x05", b"\x30\x03\x00\x02a"])
def test_a_publication_without_its_topic_costs_the_connection(packet: bytes) -> None:
    """A QoS 0 publication that is too short for what it says never reads into the next packet."""
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs:
        sliced = slices.SlicedSocket(ours)
        theirs.sendall(packet + slices.publish_packet(b"a", b"b"))
        sliced.fill()
        with pytest.raises(ConnectionResetError, match="malformed"):
            sliced.take_publishes(lambda *_: None)


def test_a_huge_publication_is_passed_over() -> None:
    """A publication larger than any of ours is dropped as it comes, and what follows it is read."""
    import socket
    import threading

    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        sliced, heard, held = slices.SlicedSocket(ours), list[bytes](), 0
        data = slices.publish_packet(b"big", b"x" * 20_000_000) + slices.publish_packet(b"a", b"b")
        sender = threading.Thread(target=theirs.sendall, args=(data,))
        sender.start()
        while not heard:
            sliced.fill()
            sliced.take_publishes(lambda topic, *_: heard.append(topic))
            held = max(held, sliced.held)
        sender.join()
    assert heard == [b"a"]
    assert held <= slices.LARGEST_BYTES


def test_a_topic_with_an_empty_level_is_no_event() -> None:
    """`event/web-1/` is another topic than `event/web-1`."""
    assert TOPICS.read_alert("drumbeat/v1/event/web-1") == ("event", "web-1", "")
    assert TOPICS.read_alert("drumbeat/v1/event/web-1/") is None


def sample(**fields: Any) -> bytes:
    return json.dumps(SAMPLE | fields).encode()


def test_topics_of_garbage_are_not_remembered() -> None:
    """However many topics nobody knows, and however long, what is remembered of topics is bounded by the hosts."""
    slot = Slot()
    for i in range(2000):
        slot.hear(TOPICS.up("web-1", f"kind{i}" + "x" * 1000).encode(), b"{}")
        slot.hear(TOPICS.alert("web-1", f"a{i}" + "x" * 1000).encode(), b"x" * 10_000)
    assert not slot.receiver._routes
    assert sum(len(topic) + len(payload) for topic, payload in slot.receiver.batch.echoes.items()) < 1_000_000
    assert len(slot.beat().rejects) <= intake.MAX_ANONYMOUS_REJECTS


def test_refused_messages_do_not_fill_a_beat() -> None:
    """Of large refused messages a beat keeps the beginning, what was refused is counted."""
    slot = Slot()
    for i in range(1, 400):
        slot.hear(TOPICS.up("web-1", "sample").encode(), sample(seq=i, v=1, metrics="x" * 200_000))
        slot.hear(TOPICS.up("web-1", "status").encode(), b"x" * 900_000)
    batch = slot.beat()
    assert sum(len(reject.payload) for reject in batch.rejects) <= 2 * intake.MAX_REJECT_BYTES
    assert batch.refused == {"type": 399, "size": 399}
    assert [reject.seq for reject in batch.rejects if reject.seq] == list(range(1, 400))


def test_a_bomb_of_layouts_is_refused() -> None:
    """A host that brings ever new sets of names is held to the core metrics, and then refused; others are not concerned."""
    slot = Slot()
    for i in range(1, 2000):
        metrics = {f"custom.m{i}_{j}": 1.0 for j in range(3)} if i % 2 else {f"{name}.x{i}": 1.0 for name in ("a", "b")}
        slot.hear(TOPICS.up("web-1", "sample").encode(), sample(seq=i, metrics=metrics | {"cpu.percent": 1.0}))
    batch = slot.beat()
    assert len(slot.shard.layouts.all) <= 2 * (live_hosts.MAX_NEW_LAYOUTS_PER_HOUR + 1)
    assert batch.stripped > 0
    slot.hear(TOPICS.up("web-2", "sample").encode(), sample(host="web-2", metrics={"custom.new": 1.0}))
    assert not slot.beat().refused


def test_ever_new_orders_of_core_metrics_are_refused() -> None:
    """Nor do permutations of known names make layouts without end."""
    slot, core, chance = Slot(), [metric.name for metric in catalogue.CORE], random.Random(7)
    for i in range(1, 2000):
        chosen = chance.sample(core, chance.randint(5, 20))
        slot.hear(TOPICS.up("web-1", "sample").encode(), sample(seq=i, metrics=dict.fromkeys(chosen, 1.0)))
    assert len(slot.shard.layouts.all) <= 2 * live_hosts.MAX_NEW_LAYOUTS_PER_HOUR
    assert slot.receiver.batch.refused["layouts"] > 0
    stream, = slot.shard.hosts.all[0].streams.values()
    assert stream.contiguous == 1999


def test_a_bomb_of_hosts_and_epochs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """New hosts of a slot, and new epochs of a host, are bounded by the hour, by whichever message they come."""
    monkeypatch.setattr(live_hosts, "MAX_NEW_HOSTS_PER_HOUR", 50)
    slot = Slot()
    for i in range(200):
        host = f"h{i}"
        kind, payload = [("sample", sample(host=host)),
                         ("hello", wire.encode(wire.Hello(host=host, epoch="00000000000000aa", ts=NOW))),
                         ("status", wire.encode(wire.Status(host=host, state="online", ts=NOW))),
                         ("inventory", wire.encode(wire.Inventory(host=host, ts=NOW))),
                         ("containers", wire.encode(wire.Containers(host=host, ts=NOW, containers=[]))),
                         ("event", wire.encode(wire.Event(host=host, type="backup_failed", ts=NOW)))][i % 6]
        slot.hear(TOPICS.up(host, kind).encode(), payload)
    batch = slot.receiver.batch
    assert len(batch.host_names() | {host.name for host in slot.shard.hosts}) <= 51
    assert batch.refused == {"hosts": 151}
    for i in range(100):
        slot.hear(TOPICS.up("web-1", "sample").encode(), sample(epoch=f"{i:016x}"))
    assert batch.refused["epochs"] == 100 - live_hosts.MAX_NEW_EPOCHS_PER_HOUR + 1
    slot.beat()


def test_what_is_kept_of_unknown_hosts_is_bounded() -> None:
    """Retained messages of hosts that are not known are kept up to a number of bytes, and let go when the host is heard."""
    slot = Slot()
    for i in range(2000):
        slot.hear(TOPICS.up(f"u{i}", "inventory").encode(), b"x" * 200_000, retained=True)
    assert sum(len(payload) for kinds in slot.receiver._kept.values() for payload in kinds.values()) <= intake.MAX_KEPT_BYTES
    assert not slot.receiver.batch.refused
    slot.hear(TOPICS.up("u0", "sample").encode(), sample(host="u0"))
    assert slot.receiver.batch.refused == {"json": 1}


@given(st.text(max_size=200), st.text(max_size=20))
def test_any_text_can_be_a_label(value: str, other: str) -> None:
    """Whatever a mount or a container is called, a metric name with it is within the grammar's length and can be encoded."""
    name = names.metric_name("disk.percent", mount=value, device=other)
    assert len(name.encode()) <= names.MAX_NAME_BYTES


def test_numbers_of_the_protocol_are_finite() -> None:
    """JSON has no infinity, but numbers that become one: none gets into a message."""
    for text in ("1e999", "-1e999", "1" * 400):
        with pytest.raises(wire.WireError):
            wire.decode(wire.Watermark, b'{"epoch":"00000000000000aa","seq":%s}' % text.encode())
        decoded = None
        try:
            decoded = wire.decode(wire.Sample, sample().replace(b"45.2", text.encode()))
        except wire.WireError:
            continue
        assert all(math.isfinite(value) for value in decoded.metrics.values())
