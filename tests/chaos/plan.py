"""Which part is killed or stopped when, for how long: drawn from a seed, the same plan for the same seed. Pure."""

import dataclasses

from aggregator.store.slots import LEASE_SECONDS

NODES = "broker"
"""How the names of a broker's servers begin; of those of a cluster one at a time is away, but in the backlog phase."""
OWNER = "ingest-owner"
"""The ingest that holds the slot when the blow falls."""
ZOMBIE_SECONDS = LEASE_SECONDS + 2.5
"""Longer than a lease: the standby has taken the slot over when its former owner goes on."""
BACKLOG_SECONDS = (6.5, 7.5)


@dataclasses.dataclass(frozen=True, slots=True)
class Blow:
    """At `at` a part is killed (-9), or stopped; `seconds` later it is started again, or continued. Seconds from the start."""

    at: float
    part: str
    kind: str
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Pace:
    """How a run goes: seconds of random blows a round, how many rounds, and how long a stop may be."""

    random_seconds: float = LEASE_SECONDS + 9.0
    rounds: int = 1
    longest_stop: float = 5.0
    mean_pause: float = 0.6


def plan(chance, parts, pace):
    """(every blow, seconds until the last has healed): rounds of random blows, all at once, and the backlog phase."""
    found, at = [], 1.0
    for _ in range(pace.rounds):
        found += random_blows(chance, parts, at, pace)
        at = healed(found) + 0.5
        found += [Blow(at, part, "kill", chance.uniform(0.1, 2.5)) for part in parts]
        at = healed(found) + 1.0
        found += backlog(chance, parts, at)
        at = healed(found) + 1.0
    return sorted(found, key=lambda blow: blow.at), at


def healed(blows):
    """When the last of them is over."""
    return max(blow.at + blow.seconds for blow in blows)


def random_blows(chance, parts, begin, pace):
    """Each part is killed and stopped in turn, in random order; the owner of the slot once for longer than its lease.

    While that one is stopped, Postgres and the ingests are left alone: what is tried is the fence, not a broken connection.
    """
    zombie = Blow(begin + chance.uniform(2.0, 4.0), OWNER, "stop", ZOMBIE_SECONDS + chance.uniform(0.0, pace.longest_stop / 2))
    found, at, free = [zombie], begin, {}
    waiting = []
    while (at := at + chance.uniform(0.2, 1.8) * pace.mean_pause) < begin + pace.random_seconds:
        if not waiting:
            waiting = [(part, kind) for part in parts for kind in ("kill", "stop")]
            chance.shuffle(waiting)
        seconds = {"kill": chance.uniform(0.1, 2.5), "stop": chance.uniform(0.5, pace.longest_stop)}
        chosen = next((one for one in waiting if at >= free.get(_group(one[0]), 0.0)
                       and not _meets(zombie, one[0], at, seconds[one[1]])), None)
        if chosen is not None:
            waiting.remove(chosen)
            part, kind = chosen
            found.append(Blow(at, part, kind, seconds[kind]))
            free[_group(part)] = at + seconds[kind] + 0.5
    return found


def backlog(chance, parts, at):
    """Ingest goes down, a backlog grows, then the broker is killed, then both come back."""
    before = chance.uniform(*BACKLOG_SECONDS)
    away = chance.uniform(0.5, 1.5)
    return [*(Blow(at, part, "kill", before + away) for part in parts if part.startswith("ingest")),
            *(Blow(at + before, part, "kill", away) for part in parts if part.startswith(NODES))]


def _group(part):
    """Of a cluster's servers one is away at a time."""
    return NODES if part.startswith(NODES) else part


def _meets(zombie, part, at, seconds):
    is_its = part.startswith(("ingest", "postgres"))
    return is_its and at < zombie.at + zombie.seconds + 0.5 and at + seconds + 1.0 > zombie.at
