"""A fleet that comes back at once after an outage: how fast it drains, what live samples wait meanwhile, what memory it takes.

Arguments: hosts=200 backlog=720 (samples that each host brings along) interval=5 metrics=100 broker=nats|mosquitto settle=20
(seconds given for connecting, and measured once it has drained). Agents resend as they do by default: at most 200 samples a
second each, at most 64 of them without a watermark. Latency is exact, from sampling to the commit of the row
(track_commit_timestamp).
"""

import itertools
import threading
import time

from rig import Rig, cpu_seconds, figure, rss_mb, wait_for

from shared import database

LATENCY = """
    WITH live AS (SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin) - ts)::float8 AS age FROM sample
                  WHERE seq > %s AND ts >= to_timestamp(%s) AND ts < to_timestamp(%s))
    SELECT count(*), percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY age), max(age) FROM live"""
AUDIT = "SELECT %s - count(DISTINCT (host_id, seq)), count(*) - count(DISTINCT (host_id, seq)) FROM sample WHERE seq <= %s"
PEAK_SECONDS = 0.5


class Peak:
    """The most memory that processes had, in MB, looked at now and then."""

    def __init__(self, **processes):
        self.most, self._processes, self._stop = dict.fromkeys(processes, 0.0), processes, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _watch(self):
        while not self._stop.wait(PEAK_SECONDS):
            for name, process in self._processes.items():
                self.most[name] = max(self.most[name], rss_mb(process.pid))


def main(arguments):
    """Run it; the figures."""
    hosts, backlog = int(arguments.get("hosts", 200)), int(arguments.get("backlog", 720))
    broker, settle = arguments.get("broker", "nats"), float(arguments.get("settle", 20))
    with Rig(broker, {"track_commit_timestamp": "on"}) as rig:
        ingest, port = rig.ingest()
        rig.command("simulate", "--hosts", str(hosts), "--interval", arguments.get("interval", "5"), "--metrics",
                    arguments.get("metrics", "100"), "--backlog", str(backlog), "--duration", "3600", "--process-interval", "0")
        with Peak(ingest=ingest, broker=rig.broker) as peak:
            begin, cpu, drained, curve = *_state(rig, ingest), *_watch_drain(port, hosts * backlog)
            spent = {name: seconds - cpu[name] for name, seconds in _state(rig, ingest)[1].items()}
            time.sleep(settle)
        time.sleep(3)
        with database.open_connection(rig.database_url, "bench") as connection:
            connected = begin + min(settle, (drained - begin) / 2)
            during = connection.execute(LATENCY, [backlog, connected, drained]).fetchone()
            after = connection.execute(LATENCY, [backlog, drained + 2, drained + settle]).fetchone()
            lost, doubled = connection.execute(AUDIT, [hosts * backlog, backlog]).fetchone()
        twice = figure(port, "drumbeat_ingest_duplicates_total")
    return _report(hosts * backlog, begin, drained, curve, during, after, spent) | {
        **{f"{name}_peak_mb": round(most, 1) for name, most in peak.most.items()}, "lost": lost, "doubled": doubled,
        "sent_twice": twice, "broker": broker, "hosts": hosts, "backlog": backlog}


def _state(rig, ingest):
    """Now, and the CPU seconds so far."""
    return time.time(), {"broker": cpu_seconds(rig.broker.pid), "ingest": cpu_seconds(ingest.pid),
                         "postgres": cpu_seconds(rig.postgres.pid)}


def _watch_drain(port, wanted):
    """When all of the backlog was stored, and the samples stored in each second until then."""
    curve = [0.0]

    def is_done():
        curve.append(figure(port, "drumbeat_ingest_samples_total"))
        time.sleep(0.9)
        return curve[-1] >= wanted

    wait_for(is_done, 900, "the whole backlog stored")
    return time.time(), [after - before for before, after in itertools.pairwise(curve)]


def _report(samples, begin, drained, curve, during, after, spent):
    busy = [rate for rate in curve if rate > 0]
    for name, (count, (p50, p99), worst) in (("while it drains", during), ("afterwards", after)):
        print(f"  live samples {name:15}: {count} stored, {p50:.2f} / {p99:.2f} / {worst:.2f} s (p50, p99, worst)")
    return {"drain_seconds": round(drained - begin, 1), "drain_samples_per_second": round(samples / (drained - begin)),
            "most_samples_in_a_second": round(max(busy)), "cpu_seconds": {name: round(cpu, 1) for name, cpu in spent.items()},
            "live_p50_s": round(during[1][0], 2), "live_p99_s": round(during[1][1], 2), "live_worst_s": round(during[2], 2),
            "settled_p50_s": round(after[1][0], 2), "settled_p99_s": round(after[1][1], 2)}
