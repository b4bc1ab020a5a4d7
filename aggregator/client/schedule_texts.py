"""Schedules and executions as people read them: when, what, and rows of tables. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from aggregator.client import screen
from aggregator.client.hosts import labels
from shared.schedules import FINAL

_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_AT = re.compile(r"(\d{1,2}) (\d{1,2}) \* \* (\*|[0-7]|SUN|MON|TUE|WED|THU|FRI|SAT)")


def when(schedule: Mapping[str, Any]) -> str:
    """When a schedule fires, in words."""
    kind, zone = schedule["kind"], schedule.get("timezone", "UTC")
    if kind == "once":
        return f"once, {screen.instant(schedule['at'])}"
    if kind == "interval":
        return f"every {screen.duration(schedule['every'])}"
    if kind == "recurring":
        return f"{schedule['rrule']} {schedule.get('time', '00:00')} {zone}"
    return f"{_cron(schedule['cron'].strip())} {zone}" if kind == "cron" else "by hand"


def _cron(text: str) -> str:
    if text.startswith("@"):
        return text.removeprefix("@")
    found = _AT.fullmatch(" ".join(text.upper().split()))
    if found is None:
        return text
    minute, hour, day = found.groups()
    named = "daily" if day == "*" else _DAYS[int(day) % 7] if day.isdigit() else next(
        name for name in _DAYS if name.upper().startswith(day))
    return f"{named} {int(hour):02d}:{int(minute):02d}"


def what(target: Mapping[str, Any]) -> str:
    """What a schedule does, in words."""
    if target["type"] == "bus":
        return "says it on the bus, and waits" if target.get("wait") else "says it on the bus"
    if target["type"] == "maintenance":
        return f"drumbeat's {target.get('duty', '')}"
    hosts = ", ".join(target.get("hosts", ()))
    having = labels(target.get("labels", {}).items())
    return f"{target.get('task', '')} on {' with '.join(part for part in (hosts, having) if part) or 'named hosts'}"


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One schedule as a row of text."""
    schedule, last = row["schedule"], row["last"]
    state = "-" if last is None else screen.coloured(last["state"], last["state"].replace("_", " "))
    upcoming = "paused" if not schedule.get("enabled", True) else screen.instant(row["next_at"])
    return (screen.plain(row["name"]), screen.plain(row["problem"] or when(schedule)), screen.plain(what(schedule["target"])),
            upcoming, state, screen.instant(last and last["scheduled_for"]),
            screen.plain(" ".join(schedule.get("tags", ())) or "-"))


def execution_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One execution as a row of text."""
    return (screen.plain(row["id"]), screen.plain(row["schedule"]), screen.instant(row["scheduled_for"]),
            screen.plain(row["host"] or (screen.counted(row["hosts"], "host") if row["hosts"] else "-")), str(row["attempt"]),
            state(row), screen.duration(seconds(row)), screen.plain(row["cause"]), screen.plain(outcome(row) or "-"))


def line(row: Mapping[str, Any]) -> str:
    """One execution in a line, as `executions --follow` tells it."""
    at = row["ended_at"] or row["started_at"] or row["created_at"]
    where = f" {row['host']}" if row["host"] else ""
    took = seconds(row)
    more = "".join((f" after {screen.duration(took)}" if took is not None else "", f": {outcome(row)}" if outcome(row) else ""))
    return screen.printable(f"{screen.instant(at)} {row['schedule']} {row['id']}{where} {row['state'].replace('_', ' ')}{more}")


def state(row: Mapping[str, Any]) -> str:
    """State of an execution for a table."""
    shown = row["state"].replace("_", " ")
    if row["is_cancelling"] and row["state"] not in FINAL:
        shown += ", stopping"
    return screen.coloured(row["state"], shown + (", late" if row["is_late"] else ""))


def seconds(row: Mapping[str, Any]) -> float | None:
    """How long an execution took; None where it has not begun or is not over."""
    started_at, ended_at = (screen.read_time(row[name]) for name in ("started_at", "ended_at"))
    return None if started_at is None or ended_at is None else (ended_at - started_at).total_seconds()


def outcome(row: Mapping[str, Any]) -> str:
    """Why it is as it is: reason, error or exit code, in one line."""
    code = row["exit_code"]
    text = str(row["reason"] or row["error"] or (f"exit code {code}" if code else ""))
    return (text.splitlines() or [""])[0][:160]

