"""Health scores: golden values, attribution, and vectorised = one by one."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.analysis import health

PERCENT = st.floats(0, 100)
METRICS = st.dictionaries(st.sampled_from(health.INPUTS), PERCENT, max_size=13)


@pytest.mark.parametrize(("percent", "score"), [
    (0, 100), (45.2, 80.63), (70, 70), (80, 50), (90, 30), (95, 15), (100, 0)])
def test_cpu_curve(percent, score):
    """The three-piece line of the CPU score; golden value 45.2 → 80.63."""
    assert health.assess("a", 0, {"cpu.percent": percent}).components["cpu"].score == pytest.approx(score, abs=0.005)


@pytest.mark.parametrize(("metrics", "component", "score"), [
    ({"cpu.percent": 0, "cpu.load1": 6, "cpu.count": 4}, "cpu", 95),
    ({"cpu.percent": 0, "cpu.load1": 400, "cpu.count": 4}, "cpu", 80),
    ({"memory.percent": 70, "swap.percent": 75}, "memory", 60),
    ({"memory.percent": 70, "swap.percent": 50}, "memory", 70),
    ({"disk.percent": 70}, "disk", 80), ({"disk.percent": 90}, "disk", 30), ({"disk.percent": 95}, "disk", 15),
    ({"disk.percent": 90, "disk.free_bytes": 101e9}, "disk", 35), ({"disk.percent": 1, "disk.free_bytes": 1e12}, "disk", 100),
    ({"containers.total": 4, "containers.running": 3, "containers.unhealthy": 1, "containers.stopped": 1}, "services", 60),
    ({"containers.total": 9, "containers.running": 0, "containers.stopped": 9}, "services", 0),
    ({"network.error_percent": 1}, "network", 80), ({"network.error_percent": 50, "network.drop_percent": 50}, "network", 0)])
def test_components(metrics, component, score):
    """Each component's formula with its penalties and bounds."""
    assert health.assess("a", 0, metrics).components[component].score == pytest.approx(score)


def test_a_host_without_containers_has_no_services_component():
    """No Docker, or no containers: the component is absent and the weights are renormalised."""
    assessed = health.assess("a", 0, {"cpu.percent": 0, "memory.percent": 70, "containers.total": 0})
    assert set(assessed.components) == {"cpu", "memory"}
    assert assessed.score == pytest.approx((0.30 * 100 + 0.25 * 70) / 0.55, abs=0.005)


@pytest.mark.parametrize(("score", "status"), [
    (100, "healthy"), (80, "healthy"), (79.99, "degraded"), (60, "degraded"), (59.99, "warning"),
    (40, "warning"), (39.99, "critical")])
def test_status_bands_are_half_open(score, status):
    """≥ 80 healthy, ≥ 60 degraded, ≥ 40 warning, else critical."""
    assert health.status(score) == status


def test_recommendations_name_the_mount_and_say_when_all_is_well():
    """A full disk is named; without reasons one sentence says that all is well."""
    full = health.assess("a", 0, {"disk.percent": 96, "disk.percent{mount=/}": 20, "disk.percent{mount=/var}": 96})
    assert any("/var" in text for text in full.recommendations)
    assert health.assess("a", 0, {"cpu.percent": 10}).recommendations == [health.ALL_WELL]


@given(METRICS)
def test_every_lost_point_is_attributed(metrics):
    """Per component, the reasons add up to what the score lacks; the score is the weighted mean."""
    assessed = health.assess("a", 0, metrics)
    if assessed is None:
        return
    for name, part in assessed.components.items():
        lost = sum(loss.points for loss in assessed.reasons if loss.component == name)
        assert lost == pytest.approx(100 - part.score, abs=0.05)
    weight = sum(part.weight for part in assessed.components.values())
    mean = sum(part.weight * part.score for part in assessed.components.values()) / weight
    assert assessed.score == pytest.approx(mean, abs=0.02)


@given(st.lists(METRICS, min_size=1, max_size=20))
def test_vectorised_equals_one_by_one(fleet):
    """A frame's scores are those of its hosts one at a time."""
    inputs = np.array([[metrics.get(name, math.nan) for name in health.INPUTS] for metrics in fleet])
    together = health.scores(inputs)
    alone = np.vstack([health.scores(inputs[i:i + 1]) for i in range(len(fleet))])
    np.testing.assert_array_equal(together, alone)
    assert not ((together < 0) | (together > 100)).any()
