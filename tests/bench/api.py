"""The API: p50 and p95 of the usual questions, with 1,000 hosts, a day of raw history and 30 days of rollups.

Arguments: hosts=1000, full=20 (hosts with the whole of raw and minute history; all have the last minutes of raw and every
hour), interval=5, days=30, requests=200, sets=4 (different sets of metrics; sets=1000 gives each host its own),
alerts=5000 (active; ten times as many are over).
Rows lie as ingest writes them: by time, hosts side by side.
"""

import secrets
import statistics
import time
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
from rig import Rig, rss_mb, wait_for

from aggregator.store import partitions
from compose import programs
from shared import catalogue, database
from shared.names import partition

METRICS = 100
EPOCH_2000 = 946_684_800
ARRAY = [("size", ">i4"), ("dimensions", ">i4"), ("flags", ">i4"), ("oid", ">i4"), ("length", ">i4"), ("bound", ">i4"),
         ("items", [("l", ">i4"), ("x", ">f4")], (METRICS,))]
HEADER, TRAILER = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
POOL = np.random.default_rng(1).gamma(2.0, 15.0, (512, METRICS)).clip(0, 100).round(1)


def fields(*scalars):
    """numpy type of one row of binary COPY: scalars, then arrays."""
    return [("count", ">i2")] + [item for name, kind in scalars for item in ((f"l_{name}", ">i4"), (name, kind))]


SAMPLE = np.dtype([*fields(("host", ">i4"), ("layout", ">i4"), ("ts", ">i8"), ("received", ">i8"), ("epoch", ">i8"),
                           ("seq", ">i8")), ("v0", ARRAY)])
ROLLUP = np.dtype([*fields(("host", ">i4"), ("layout", ">i4"), ("ts", ">i8"), ("samples", ">i4")),
                   ("v0", ARRAY), ("v1", ARRAY), ("v2", ARRAY)])


def template(kind, columns, hosts, layouts):
    """Rows for one instant, one for each host, with everything filled that does not change."""
    rows = np.zeros(len(hosts), kind)
    rows["count"] = columns
    for name in kind.names:
        if name.startswith("l_"):
            rows[name] = kind[name[2:]].itemsize
        elif name.startswith("v"):
            array = rows[name]
            array["size"], array["dimensions"], array["oid"] = 20 + 8 * METRICS, 1, 700
            array["length"], array["bound"], array["items"]["l"] = METRICS, 1, 4
    rows["host"], rows["layout"] = hosts, layouts
    return rows


def write(connection, table, columns, rows, times, count=0):
    """COPY the rows once for each time, with other values each time; the number of rows."""
    rng, arrays = np.random.default_rng(2), [name for name in rows.dtype.names if name.startswith("v")]
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(HEADER)
        for number, at in enumerate(times):
            rows["ts"] = round((at - EPOCH_2000) * 1e6)
            if "seq" in rows.dtype.names:
                rows["received"], rows["epoch"], rows["seq"] = rows["ts"], 1, number + 1
            else:
                rows["samples"] = count
            values = POOL[rng.integers(0, len(POOL), len(rows))]
            for place, name in enumerate(arrays):
                rows[name]["items"]["x"] = values * (1 + (place - len(arrays) // 2) / 4)
            copy.write(rows.tobytes())
        copy.write(TRAILER)
    return len(rows) * len(times)


ALERTS = """
INSERT INTO alert (id, host_id, rule, instance, type, state, severity, metric, value, threshold, rule_revision, message,
                   started_at, fired_at, resolved_at, changed_at)
SELECT nextval('alert_id'), h.id, 'rule_' || k, '', 'rule_' || k, CASE WHEN is_over THEN 'resolved' ELSE 'firing' END,
       (ARRAY['info', 'warning', 'error', 'critical'])[1 + k %% 4], 'cpu.percent', 91.5, 80, 1, 'CPU is 91.5 %% busy', t, t,
       CASE WHEN is_over THEN t END, t
FROM (SELECT id, row_number() OVER () AS n FROM host) h, generate_series(1, 11 * %(each)s) k,
  LATERAL (SELECT k > %(each)s AS is_over, now() - (k * 1000 + h.n) * interval '6 minutes' AS t) s"""


def load(url, hosts, full, interval, days, sets=4, alerts=5000):
    """Fill a migrated database; (host names, rows written)."""
    now = datetime.now(UTC).replace(microsecond=0)
    end = int(now.timestamp())
    with database.open_connection(url, "bench") as connection:
        partitions.ensure(connection, now - timedelta(days=days), now + timedelta(days=1))
        names = [f"host-{n:04d}" for n in range(hosts)]
        ids = [row[0] for name in names for row in connection.execute(
            "INSERT INTO host (name, partition, labels, state) VALUES (%s, %s, %s, 'online') RETURNING id",
            [name, int(partition(name)), f'{{"site": "s{len(name) * ord(name[-1]) % 5}"}}'])]
        connection.execute("""INSERT INTO host_now SELECT id, now(), now(), %s, 50 + random() * 50, random() * 100,
                              random() * 100, random() * 100 FROM host""", [interval])
        keys = [metric.name for metric in (*catalogue.CORE, *catalogue.DERIVED)]
        layouts = []
        for n in range(sets):
            some = sorted([*keys, *(f"custom.m{m:03d}_{n}" for m in range(METRICS))][:METRICS])
            some = [*some[n % 4 * 7:], *some[:n % 4 * 7]]
            layouts += [row[0] for row in connection.execute("INSERT INTO layout (digest, keys) VALUES (%s, %s) RETURNING id",
                                                             [str(n).encode(), some])]
        of = np.array([layouts[n % sets] for n in range(hosts)])
        ids = np.array(ids)
        sample_columns = "host_id, layout_id, ts, received_at, epoch, seq, values"
        rollup_columns = "host_id, layout_id, ts, count, min, mean, max"
        minute, hour = end // 60 * 60, end // 3600 * 3600
        rows = 0
        for width, table, last, whose, share in (
                (3600, "rollup_1h", hour, slice(None), 3600), (60, "rollup_1m", minute, slice(full), 60)):
            times = range(last - days * 86_400, last, width)
            rows += write(connection, table, rollup_columns, template(ROLLUP, 7, ids[whose], of[whose]), times,
                          round(share / interval))
        raw_from = end - 600
        rows += write(connection, "sample", sample_columns, template(SAMPLE, 7, ids[:full], of[:full]),
                      range(end - 86_400, raw_from, interval))
        rows += write(connection, "sample", sample_columns, template(SAMPLE, 7, ids, of), range(raw_from, end + 1, interval))
        connection.execute(ALERTS, {"each": max(1, alerts // hosts)})
        connection.execute("UPDATE host_now SET ts = to_timestamp(%s), received_at = now() + interval '1 hour'", [end])
        connection.execute("VACUUM (ANALYZE)")
    return names, rows


def timed(client, requests, paths):
    """(p50, p95) in milliseconds and bytes of the answers."""
    took, sizes = [], []
    for number in range(requests + 10):
        begun = time.perf_counter()
        answer = client.get(paths[number % len(paths)])
        took.append((time.perf_counter() - begun) * 1e3)
        sizes.append(len(answer.content))
        assert answer.status_code == 200, answer.text
    took = sorted(took[10:])
    return statistics.median(took), took[int(len(took) * 0.95)], round(statistics.mean(sizes))


def main(arguments):
    """The figures."""
    given = {"hosts": 1000, "full": 20, "interval": 5, "days": 30, "requests": 200, "sets": 4, "alerts": 5000}
    given |= {key: int(value) for key, value in arguments.items()}
    with Rig(postgres_options={"max_wal_size": "8GB"}) as rig:
        database.migrate(rig.database_url)
        begun = time.monotonic()
        names, rows = load(rig.database_url, given["hosts"], given["full"], given["interval"], given["days"],
                           given["sets"], given["alerts"])
        print(f"{rows} rows loaded in {time.monotonic() - begun:.0f} s")
        token, port = f"dbt_{secrets.token_urlsafe(32)}", programs.free_port()
        begun = time.monotonic()
        process = rig.command("api", "--port", str(port), "--rate-limits", "all=1000000/minute", DRUMBEAT_BOOTSTRAP_TOKEN=token)
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, headers=headers) as client:
            wait_for(lambda: _answers(client), 30, "api ready")
            figures = {"start_s": round(time.monotonic() - begun, 2)}
            some = names[:given["full"]]
            eight = "&".join(f"metric={name}" for name in (
                "cpu.percent", "cpu.load1", "memory.percent", "swap.percent", "disk.percent", "disk.read_bytes_per_second",
                "network.receive_bytes_per_second", "health.score"))
            questions = {
                "hosts_list": ["/api/v1/hosts", "/api/v1/hosts?sort=score", "/api/v1/hosts?status=critical&sort=-cpu"],
                "host_latest": [f"/api/v1/hosts/{name}/latest" for name in names],
                "host_health": [f"/api/v1/hosts/{name}/health" for name in names],
                "history_1h_8": [f"/api/v1/hosts/{name}/metrics?range=1h&{eight}" for name in some],
                "history_24h_8": [f"/api/v1/hosts/{name}/metrics?range=24h&{eight}" for name in some],
                "history_7d_8": [f"/api/v1/hosts/{name}/metrics?range=7d&{eight}" for name in some],
                "history_30d_8": [f"/api/v1/hosts/{name}/metrics?range=30d&{eight}" for name in names],
                "fleet_health": ["/api/v1/fleet/health"],
                "fleet_latest": ["/api/v1/fleet/latest"],
                "alerts_active": ["/api/v1/alerts", "/api/v1/alerts?severity=critical", "/api/v1/alerts?label=site:s1"],
                "alerts_history": ["/api/v1/alerts?state=all", *(f"/api/v1/alerts?state=all&host={name}" for name in some)],
                "alerts_summary": ["/api/v1/alerts/summary"],
                "series_24h_all_hosts": ["/api/v1/series?metric=cpu.percent&range=24h&agg=mean"],
                "prometheus_cpu": ["/metrics?metric=cpu.*"],
                "storage": ["/api/v1/storage"],
            }
            for name, paths in questions.items():
                count = given["requests"] if name not in ("fleet_latest", "series_24h_all_hosts", "prometheus_cpu") else 20
                p50, p95, size = timed(client, count, paths)
                figures |= {f"{name}_p50_ms": round(p50, 1), f"{name}_p95_ms": round(p95, 1)}
                print(f"{name:22} p50 {p50:7.1f} ms   p95 {p95:7.1f} ms   {size:8d} bytes")
            figures["api_rss_mb"] = round(rss_mb(process.pid), 1)
    return figures | {f"of_{name}": value for name, value in given.items()}


def _answers(client):
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False
