"""Points per CPU second of broker + ingest + Postgres together, and publish-to-commit latency.

Arguments: hosts=2500 interval=5 metrics=100 seconds=60 warmup=60 broker=mosquitto|nats processes=0 (seconds between the process
lists of a host; 0: samples alone). The generator (`drumbeat simulate`)
is not counted. Latency is exact: Postgres keeps the commit time of every row (track_commit_timestamp), and a simulated
sample's ts is the moment it was handed to the socket.
"""

import time

from rig import Rig, cpu_seconds, figure, rss_mb, wait_for

from shared import database

LATENCY = """
    SELECT percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM pg_xact_commit_timestamp(xmin) - ts))
    FROM sample WHERE ts >= to_timestamp(%s) AND ts < to_timestamp(%s)"""


def main(arguments):
    """Run it; the figures."""
    hosts, interval = int(arguments.get("hosts", 2500)), float(arguments.get("interval", 5))
    metrics, seconds = int(arguments.get("metrics", 100)), float(arguments.get("seconds", 60))
    warmup, broker = float(arguments.get("warmup", 60)), arguments.get("broker", "mosquitto")
    with Rig(broker, {"track_commit_timestamp": "on"}) as rig:
        ingest, port = rig.ingest()
        fleet = rig.command("simulate", "--hosts", str(hosts), "--interval", str(interval), "--metrics", str(metrics),
                            "--duration", str(warmup + seconds + 30), "--json",
                            "--process-interval", arguments.get("processes", "0"))
        wait_for(lambda: figure(port, "drumbeat_ingest_samples_total") >= hosts, 60, "a sample of every host")
        time.sleep(warmup)
        begin, before = time.time(), state(rig, ingest, port)
        time.sleep(seconds)
        end, after = time.time(), state(rig, ingest, port)
        rss = rss_mb(ingest.pid)
        time.sleep(3)
        with database.open_connection(rig.database_url, "bench") as connection:
            p50, p99 = connection.execute(LATENCY, [begin, end]).fetchone()[0]
        generator = cpu_seconds(fleet.pid)
        gaps = figure(port, "drumbeat_ingest_gap_seqs_total")
    return _report(arguments | {"broker": broker, "hosts": hosts}, before, after, end - begin, float(p50), float(p99), rss,
                   generator, gaps)


def state(rig, ingest, port):
    """CPU seconds and counts so far."""
    return {"broker": cpu_seconds(rig.broker.pid), "ingest": cpu_seconds(ingest.pid), "postgres": cpu_seconds(rig.postgres.pid),
            "samples": figure(port, "drumbeat_ingest_samples_total"), "points": figure(port, "drumbeat_ingest_points_total"),
            "duplicates": figure(port, "drumbeat_ingest_duplicates_total")}


def _report(arguments, before, after, seconds, p50, p99, rss, generator, gaps):
    spent = {name: after[name] - before[name] for name in before}
    cpu = spent["broker"] + spent["ingest"] + spent["postgres"]
    samples = spent["samples"]
    figures = {
        "points_per_cpu_second": round(spent["points"] / cpu), "samples_per_second": round(samples / seconds, 1),
        "latency_p50_s": round(p50, 3), "latency_p99_s": round(p99, 3), "ingest_rss_mb": round(rss, 1),
        **{f"{name}_us_per_message": round(spent[name] / samples * 1e6, 1) for name in ("broker", "ingest", "postgres")},
        "duplicates": spent["duplicates"], "gap_seqs": gaps, "generator_cpu_s": round(generator, 1), **arguments}
    print(f"{samples:.0f} samples of {spent['points'] / samples:.0f} points in {seconds:.0f} s; "
          f"{cpu / seconds * 100:.0f} % of one core for all three")
    for name in ("broker", "ingest", "postgres"):
        print(f"  {name:9} {spent[name] / samples * 1e6:7.1f} µs a message")
    return figures
