"""Two agents that speak as one host, against real brokers and a real Postgres: stored once, refused with a reason, alerted."""

import time

from ingest_rig import Agent, Listener


def test_a_clone_with_the_same_spool_is_an_alert_and_a_reject(ingest, agent, broker, topic_root, rows, eventually):
    """Of two writers of one epoch the first is stored; the second is refused as `twins`, and an alert fires on the bus."""
    ingest()
    listener = Listener(broker.url, [f"{topic_root}/alert/+/+"])
    clone = Agent(broker.url, topic_root)
    try:
        for seq in range(1, 4):
            agent.sample({"cpu.percent": 10.0}, seq=seq, ts=time.time() - 10 + seq)
            agent.await_stored()
            clone.sample({"cpu.percent": 90.0}, seq=seq, ts=time.time() - 9 + seq)
        agent.await_stored()
        listener.poll(lambda: any("two_agents" in topic for topic in listener.retained))
    finally:
        clone.client.close()
        listener.client.close()
    [alert] = [alert for topic, alert in listener.retained.items() if "two_agents" in topic]
    assert (alert["severity"], alert["state"], alert["host"]) == ("error", "firing", "web-1")
    assert "seq 1 came with ts" in alert["message"]
    assert rows("SELECT count(*), min(value), max(value) FROM samples WHERE metric = 'cpu.percent'") == [(3, 10.0, 10.0)]
    assert rows("SELECT host, reason, epoch FROM reject") == [("web-1", "twins", None)]
