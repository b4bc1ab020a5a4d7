"""The agent's loop beside a disk that does not answer: samples keep their times."""

import itertools
import json
import secrets
import threading
import time

import pytest

from agent import durability
from agent.loop import Agent
from agent.spool import Limits, Spool
from shared import bus, wire
from shared.topics import Topics

INTERVAL = 0.05


class Readings:
    """The least that an agent reads."""

    def collect(self, _now, _monotonic):
        return {"cpu.percent": 1.0}, {}

    def states(self):
        return []


@pytest.fixture
def agent(nats_server, topic_root, tmp_path):
    """A running agent with its spool, which sets ten seqs aside."""
    limits = Limits(fsync_seconds=0.1, ahead_records=10)
    with Spool(tmp_path / "spool", limits, time.monotonic(), "boot") as spool:
        made = Agent("box-1", INTERVAL, Topics(topic_root), spool, Readings(),
                     lambda now, states: wire.Inventory(host="box-1", ts=now, collectors=states))
        thread = threading.Thread(target=made.run, args=(bus.read_brokers(nats_server.url), f"test-{secrets.token_hex(8)}"))
        thread.start()
        yield spool
        made.stopping = True
        thread.join(10)


def test_a_silent_disk_neither_delays_nor_loses_samples(nats_server, topic_root, agent, monkeypatch, eventually):
    """While the disk is silent samples are taken at their ticks; those beyond what is set aside wait in the spool."""
    times, disk_answers = {}, threading.Event()

    def on_message(_topic, payload, _retained):
        sample = json.loads(payload)
        times[sample["seq"]] = sample["ts"]

    with bus.Client(bus.read_brokers(nats_server.url), f"test-{secrets.token_hex(8)}", on_message,
                    subscriptions=[f"{topic_root}/agent/+/+/up/sample"]) as client:
        def heard(check):
            client.poll(0.02)
            return check()

        eventually(lambda: heard(lambda: len(times) > 5))
        monkeypatch.setattr(durability.os, "fdatasync", lambda _file: disk_answers.wait(30))
        silent_from = agent.newest
        try:
            eventually(lambda: heard(lambda: agent.newest > silent_from + 30))
            assert max(times) <= silent_from + 12, "sent although the disk does not know that the seq is taken"
        finally:
            disk_answers.set()
        eventually(lambda: heard(lambda: max(times) > silent_from + 30))
    spooled = [json.loads(payload)["ts"] for seq in range(1, agent.newest, 10) for _, payload in agent.read(seq, 10)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(spooled)]
    assert max(gaps[silent_from - 1:silent_from + 30]) < 5.0, "a tick waited for the disk"
