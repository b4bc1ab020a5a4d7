"""Home Assistant's MQTT discovery: one device a host, whose entities read the topics that drumbeat publishes anyway. Pure.

A device-based discovery message, retained on `{prefix}/device/drumbeat_{host}/config`
(https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload). Score and figures are unavailable while the
host is away, by its status topic, which its last will sets; whether it is there and whether it has alerts is told always:
a host that is away has one.
"""

from typing import Any

import msgspec

from shared import __version__, wire
from shared.topics import Topics

DEFAULT_PREFIX = "homeassistant"

Message = tuple[str, bytes]

_IS_AWAY = "value_json.state == 'offline'"
_FIGURES: dict[str, tuple[str, str, str]] = {
    "cpu": ("CPU", "cpu.percent", "mdi:cpu-64-bit"),
    "memory": ("Memory", "memory.percent", "mdi:memory"),
    "disk": ("Disk", "disk.percent", "mdi:harddisk"),
}
"""Component of the health score → (name shown, its main metric, icon)."""


def messages(host: str, inventory: wire.Inventory | None, topics: Topics, prefix: str = DEFAULT_PREFIX) -> list[Message]:
    """What makes the device of `host` known: (topic, payload), to be retained, QoS 1. `inventory` tells what it is."""
    config = {"device": _device(host, inventory), "origin": {"name": "drumbeat", "sw_version": __version__},
              "components": _figures(host, topics) | _alerts(host, topics)}
    return [(topic(host, prefix), msgspec.json.encode(config))]


def topic(host: str, prefix: str = DEFAULT_PREFIX) -> str:
    """Where the device of `host` is made known."""
    return f"{prefix}/device/{_id(host)}/config"


def _id(host: str) -> str:
    return f"drumbeat_{host}"


def _device(host: str, inventory: wire.Inventory | None) -> dict[str, Any]:
    known = inventory or wire.Inventory(host=host, ts=0.0)
    told = {"model": known.os, "model_id": known.architecture, "hw_version": known.cpu_model, "sw_version": known.agent_version,
            "suggested_area": known.labels.get("site", "")}
    return {"identifiers": [_id(host)], "name": host, "manufacturer": "drumbeat"} | {
        key: value for key, value in told.items() if value}


def _figures(host: str, topics: Topics) -> dict[str, dict[str, Any]]:
    """Sensors of the host's health, there while the host is."""
    away = {"availability_topic": topics.up(host, "status"),
            "availability_template": f"{{{{ 'offline' if {_IS_AWAY} else 'online' }}}}", "state_topic": topics.health(host)}
    found: dict[str, dict[str, Any]] = {
        "score": {"name": "Health score", "icon": "mdi:heart-pulse", "state_class": "measurement",
                  "suggested_display_precision": 1, "value_template": "{{ value_json.score }}"},
        "status": {"name": "Health", "icon": "mdi:heart", "device_class": "enum",
                   "options": ["healthy", "degraded", "warning", "critical"],
                   "value_template": "{{ value_json.status }}", "json_attributes_topic": topics.health(host),
                   "json_attributes_template": "{{ {'reasons': value_json.reasons | map(attribute='text') | list, "
                                               "'recommendations': value_json.recommendations} | tojson }}"}}
    for component, (name, metric, icon) in _FIGURES.items():
        found[component] = {
            "name": name, "icon": icon, "state_class": "measurement", "unit_of_measurement": "%",
            "suggested_display_precision": 1,
            "value_template": f"{{{{ value_json.components.get('{component}', {{}}).get('details', {{}}).get('{metric}') }}}}"}
    return {key: _entity("sensor", host, key) | away | entity for key, entity in found.items()}


def _alerts(host: str, topics: Topics) -> dict[str, dict[str, Any]]:
    """What is told whether the host is there or not: its connection and its alerts."""
    summary = topics.alert_summary(host)
    return {
        "connection": _entity("binary_sensor", host, "connection") | {
            "name": "Connection", "device_class": "connectivity", "state_topic": topics.up(host, "status"),
            "value_template": f"{{{{ 'OFF' if {_IS_AWAY} else 'ON' }}}}"},
        "problem": _entity("binary_sensor", host, "problem") | {
            "name": "Problem", "device_class": "problem", "state_topic": summary,
            "value_template": "{{ 'ON' if value_json.active > 0 else 'OFF' }}", "json_attributes_topic": summary,
            "json_attributes_template": "{{ {'worst': value_json.worst, 'messages': value_json.messages} | tojson }}"},
        "alerts": _entity("sensor", host, "alerts") | {
            "name": "Active alerts", "icon": "mdi:bell", "state_class": "measurement", "state_topic": summary,
            "value_template": "{{ value_json.active }}"},
    }


def _entity(platform: str, host: str, key: str) -> dict[str, Any]:
    return {"platform": platform, "unique_id": f"{_id(host)}_{key}"}
