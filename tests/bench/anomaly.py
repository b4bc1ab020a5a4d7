"""Anomaly detection: nanoseconds a point and bytes a series; with data= and scores=, the scores of labelled data as files.

`make bench NAME=anomaly` measures the cost. `make bench NAME=anomaly DATA=folder SCORES=folder` streams every set found in the
data folder through the product's detector with its default parameters and writes one .npy of scores for each file; with
ARGS="plots=folder" it also draws them. The folder has any of
    nab/<category>/<file>.csv            columns timestamp,value, and nab/windows.json (the labels, only drawn)
    smd|asd|js/<machine>.npz             train and test, rows x metrics; minutes (smd) or five minutes
A file's cadence is the median distance of its timestamps. The score of a univariate row is 0 while an incident is open.
"""

import csv
import datetime as dt
import time
from pathlib import Path

import numpy as np

from aggregator.analysis.anomaly.detector import Detector
from aggregator.analysis.anomaly.hosts import HostDetector
from aggregator.analysis.anomaly.incidents import Incidents
from aggregator.analysis.anomaly.parameters import DEFAULTS

STEPS_PER_DAY = {"smd": 1440, "asd": 288, "js": 288}
METRICS = 40  # of a host whose cost is measured
OLD = 10_000  # series that are aged before more of them are made


def main(arguments):
    if "data" not in arguments:
        return cost([int(n) for n in arguments.get("series", "10000,400000").split(",")])
    data, scores = Path(arguments["data"]), Path(arguments["scores"])
    plots = Path(arguments["plots"]) if "plots" in arguments else None
    begun = time.process_time()
    files = score_nab(data / "nab", scores / "nab", plots) if (data / "nab").is_dir() else 0
    for name, steps_per_day in STEPS_PER_DAY.items():
        if (data / name).is_dir():
            files += score_hosts(data / name, scores / name, steps_per_day, plots)
    return {"files": files, "alert": DEFAULTS.alert, "cpu_seconds": round(time.process_time() - begun, 1)}


def cost(sizes):
    """CPU time of two hours at one-minute steps, of series that are two days old."""
    rng = np.random.default_rng(1)
    rows = [100 + 5 * rng.standard_normal(OLD) for _ in range(16)]
    aged = Detector(OLD, 1440), HostDetector(OLD // METRICS, METRICS, 1440)
    run(*aged, rows, range(2 * 1440))
    figures = {}
    print(f"{'series':>8} {'detector ns':>12} {'hosts ns':>9} {'bytes a series':>15}")
    for size in sizes:
        times = max(1, size // OLD)
        detector = Detector.restored(repeated(aged[0], times, axis=-1), 1440)
        hosts = HostDetector.restored(repeated(aged[1], times, axis=0), 1440)
        first, second = run(detector, hosts, [np.tile(row, times) for row in rows], range(2 * 1440, 2 * 1440 + 120))
        state = sum(array.nbytes for each in (detector, hosts) for array in each.arrays().values()) / (OLD * times)
        print(f"{OLD * times:>8} {first:>12.0f} {second:>9.0f} {state:>15.0f}")
        figures[f"{OLD * times}"] = {"detector_ns": round(first), "hosts_ns": round(second), "state_bytes": round(state)}
    return figures


def repeated(detector, times, axis):
    arrays = detector.arrays()
    return {name: np.concatenate([array] * times, axis=axis) if name != "step" else array for name, array in arrays.items()}


def run(detector, hosts, rows, steps):
    """CPU nanoseconds a point of the two."""
    spent = np.zeros(2)
    for step in steps:
        begun = time.process_time()
        found = detector.score(rows[step % len(rows)], step)
        between = time.process_time()
        hosts.score(found.deviation.reshape(-1, METRICS), step)
        spent += between - begun, time.process_time() - between
    return spent / len(steps) / len(rows[0]) * 1e9


def score_nab(data, scores, plots):
    """One file after the other; how many."""
    paths = sorted(data.rglob("*.csv"))
    for path in paths:
        times, values = read_series(path)
        steps, steps_per_day = steps_of(times)
        run = stream(values, steps, steps_per_day)
        write(scores / path.relative_to(data).with_suffix(".npy"), run["onset"])
        if plots:
            import anomaly_plot

            anomaly_plot.draw_series(plots, data, path, times, values, run)
    return len(paths)


def read_series(path):
    with path.open(newline="") as file:
        rows = [(dt.datetime.fromisoformat(row["timestamp"]), float(row["value"])) for row in csv.DictReader(file)]
    return [at for at, _ in rows], np.array([value for _, value in rows])


def steps_of(times):
    """Steps since 1970, each later than the one before (clocks are put back in some files), and how many make a day."""
    seconds = np.array([at.replace(tzinfo=dt.UTC).timestamp() for at in times])
    cadence = float(np.median(np.diff(seconds)))
    steps = np.round(seconds / cadence).astype(int)
    for i in range(1, len(steps)):
        steps[i] = max(steps[i], steps[i - 1] + 1)
    return steps, max(1, round(86_400 / cadence))


def stream(values, steps, steps_per_day):
    """Scores of one series, its expected range before each row, and the scores as alerts see them."""
    detector = Detector(1, steps_per_day)
    incidents = Incidents.none(1, DEFAULTS.alert, DEFAULTS.calm_hours, steps_per_day)
    run = {name: np.zeros(len(values)) for name in ("score", "onset", "middle", "sd")}
    for i, (value, step) in enumerate(zip(values, steps.tolist(), strict=True)):
        expected = detector.expected(step)
        run["middle"][i], run["sd"][i] = expected.middle[0], expected.sd[0]
        score = detector.score(np.array([value]), step).score
        was_open = incidents.is_open(step)[0]
        incidents.begun(score, step)
        run["score"][i] = score[0]
        run["onset"][i] = 0.0 if was_open else score[0]
    return run


def score_hosts(data, scores, steps_per_day, plots):
    """All hosts of a set side by side, train and then test; how many."""
    paths = sorted(data.glob("*.npz"))
    read = [np.load(path) for path in paths]
    hosts = [np.concatenate((host["train"], host["test"])).astype(float) for host in read]
    found = stream_hosts(hosts, steps_per_day)
    for path, host, score in zip(paths, read, found, strict=True):
        write(scores / f"{path.stem}.npy", score[len(host["train"]) :])
        if plots:
            import anomaly_plot

            anomaly_plot.draw_host(plots, path, host, score[len(host["train"]) :])
    return len(paths)


def stream_hosts(hosts, steps_per_day):
    """Scores of each host's rows. Shorter ones have no samples at the end, which nothing before it depends on."""
    metrics = hosts[0].shape[1]
    detector = Detector(len(hosts) * metrics, steps_per_day)
    together = HostDetector(len(hosts), metrics, steps_per_day)
    found = np.zeros((max(map(len, hosts)), len(hosts)))
    row = np.empty((len(hosts), metrics))
    for step in range(len(found)):
        for i, host in enumerate(hosts):
            row[i] = host[step] if step < len(host) else np.nan
        deviation = detector.score(row.reshape(-1), step).deviation
        found[step] = together.score(deviation.reshape(row.shape), step)
    return [found[: len(host), i] for i, host in enumerate(hosts)]


def write(path, scores):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, scores)
