"""What mutes an alert: silences, maintenance windows that come again, and hosts that stand behind one that is down. Pure.

`Quiet` is what was declared; `Quiet.at` is what of it is in force at one instant, asked for many alerts.
"""

import dataclasses
import graphlib
import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim
from msgspec import Meta, Struct

from aggregator.analysis.matching import Match, fits_any, fits_labels
from shared import cron

SHORTEST_SECONDS, LONGEST_SECONDS = 60.0, 604_800.0


@dataclasses.dataclass(frozen=True, slots=True)
class Silence:
    """Alerts that fit `match` notify nobody from `starts_at` until `ends_at` (Unix s)."""

    id: int
    match: Match
    starts_at: float
    ends_at: float


class Window(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Alerts that fit `match` notify nobody for `duration` seconds from each time that `cron` names in `timezone`."""

    name: str
    match: Match
    cron: Annotated[str, Meta(max_length=200)]
    duration: Annotated[float, Meta(ge=SHORTEST_SECONDS, le=LONGEST_SECONDS)]
    timezone: Annotated[str, Meta(max_length=64)] = "UTC"
    reason: Annotated[str, Meta(max_length=1000)] = ""
    enabled: bool = True


class Opening(NamedTuple):
    """One time that a window is open (Unix s)."""

    starts_at: float
    ends_at: float


def openings(window: Window, now: float) -> Iterator[Opening]:
    """Openings of a window in order: the one at `now` (Unix s) if it is open, then those to come."""
    before, _ = around(window, now)
    if now < before + window.duration:
        yield Opening(before, before + window.duration)
    for start in cron.fires(window.cron, ZoneInfo(window.timezone), now):
        yield Opening(start, start + window.duration)


def around(window: Window, now: float) -> tuple[float, float]:
    """The last time not after `now` at which a window opened, and the next after it (Unix s); ∓inf where there is none."""
    zone = ZoneInfo(window.timezone)
    back = CronSim(window.cron, datetime.fromtimestamp(math.floor(now) + 1, zone), reverse=True)
    earlier = next((at.astimezone(UTC).timestamp() for at in back), math.inf)
    # Going back, cronsim does not see the first pass of an hour that comes twice: walk forward from what it found.
    passed = itertools.takewhile(lambda at: at <= now, cron.fires(window.cron, zone, min(earlier, now) - 1))
    return max(passed, default=-math.inf), next(cron.fires(window.cron, zone, now), math.inf)


@dataclasses.dataclass(slots=True, eq=False)
class Timetable:
    """A window, and when it opened and will open around the instant it was last asked for: asking again is cheap."""

    window: Window
    opened_at: float = math.inf
    opens_at: float = -math.inf

    def is_open(self, now: float) -> bool:
        """Whether the window is open at `now` (Unix s)."""
        if not self.opened_at <= now < self.opens_at:
            self.opened_at, self.opens_at = around(self.window, now)
        return now < self.opened_at + self.window.duration


class Quiet:
    """Everything that was declared. `dependencies`: host → the hosts that it stands behind, each named by name."""

    def __init__(self, silences: Sequence[Silence] = (), windows: Sequence[Window] = (),
                 dependencies: Mapping[str, frozenset[str]] | None = None) -> None:
        self.silences, self.dependencies = tuple(silences), dependencies or {}
        self.timetables = tuple(Timetable(window) for window in windows if window.enabled)

    def at(self, now: float, down: Collection[str]) -> "InForce":
        """What is in force at `now` (Unix s), while the hosts named in `down` are down."""
        asked = [(f"silence {one.id}", one.match) for one in self.silences if one.starts_at <= now < one.ends_at]
        asked += [(f"window {one.window.name}", one.window.match) for one in self.timetables if one.is_open(now)]
        return InForce(asked, self.dependencies if down else {}, down)


class InForce:
    """What mutes at one instant. What it found for a host it keeps: ask it about all alerts of that instant, then drop it."""

    def __init__(self, asked: Sequence[tuple[str, Match]], dependencies: Mapping[str, frozenset[str]],
                 down: Collection[str]) -> None:
        self._asked, self._dependencies, self._down = asked, dependencies, down
        self._of_host: dict[str, tuple[list[tuple[str, Match]], tuple[str, ...]]] = {}

    def reasons(self, *, host: str, labels: Mapping[str, str], rule: str, type_: str, instance: str,
                severity: str) -> tuple[str, ...]:
        """Why an alert is muted: `silence 12`, `window nightly`, `host_down router-1`; empty where it is not.

        That the host itself is down is no reason: its host_down alert must be told, its others are unknown by then.
        """
        if host not in self._of_host:
            self._of_host[host] = self._search(host, labels)
        asked, behind = self._of_host[host]
        return (*(reason for reason, match in asked
                  if match.fits(host=host, labels=labels, rule=rule, type_=type_, instance=instance, severity=severity)), *behind)

    def _search(self, host: str, labels: Mapping[str, str]) -> tuple[list[tuple[str, Match]], tuple[str, ...]]:
        asked = [(reason, match) for reason, match in self._asked
                 if fits_labels(match.labels, labels) and fits_any(match.hosts, host)]
        above = upstream(host, self._dependencies)
        return asked, tuple(f"host_down {name}" for name in sorted(above) if name in self._down)


def problems(window: Window, now: float) -> dict[str, str]:
    """Field → what is wrong with it and how to mend it; empty where a window can be used."""
    wrong = {"timezone": said} if (said := cron.wrong_zone(window.timezone)) else {}
    said = cron.wrong(window.cron, now)
    return wrong | ({"cron": said} if said else {})


def upstream(host: str, dependencies: Mapping[str, Collection[str]]) -> set[str]:
    """Every host that `host` stands behind, directly or not; never itself."""
    found: set[str] = set()
    left = list(dependencies.get(host, ()))
    while left:
        name = left.pop()
        if name not in found and name != host:
            found.add(name)
            left += dependencies.get(name, ())
    return found


def turned(dependencies: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """The map seen from above: host → the hosts that stand directly behind it."""
    found: dict[str, list[str]] = {}
    for host, above in dependencies.items():
        for name in above:
            found.setdefault(name, []).append(host)
    return found


def cycle(dependencies: Mapping[str, Collection[str]]) -> list[str]:
    """A chain of hosts, each behind the next, that ends where it began (`[a, b, a]`); empty where there is none."""
    try:
        graphlib.TopologicalSorter(dependencies).prepare()
    except graphlib.CycleError as error:
        return list(reversed(error.args[1]))
    return []
