"""Hosts with habits for tests of anomaly detection: what each metric is at a minute, and a detector that has learnt it."""

import functools

import numpy as np

from aggregator.analysis.core_metrics import METRICS
from aggregator.live.unusual import Block, Unusual

LEARNT_DAYS = 3
USUAL = np.linspace(5.0, 40.0, len(METRICS))


def minute(start, *, burst=False, metrics=METRICS):
    """Means of the watched metrics in the minute that begins at `start` (Unix s): a daily course, noise, and perhaps a burst.

    `metrics`: METRICS, and after them others, which take part in the burst.
    """
    noise = np.random.default_rng(start // 60).normal(0.0, 1.0, len(metrics))
    usual = np.append(USUAL, np.full(len(metrics) - len(METRICS), 20.0))
    values = usual * (1 + 0.2 * np.sin(start / 86_400 * 2 * np.pi)) + noise
    if burst:
        for metric, factor in (("disk.await_ms", 4.0), ("cpu.iowait_percent", 3.0), ("disk.write_ops_per_second", 2.0)):
            values[METRICS.index(metric)] *= factor
        values[len(METRICS):] *= 6.0
    return np.maximum(values, 0.0).astype(np.float32).astype(float)


def sample(start, *, burst=False, metrics=METRICS):
    """The same as the metrics of a sample."""
    return dict(zip(metrics, minute(start, burst=burst, metrics=metrics).tolist(), strict=True))


@functools.cache
def _state(until, metrics):
    unusual = Unusual(metrics)
    for start in range(until - LEARNT_DAYS * 86_400, until, 60):
        unusual.step(start, np.array([1]), minute(start, metrics=metrics)[None])
    return unusual.blocks[0].packed(1)


def learnt(until, host_id=1, metrics=METRICS):
    """The detector of one host that has learnt the days before `until` (Unix s, a whole minute)."""
    unusual, block = Unusual(metrics), Block(metrics)
    block.restore({host_id: _state(until, metrics)})
    unusual.join(block)
    return unusual
