"""Mass silence: whether hosts that are silent went one by one, or so many together that the way to them must be gone.

A guard for each rule of kind mass_silence, over the hosts to which the rule applies. At every tick:

1. A host is overdue when it has been silent nearly as long as makes it LOST: a beat and SLACK_SECONDS less, so that all that
   went together are counted before the first of them is told.
2. The rule's value is how many of 100 are overdue: of those that went within the rule's window, and of those heard of since (of
   hosts with long intervals nobody knows yet). Hosts that were silent before, stopped or drain do not count; fewer than
   LEAST_HOSTS are no mass, and the value is 0.
3. While the rule's alert is pending or fires, the guard is on: no host that goes is told to be down.
4. When the hosts are back it is off: those that stay silent are given RETURN seconds and then their usual limit, as after an
   outage of ingest's own connection.
5. When it has been on for the rule's `keep`, and ingest connected as long, it lets go: the hosts are down after all, each.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from aggregator.analysis.rules import Rule
from aggregator.live.bindings import NONE
from aggregator.live.hosts import Hosts
from aggregator.live.presence import RETURN, SAYS_DRAINING, SAYS_STOPPED, Presence

Floats = NDArray[np.float64]

LEAST_HOSTS = 5
CONNECT_SECONDS = 10.0
"""A new owner of a slot has so long to reach its broker before it says that it is not connected."""
SLACK_SECONDS = 2.0
"""How far the last samples of hosts that went together may lie apart beyond a beat."""


@dataclasses.dataclass(slots=True, eq=False)
class Guard:
    """One rule's guard. `row`: the host that has its alert; `began_at`: since when it is on, 0 while it is off.

    `heard_to`: the newest that had been heard of any host when it began. `applies`: by host row, whose silence it guards.
    """

    applies: NDArray[np.bool_]
    row: int = NONE
    began_at: float = 0.0
    heard_to: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """What a guard sees at a tick: rows that are overdue, of how many hosts, and the newest that was heard of them (Unix s)."""

    silent: NDArray[np.int64]
    hosts: int
    heard_to: float

    @property
    def percent(self) -> float:
        """The value of the rule."""
        return 100.0 * len(self.silent) / self.hosts if len(self.silent) >= LEAST_HOSTS else 0.0

    def text(self, *, is_connected: bool) -> str:
        """What is seen, in words."""
        if not len(self.silent):
            return "the hosts report again"
        share = f"{len(self.silent)} of {self.hosts} hosts ({100 * len(self.silent) / self.hosts:.0f} %) are silent"
        since = f"{datetime.fromtimestamp(self.heard_to, UTC):%H:%M:%S} UTC"
        own = "ingest is connected to its broker" if is_connected else "ingest is not connected to its broker either"
        return f"{share}, the last heard of at {since}; {own}"


class MassSilence:
    """The guards of a slot. `excused_at`: by host row, when a guard over it went off (Unix s)."""

    def __init__(self, hosts: Hosts, presence: Presence) -> None:
        self._hosts, self._presence = hosts, presence
        self._guards: dict[str, Guard] = {}
        self._spent = np.zeros(64)
        self._opened_at = self._heard_before = self._newest = self._heard_to = self._began_at = 0.0
        self.excused_at = np.zeros(64)

    def configure(self, rules: Sequence[Rule]) -> None:
        """Guard by these rules; whose hosts are looked up anew."""
        self._guards = {rule.name: dataclasses.replace(self._guards.get(rule.name) or Guard(np.empty(0, bool)),
                                                       applies=np.empty(0, bool)) for rule in rules}

    def relabel(self, row: int, applies: Callable[[str, int], bool]) -> None:
        """The labels of a host have changed."""
        for name, guard in self._guards.items():
            if row < len(guard.applies):
                guard.applies[row] = applies(name, row)

    def restore(self, rule: str, row: int, began_at: float) -> None:
        """The rule's alert is open, or was resolved by hand while its condition lasts: the guard is on."""
        guard, count = self._guards[rule], len(self._hosts)
        guard.row, guard.began_at = row, began_at
        guard.heard_to = min(began_at, float(self._hosts.received_at[:count].max(initial=0.0)))

    def spend(self, rows: NDArray[np.int64]) -> None:
        """These hosts are told to be down: until they are heard of again, their silence counts for no guard."""
        self._grow()
        self._spent[rows] = self._hosts.received_at[rows]

    def _grow(self) -> None:
        while len(self._hosts) > len(self._spent):
            self._spent = np.concatenate([self._spent, np.zeros_like(self._spent)])
            self.excused_at = np.concatenate([self.excused_at, np.zeros_like(self.excused_at)])

    # At a tick

    def listen(self, now: float, connected_at: float, applies: Callable[[str, int], bool]) -> bool:
        """A tick begins; hosts that are new are looked up. Whether to judge. `connected_at`: as `Engine.tick` has it."""
        self._grow()
        count = len(self._hosts)
        newest = float(self._hosts.received_at[:count].max(initial=0.0))
        self._heard_to, self._newest = self._newest or newest, newest
        opened_at = connected_at if math.isfinite(connected_at) else self._opened_at or now
        if opened_at != self._opened_at:
            received = self._hosts.received_at[:count]
            self._opened_at, self._heard_before = opened_at, float(received[received < opened_at].max(initial=0.0))
        for name, guard in self._guards.items():
            fresh = [applies(name, row) for row in range(len(guard.applies), count)]
            if fresh:
                guard.applies = np.concatenate([guard.applies, np.array(fresh, bool)])
        self._began_at = self._began_at or now
        return math.isfinite(connected_at) or now - self._began_at >= CONNECT_SECONDS

    def guard(self, rule: Rule) -> Guard:
        return self._guards[rule.name]

    def seen(self, rule: Rule, now: float) -> Seen:
        """What a rule's guard sees at `now`."""
        guard, count = self._guards[rule.name], len(self._hosts)
        received, interval = self._hosts.received_at[:count], self._hosts.interval[:count]
        said, limit = self._presence.limits(self._hosts)
        opened_at = np.maximum(self._opened_at, self.excused_at[:count])
        heard_at = received if guard.began_at else np.where(received >= opened_at, received, opened_at + RETURN)
        counts = guard.applies & (received > self._spent[:count]) & (said != SAYS_STOPPED) & (said != SAYS_DRAINING)
        counts &= self._was_there(guard, heard_at, limit + rule.window)
        overdue = counts & (now - heard_at > limit - interval - SLACK_SECONDS)
        heard_to = float(received[overdue].max(initial=0.0))
        return Seen(np.flatnonzero(overdue), int((overdue | (counts & (received > heard_to))).sum()), heard_to)

    def _was_there(self, guard: Guard, heard_at: Floats, lasting: Floats) -> NDArray[np.bool_]:
        """Which hosts were not silent for longer than `lasting` (s) when what is guarded against began, or may begin now.

        The measure is what had been heard last of any host a tick before, not the clock: it may have been set, or ingest held up.
        """
        received = self._hosts.received_at[:len(heard_at)]
        newest = guard.heard_to if guard.began_at else self._heard_to
        is_fresh, was_there = received >= self._opened_at, self._heard_before - received <= lasting
        if guard.began_at:
            return np.asarray((newest - received <= lasting) | (~is_fresh & was_there))
        return np.asarray((newest - heard_at <= lasting) & (is_fresh | was_there))

    def follow(self, rule: Rule, now: float, *, is_on: bool) -> None:
        """The rule's alert is pending or fires (`is_on`), or is over: whoever is still silent is given time to come back."""
        guard, count = self._guards[rule.name], len(self._hosts)
        if is_on and not guard.began_at:
            guard.began_at, guard.heard_to = now, self._heard_to
        elif not is_on and guard.began_at:
            guard.began_at = 0.0
            self.excused_at[:count][guard.applies] = now

    def is_patient(self, rule: Rule, now: float, connected_at: float) -> bool:
        """Whether the guard may stay on, as it has not been for the rule's `keep` while ingest was connected."""
        since = max(self._guards[rule.name].began_at, connected_at)
        return not rule.keep or now - since < rule.keep

    def let_go(self, rule: Rule, seen: Seen) -> None:
        """It has been on for too long: whoever is silent is told to be down, each."""
        self._guards[rule.name].began_at = 0.0
        self.spend(seen.silent)

    def held(self) -> NDArray[np.bool_]:
        """By host row, whether a guard that is on holds back that it is down."""
        found = np.zeros(len(self._hosts), bool)
        for guard in self._guards.values():
            if guard.began_at:
                found |= guard.applies
        return found
