"""The daily report as Markdown, from figures. Pure."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from aggregator.analysis.messages import duration

SHOWN = 10


@dataclasses.dataclass(frozen=True, slots=True)
class Host:
    """A host with its health score."""

    name: str
    score: float
    cpu: float | None
    memory: float | None
    disk: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Fired:
    """How often a rule fired, how bad it was, and on how many hosts."""

    rule: str
    severity: str
    count: int
    hosts: int


@dataclasses.dataclass(frozen=True, slots=True)
class Active:
    """An alert that fires."""

    host: str
    severity: str
    message: str
    fired_at: datetime


@dataclasses.dataclass(frozen=True, slots=True)
class Filling:
    """A file system, and in how many seconds it is full at its present pace."""

    host: str
    metric: str
    percent: float
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Ran:
    """How the executions of a schedule ended: state → how many. `problem`: what the latest bad one said."""

    schedule: str
    states: Mapping[str, int]
    problem: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that a report tells. `silent`: hosts that nothing comes from."""

    since: datetime
    until: datetime
    hosts: int
    score: float | None
    by_status: Mapping[str, int]
    silent: Sequence[str]
    worst: Sequence[Host]
    fired: Sequence[Fired]
    active: Sequence[Active]
    filling: Sequence[Filling]
    ran: Sequence[Ran]


def markdown(facts: Facts) -> str:
    """The report. What hosts and rules say in it is plain text: nothing of it becomes markup."""
    sections = (("Fleet", _fleet(facts)), ("Worst hosts", map(_host, facts.worst[:SHOWN])),
                ("Alerts that fired", map(_fired, facts.fired[:SHOWN])),
                ("Alerts that still fire", map(_active, facts.active[:SHOWN])),
                ("File systems that fill up", map(_filling, facts.filling[:SHOWN])), ("Schedules", map(_ran, facts.ran)))
    lines = [f"# drumbeat: {facts.until:%Y-%m-%d}", "", f"{facts.since:%Y-%m-%d %H:%M} to {facts.until:%Y-%m-%d %H:%M} UTC"]
    for title, entries in sections:
        lines += ["", f"## {title}", "", *([f"* {entry}" for entry in entries] or ["none"])]
    return "\n".join([*lines, ""])


def _fleet(facts: Facts) -> Iterator[str]:
    score = "" if facts.score is None else f", mean health score {facts.score:.1f}"
    yield f"{facts.hosts} hosts{score}"
    if told := ", ".join(f"{count} {status}" for status, count in facts.by_status.items() if count):
        yield told
    if facts.silent:
        more = len(facts.silent) - SHOWN
        yield f"silent: {', '.join(facts.silent[:SHOWN])}{f' and {more} more' if more > 0 else ''}"


def _host(host: Host) -> str:
    figures = [f"{name} {value:.0f} %" for name, value in (("cpu", host.cpu), ("memory", host.memory), ("disk", host.disk))
               if value is not None]
    return f"{host.name}: score {host.score:.1f}" + (f" ({', '.join(figures)})" if figures else "")


def _fired(fired: Fired) -> str:
    times, hosts = "once" if fired.count == 1 else f"{fired.count} times", "host" if fired.hosts == 1 else "hosts"
    return f"{fired.rule}: {times} on {fired.hosts} {hosts}, at worst {fired.severity}"


def _active(active: Active) -> str:
    return f"{active.severity}: {active.host}: {_plain(active.message)} (since {active.fired_at:%Y-%m-%d %H:%M})"


def _filling(filling: Filling) -> str:
    return f"{filling.host}: {_plain(filling.metric)} is {filling.percent:.1f} %, full in {duration(filling.seconds)}"


def _ran(ran: Ran) -> str:
    states = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in sorted(ran.states.items()))
    return f"{ran.schedule}: {states}" + (f"; {_plain(ran.problem)}" if ran.problem else "")


def _plain(text: str) -> str:
    """One line without what Markdown would take for markup."""
    return " ".join("".join(f"\\{char}" if char in "\\`*_[]<>#|" else char for char in text).split())[:300]
