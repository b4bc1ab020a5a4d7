"""What `drumbeat schedule add` is asked for, as the API takes it: from flags, or from a file. Pure but for reading the file."""

import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from aggregator.client import api, screen
from shared.schedules import Concurrency, Misfire
from shared.settings import SettingsError

Duration = Annotated[str, Meta(pattern=screen.DURATION)]
Words = tuple[Annotated[str, Meta(min_length=1)], ...]


class AddSettings(api.Settings, frozen=True, kw_only=True):
    """Settings of `drumbeat schedule add`."""

    name: Annotated[str | None, Meta(description="name of the schedule")] = None
    file: Annotated[Path | None, Meta(description="TOML file with [[schedule]] tables, in place of a name and flags")] = None
    replace: Annotated[bool, Meta(description="where there is one of the name, make it this one")] = False
    at: Annotated[str | None, Meta(description="once: when, such as 2026-12-01T04:00:00+01:00")] = None
    every: Annotated[Duration | None, Meta(description="again and again: 90s, 15m or 1d")] = None
    cron: Annotated[str | None, Meta(description="five fields, such as '30 2 * * *', or @daily")] = None
    rrule: Annotated[str | None, Meta(description="days by RFC 5545, such as FREQ=MONTHLY;BYDAY=2TU; needs --start")] = None
    time: Annotated[str | None, Meta(description="time of the day with --rrule, such as 04:00")] = None
    timezone: Annotated[str | None, Meta(description="time zone of --cron and --rrule, such as Europe/Berlin")] = None
    start: Annotated[str | None, Meta(description="nothing before, such as 2026-12-01T00:00:00Z")] = None
    end: Annotated[str | None, Meta(description="nothing after")] = None
    bus: Annotated[bool, Meta(description="say it on the bus, for whoever listens")] = False
    wait: Annotated[bool, Meta(description="with --bus: until somebody reports the end")] = False
    duty: Annotated[str | None, Meta(description="upkeep of drumbeat itself, such as backup or retention")] = None
    task: Annotated[str | None, Meta(description="task of the agents' own configuration")] = None
    host: Annotated[Words, Meta(description="with --task: host or pattern such as web-*; may be repeated")] = ()
    label: Annotated[Words, Meta(description="with --task: hosts with this label, as key:value or key; may be repeated")] = ()
    argument: Annotated[Words, Meta(description="argument of a task or duty, as key=value; may be repeated")] = ()
    parallel: Annotated[Annotated[int, Meta(ge=0)] | None, Meta(description="with --task: so many hosts at a time")] = None
    payload: Annotated[str | None, Meta(description="JSON object that goes along")] = None
    timeout: Annotated[Duration | None, Meta(description="given up after: 30m")] = None
    retries: Annotated[int | None, Meta(description="further attempts")] = None
    jitter: Annotated[Duration | None, Meta(description="each firing waits a part of this")] = None
    grace: Annotated[Duration | None, Meta(description="missed when not begun after")] = None
    concurrency: Annotated[Concurrency | None, Meta(description="while one is under way: allow, forbid or replace")] = None
    misfire: Annotated[Misfire | None, Meta(description="firings that came too late: skip, once or all")] = None
    window: Annotated[bool, Meta(description="silence its hosts while it runs")] = False
    tag: Annotated[Words, Meta(description="word to find it by; may be repeated")] = ()
    description: Annotated[str | None, Meta(description="what it is for")] = None


def wished(own: AddSettings) -> dict[str, Any]:
    """The schedule that the flags describe. Raises SettingsError where they do not say one kind and one target. Pure."""
    given = {"at": "once", "every": "interval", "cron": "cron", "rrule": "recurring"}
    kinds = [name for name in given if getattr(own, name) is not None]
    if len(kinds) > 1:
        raise SettingsError(f"{' and '.join(f'--{name}' for name in kinds)}: only one says when; make a schedule for each")
    plain = {"name": own.name, "kind": given[kinds[0]] if kinds else "manual", "at": own.at, "cron": own.cron, "rrule": own.rrule,
             "time": own.time, "timezone": own.timezone, "start": own.start, "end": own.end, "every": _seconds(own.every),
             "timeout": _seconds(own.timeout), "jitter": _seconds(own.jitter), "grace": _seconds(own.grace),
             "retries": own.retries, "concurrency": own.concurrency, "misfire": own.misfire, "window": own.window or None,
             "tags": list(own.tag) or None, "description": own.description,
             "payload": read_payload(own.payload), "target": _target(own)}
    return {name: value for name, value in plain.items() if value is not None}


def _target(own: AddSettings) -> dict[str, Any]:
    targets = [name for name in ("bus", "duty", "task") if getattr(own, name)]
    if len(targets) != 1:
        raise SettingsError("--bus, --duty or --task: say what it does, one of them")
    pairs = [text.partition(":") for text in own.label]
    plain = {"type": {"bus": "bus", "duty": "maintenance", "task": "task"}[targets[0]], "wait": own.wait or None,
             "duty": own.duty, "task": own.task, "hosts": list(own.host) or None, "parallel": own.parallel,
             "labels": {key: value if colon else "*" for key, colon, value in pairs} or None,
             "arguments": dict(map(_argument, own.argument)) or None}
    return {name: value for name, value in plain.items() if value is not None}


def read_payload(text: str | None) -> dict[str, Any] | None:
    """A payload from JSON. Raises SettingsError."""
    try:
        found = None if text is None else json.loads(text)
    except ValueError as error:
        raise SettingsError(f'--payload: no JSON ({error}); an object, such as {{"full": true}}') from None
    if found is not None and not isinstance(found, dict):
        raise SettingsError('--payload: must be an object, such as {"full": true}')
    return found


def read_file(path: Path) -> list[dict[str, Any]]:
    """The schedules of a file. Raises SettingsError."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"--file: {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    found = document.pop("schedule", None)
    if document or not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise SettingsError(f"--file: {path} must hold [[schedule]] tables and nothing else")
    return [plain(one) for one in found]


def plain(value: Any) -> Any:
    """TOML's own times as texts, as the API takes them. Pure."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value.isoformat() if hasattr(value, "isoformat") else value


def _seconds(text: str | None) -> float | None:
    return None if text is None else screen.read_duration(text)


def _argument(text: str) -> tuple[str, str | int]:
    """Name and value; a whole number where it is written as one. Raises SettingsError."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise SettingsError(f"--argument: {text!r} is not like key=value")
    return name, int(value) if re.fullmatch(r"0|-?[1-9][0-9]{0,17}", value) else value
