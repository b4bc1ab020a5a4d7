"""Seconds from `up` to the first stored sample and the first score; seconds and megabytes of an installation.

Arguments: `runs=3` starts (each on a fresh directory, then again on the same), `install=yes` (no: not measured).
"""

import contextlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shared import database
from shared.settings import read_env_file

ROOT = Path(__file__).parents[2]


def up(data):
    """One start: {first_sample_s, score_s, stop_s}, all from the start of the process."""
    began = time.time()
    process = subprocess.Popen([sys.executable, "-P", "-m", "shared.cli", "up", "--data", data, "--port", "0"],
                               stdout=subprocess.PIPE, text=True)
    try:
        score = next(float(found[1]) for line in process.stdout if (found := re.search(r"score .*after ([\d.]+) s", line)))
        with database.open_connection(read_env_file(data / "env")["DRUMBEAT_DATABASE_URL"], "bench") as connection:
            first, = connection.execute("SELECT extract(epoch FROM min(received_at))::float8 FROM sample "
                                        "WHERE received_at > to_timestamp(%s)", [began]).fetchone()
        asked = time.time()
        process.terminate()
        process.wait(30)
        return {"first_sample_s": first - began, "score_s": score, "stop_s": time.time() - asked}
    finally:
        process.kill()
        process.wait()


def install(extra):
    """Seconds and megabytes of one extra in a fresh environment, pip itself not counted."""
    with tempfile.TemporaryDirectory(prefix="drumbeat-bench-") as name:
        subprocess.run([sys.executable, "-m", "venv", name], check=True)
        before, began = size(name), time.time()
        subprocess.run([f"{name}/bin/pip", "install", "--quiet", "--disable-pip-version-check", f"{ROOT}[{extra}]"],
                       check=True, stderr=subprocess.DEVNULL)
        return {f"install_{extra}_s": round(time.time() - began, 1), f"install_{extra}_mb": round(size(name) - before)}


def size(folder):
    """Megabytes of files."""
    return sum(path.lstat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6


def main(arguments):
    """The figures: medians of the starts."""
    figures = {}
    if arguments.get("install", "yes") == "yes":
        figures |= install("agent") | install("all")
    starts = {"fresh": [], "again": []}
    for _ in range(int(arguments.get("runs", 3))):
        data = Path(tempfile.mkdtemp(prefix="drumbeat-bench-", dir="/tmp"))
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, data, ignore_errors=True)
            for kind, measured in starts.items():
                measured.append(up(data))
                print(kind, measured[-1], flush=True)
    return figures | {f"{kind}_{name}": round(statistics.median(run[name] for run in measured), 2)
                      for kind, measured in starts.items() for name in measured[0]}
