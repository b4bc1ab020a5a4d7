"""Points per CPU second of broker + ingest + Postgres while a backlog is drained as fast as it goes.

Arguments: hosts=500 backlog=600 metrics=100 broker=mosquitto|nats window=256. Each simulated host brings `backlog` samples of the
past hour along and resends them through the watermark protocol; the figures count from the first stored sample to the last,
the rollups made again included. The generator is not counted.
"""

import time

from ingest import state
from rig import Rig, figure, wait_for

from shared import database

DUE = "SELECT count(*) FROM rollup_due"
AUDIT = """SELECT %s - count(DISTINCT (host_id, seq)), count(*) - count(DISTINCT (host_id, seq)) FROM sample WHERE seq <= %s"""


def main(arguments):
    """Run it; the figures."""
    hosts, backlog = int(arguments.get("hosts", 500)), int(arguments.get("backlog", 600))
    broker, window = arguments.get("broker", "mosquitto"), arguments.get("window", "256")
    with Rig(broker) as rig, database.open_connection(rig.database_url, "bench") as connection:
        ingest, port = rig.ingest()
        rig.command("simulate", "--hosts", str(hosts), "--interval", "6", "--metrics", arguments.get("metrics", "100"),
                    "--backlog", str(backlog), "--resend-rate", "100000", "--resend-window", window, "--duration", "600",
                    "--process-interval", "0", "--json")
        wait_for(lambda: figure(port, "drumbeat_ingest_samples_total") > 0, 60, "a first sample")
        begin, before = time.monotonic(), state(rig, ingest, port)
        wait_for(lambda: figure(port, "drumbeat_ingest_samples_total") >= hosts * backlog, 400, "the whole backlog stored")
        stored, after = time.monotonic() - begin, state(rig, ingest, port)
        wait_for(lambda: connection.execute(DUE).fetchone() == (0,), 400, "all rollups made")
        settled = state(rig, ingest, port)
        lost, doubled = connection.execute(AUDIT, [hosts * backlog, backlog]).fetchone()
    return _report(before, after, settled, stored) | {"lost": lost, "doubled": doubled, "broker": broker, "hosts": hosts,
                                                      "backlog": backlog}


def _report(before, after, settled, seconds):
    cpu = {name: [state[name] - before[name] for state in (after, settled)] for name in ("broker", "ingest", "postgres")}
    points, samples = settled["points"] - before["points"], settled["samples"] - before["samples"]
    for name, (stored, all_of_it) in cpu.items():
        print(f"  {name:9} {stored / samples * 1e6:6.1f} µs a sample until stored, {all_of_it / samples * 1e6:6.1f} with rollups")
    return {"points_per_cpu_second": round(points / sum(both[0] for both in cpu.values())),
            "points_per_cpu_second_with_rollups": round(points / sum(both[1] for both in cpu.values())),
            "samples_per_second": round(samples / seconds), "duplicates": settled["duplicates"] - before["duplicates"]}
