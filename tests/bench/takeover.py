"""Seconds until a standby ingests what the owner of the slot does no more: after kill -9, and after SIGSTOP.

Arguments: runs=10 of each kind, hosts=1000 interval=5 metrics=100 (the fleet that reports meanwhile), broker=mosquitto|nats.
Counted from the signal to the commit of the first sample that was sent after it. The former owner becomes the next standby.
"""

import json
import random
import signal
import statistics
import time
import urllib.error
import urllib.request

from rig import Rig, figure, wait_for

from compose import programs
from shared import database

FIRST = """SELECT extract(epoch FROM min(pg_xact_commit_timestamp(xmin)))::float8 FROM sample
           WHERE ts > to_timestamp(%s) AND received_at > to_timestamp(%s)"""


def main(arguments):
    """Run it; the figures."""
    runs, hosts = int(arguments.get("runs", 10)), int(arguments.get("hosts", 1000))
    seconds = {"SIGKILL": [], "SIGSTOP": []}
    with Rig(arguments.get("broker", "mosquitto"), {"track_commit_timestamp": "on"}) as rig:
        owner, standby = rig.ingest(), None
        rig.command("simulate", "--hosts", str(hosts), "--interval", arguments.get("interval", "5"),
                    "--metrics", arguments.get("metrics", "100"))
        wait_for(lambda: figure(owner[1], "drumbeat_ingest_samples_total") >= hosts, 60, "a sample of every host")
        with database.open_connection(rig.database_url, "bench") as connection:
            for number in (signal.SIGKILL, signal.SIGSTOP) * runs:
                standby = standby or standing_by(rig)
                time.sleep(random.uniform(2, 4))
                seconds[number.name].append(taken(connection, owner, number))
                print(f"{number.name} {seconds[number.name][-1]:.2f} s", flush=True)
                owner, standby = standby, continued(owner, number)
    return {f"{name.lower()}_{what}_s": round(pick(found), 2) for name, found in seconds.items()
            for what, pick in (("min", min), ("median", statistics.median), ("max", max))} | {"runs": runs, "hosts": hosts}


def standing_by(rig):
    """(process, port of its /metrics) of one more ingest, which waits."""
    port = programs.free_port()
    process = rig.command("ingest", "--probe-port", str(port), "--log-level", "warning")
    wait_for(lambda: is_standby(port), 60, "a standby")
    return process, port


def is_standby(port):
    """Whether /readyz says so, connected to the broker."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2)
    except urllib.error.HTTPError as error:
        parts = json.load(error)["parts"]
        return "standby" in parts["slot"] and parts["broker"] == "ok"
    except OSError:
        pass
    return False


def taken(connection, owner, number):
    """Seconds from the signal to the owner until something sent after it is stored."""
    at = time.time()
    owner[0].send_signal(number)
    first = None
    while first is None:
        time.sleep(0.05)
        first, = connection.execute(FIRST, [at + 0.2, at + 0.2]).fetchone()
    return first - at


def continued(owner, number):
    """The former owner as a standby again; None where it is gone."""
    if number == signal.SIGKILL:
        return None
    time.sleep(3)
    owner[0].send_signal(signal.SIGCONT)
    wait_for(lambda: is_standby(owner[1]), 60, "the former owner standing by")
    return owner
