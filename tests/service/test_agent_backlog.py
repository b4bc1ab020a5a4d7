"""An agent with a backlog at a real broker: live samples go out at their ticks, between those that are sent again."""

import json
import secrets
import threading
import time

from agent.loop import Agent
from agent.spool import Limits, Spool
from shared import bus, wire
from shared.topics import Topics

BACKLOG, INTERVAL, RATE = 1500, 0.05, 400.0


class Readings:
    """The least that an agent reads."""

    def collect(self, _now, _monotonic):
        return {"cpu.percent": 1.0}, {}

    def states(self):
        return []


def fill(spool):
    for seq in range(1, BACKLOG + 1):
        spool.append(wire.encode(wire.Sample(v=1, host="box-1", epoch=spool.epoch, seq=seq, ts=1e9 + seq, oldest=1,
                                             interval=INTERVAL, metrics={"cpu.percent": 1.0})), time.monotonic())


def test_live_samples_go_out_between_those_of_the_backlog(broker, topic_root, tmp_path, eventually):
    """While a long backlog is sent again every tick's sample arrives in its turn, and all of both arrive, each once."""
    came, topics = [], Topics(topic_root)
    with Spool(tmp_path / "spool", Limits(fsync_records=10_000), time.monotonic(), "boot") as spool:
        fill(spool)
        stored = set()

        def on_message(topic, payload, _retained):
            if topic.endswith(b"/sample"):
                came.append(json.loads(payload)["seq"])
                stored.add(came[-1])
            contiguous = next(seq for seq in range(1, len(stored) + 2) if seq not in stored) - 1
            if topic.endswith(b"/hello") or contiguous % 50 == 0:
                listener.publish(topics.down("box-1", "watermark"),
                                 wire.encode(wire.Watermark(epoch=spool.epoch, seq=contiguous)))

        with bus.Client(bus.read_brokers(broker.url), f"test-{secrets.token_hex(8)}", on_message,
                        subscriptions=[f"{topic_root}/agent/+/+/up/sample", f"{topic_root}/agent/+/+/up/hello"]) as listener:
            def heard(check):
                listener.poll(0.02)
                return check()

            eventually(lambda: heard(lambda: listener.is_connected))
            agent = Agent("box-1", INTERVAL, topics, spool, Readings(), resend_rate=RATE,
                          read_inventory=lambda now, states: wire.Inventory(host="box-1", ts=now, collectors=states))
            thread = threading.Thread(target=agent.run, args=(bus.read_brokers(broker.url), f"test-{secrets.token_hex(8)}"))
            thread.start()
            try:
                eventually(lambda: heard(lambda: BACKLOG in stored), 40)
            finally:
                agent.stopping = True
                thread.join(10)
    end = came.index(BACKLOG)
    live = [seq for seq in came[:end] if seq > BACKLOG]
    assert len(live) > 20, "live samples waited for the backlog"
    assert live == list(range(live[0], live[0] + len(live))), "a tick's sample was left out"
    assert len(came) == len(set(came)), "something was sent twice"
