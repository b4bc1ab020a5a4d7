"""Rules compiled for arrays: each host's own form keeps its numbers, however many there are."""

import math

import pytest

from aggregator.analysis.rules import Override, Rule, Stored
from aggregator.live.variants import Variants

RULE = Rule(name="busy", metric="cpu.percent", warning=80.0, for_=60.0, recover_value=70.0)


def test_many_overrides_keep_their_numbers() -> None:
    """Every override is a row of its own, and stays what it is while others are added."""
    overrides = {(f"h{n}", "busy"): Override(warning=100.0 + n, for_=float(n)) for n in range(300)}
    variants = Variants([Stored(RULE, 3)], overrides)
    rows = [variants.of("busy", f"h{n}", {}) for n in range(300)]
    assert len(set(rows)) == 300
    assert [variants.low[row] for row in rows] == [100.0 + n for n in range(300)]
    assert [variants.hold[row] for row in rows] == list(range(300))
    assert [variants.margin[row] for row in rows] == [30.0 + n for n in range(300)]
    assert {variants.threshold(row, "warning") for row in rows} == {100.0 + n for n in range(300)}
    assert variants.low[0] == math.inf


@pytest.mark.parametrize(("enabled", "override", "applies"), [
    (True, None, True), (True, False, False), (False, True, True), (False, None, False)])
def test_a_host_switches_a_rule_on_or_off(enabled: bool, override: bool | None, applies: bool) -> None:
    """An override decides for its host; others have the rule as it is."""
    own = {("web-1", "busy"): Override(enabled=override)} if override is not None else {}
    variants = Variants([Stored(Rule(name="busy", metric="cpu.percent", warning=80.0, enabled=enabled), 1)], own)
    assert (variants.of("busy", "web-1", {}) > 0) == applies
    assert (variants.of("busy", "web-2", {}) > 0) == enabled
