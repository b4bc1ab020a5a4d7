"""PNGs of what the anomaly benchmark scored, for a look by eye. Needs matplotlib, which nothing else here does."""

import datetime as dt
import json

import numpy as np

from aggregator.analysis.anomaly.parameters import DEFAULTS


def draw_series(plots, data, path, times, values, run):
    """A series with its band of two sd and labelled windows; below it the score, with a line where an incident begins."""
    labels = json.loads((data / "windows.json").read_text())
    windows = labels.get(path.relative_to(data).as_posix(), [])
    figure, (above, below) = axes(2)
    above.fill_between(times, run["middle"] - 2 * run["sd"], run["middle"] + 2 * run["sd"], color="tab:blue", alpha=0.2, lw=0)
    above.plot(times, values, color="tab:blue", lw=0.7)
    seen = values[np.isfinite(values)]
    margin = 0.1 * (seen.max() - seen.min()) + 1e-9
    above.set_ylim(seen.min() - margin, seen.max() + margin)
    draw_score(below, times, run["score"], DEFAULTS.alert)
    for axis in (above, below):
        for begin, end in windows:
            axis.axvspan(dt.datetime.fromisoformat(begin), dt.datetime.fromisoformat(end), color="orange", alpha=0.3)
        for i in np.flatnonzero(run["onset"] >= DEFAULTS.alert):
            axis.axvline(times[i], color="tab:red", lw=0.8)
    save(figure, plots, path)


def draw_host(plots, path, host, score):
    """A host's metrics, each from its own least to its own largest, with labelled rows; below them the score."""
    figure, (above, below) = axes(2)
    test = host["test"]
    low, high = test.min(axis=0), test.max(axis=0)
    above.imshow(((test - low) / np.where(high > low, high - low, 1)).T, aspect="auto", cmap="Greys", interpolation="none")
    draw_score(below, np.arange(len(score)), score, DEFAULTS.host_alert)
    for axis in (above, below):
        edges = np.flatnonzero(np.diff(np.concatenate(([0], host["label"], [0])).astype(int)))
        for begin, end in edges.reshape(-1, 2):
            axis.axvspan(begin, end, color="orange", alpha=0.3)
    save(figure, plots, path)


def axes(rows):
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt.subplots(rows, 1, sharex=True, figsize=(16, 6), height_ratios=[2] + [1] * (rows - 1))


def draw_score(axis, x, score, alert):
    axis.plot(x, np.minimum(score, 4 * alert), color="black", lw=0.7)
    axis.axhline(alert, color="tab:red", lw=0.8, ls=":")


def save(figure, plots, path):
    from matplotlib import pyplot as plt

    plots.mkdir(parents=True, exist_ok=True)
    figure.suptitle(path.stem)
    figure.tight_layout()
    figure.savefig(plots / f"{path.stem}.png", dpi=70)
    plt.close(figure)
