"""What TLS costs: CPU of agents, broker and ingest's socket for each sample and each connection, with and without, in turn.

Arguments: `broker=mosquitto` (or nats), `hosts=200` connections, `rounds=100` samples of each, `bytes=1300` a sample (100
metrics), `runs=3`.
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import rig

sys.path.insert(0, str(Path(__file__).parents[1]))

import tls_rig

from shared import bus


def connect(clients):
    """Connect them all, some at a time; our CPU seconds for it."""
    began = time.process_time()
    for at in range(0, len(clients), 20):
        some = clients[at:at + 20]
        while not all(client.is_connected for client in some):
            for client in some:
                client.poll(0.001)
    return time.process_time() - began


def figures_of(port, pid, scheme, tls, hosts, rounds, payload):
    """CPU microseconds a sample (agents, broker, reader) and milliseconds a connection (agent, broker) on one broker."""
    brokers, heard = bus.read_brokers(f"{scheme}://tests:{tls_rig.PASSWORD}@127.0.0.1:{port}"), []
    reader = bus.Client(brokers, "bench-reader", lambda *_: heard.append(1), subscriptions=["bench/+"], tls=tls)
    connect([reader])
    agents = [bus.Client(brokers, f"bench-{number}", lambda *_: None, tls=tls) for number in range(hosts)]
    before = rig.cpu_seconds(pid)
    connecting = connect(agents)
    connected = rig.cpu_seconds(pid)
    ours = {"agents": 0.0, "reader": 0.0}

    def timed(who, work):
        began = time.process_time()
        work()
        ours[who] += time.process_time() - began

    for turn in range(1, rounds + 1):
        for number, agent in enumerate(agents):
            timed("agents", lambda agent=agent, number=number: agent.publish(f"bench/{number}", payload))
        while len(heard) < turn * hosts:
            timed("reader", lambda: reader.poll(0.05))
    end, count = rig.cpu_seconds(pid), hosts * rounds
    for client in (reader, *agents):
        client.close()
    return {"agents_us": ours["agents"] / count * 1e6, "broker_us": (end - connected) / count * 1e6,
            "reader_us": ours["reader"] / count * 1e6, "agent_connect_ms": connecting / hosts * 1e3,
            "broker_connect_ms": (connected - before) / hosts * 1e3}


def main(arguments):
    """Medians of the runs, with and without TLS."""
    kind, hosts = arguments.get("broker", "mosquitto"), int(arguments.get("hosts", "200"))
    rounds, payload = int(arguments.get("rounds", "100")), os.urandom(int(arguments.get("bytes", "1300")))
    home = Path(tempfile.mkdtemp(prefix="drumbeat-bench-", dir="/tmp"))
    authority, runs = tls_rig.Authority(home), {"mqtt": [], "mqtts": []}
    try:
        for scheme, server in (("mqtt", None), ("mqtts", authority.server())) * int(arguments.get("runs", "3")):
            with tls_rig.broker(kind, home, server) as (port, process):
                runs[scheme].append(figures_of(port, process.pid, scheme, bus.Tls(authority.file), hosts, rounds, payload))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    told = {scheme: {name: round(statistics.median(run[name] for run in found), 2) for name in found[0]}
            for scheme, found in runs.items()}
    for name in told["mqtt"]:
        print(f"{name:20} {told['mqtt'][name]:8} {told['mqtts'][name]:8}")
    return {"broker": kind, "hosts": hosts, **{f"{scheme}_{name}": value for scheme, found in told.items()
                                              for name, value in found.items()}}
