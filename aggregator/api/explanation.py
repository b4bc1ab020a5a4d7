"""Why an alert fired and what came of it: its rule as it was, the samples around it, what muted it, who was told."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from aggregator.analysis import downsample, timespan
from aggregator.analysis.timespan import Span
from aggregator.api.backend import Backend
from aggregator.api.routes.history import times
from aggregator.store import alert_list
from shared import catalogue

EVENTS = 500
NOTIFICATIONS = 100
POINTS = 240
BEFORE, AFTER = timedelta(minutes=15), timedelta(minutes=10)
"""How much is shown before the condition began, and after the alert fired."""


def fetch_explanation(backend: Backend, alert: Mapping[str, Any], shown: Mapping[str, Any]) -> dict[str, Any]:
    """The explanation of an alert, given its row and as it is shown."""
    events = alert_list.fetch_events(backend.engine, alert["id"], limit=EVENTS)
    return {"alert": shown, "rule": alert_list.fetch_rule(backend.engine, alert["rule"], alert["rule_revision"]),
            "samples": fetch_samples(backend, alert), "events": events, "muted_now": alert["muted_by"],
            "muted": muted_spans(events),
            "notifications": alert_list.fetch_notifications(backend.engine, alert["id"], NOTIFICATIONS)}


def fetch_samples(backend: Backend, alert: Mapping[str, Any]) -> dict[str, Any] | None:
    """The alert's metric from before its condition began until after it fired; None where it has no metric."""
    if not alert["metric"]:
        return None
    now = backend.now()
    end = min((alert["fired_at"] or now) + AFTER, now)
    span = Span(min(alert["started_at"], end) - BEFORE, end)
    plan = timespan.plan(span, "auto", POINTS, now, backend.keep_days())
    points = downsample.bucketed(backend.history.fetch([alert["host_id"]], [alert["metric"]], plan.source, span), plan.step)
    found = catalogue.find(alert["metric"])
    low, mean, high = (downsample.shown(values)[:, 0].tolist() for values in (points.low, points.mean, points.high))
    return {"metric": alert["metric"], "unit": found and found.unit, "threshold": alert["threshold"], "from": span.start,
            "to": span.end, "step": plan.step, "ts": times(points.ts, plan.step), "min": low, "mean": mean, "max": high}


def muted_spans(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """From when to when the alert was muted, and by what, as its events say. Pure."""
    spans: list[dict[str, Any]] = []
    for event in events:
        if event["kind"] not in ("muted", "unmuted", "resolved"):
            continue
        if spans and spans[-1]["to"] is None:
            spans[-1]["to"] = event["at"]
        if event["kind"] == "muted":
            spans.append({"from": event["at"], "to": None, "by": event["reason"]})
    return spans
