"""Rules in lines of text."""

import pytest

from aggregator.analysis.rules import Rule, definition
from aggregator.client import rule_texts


@pytest.mark.parametrize(("rule", "text"), [
    (Rule(name="a", metric="cpu.percent", warning=80.0, critical=97.5), ">= warning 80, critical 97.5"),
    (Rule(name="b", kind="forecast", metric="disk.percent{mount=*}", warning=86400.0, critical=21600.0),
     "<= warning 1d, critical 6h"),
    (Rule(name="c", kind="host_down", severity="critical"), "critical")])
def test_thresholds_are_written_for_people(rule, text):
    """Figures as they are, times that are left as durations, else the severity."""
    assert rule_texts.thresholds(definition(rule)) == text
