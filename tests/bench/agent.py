"""CPU per sample and memory of the real agent, beside prometheus-node-exporter scraped with gzip in the same minutes.

Arguments: seconds=120 interval=5 peer=prometheus-node-exporter (a program; absent: the agent alone). Both work at the real
interval, since warm loops understate the cost several times. The scraper's own CPU is not counted, nor is the broker's.
"""

import gzip
import shutil
import time
import urllib.request

from rig import Rig, cpu_seconds, rss_mb, wait_for

from compose import programs
from shared import bus


def main(arguments):
    """Run it; the figures."""
    seconds, interval = float(arguments.get("seconds", 120)), float(arguments.get("interval", 5))
    peer_program = shutil.which(arguments.get("peer", "prometheus-node-exporter"))
    with Rig("mosquitto", database=False) as rig:
        sizes = []
        listener = bus.Client(bus.read_brokers(rig.broker_url), "bench-listener",
                              lambda _topic, payload, _retained: sizes.append(len(payload)),
                              subscriptions=["drumbeat/v1/agent/+/+/up/sample"])
        agent = rig.command("agent", "--host", "bench", "--interval", str(interval))
        peer, port = _peer(rig, peer_program)
        wait_for(lambda: listener.poll(0.1) or sizes, 30, "a first sample")
        _wait(listener, port, 3 * interval, interval)
        sizes.clear()
        before = cpu_seconds(agent.pid), cpu_seconds(peer.pid) if peer else 0.0
        scrapes = _wait(listener, port, seconds, interval)
        spent = cpu_seconds(agent.pid) - before[0]
        peer_spent = cpu_seconds(peer.pid) - before[1] if peer else 0.0
        figures = {"agent_cpu_ms_per_sample": round(spent / len(sizes) * 1e3, 2), "agent_rss_mb": round(rss_mb(agent.pid), 1),
                   "sample_bytes_mean": round(sum(sizes) / len(sizes)), "sample_bytes_max": max(sizes), "samples": len(sizes)}
        if peer:
            figures |= {"node_exporter_cpu_ms_per_scrape": round(peer_spent / len(scrapes) * 1e3, 2),
                        "node_exporter_rss_mb": round(rss_mb(peer.pid), 1),
                        "node_exporter_gzip_bytes": round(sum(scrapes) / len(scrapes)),
                        "agent_to_node_exporter": round((spent / len(sizes)) / (peer_spent / len(scrapes)), 3)}
        listener.close()
    return figures


def _peer(rig, program):
    if program is None:
        print("prometheus-node-exporter is not installed: the agent alone")
        return None, 0
    port = programs.free_port()
    return rig.program("node-exporter", program, f"--web.listen-address=127.0.0.1:{port}"), port


def _wait(listener, port, seconds, interval):
    """Let time pass, scraping the peer every interval; the sizes of its answers."""
    scrapes, end = [], time.monotonic() + seconds
    next_scrape = time.monotonic() + interval / 2
    while time.monotonic() < end:
        listener.poll(0.2)
        if port and time.monotonic() >= next_scrape:
            next_scrape += interval
            request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept-Encoding": "gzip"})
            with urllib.request.urlopen(request, timeout=5) as reply:
                body = reply.read()
                assert gzip.decompress(body)
                scrapes.append(len(body))
    return scrapes
