"""Memory of every process under load for an hour, judged by its slope: the embedded stack as `drumbeat up` starts it.

Arguments: minutes=60 hosts=10000 interval=5 connections=0 profile=incident|steady. Every 10 s the processes of each part are
looked at: memory of their own (PSS without what Postgres shares among its processes), threads, descriptors, CPU. The first third
is warm-up. What is left is averaged in 20 blocks, so that neighbours do not pass for independent, and Theil-Sen gives the slope
and its interval of 95 %. A part is flat where the interval holds no growth, or where it grows by less than 1 % an hour.
"""

import contextlib
import json
import signal
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
from rig import Rig, cpu_seconds, tree, wait_for
from scipy.stats import theilslopes

from compose.startup import is_ready
from shared import database
from shared.settings import read_env_file

STEP_SECONDS, BLOCKS = 10.0, 20
LEAST_PERCENT = 1.0
KINDS = ("memory_mb", "threads", "files")
ASKED = ("/fleet/health", "/hosts?limit=100&sort=score", "/alerts?limit=100", "/executions", "/metrics")
TABLES = """
SELECT coalesce(i.inhparent, c.oid)::regclass::text, sum(pg_total_relation_size(c.oid))::bigint
FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace GROUP BY 1"""


def main(arguments):
    """Run it; the figures."""
    minutes, hosts = float(arguments.get("minutes", 60)), arguments.get("hosts", "10000")
    with Rig(broker=None, database=False) as rig:
        data = rig.home / "data"
        up = rig.command("up", "--data", str(data), "--port", "0", "--host", "soak", DRUMBEAT_BROKER_URL="embedded",
                         DRUMBEAT_DATABASE_URL="embedded", DRUMBEAT_DATA="")
        wait_for((data / "env").exists, 60, "the start")
        env = read_env_file(data / "env")
        wait_for(lambda: is_ready(int(env["DRUMBEAT_API_URL"].rpartition(":")[2])), 60, "an API that is ready")
        fleet = rig.command("simulate", "--json", "--drain", "120", "--hosts", hosts,
                            "--interval", arguments.get("interval", "5"), "--connections", arguments.get("connections", "0"),
                            "--profile", arguments.get("profile", "incident"), DRUMBEAT_BROKER_URL=env["DRUMBEAT_BROKER_URL"])
        looks, tables = watch(up.pid, env, minutes * 60)
        fleet.send_signal(signal.SIGINT)
        fleet.wait(180)
        sent = json.loads(rig.log("drumbeat-simulate").splitlines()[-1])
        audit = rig.command("audit", "--json", DRUMBEAT_DATABASE_URL=env["DRUMBEAT_DATABASE_URL"])
        is_sound = audit.wait(600) == 0
    figures = judged(looks)
    shown(figures, tables)
    failed = [f"{part}: {kind}" for part, kinds in figures.items() for kind in KINDS if not kinds[kind]["is_flat"]]
    failed += [f"{part}: started anew" for part, kinds in figures.items() if kinds["restarts"]]
    failed += ["audit"] * (not is_sound) + [f"{sent['lost']} samples unconfirmed"] * bool(sent["lost"])
    print(f"  {'flat' if not failed else 'NOT FLAT: ' + ', '.join(failed)}")
    return {"verdict": "flat" if not failed else "grows", "failed": failed, "minutes": minutes, "hosts": int(hosts),
            "samples_per_second": sent["samples_per_second"], "samples": sent["produced"], "lost": sent["lost"],
            "is_sound": is_sound, "parts": figures, "tables_mb": tables}


def watch(root, env, seconds):
    """(what each part used at every look: [(s, {part: figures})], MB of each table at the end and its growth an hour)."""
    begun, looks, first = time.monotonic(), [], None
    while (at := time.monotonic() - begun) < seconds:
        looks.append((at, {name: usage(pid) for name, pid in parts(root).items()}))
        if first is None and at > seconds / 3:
            first = at, table_sizes(env)
        ask(env)
        time.sleep(max(0.0, STEP_SECONDS - (time.monotonic() - begun - at)))
    last, hours = table_sizes(env), (time.monotonic() - begun - first[0]) / 3600
    return looks, {name: {"mb": round(size / 1e6, 1), "mb_per_hour": round((size - first[1].get(name, 0)) / 1e6 / hours, 1)}
                   for name, size in sorted(last.items(), key=lambda item: -item[1]) if size > 1e6}


def parts(root):
    """{name: pid} of the supervisor and what it has started."""
    found = {"up": root}
    for pid in tree(root)[1:]:
        with contextlib.suppress(OSError):
            if int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]) == root:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
                found[words[words.index("shared.cli") + 1] if "shared.cli" in words else Path(words[0]).name] = pid
    return found


def usage(pid):
    """Memory of its own (MB), threads, descriptors and CPU seconds of a part with all its processes; of `up`, of itself alone."""
    found = {"pid": pid, "memory_mb": 0.0, "threads": 0, "files": 0, "cpu_s": 0.0}
    is_supervisor = b"\0up\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    for one in [pid] if is_supervisor else tree(pid):
        with contextlib.suppress(OSError):
            rollup = dict(line.split(":", 1) for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()[1:])
            found["memory_mb"] += (int(rollup["Pss"].split()[0]) - int(rollup["Pss_Shmem"].split()[0])) / 1024
            found["threads"] += sum(1 for _ in Path(f"/proc/{one}/task").iterdir())
            found["files"] += sum(1 for _ in Path(f"/proc/{one}/fd").iterdir())
    found["cpu_s"] = sum(psutil.Process(pid).cpu_times()[:2]) if is_supervisor else cpu_seconds(pid)
    return found


def table_sizes(env):
    """Bytes by table, partitions with their parent, indexes included."""
    with database.open_connection(env["DRUMBEAT_DATABASE_URL"], "soak") as connection:
        return {name: int(size) for name, size in connection.execute(TABLES)}


def ask(env):
    """What somebody who looks at the fleet asks the API."""
    headers = {"Authorization": f"Bearer {env['DRUMBEAT_TOKEN']}"}
    with httpx.Client(base_url=f"{env['DRUMBEAT_API_URL']}/api/v1", headers=headers, timeout=60) as client:
        for path in ASKED:
            client.get(path).raise_for_status()


def judged(looks):
    """For each part: the slope of each figure with its interval, an hour, and whether it is flat."""
    times = np.array([at for at, _ in looks])
    found = {}
    for part in looks[-1][1]:
        seen = [(at, used[part]) for at, used in looks if part in used]
        late = [(at, used) for at, used in seen if at > times[-1] / 3]
        found[part] = {kind: slope([at for at, _ in late], [used[kind] for _, used in late]) for kind in KINDS}
        found[part]["cpu_percent"] = round(100 * (late[-1][1]["cpu_s"] - late[0][1]["cpu_s"]) / (late[-1][0] - late[0][0]), 1)
        found[part]["restarts"] = len({used["pid"] for _, used in seen}) - 1
    return found


def slope(times, values):
    """Median, slope an hour and its interval of 95 %, and whether that is flat."""
    count = max(3, min(BLOCKS, len(times)))
    x, y = ([float(block.mean()) for block in np.array_split(np.array(given, float), count)] for given in (times, values))
    each, _, low, high = theilslopes(y, np.array(x) / 3600, 0.95)
    median = float(np.median(values))
    return {"median": round(median, 1), "per_hour": round(float(each), 2), "low": round(float(low), 2),
            "high": round(float(high), 2), "is_flat": bool(low <= 0 or each < LEAST_PERCENT / 100 * median)}


def shown(figures, tables):
    """The table for people."""
    print(f"  {'':14}{'MB':>8}{'MB/h':>9}  {'95 %':20}{'threads':>8}{'files':>7}{'CPU %':>7}")
    for part, kinds in figures.items():
        memory = kinds["memory_mb"]
        interval = f"{memory['low']:+.2f} … {memory['high']:+.2f}"
        print(f"  {part:14}{memory['median']:8.1f}{memory['per_hour']:+9.2f}  {interval:20}{kinds['threads']['median']:8.0f}"
              f"{kinds['files']['median']:7.0f}{kinds['cpu_percent']:7.1f}{'' if memory['is_flat'] else '  GROWS'}")
    for name, size in tables.items():
        print(f"  table {name:20}{size['mb']:9.1f} MB {size['mb_per_hour']:+9.1f} an hour", file=sys.stdout)
