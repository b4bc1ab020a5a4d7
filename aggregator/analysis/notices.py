"""What a notification says: its content as it is stored, a title and a text for people, JSON for programs. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from aggregator.analysis.matching import rank
from aggregator.analysis.messages import TemplateError, compiled, names
from shared import wire

SHOWN_ALERTS = 20
KEPT_ALERTS = 200
TITLE_CHARS = 200
MAX_BODY_CHARS = 1_000_000
VERSION = 1

FIELDS = frozenset({"version", "notification", "kind", "route", "group", "title", "text", "channel", "alerts", "left_out",
                    "made_at", "sent_at", "body"})
"""What a webhook's template may name: the fields of `document`, and the text that people get."""

Kind = Literal["alerts", "repeat", "escalation", "test", "channel", "report"]


class Told(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One alert of a notification as it was when that was made."""

    alert: wire.Alert
    is_new: bool = False
    resolved_at: float | None = None


class Content(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that is said, kept with the notification, so that a second attempt says the same. `left_out`: alerts beyond 200."""

    kind: Kind
    route: str = ""
    group: dict[str, str] = {}
    alerts: list[Told] = []
    left_out: int = 0
    channel: str = ""
    text: str = ""
    made_at: float


def content(kind: Kind, route: str, group: Mapping[str, str], alerts: Sequence[Told], now: float) -> Content:
    """A notification about alerts, the worst and newest first."""
    ordered = sorted(alerts, key=lambda one: (one.resolved_at is not None, not one.is_new, -rank(one.alert.severity),
                                              one.alert.host, one.alert.rule))
    return Content(kind=kind, route=route, group=dict(group), alerts=ordered[:KEPT_ALERTS],
                   left_out=max(0, len(ordered) - KEPT_ALERTS), made_at=now)


def test_content(channel: str, by: str, now: float) -> Content:
    """What a test of a channel says."""
    return Content(kind="test", channel=channel, made_at=now,
                   text=f"This is a test of the channel {channel}, asked for by {by}. Notifications arrive here.")


def channel_content(channel: str, since: float, error: str, now: float) -> Content:
    """What the other channels of a route are told when one fails."""
    return Content(kind="channel", channel=channel, made_at=now,
                   text=f"The channel {channel} fails since {_at(since)}: {error}\nWhat it has to tell is kept for 4 hours.")


def report_content(text: str, now: float) -> Content:
    """A daily report; its first line is its title."""
    return Content(kind="report", text=text, made_at=now)


def worst(told: Content) -> str:
    """The severity of the worst alert that still fires, else of the worst; empty without alerts."""
    firing = [one for one in told.alerts if one.resolved_at is None] or told.alerts
    return max((one.alert.severity for one in firing), key=rank, default="")


def is_resolution(told: Content) -> bool:
    """Whether all that it tells is that alerts are over."""
    return bool(told.alerts) and all(one.resolved_at is not None and not one.is_new for one in told.alerts)


def title(told: Content) -> str:
    """One line: how bad, what, where."""
    if told.kind == "test":
        return "drumbeat: test"
    if told.kind == "channel":
        return f"drumbeat: the channel {told.channel} fails"
    if told.kind == "report":
        return told.text.partition("\n")[0].removeprefix("# ")[:TITLE_CHARS]
    firing = [one.alert for one in told.alerts if one.resolved_at is None]
    about = firing or [one.alert for one in told.alerts]
    word = {"repeat": "still ", "escalation": "nobody has acknowledged: "}.get(told.kind, "")
    state = "resolved" if not firing else f"{word}{worst(told)}"
    return " ".join(f"[{state}] {_what(about, told.left_out)}".split())[:TITLE_CHARS]


def _what(alerts: Sequence[wire.Alert], left_out: int) -> str:
    hosts = list(dict.fromkeys(alert.host for alert in alerts))
    types = list(dict.fromkeys(alert.type for alert in alerts))
    if len(alerts) == 1 and not left_out:
        return f"{alerts[0].host}: {alerts[0].message or alerts[0].rule}"
    where = ", ".join(hosts) if len(hosts) <= 3 else f"{len(hosts)} hosts"
    what = ", ".join(types) if len(types) <= 3 else f"{len(types)} types"
    return f"{len(alerts) + left_out} alerts: {what} on {where}"


def body(told: Content, public_url: str) -> str:
    """Plain text: every alert with what to do, at most 20 of them."""
    if told.text:
        return told.text
    parts = [_paragraph(one, public_url) for one in told.alerts[:SHOWN_ALERTS]]
    if more := len(told.alerts) - SHOWN_ALERTS + told.left_out:
        parts += [f"… and {more} more"] if more > 0 else []
    group = ", ".join(f"{word.removeprefix('label:')} {value or 'none'}" for word, value in sorted(told.group.items()))
    return "\n\n".join([*parts, f"Route {told.route}" + (f", group {group}" if group else "")])


def _paragraph(one: Told, public_url: str) -> str:
    alert = one.alert
    state = "resolved" if one.resolved_at is not None else "unknown" if alert.state == "unknown" else alert.severity
    instance = ", ".join(f"{key} {value}" for key, value in sorted(alert.instance.items()))
    lines = [f"{state}: {alert.host}{f' ({instance})' if instance else ''}: {alert.message or alert.rule}"]
    since = f"since {_at(alert.fired_at)}"
    lines.append(since if one.resolved_at is None else f"{since} until {_at(one.resolved_at)}")
    if alert.recommendation and one.resolved_at is None:
        lines.append(alert.recommendation)
    lines.append(f"{public_url}/api/v1/alerts/{alert.id}" if public_url else f"drumbeat alerts show {alert.id}")
    return "\n".join(lines)


def _at(unix: float) -> str:
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M:%S} UTC"


def document(told: Content, notification: int, public_url: str, now: float) -> dict[str, Any]:
    """What a webhook is sent."""
    return {"version": VERSION, "notification": notification, "kind": told.kind, "route": told.route, "group": told.group,
            "title": title(told), "text": told.text, "channel": told.channel,
            "alerts": [_linked(one, public_url) for one in told.alerts], "left_out": told.left_out,
            "made_at": told.made_at, "sent_at": now}


def request(template: str, told: Content, notification: int, public_url: str, now: float) -> tuple[bytes, str]:
    """The body of a webhook's request and its media type: the document, or the template filled with it. Raises TemplateError."""
    fields = document(told, notification, public_url, now)
    if not template:
        return msgspec.json.encode(fields), "application/json"
    text = _filled(template, fields | {"body": body(told, public_url)}).encode()
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text, "text/plain; charset=utf-8"
    return text, "application/json"


def _filled(template: str, fields: Mapping[str, Any]) -> str:
    pieces, length = list[str](), 0
    for piece in compiled(template)[0].generate(fields):
        pieces.append(piece)
        length += len(piece)
        if length > MAX_BODY_CHARS:
            raise TemplateError(f"filled with these alerts it is longer than {MAX_BODY_CHARS} characters")
    return "".join(pieces)


def template_problem(template: str) -> str:
    """What is wrong with a webhook's template; empty where nothing is."""
    try:
        unknown = names(template) - FIELDS
    except TemplateError as error:
        return str(error)
    return f"there is no {', '.join(sorted(unknown))}; it may name {', '.join(sorted(FIELDS))}" if unknown else ""


def _linked(one: Told, public_url: str) -> dict[str, Any]:
    own = f"{public_url}/api/v1/alerts/{one.alert.id}"
    links = {"alert": own, "explanation": f"{own}/explanation", "acknowledge": f"{own}/acknowledgement"}
    return dict(msgspec.to_builtins(one.alert)) | {
        "is_new": one.is_new, "resolved_at": one.resolved_at, "links": links if public_url else {}}
