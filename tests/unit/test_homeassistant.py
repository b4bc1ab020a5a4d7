"""Home Assistant's discovery: messages as it documents them, and templates that read what drumbeat really publishes."""

import json
import re
from pathlib import Path

import jsonschema
import msgspec
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from aggregator.analysis import health
from aggregator.ingest import homeassistant
from shared import wire
from shared.names import host_name
from shared.topics import Topics

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
SCHEMA = json.loads((GOLDEN / "homeassistant-device.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
TOPICS = Topics()
INVENTORY = wire.Inventory(host="web-1", ts=1.0, os="Debian GNU/Linux 12", architecture="x86_64", cpu_model="Xeon",
                           labels={"site": "berlin"}, agent_version="0.1.0")
STATUS, HEALTH, SUMMARY = TOPICS.up("web-1", "status"), TOPICS.health("web-1"), TOPICS.alert_summary("web-1")


def config(inventory=INVENTORY, host="web-1"):
    [(_, payload)] = homeassistant.messages(host, inventory, TOPICS)
    return json.loads(payload)


def rendered(key, message, template="value_template"):
    """What Home Assistant reads out of a payload for one entity."""
    entity = config()["components"][key]
    environment = ImmutableSandboxedEnvironment()
    return environment.from_string(entity[template]).render(value_json=json.loads(wire.encode(message)))


def assessed(metrics):
    return health.assess("web-1", 1763668800.0, metrics)


def status(state):
    return wire.Status(host="web-1", state=state, ts=1.0)


@pytest.mark.parametrize("inventory", [INVENTORY, None, wire.Inventory(host="web-1", ts=1.0)])
def test_messages_are_as_home_assistant_documents_them(inventory):
    """Whatever is known of the host, the message has documented keys and values alone, and those that it must have."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    VALIDATOR.validate(config(inventory))


@pytest.mark.parametrize(("path", "value"), [
    (("device", "site"), "berlin"), (("components", "score", "payload_on"), "1"),
    (("components", "problem", "device_class"), "trouble"),
    (("components", "status", "unit_of_measurement"), "%"), (("components", "cpu", "state_topic"), "drumbeat/+/health")])
def test_the_schema_refuses_what_home_assistant_has_not(path, value):
    """The schema is no rubber stamp: a key or value beyond the documentation fails."""
    broken = config()
    *places, last = path
    target = broken
    for place in places:
        target = target[place]
    target[last] = value
    assert not VALIDATOR.is_valid(broken)


@pytest.mark.parametrize("host", ["web-1", "a", "0_-x" * 15, host_name("Büro.PC 7")])
def test_topics_and_ids_are_in_home_assistants_grammar(host):
    """Any host name gives a topic that Home Assistant takes, and ids that no other host or entity has."""
    [(topic, payload)] = homeassistant.messages(host, None, TOPICS, "home/ha")
    assert re.fullmatch(r"home/ha/device/[a-zA-Z0-9_-]+/config", topic)
    ids = [entity["unique_id"] for entity in json.loads(payload)["components"].values()]
    assert len(set(ids)) == len(ids)
    assert all(each.startswith(f"drumbeat_{host}_") for each in ids)


def test_the_device_tells_what_the_host_is():
    """Name, system, version and place come from the inventory."""
    assert config()["device"] == {
        "identifiers": ["drumbeat_web-1"], "name": "web-1", "manufacturer": "drumbeat", "model": "Debian GNU/Linux 12",
        "model_id": "x86_64", "hw_version": "Xeon", "sw_version": "0.1.0", "suggested_area": "berlin"}


def test_every_topic_is_one_that_drumbeat_retains():
    """Entities read status, health and summary, all retained, so that Home Assistant knows them at once after its start."""
    entities = config()["components"].values()
    read = {value for entity in entities for key, value in entity.items() if key.endswith("_topic")}
    assert read == {STATUS, HEALTH, SUMMARY}


def test_figures_are_read_from_health():
    """Score, status, CPU, memory and disk come out of a real health message; reasons are attributes."""
    message = assessed({"cpu.percent": 96.0, "memory.percent": 62.5, "disk.percent": 64.0})
    assert rendered("score", message) == str(message.score)
    assert rendered("status", message) == message.status
    assert rendered("status", message) in config()["components"]["status"]["options"]
    assert [rendered(key, message) for key in ("cpu", "memory", "disk")] == ["96.0", "62.5", "64.0"]
    attributes = json.loads(rendered("status", message, "json_attributes_template"))
    assert attributes["reasons"][0] == "CPU is 96.0 % busy"
    assert attributes["recommendations"] == message.recommendations


def test_a_figure_that_a_host_lacks_is_unknown():
    """A component that is absent reads as Home Assistant's `None`: unknown, not an error and not 0."""
    message = assessed({"cpu.percent": 5.0})
    assert [rendered(key, message) for key in ("cpu", "memory", "disk")] == ["5.0", "None", "None"]


@pytest.mark.parametrize(("state", "availability", "connection"), [
    ("online", "online", "ON"), ("draining", "online", "ON"), ("offline", "offline", "OFF")])
def test_the_will_makes_figures_unavailable_and_alerts_stay(state, availability, connection):
    """With its last will a host's figures are unavailable and it is disconnected; that it has a problem can still be seen."""
    components = config()["components"]
    assert {key for key, entity in components.items() if "availability_topic" in entity} == {
        "score", "status", "cpu", "memory", "disk"}
    assert rendered("score", status(state), "availability_template") == availability
    assert rendered("connection", status(state)) == connection


@pytest.mark.parametrize(("active", "is_on"), [(0, "OFF"), (1, "ON"), (7, "ON")])
def test_a_problem_is_an_active_alert(active, is_on):
    """The binary sensor follows the number of active alerts; what they are is an attribute."""
    message = wire.AlertSummary(host="web-1", ts=1.0, active=active, worst="error", messages=["cpu"] * active)
    assert rendered("problem", message) == is_on
    assert rendered("alerts", message) == str(active)
    attributes = json.loads(rendered("problem", message, "json_attributes_template"))
    assert attributes == {"worst": "error", "messages": ["cpu"] * active}


def test_messages_are_the_same_each_time():
    """Nothing in a message depends on the moment, so that repeating it is no news."""
    assert homeassistant.messages("web-1", INVENTORY, TOPICS) == homeassistant.messages(
        "web-1", msgspec.structs.replace(INVENTORY, ts=2.0, boot_id="x"), TOPICS)
