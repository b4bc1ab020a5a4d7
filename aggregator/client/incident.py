"""One alert in words: its name, its flags, and the story of why it fired and what came of it. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from aggregator.client import screen

EVENTS = 30
"""How many of the latest events are told."""

Alert = Mapping[str, Any]


def name(alert: Alert) -> str:
    """`low_disk /var`: the rule and which one of the host's it is."""
    return " ".join([alert["rule"], *alert["instance"].values()])


def flags(alert: Alert) -> list[str]:
    """The state, and what else is to be known at a glance."""
    own = [alert["state"]]
    own += ["flapping"] if alert["flapping"] else []
    own += [f"acknowledged by {alert['acknowledged_by']}"] if alert["acknowledged"] else []
    own += ["dismissed"] if alert["dismissed"] else []
    own += ["muted"] if alert["muted_by"] else []
    return own


def lines(told: Mapping[str, Any], now: datetime) -> Iterator[str]:
    """The explanation of an alert, line by line, with markup."""
    alert = told["alert"]
    yield (f"{screen.coloured(alert['severity'])}  [bold]{screen.plain(name(alert))}[/] on [bold]{screen.plain(alert['host'])}[/]"
           f"  {screen.plain(', '.join(flags(alert)))}")
    yield f"  {screen.plain(alert['message'])}"
    if alert["details"]["recommendation"]:
        yield f"  {screen.plain(alert['details']['recommendation'])}"
    yield from (f"{label:12} {screen.plain(text)}" for label, text in _facts(alert, now) if text)
    yield f"{'Rule':12} {screen.plain(_rule(alert, told['rule']))}"
    if told["samples"] is not None:
        yield f"{'Samples':12} {screen.plain(_samples(told['samples']))}"
    yield from _listed("Processes", [_process(one) for one in alert["culprits"]])
    yield from _listed("Muted", [f"{screen.instant(one['from'])} to {_end(one)}  {one['by']}" for one in told["muted"]])
    yield from _listed("Events", [_event(event) for event in told["events"][-EVENTS:]])
    yield from _listed("Told", [_notification(one) for one in told["notifications"]] or ["nobody"])


def _facts(alert: Alert, now: datetime) -> Iterator[tuple[str, str]]:
    since = screen.read_time(alert["timestamp"])
    age = "" if since is None else f" ({screen.duration((now - since).total_seconds())} ago)"
    yield ("Fired" if alert["fired_at"] else "Began"), f"{screen.instant(alert['timestamp'])}{age}"
    yield "Over", screen.instant(alert["resolved_at"]) if alert["resolved_at"] else ""
    value, threshold = alert["details"]["value"], alert["details"]["threshold"]
    yield "Value", "" if value is None else f"{value:g}" + ("" if threshold is None else f", threshold {threshold:g}")
    yield "Because", alert["reason"]
    if alert["acknowledged"]:
        end = f" until {screen.instant(alert['acknowledged_until'])}" if alert["acknowledged_until"] else ""
        yield "Acknowledged", f"by {alert['acknowledged_by']}{end}" + (f": {alert['note']}" if alert["note"] else "")
    yield "Dismissed", f"by {alert['dismissed_by']}" if alert["dismissed"] else ""
    yield "Muted by", ", ".join(alert["muted_by"])


def _rule(alert: Alert, rule: Mapping[str, Any] | None) -> str:
    if rule is None:
        return f"{alert['rule']}, revision {alert['rule_revision']}, which is no longer kept"
    now = rule["current_revision"]
    changed = ", deleted since" if now is None else "" if now == rule["revision"] else f", changed since (revision {now})"
    said = (rule["definition"] or {}).get("description") or alert["metric"]
    return f"{rule['name']}, revision {rule['revision']}{changed}" + (f": {said}" if said else "")


def _samples(samples: Mapping[str, Any]) -> str:
    means = [value for value in samples["mean"] if value is not None]
    span = f"{samples['metric']} from {screen.instant(samples['from'])} to {screen.instant(samples['to'])}"
    if not means:
        return f"{span}: none"
    low = min(value for value in samples["min"] if value is not None)
    high = max(value for value in samples["max"] if value is not None)
    return f"{span}: {means[0]:g} at first, {means[-1]:g} at last; between {low:g} and {high:g}"


def _process(process: Mapping[str, Any]) -> str:
    rate = process.get("io_bytes_per_second")
    disk = "" if rate is None else f"{screen.in_bytes(rate)}/s I/O"
    return (f"{process.get('pid', '-'):>7}  {screen.figure(process.get('cpu_percent')):>6} % CPU  "
            f"{screen.in_bytes(process.get('memory_bytes')):>10}  {disk:>15}  {process.get('name', '')}")


def _end(span: Mapping[str, Any]) -> str:
    return screen.instant(span["to"]) if span["to"] else "now"


def _event(event: Mapping[str, Any]) -> str:
    who = f"by {event['actor']}" if event["actor"] else ""
    why = ": ".join(text for text in (who, event["reason"], event["note"]) if text)
    return f"{screen.instant(event['at'])}  {event['kind']:14} {event['severity']:8}  {why}".rstrip()


def _notification(one: Mapping[str, Any]) -> str:
    failed = [attempt["error"] for attempt in one["attempts"] if not attempt["ok"]]
    tries = f", {screen.counted(len(one['attempts']), 'attempt')}" if one["attempts"] else ""
    return (f"{screen.instant(one['created_at'])}  {one['kind']} to {one['channel']}: {one['state']}{tries}"
            + (f"; {failed[-1]}" if failed else ""))


def _listed(title: str, rows: Sequence[str]) -> Iterator[str]:
    if rows:
        yield title
        yield from (f"  {screen.plain(row)}" for row in rows)
