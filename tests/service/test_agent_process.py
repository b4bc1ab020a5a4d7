"""The agent as a process against real brokers: birth, death, outages, kills, and nothing lost or renumbered."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared import bus, wire
from shared.topics import Topics

HOST = "box-1"


class Aggregator:
    """Stands where ingest stands: stores seqs, answers hellos at once and samples a moment later."""

    def __init__(self, url: str, root: str) -> None:
        self.topics = Topics(root)
        self.messages: dict[str, list[dict]] = {}
        self.stored: dict[str, dict[int, float]] = {}
        self.client = bus.Client(bus.read_brokers(url), f"test-{os.urandom(8).hex()}", self._on_message,
                                 subscriptions=[f"{root}/agent/+/+/up/+"], max_delay=0.2)

    def _on_message(self, topic: bytes, payload: bytes, _retained: bool) -> None:
        host, kind = self.topics.read_up(topic.decode())
        assert host == HOST
        message = json.loads(payload)
        self.messages.setdefault(kind, []).append(message)
        if kind == "sample":
            stored = self.stored.setdefault(message["epoch"], {})
            assert stored.setdefault(message["seq"], message["ts"]) == message["ts"], "one seq carries two samples"
        if kind in ("sample", "hello"):
            mark = wire.Watermark(epoch=message["epoch"], seq=self.contiguous(message["epoch"]))
            self.client.publish(self.topics.down(HOST, "watermark"), wire.encode(mark))

    def contiguous(self, epoch: str) -> int:
        seq, stored = 0, self.stored.get(epoch, {})
        while seq + 1 in stored:
            seq += 1
        return seq

    def pump(self, seconds: float = 0.05) -> "Aggregator":
        self.client.poll(seconds)
        return self

    def last(self, kind: str) -> dict:
        return self.messages.get(kind, [{}])[-1]

    def has_samples(self, count: int) -> bool:
        self.pump()
        return any(self.contiguous(epoch) >= count for epoch in self.stored)


@pytest.fixture
def start(data_directory: Path, topic_root: str):
    running: list[subprocess.Popen] = []

    def starting(url: str, *flags: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "shared.cli", "agent", "--host", HOST, "--interval", "0.1",
             "--data", str(data_directory), "--topic-root", topic_root, "--collectors", "cpu,memory,agent", *flags],
            env={"PATH": os.environ["PATH"], "DRUMBEAT_BROKER_URL": url}, stderr=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield starting
    for process in running:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture
def aggregator(broker, topic_root, eventually):
    with (made := Aggregator(broker.url, topic_root)).client:
        eventually(lambda: made.pump().client.is_connected)
        yield made


def test_birth_and_a_clean_end(broker, aggregator, start, eventually):
    """An agent says who it is, samples within three seconds, and says that it was stopped; exit status 0."""
    process, begun = start(broker.url, "--labels", "role=test"), time.monotonic()
    eventually(lambda: aggregator.has_samples(1))
    assert time.monotonic() - begun < 3.0
    assert aggregator.messages["status"][0] | {"state": "online", "reason": ""} == aggregator.messages["status"][0]
    assert aggregator.last("inventory")["labels"] == {"role": "test"}
    assert aggregator.last("hello")["epoch"] == aggregator.last("sample")["epoch"]
    assert "cpu.percent" in aggregator.messages["sample"][0]["metrics"], "the first sample has rates"
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
    eventually(lambda: aggregator.pump().last("status")["state"] == "offline")
    assert aggregator.last("status")["reason"] == "stopped"


def test_a_kill_leaves_the_will_and_loses_nothing(broker, aggregator, start, eventually):
    """After kill -9 the broker says `lost`; the next agent goes on in the same epoch with the next seq."""
    process = start(broker.url)
    eventually(lambda: aggregator.has_samples(5))
    process.kill()
    eventually(lambda: aggregator.pump().last("status")["reason"] == "lost")
    before = aggregator.contiguous(aggregator.last("sample")["epoch"])
    start(broker.url)
    eventually(lambda: aggregator.has_samples(before + 10))
    assert len(aggregator.stored) == 1


def test_an_outage_of_the_broker_loses_nothing(private_broker, topic_root, start, eventually):
    """Samples of the time without a broker arrive afterwards, at their own times, without a gap."""
    aggregator = Aggregator(private_broker.url, topic_root)
    with aggregator.client:
        eventually(lambda: aggregator.pump().client.is_connected)
        start(private_broker.url)
        eventually(lambda: aggregator.has_samples(3))
        private_broker.kill()
        time.sleep(4.0)
        private_broker.start()
        before = max(aggregator.stored[aggregator.last("sample")["epoch"]])
        eventually(lambda: aggregator.has_samples(before + 30), 30.0)
        epoch = aggregator.last("sample")["epoch"]
        # Live samples may run ahead of what is still being resent: judge what has come without a hole.
        times = [aggregator.stored[epoch][seq] for seq in range(1, aggregator.contiguous(epoch) + 1)]
        assert max(after - before for before, after in itertools.pairwise(times)) < 3.0, "no samples while the broker was away"


def test_an_absent_broker_is_said_once_and_waited_for(private_broker, topic_root, start, eventually):
    """Without a broker at the start the agent samples into its spool and delivers when the broker comes."""
    private_broker.kill()
    process = start(private_broker.url)
    time.sleep(1.0)
    private_broker.start()
    aggregator = Aggregator(private_broker.url, topic_root)
    with aggregator.client:
        eventually(lambda: aggregator.has_samples(10), 20.0)
        process.send_signal(signal.SIGTERM)
        log = process.communicate(timeout=5)[1]
    assert log.count("not connected") == 1
    assert "connected broker=" in log


def test_two_agents_on_one_spool(broker, aggregator, start, eventually):
    """The second agent on one data directory refuses in one clear line, exit status 2."""
    start(broker.url)
    eventually(lambda: aggregator.has_samples(1))
    second = start(broker.url)
    assert second.wait(5) == 2
    assert "in use by another agent" in second.communicate()[1]


def test_a_spool_that_cannot_be_opened_is_no_reason_to_be_blind(broker, aggregator, start, eventually, data_directory):
    """Where the disk cannot be used the agent says so and works from memory."""
    (data_directory / "agent").write_text("a file where the spool's directory should be")
    process = start(broker.url)
    eventually(lambda: aggregator.has_samples(3))
    process.send_signal(signal.SIGTERM)
    assert "no spool on disk" in process.communicate(timeout=5)[1]


@pytest.mark.parametrize(("flags", "text"), [
    (["--interval", "0"], "--interval"), (["--host", "Web 1"], "--host"), (["--broker-url", "http://x"], "--broker-url"),
    (["--collectors", "cpuu"], "--collectors"), (["--labels", ",".join(f"a{at}=b" for at in range(65))], "--labels"),
    (["--topic-root", "a/#"], "--topic-root"),
    (["--broker-url", "mqtts://localhost:1", "--broker-ca-file", "/nowhere"], "--broker-ca-file")])
def test_wrong_settings_are_one_line(start, flags, text):
    """A setting that cannot be is named in one line, exit status 2."""
    process = start("mqtt://127.0.0.1:1", *flags)
    assert process.wait(5) == 2
    log = process.communicate()[1]
    assert text in log.splitlines()[-1]
    assert "Traceback" not in log
