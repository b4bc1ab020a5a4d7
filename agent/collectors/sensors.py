"""Sensors: temperatures and fans from /sys/class/hwmon; where that has no temperature, from /sys/class/thermal."""

import dataclasses
import re
from collections import Counter
from pathlib import Path
from typing import Literal

from agent.collectors import Reading, procfs
from shared.names import metric_name
from shared.wire import Sensor, Sensors

DISCOVERY_SECONDS = 60.0
MAX_SENSORS = 200
LOW_CELSIUS, HIGH_CELSIUS = -100.0, 300.0

_INPUT = re.compile(r"(temp|fan)(\d+)_input")


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """One sensor's file with what is known of it; limits in celsius."""

    path: str
    kind: Literal["temperature", "fan"]
    group: str
    label: str
    high: float | None = None
    critical: float | None = None

    @property
    def metric(self) -> str:
        name = procfs.label(f"{self.group} {self.label}")
        if self.kind == "fan":
            return metric_name("fan.rpm", fan=name)
        return metric_name("temperature.celsius", sensor=name)


def value(kind: str, text: str) -> float | None:
    """The number in a sensor's file: rpm, or thousandths of a degree; None where it is none or absurd."""
    try:
        number = int(text)
    except ValueError:
        return None
    if kind == "fan":
        return number if number >= 0 else None
    celsius = round(number / 1000, 1)
    return celsius if LOW_CELSIUS < celsius < HIGH_CELSIUS else None


def read_sources(root: str) -> list[Source]:
    """The sensors that this machine has."""
    base = f"{root}/sys/class/hwmon"
    chips = [(f"{base}/{chip}", procfs.read_text(f"{base}/{chip}/name") or chip)
             for chip in procfs.read_names(base)]
    repeated = {name for name, count in Counter(name for _, name in chips).items() if count > 1}
    sources = [source for path, name in chips for source in _read_chip(path, name, is_repeated=name in repeated)]
    if not any(source.kind == "temperature" for source in sources):
        sources += _read_zones(f"{root}/sys/class/thermal")
    return sources[:MAX_SENSORS]


def _read_chip(path: str, name: str, *, is_repeated: bool) -> list[Source]:
    group = f"{name}-{Path(path, 'device').resolve().name}" if is_repeated else name
    sources = []
    for file in procfs.read_names(path):
        if (found := _INPUT.fullmatch(file)) is None:
            continue
        stem = f"{path}/{found[1]}{found[2]}_"
        label = procfs.read_text(stem + "label") or f"{found[1]}{found[2]}"
        if found[1] == "fan":
            sources.append(Source(stem + "input", "fan", group, label))
        else:
            high, critical = (value("temperature", procfs.read_text(stem + limit)) for limit in ("max", "crit"))
            sources.append(Source(stem + "input", "temperature", group, label, high, critical))
    return sources


def _read_zones(base: str) -> list[Source]:
    zones = [zone for zone in procfs.read_names(base) if zone.startswith("thermal_zone")]
    return [Source(f"{base}/{zone}/temp", "temperature", "thermal",
                   f"{procfs.read_text(f'{base}/{zone}/type')} {zone[12:]}".strip()) for zone in zones]


class SensorsCollector:
    """Collector `sensors`. Some chips answer slowly over a bus of their own, so it has a thread."""

    name = "sensors"
    interval = 10.0
    may_block = True

    def __init__(self, host: str, root: str = "/") -> None:
        self._host, self._root = host, root
        self._sources: list[Source] = []
        self._found_at = float("-inf")

    def open(self) -> str | None:
        self._sources = read_sources(self._root)
        if not self._sources:
            return "no sensors: nothing below /sys/class/hwmon and /sys/class/thermal (usual in a virtual machine)"
        return None

    def collect(self, now: float, monotonic: float) -> Reading:
        if monotonic - self._found_at >= DISCOVERY_SECONDS:
            self._found_at = monotonic
            self._sources = read_sources(self._root)
        read = [(source, value(source.kind, procfs.read_text(source.path))) for source in self._sources]
        metrics = {source.metric: number for source, number in read if number is not None}
        hottest = [number for source, number in read if number is not None and source.kind == "temperature"]
        if hottest:
            metrics = {"temperature.celsius": max(hottest)} | metrics
        sensors = [Sensor(kind=source.kind, group=procfs.label(source.group), label=procfs.label(source.label),
                          current=number, high=source.high, critical=source.critical)
                   for source, number in read if number is not None]
        return Reading(metrics, {"sensors": Sensors(host=self._host, ts=now, available=True, sensors=sensors)})

    def close(self) -> None:
        self._found_at = float("-inf")
