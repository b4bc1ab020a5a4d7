"""The protocol's document says what the program does: examples that decode, metrics and reasons as they are."""

import json
import re
from pathlib import Path

import pytest

from aggregator.analysis import rule_pack
from aggregator.analysis.rules import alert_key, instance_text
from aggregator.ingest import homeassistant
from shared import catalogue, wire
from shared.topics import DOWN_KINDS, UP_KINDS, Topics

DOCUMENT = (Path(__file__).resolve().parents[2] / "shared" / "README.md").read_text()
EXAMPLES = dict(re.findall(r"^### `([a-z-]+)`\n\n```json\n(.*?)```", DOCUMENT, re.MULTILINE | re.DOTALL))


def test_every_payload_has_an_example():
    """Each payload with a schema is shown."""
    assert set(EXAMPLES) == set(wire.SCHEMAS)


@pytest.mark.parametrize("kind", sorted(wire.SCHEMAS))
def test_examples_are_what_the_wire_takes(kind):
    """Each example decodes, and has no field that the payload does not know."""
    message = wire.decode(wire.SCHEMAS[kind], EXAMPLES[kind].encode())
    assert set(json.loads(EXAMPLES[kind])) <= set(message.__struct_fields__)


def test_metrics_of_the_examples_are_in_the_catalogue():
    """The sample shown uses the catalogue's names."""
    assert all(catalogue.find(name) for name in json.loads(EXAMPLES["sample"])["metrics"])


@pytest.mark.parametrize("metric", [*catalogue.CORE, *catalogue.INSTANCE, *catalogue.DERIVED],
                         ids=lambda metric: metric.name + "".join(metric.labels))
def test_every_metric_stands_as_the_catalogue_says(metric):
    """Each metric has its row, with its unit and meaning."""
    labels = f"{{{','.join(metric.labels)}}}" if metric.labels else ""
    assert f"| `{metric.name}{labels}` | {metric.unit} | {metric.help} |" in DOCUMENT


def test_no_metric_is_made_up():
    """The document lists no metric that the catalogue lacks."""
    rows = re.findall(r"^\| `([a-z0-9_.]+)(?:\{([a-z]+)\})?` \| \S+ \|", DOCUMENT, re.MULTILINE)
    known = {(metric.name, ",".join(metric.labels)) for metric in (*catalogue.CORE, *catalogue.INSTANCE, *catalogue.DERIVED)}
    assert set(rows) == known


def test_reasons_and_topics_are_told():
    """Every reason stands with its meaning, every kind of topic with its path."""
    for reason, meaning in wire.REASONS.items():
        assert f"| `{reason}` | {meaning} |" in DOCUMENT
    for kinds, direction in ((UP_KINDS, "up"), (DOWN_KINDS, "down")):
        for kind in kinds:
            assert f"`agent/{{partition}}/{{host}}/{direction}/{kind}`" in DOCUMENT


def test_topics_of_alerts_are_told():
    """Every topic that is built for alerts stands with its path; so does Home Assistant's."""
    topics = Topics("")
    built = (topics.alert("{host}", "{alert}"), topics.alert_event("{severity}", "{host}"), topics.alert_summary("{host}"),
             topics.alert_action("{host}", "{alert}"), topics.event("{host}"), f"/{homeassistant.topic('{host}')}")
    assert all(f"| `{path.removeprefix('/')}` |" in DOCUMENT for path in built)


def test_the_example_of_an_alert_is_one_that_rules_make():
    """The alert shown is of a rule that comes along, and its topic and threshold are those that this rule gives."""
    alert = wire.decode(wire.Alert, EXAMPLES["alert"].encode())
    rule = next(rule for rule in rule_pack.PACKS["host-defaults"] if rule.name == alert.rule)
    assert alert.alert == alert_key(rule.name, instance_text(alert.instance))
    assert (alert.threshold, alert.severity) == (rule.critical, "critical")
