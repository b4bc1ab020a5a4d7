"""Bad input, case by case: refused alone with its reason, passed by the watermark, its neighbours stored.

Against what brokers deliver and what Postgres takes; `tests/unit/test_wire_fuzz.py` looks for cases that nobody thought of.
"""

import json
import time
import zlib

import pytest
from ingest_rig import EPOCH

from shared import wire

DAY = 86_400

PAYLOADS = {
    "empty": ("empty", b""),
    "cut short": ("json", b'{"v":1'),
    "an array": ("shape", b"[1]"), "a string": ("shape", b'"x"'), "a number": ("shape", b"7"), "null": ("shape", b"null"),
    "ten thousand samples": ("shape", b"[" + b",".join([b'{"v":1}'] * 10_000) + b"]"),
    "no fields": ("missing", b'{"v":1}'),
    "deep arrays": ("shape", b"[" * 100_000), "deep objects": ("depth", b'{"a":' * 40_000),
    "a megabyte less": ("size", b" " * 300_000),
    "ninety thousand keys": ("size", json.dumps(dict.fromkeys(map(str, range(90_000)), 0)).encode()[:1_000_000]),
    "not UTF-8": ("utf8", b'{"v":"\xff"}'), "compressed": ("utf8", zlib.compress(b'{"v":1}' * 100)),
    "a byte order mark": ("json", b"\xef\xbb\xbf{}"), "half a character": ("json", b'{"v":1,"x":"\\ud800"}'),
}
"""What says no (epoch, seq): name → reason, payload."""


def fields(now):
    """What a sample may say wrongly: name → reason, fields; None where it is refused without a place in the stream."""
    return {
        "another version": ("version", {"v": 2}), "another host": ("spoof", {"host": "web-2"}),
        "a long host": ("range", {"host": "h" * 10_000}),
        "ten minutes ahead": ("future", {"ts": now + 601}), "the year 2100": ("future", {"ts": 4.1e9}),
        "the year 300000": ("future", {"ts": 9.4e12}), "before 1970": ("past", {"ts": -5}), "1970": ("past", {"ts": 0}),
        "milliseconds": ("unit", {"ts": now * 1e3}), "microseconds": ("unit", {"ts": now * 1e6}),
        "nanoseconds": ("unit", {"ts": now * 1e9}), "a month old": ("too_old", {"ts": now - 30 * DAY}),
        "a time as text": ("type", {"ts": "2026-11-21T23:59:60"}), "no interval": ("type", {"interval": None}),
        "oldest below zero": ("range", {"oldest": -1}), "oldest too large": ("range", {"oldest": 2**64}),
        "metrics as a list": ("type", {"metrics": [1]}), "no metrics": ("count", {"metrics": {}}),
        "many metrics": ("count", {"metrics": {f"custom.m{i}": i for i in range(10_000)}}),
        "an upper-case name": ("name", {"metrics": {"Cpu": 1}}), "a blank": ("name", {"metrics": {"custom.a b": 1}}),
        "right to left": ("name", {"metrics": {"custom.\u202e": 1}}), "a NUL": ("name", {"metrics": {"custom.a\0": 1}}),
        "a long name": ("name", {"metrics": {"custom." + "x" * 200: 1}}),
        "a name of ours": ("name", {"metrics": {"health.score": 100}}),
        "a label twice": ("name", {"metrics": {"disk.percent{mount=/,mount=/}": 1}}),
        "true": ("type", {"metrics": {"cpu.percent": True}}), "a number as text": ("type", {"metrics": {"cpu.percent": "12"}}),
        "not there": ("type", {"metrics": {"cpu.percent": None}}),
        "over 100 percent": ("range", {"metrics": {"cpu.percent": 101}}),
        "below 0 percent": ("range", {"metrics": {"cpu.percent": -1}}),
        "bytes below zero": ("range", {"metrics": {"memory.used_bytes": -1}}),
        "uptime below zero": ("range", {"metrics": {"system.uptime_seconds": -1}}),
        "too large for the table": ("range", {"metrics": {"custom.x": 1e300}}),
        "the largest number": ("range", {"metrics": {"custom.x": 1.7976931348623157e308}}),
        "300 digits": ("range", {"metrics": {"custom.x": 10**300}}),
    }


LITERALS = {"NaN": "json", "Infinity": "json", "-Infinity": "json", "1e999": "range", "1" * 5000: "range", "01": "json",
            "+1": "json", ".5": "json", "1}}xx{": "json"}
"""How a metric's value may be written that JSON, or a number's bounds, do not allow."""


def written(seq, value, host="web-1"):
    return (f'{{"v":1,"host":"{host}","epoch":"{EPOCH}","seq":{seq},"oldest":1,"ts":{time.time()},'
            f'"interval":5,"metrics":{{"custom.x":{value}}}}}').encode()


def test_bad_input_costs_only_itself(ingest, agent, rows):
    """Every kind of bad message is kept with its reason, passed by the watermark, and its neighbours are stored."""
    ingest()
    for _, payload in PAYLOADS.values():
        agent.raw(payload)
    expected = {}
    for reason, wrong in fields(time.time()).values():
        agent.sample(**wrong)
        expected[agent.seq] = reason
        agent.sample()
    for literal, reason in LITERALS.items():
        agent.seq += 1
        agent.raw(written(agent.seq, literal))
        expected[agent.seq] = reason
        agent.sample()
    agent.await_watermark(agent.seq)
    assert dict(rows("SELECT seq, reason FROM reject WHERE seq IS NOT NULL")) == expected
    assert sorted(reason for reason, in rows("SELECT reason FROM reject WHERE seq IS NULL")) == sorted(
        reason for reason, _ in PAYLOADS.values())
    assert rows("SELECT count(*), count(DISTINCT seq) FROM sample") == [(agent.seq - len(expected),) * 2]
    assert rows("SELECT name FROM host") == [("web-1",)]


@pytest.mark.parametrize(("field", "reason"), [
    ('"seq":0', "range"), ('"seq":-1', "range"), ('"seq":9223372036854775808', "range"), ('"seq":1.5', "type"),
    ('"seq":"7"', "type"), ('"epoch":"xyz"', "epoch"), (f'"epoch":"{EPOCH.upper()}"', "epoch"), ('"epoch":null', "type")])
def test_a_place_that_cannot_be_moves_nothing(ingest, agent, rows, field, reason):
    """A sample that has no right place in its stream is refused, and the watermark stays where it was."""
    ingest()
    agent.sample()
    name = field.partition(":")[0]
    right = f'{name}:"{EPOCH}"' if "epoch" in name else f"{name}:2"
    agent.raw(written(2, 1).replace(right.encode(), field.encode()))
    agent.hello()
    agent.poll(lambda: rows("SELECT reason, seq FROM reject") == [(reason, None)])
    agent.sample()
    agent.await_watermark(2)
    assert max(agent.watermarks) == 2
    assert rows("SELECT count(*) FROM sample") == [(2,)]


def test_what_is_odd_but_right_is_stored(ingest, agent, rows):
    """Fields of later versions, the later of two equal keys, minus zero, whole numbers, and samples that are two days late."""
    ingest()
    agent.sample({"cpu.percent": 5}, later={"more": [1]}, interval=5)
    agent.sample({"custom.x": -0.0, "custom.y": 2**64})
    agent.seq += 1
    agent.raw(written(agent.seq, '1,"custom.x":2'))
    agent.sample(ts=time.time() - 2 * DAY)
    agent.await_watermark(4)
    assert rows("SELECT count(*) FROM reject") == [(0,)]
    assert rows("SELECT value FROM samples s WHERE metric = 'custom.x' ORDER BY ts") == [(0.0,), (2.0,)]
    assert rows("SELECT count(*) FROM samples WHERE metric = 'cpu.percent' AND ts < now() - interval '1 day'") == [(1,)]
    assert rows("SELECT count(*) FROM alert WHERE state = 'firing'") == [(0,)]


@pytest.mark.parametrize("topic", ["agent/99/web-1/up/sample", "agent/xx/web-1/up/sample", "agent/{part}/WEB-1/up/sample",
                                   "agent/{part}/web-1/up/nonsense", "agent/{part}/web.1/up/sample"])
def test_topics_that_are_nobodys_are_refused(ingest, agent, rows, topic_root, topic):
    """A partition that is not the host's, a name that no host may have, an unknown kind: nothing is stored for anybody."""
    ingest()
    agent.sample()
    part = agent.topics.up("web-1", "sample").split("/agent/")[1][:2]
    agent.raw(written(2, 1), topic=f"{topic_root}/{topic.format(part=part)}")
    agent.sample()
    agent.await_watermark(2)
    assert rows("SELECT count(*) FROM sample") == [(2,)]
    assert rows("SELECT name FROM host") == [("web-1",)]
    refused = rows("SELECT reason, topic FROM reject")
    assert refused in ([], [("topic", f"{topic_root}/{topic.format(part=part)}")])  # [] where the broker does not deliver it


def test_an_old_epoch_after_a_new_one_is_a_stream_of_its_own(ingest, agent, rows):
    """Two agents of one name do not mix: each epoch has its seqs and its watermark."""
    ingest()
    agent.sample()
    agent.await_watermark(1)
    agent.epoch, agent.seq = "00000000000000bb", 0
    agent.sample()
    agent.sample()
    agent.await_watermark(2)
    agent.epoch, agent.seq = EPOCH, 1
    agent.sample()
    agent.poll(lambda: len(rows("SELECT 1 FROM sample")) == 4)
    assert rows("SELECT epoch, count(*), max(seq) FROM sample GROUP BY 1 ORDER BY 1") == [(0xaa, 2, 2), (0xbb, 2, 2)]


def test_retained_garbage_is_validated_like_any_message(ingest, agent, rows, broker, topic_root):
    """What somebody left on a retained topic is refused with its reason once its host is known, and costs nothing else."""
    assert agent.client.publish(agent.topics.up("web-1", "status"), b'{"state":"dancing"}', qos=1, retain=True)
    assert agent.client.flush(5.0)
    ingest()
    agent.sample()
    agent.await_watermark(1)
    agent.poll(lambda: rows("SELECT reason FROM reject") == [("type",)])
    agent.raw(wire.encode(wire.Status(host="web-1", state="online", ts=time.time())), "status")
    agent.poll(lambda: rows("SELECT state FROM host") == [("online",)])
    agent.client.publish(agent.topics.up("web-1", "status"), b"", qos=1, retain=True)
    agent.client.flush(5.0)
