"""Who may say and hear what on the broker: the one source of every broker's access rules. Pure.

Names of services have a dot, which no host name may have, so that no agent's credential can be taken for a service's.
"""

import dataclasses
import re
from collections.abc import Callable

from shared.names import is_host, partition
from shared.schedules import NAME
from shared.topics import DEFAULT_ROOT, Topics

SERVICES = ("ingest", "scheduler", "operator")
"""Those with a user of their own. The API needs none: it speaks to Postgres alone."""
DEFAULT_PREFIX = "homeassistant"


class RightError(ValueError):
    """A program's name or right is not one; the message says what is allowed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Grant:
    """What one user may publish and hear, as MQTT topic filters; nothing else."""

    user: str
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()


def service_user(name: str) -> str:
    """The user name of a service or a program."""
    return f"service.{name}"


def agent(host: str, root: str = DEFAULT_ROOT) -> Grant:
    """An agent speaks for its own host only. `host` may be what a broker puts the user name in for, such as `%u`."""
    return Grant(host, (f"{root}/agent/+/{host}/up/+",), (f"{root}/agent/+/{host}/down/+",))


def services(root: str = DEFAULT_ROOT, prefix: str = DEFAULT_PREFIX) -> tuple[Grant, ...]:
    """What ingest and the scheduler need, and nothing more; `operator`, for people and `drumbeat doctor`, has everything."""
    topics, everything = Topics(root), (f"{root}/#", f"{prefix}/#")
    ingest = Grant(
        service_user("ingest"),
        (*(_every_agent(topics.down, kind) for kind in ("watermark", "config")), topics.health("+"), topics.fleet_health(),
         topics.alert("+", "+"), topics.alert_event("+", "+"), topics.alert_summary("+"), topics.anomaly("+"),
         f"{prefix}/device/+/config"),
        (_every_agent(topics.up, "+"), *topics.alert_filters()))
    scheduler = Grant(
        service_user("scheduler"),
        (_every_agent(topics.down, "task"), topics.fire("+"), topics.execution("+", "+")),
        (topics.trigger("+"), topics.execution("+", "+"), _every_agent(topics.up, "execution")))
    operator = Grant(service_user("operator"), everything, (*everything, "$SYS/broker/version"))
    return ingest, scheduler, operator


def program(name: str, rights: str, root: str = DEFAULT_ROOT, prefix: str = DEFAULT_PREFIX) -> Grant:
    """A program of one's own: `rights` are words joined by `+`, as in `homeassistant+action`. Raises RightError."""
    if not is_host(name) or name in SERVICES:
        raise RightError(f"{name!r} cannot be the name of a program; allowed: a-z, 0-9, - and _, and none of "
                         f"{', '.join(SERVICES)}")
    found = [_right(right, Topics(root), prefix) for right in rights.split("+")]
    return Grant(service_user(name), tuple(topic for publish, _ in found for topic in publish),
                 tuple(topic for _, subscribe in found for topic in subscribe))


def _right(right: str, topics: Topics, prefix: str) -> tuple[list[str], list[str]]:
    word, _, schedule = right.partition(":")
    if not schedule and right in _SIMPLE:
        return _SIMPLE[right](topics, prefix)
    if word in _OF_A_SCHEDULE and re.fullmatch(NAME, schedule):
        return _OF_A_SCHEDULE[word](topics, schedule)
    raise RightError(f"{right!r} is no right; allowed: {', '.join(_SIMPLE)}, "
                     f"{', '.join(f'{each}:SCHEDULE' for each in _OF_A_SCHEDULE)}, joined by +")


_Right = tuple[list[str], list[str]]
_SIMPLE: dict[str, Callable[[Topics, str], _Right]] = {
    "event": lambda topics, _: ([topics.event("+")], []),
    "action": lambda topics, _: ([topics.alert_action("+", "+")], []),
    "bridge": lambda topics, _: ([_every_agent(topics.up, "+")], [_every_agent(topics.down, "+")]),
    "homeassistant": lambda topics, prefix: (
        [f"{prefix}/#"], [f"{prefix}/#", _every_agent(topics.up, "status"), topics.health("+"), topics.alert_summary("+")]),
}
_OF_A_SCHEDULE: dict[str, Callable[[Topics, str], _Right]] = {
    "execute": lambda topics, schedule: ([topics.execution(schedule, "+")], [topics.fire(schedule)]),
    "trigger": lambda topics, schedule: ([topics.trigger(schedule)], []),
}


def _every_agent(topic: Callable[[str, str], str], kind: str) -> str:
    return topic("+", kind).replace(f"/{partition('+')}/", "/+/", 1)
