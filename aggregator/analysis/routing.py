"""Routes: which alerts are told to which channels, how they are grouped, and when. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from aggregator.analysis.matching import Match

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Names = Annotated[list[Name], Meta(max_length=20)]
GROUPINGS = ("host", "rule", "type", "severity")


class Route(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"continue_": "continue"}):
    """Where alerts go that fit `match`. Times are seconds, `escalate_after` minutes.

    group_by: what the alerts of one message have in common: host, rule, type, severity or label:KEY. wait: how long a new
    group gathers before its first message; interval: least time between messages with news; repeat: after which a group that
    still fires is told again. escalate_after: an alert that nobody has acknowledged for so long is told to `escalate_to`,
    once (0: never). continue: routes after this one are tried too.
    """

    match: Match = Match()
    channels: Names
    group_by: Annotated[list[Annotated[str, Meta(max_length=100)]], Meta(max_length=8)] = msgspec.field(
        default_factory=lambda: ["type"])
    wait: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    interval: Annotated[float, Meta(ge=1, le=86_400)] = 300.0
    repeat: Annotated[float, Meta(ge=60, le=2_592_000)] = 14_400.0
    send_resolved: bool = True
    escalate_after: Annotated[float, Meta(ge=0, le=43_200)] = 0.0
    escalate_to: Names = []
    continue_: bool = False


class Subject(Struct, frozen=True, kw_only=True):
    """An alert as routes see it."""

    host: str
    labels: Mapping[str, str]
    rule: str
    type: str
    instance: str
    severity: str


def problems(route: Route, channels: Collection[str]) -> dict[str, str]:
    """Fields of a route that cannot be, and why; `channels` are the names of those that exist."""
    found = {field: f"there is no channel {', '.join(unknown)}; there are: {', '.join(sorted(channels)) or 'none yet'}"
             for field in ("channels", "escalate_to") if (unknown := sorted(set(getattr(route, field)) - set(channels)))}
    if not route.channels:
        found["channels"] = "name at least one channel"
    wrong = [word for word in route.group_by if word not in GROUPINGS and not (word.startswith("label:") and word[6:])]
    if wrong:
        found["group_by"] = f"{', '.join(wrong)}: allowed are {', '.join(GROUPINGS)} and label:KEY"
    if route.escalate_after and not route.escalate_to:
        found["escalate_to"] = "escalate_after is set, so name the channels to escalate to"
    if route.escalate_to and not route.escalate_after:
        found["escalate_after"] = "escalate_to is set, so say after how many minutes"
    return found


def fitting(routes: Iterable[tuple[str, Route]], subject: Subject) -> list[tuple[str, Route]]:
    """The routes that an alert takes: the first that fits, and further ones as long as they say `continue`."""
    taken: list[tuple[str, Route]] = []
    for name, route in routes:
        if route.match.fits(host=subject.host, labels=subject.labels, rule=subject.rule, type_=subject.type,
                            instance=subject.instance, severity=subject.severity):
            taken.append((name, route))
            if not route.continue_:
                break
    return taken


def group_labels(group_by: Sequence[str], subject: Subject) -> dict[str, str]:
    """What the alerts of the subject's group have in common: {type: low_disk}."""
    return {word: subject.labels.get(word.removeprefix("label:"), "") if word.startswith("label:") else getattr(subject, word)
            for word in group_by}


def group_key(labels: Mapping[str, str]) -> str:
    """A group's key among those of its route."""
    return msgspec.json.encode(sorted(labels.items())).decode()


def read_group_key(key: str) -> dict[str, str]:
    """What the alerts of a group have in common, from its key."""
    return dict(msgspec.json.decode(key, type=list[tuple[str, str]]))
