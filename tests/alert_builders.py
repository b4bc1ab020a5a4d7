"""A fleet in memory for tests of the alert engine: samples and ticks in, changes out, every time given."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from aggregator.analysis import health
from aggregator.analysis.rules import Override, Rule, Stored
from aggregator.live import frame as frames
from aggregator.live.alerts import Alert, Change
from aggregator.live.engine import Engine
from aggregator.live.hosts import Hosts, Stream
from aggregator.live.layouts import Columns, Layouts
from shared import wire

START = 1_800_000_000.0
LONG_AGO = START - 86_400.0


class Fleet:
    """Hosts, their layouts and an engine that watches them by `rules`."""

    def __init__(self, *rules: Rule, overrides: Mapping[tuple[str, str], Override] | None = None,
                 known: Mapping[str, float] | None = None) -> None:
        self.hosts, self.layouts = Hosts(), Layouts()
        for name, newest in (known or {}).items():
            row = self.hosts.add(name).row
            self.hosts.newest_ts[row] = self.hosts.received_at[row] = newest
            self.hosts.interval[row] = 5.0
        self.engine = Engine(self.hosts, self.layouts)
        self._inputs, self._figures = Columns(health.INPUTS, self.layouts), Columns(frames.FIGURES, self.layouts)
        self._revision = 0
        self.configure(*rules, overrides=overrides)

    def configure(self, *rules: Rule, overrides: Mapping[tuple[str, str], Override] | None = None,
                  now: float = START) -> list[Change]:
        """Other rules from now on, each with a new revision."""
        self._revision += 1
        self._rules, self._overrides = rules, overrides
        return self.engine.configure([Stored(rule, self._revision) for rule in rules], overrides or {}, now)

    def restarted(self, alerts: Sequence[Alert]) -> "Fleet":
        """What a new owner of the slot makes of the tables: the same hosts, what they said, rules, open and held alerts."""
        after = Fleet(*self._rules, overrides=self._overrides)
        for host in self.hosts:
            row = after.row(host.name)
            for name in ("newest_ts", "received_at", "interval"):
                getattr(after.hosts, name)[row] = getattr(self.hosts, name)[host.row]
            after.engine.set_labels(row, self.engine.labels.get(host.row, {}))
            after.engine._grow()
            for name in ("said", "said_at"):
                getattr(after.engine._presence, name)[row] = getattr(self.engine._presence, name)[host.row]
        after.engine.restore([dataclasses.replace(alert, host=after.hosts.all[alert.host.row]) for alert in alerts])
        return after

    def row(self, host: str = "a") -> int:
        return self.hosts.add(host).row

    def frame(self, samples: Iterable[tuple[str, float, Mapping[str, float]]], received_at: float,
              interval: float = 5.0) -> list[Change]:
        """One frame of (host, event time, metrics)."""
        intake = frames.Intake()
        for host, ts, metrics in samples:
            intake.add(Stream(self.hosts.add(host), 1), self.layouts.add(tuple(metrics)), 1, ts, interval, list(metrics.values()))
        frame, _ = frames.build(intake, self.layouts, self._inputs, self._figures, health.DEFAULT_PROFILE, received_at,
                                self.hosts.unusual)
        frames.note_newest(self.hosts, frame)
        return self.engine.frame(frame)

    def send(self, at: float, metrics: Mapping[str, float], host: str = "a", *, late: float = 0.2) -> list[Change]:
        """One sample of one host, `at` seconds after START, heard `late` seconds after."""
        return self.frame([(host, START + at, metrics)], START + at + late)

    def cpu(self, values: Sequence[float], begin: float = 0.0, step: float = 5.0, host: str = "a") -> list[Change]:
        """Samples of `cpu.percent`, `step` seconds apart."""
        return [change for i, value in enumerate(values)
                for change in self.send(begin + step * i, {"cpu.percent": value}, host)]

    def tick(self, at: float, connected_at: float = LONG_AGO) -> list[Change]:
        """A tick, `at` seconds after START."""
        return self.engine.tick(START + at, connected_at)

    def status(self, at: float, state: str, reason: str = "", host: str = "a", boot: str = "") -> list[Change]:
        return self.engine.status(self.row(host), wire.Status(
            host=host, state=state, reason=reason, boot_id=boot, ts=START + at), START + at)  # type: ignore[arg-type]

    def event(self, at: float, type_: str, host: str = "a", *, severity: wire.Severity | None = None, resolved: bool = False,
              message: str = "", instance: Mapping[str, str] | None = None) -> list[Change]:
        return self.engine.event(self.row(host), wire.Event(
            type=type_, host=host, ts=START + at, severity=severity, resolved=resolved, message=message,
            instance=dict(instance or {})))

    def containers(self, at: float, *containers: wire.Container, host: str = "a") -> list[Change]:
        return self.engine.containers(self.row(host), wire.Containers(host=host, ts=START + at, containers=list(containers)))

    def alert(self, rule: str, instance: str = "", host: str = "a") -> Alert | None:
        return self.engine.alerts.get((self.row(host), rule, instance))


def container(name: str, state: str = "running", *, restarts: int = 0, health: str = "",
              should_run: bool = True) -> wire.Container:
    return wire.Container(id=f"id-{name}", name=name, state=state, restarts=restarts, health=health, should_run=should_run)


def told(changes: Iterable[Change]) -> list[tuple[str, str]]:
    """(rule, kind) of changes."""
    return [(change.alert.rule, change.kind) for change in changes]


def kinds(changes: Iterable[Change]) -> list[str]:
    """What happened, in order."""
    return [change.kind for change in changes]
