"""Cases that were named before drumbeat was built; tests/README.md says which test is which case."""

import re
import time
from pathlib import Path

import pytest
from agent_builders import collector_settings

from agent import once
from agent.collection import Collection
from agent.collectors import build
from aggregator.analysis import health

TESTS = Path(__file__).parents[1]
FIGURES = {
    "cpu": {"cpu.percent", "cpu.core_percent{core=0}", "cpu.load1", "cpu.load5", "cpu.load15", "cpu.count"},
    "memory": {"memory.percent", "memory.used_bytes", "memory.available_bytes", "memory.total_bytes", "swap.total_bytes"},
    "disk": {"disk.percent", "disk.free_bytes", "disk.read_bytes_per_second", "disk.write_bytes_per_second"},
}


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="no /proc here")
@pytest.mark.parametrize("what", FIGURES)
def test_collection_of(what: str) -> None:
    """This machine gives every figure that was named, plausible ones."""
    collection = Collection(build(collector_settings()), budget_seconds=5)
    _, metrics = once.read_once(collection, sleep=lambda _: time.sleep(0.05))
    collection.close()
    assert FIGURES[what] - metrics.keys() == set()
    assert 0 <= metrics[f"{what}.percent"] <= 100
    assert metrics["cpu.count"] >= 1
    assert metrics["memory.used_bytes"] <= metrics["memory.total_bytes"]


def test_overall_health_score() -> None:
    """The five components weigh 30, 25, 20, 15 and 10 percent, and the word follows from the sum."""
    assessed = health.assess("a", 0, {
        "cpu.percent": 80, "memory.percent": 70, "disk.percent": 70, "containers.total": 2, "containers.running": 1,
        "network.error_percent": 1.0})
    assert assessed is not None
    scores = {name: (part.score, part.weight) for name, part in assessed.components.items()}
    assert scores == {"cpu": (50, 0.30), "memory": (70, 0.25), "disk": (80, 0.20), "services": (50, 0.15), "network": (80, 0.10)}
    assert assessed.score == pytest.approx(15 + 17.5 + 16 + 7.5 + 8)
    assert assessed.status == "degraded"


def test_the_table_names_tests_that_exist() -> None:
    """Every test that tests/README.md names is there, in the file that it names."""
    named = re.findall(r"`((?:unit|service)/test_\w+\.py)::(test_\w+)", (TESTS / "README.md").read_text())
    assert len(named) >= 20
    assert [f"{file}::{test}" for file, test in named
            if not re.search(rf"^def {test}\(", (TESTS / file).read_text(), re.MULTILINE)] == []
