"""Backup and restore of the whole store against pg_dump and pg_restore: seconds, CPU and megabytes.

Arguments: hosts=200, samples=500 (of each host, of 100 metrics). CPU is that of the command and of Postgres.
"""

import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import api
from rig import Rig, cpu_seconds

from aggregator.store import partitions
from compose import postgres
from shared import database


def fill(url, hosts, samples):
    """Samples every 5 s until now, and a tenth as many minutes; the number of points."""
    now = datetime.now(UTC)
    with database.open_connection(url, "bench") as connection:
        partitions.ensure(connection, now - timedelta(days=1), now)
        connection.execute("""INSERT INTO layout (digest, keys)
                              SELECT 'x', array_agg('custom.n' || n) FROM generate_series(1, 100) n""")
        connection.execute("INSERT INTO host (name, partition) SELECT 'host-' || n, 0 FROM generate_series(1, %s) n", [hosts])
        rows = api.template(api.SAMPLE, 7, list(range(1, hosts + 1)), [1] * hosts)
        made = api.write(connection, "sample", "host_id, layout_id, ts, received_at, epoch, seq, values", rows,
                         [now.timestamp() - n * 5 for n in range(samples, 0, -1)])
        rows = api.template(api.ROLLUP, 7, list(range(1, hosts + 1)), [1] * hosts)
        made += api.write(connection, "rollup_1m", "host_id, layout_id, ts, count, min, mean, max", rows,
                          [now.timestamp() // 60 * 60 - n * 60 for n in range(samples // 10, 0, -1)], 12)
    return made * api.METRICS


def timed(rig, name, *argv):
    """(seconds, CPU seconds of it and Postgres) of a program."""
    before, begin = cpu_seconds(rig.postgres.pid), time.perf_counter()
    process = rig.program(name, *argv)
    own = 0.0
    while process.poll() is None:
        own = max(own, cpu_seconds(process.pid))
        time.sleep(0.01)
    seconds = time.perf_counter() - begin
    time.sleep(0.2)  # backends end and are reaped
    if process.returncode:
        raise SystemExit(f"{name}: {rig.log(name)[-400:]}")
    return seconds, own + cpu_seconds(rig.postgres.pid) - before


def megabytes(path):
    """Size of a file or of everything in a directory."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()) / 1e6


def main(arguments):
    """The figures."""
    hosts, samples = int(arguments.get("hosts", 200)), int(arguments.get("samples", 500))
    with Rig("nats") as rig:
        database.migrate(rig.database_url)
        points = fill(rig.database_url, hosts, samples)
        binaries = postgres.prepare(rig.home, "").binaries
        base = rig.database_url.rpartition("/")[0]
        with database.open_connection(rig.database_url, "bench") as connection:
            connection.execute("CREATE DATABASE by_drumbeat")
            connection.execute("CREATE DATABASE by_dump")
            stored = connection.execute("SELECT pg_database_size(current_database()) / 1e6").fetchone()[0]
        drumbeat = str(Path(sys.executable).with_name("drumbeat"))
        dump, directory = rig.home / "dump", rig.home / "backups"
        figures = {"points": points, "stored_mb": round(float(stored))}
        steps = {
            "backup": (drumbeat, "backup", "--history", "--database-url", rig.database_url, "--to", str(directory)),
            "restore": (drumbeat, "restore", "BACKUP", "--database-url", f"{base}/by_drumbeat"),
            "pg_dump": (str(binaries / "pg_dump"), "-Fc", "-Z", "gzip:1", "-f", str(dump), rig.database_url),
            "pg_restore": (str(binaries / "pg_restore"), "-d", f"{base}/by_dump", str(dump)),
        }
        for name, argv in steps.items():
            chosen = [str(max(directory.glob("backup-*"))) if word == "BACKUP" else word for word in argv]
            seconds, cpu = timed(rig, name, *chosen)
            figures[name] = {"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2)}
            print(f"{name:12} {seconds:7.2f} s  {cpu:7.2f} CPU s")
        figures["backup"]["mb"], figures["pg_dump"]["mb"] = round(megabytes(directory), 1), round(megabytes(dump), 1)
        print(f"{points:,} points, {figures['stored_mb']} MB in Postgres; backup {figures['backup']['mb']} MB, "
              f"dump {figures['pg_dump']['mb']} MB")
    return figures
