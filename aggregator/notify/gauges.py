"""Figures of the notifier for /metrics, in Prometheus' words."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from aggregator.store.notifications import Backlog

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Gauges:
    """Every figure, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        ProcessCollector(registry=own)
        self.events = Counter("drumbeat_notifier_events", "events of alerts that were taken up", registry=own)
        self.notifications = Counter("drumbeat_notifier_notifications", "notifications that were made", registry=own)
        self.attempts = Counter("drumbeat_notifier_attempts", "attempts to deliver", ["channel", "result"], registry=own)
        self.seconds = Histogram("drumbeat_notifier_attempt_seconds", "time of one attempt", buckets=_SECONDS, registry=own)
        self.due = Gauge("drumbeat_notifier_due", "notifications that are not delivered yet", registry=own)
        self.due_seconds = Gauge("drumbeat_notifier_due_seconds", "age of the oldest of them", registry=own)
        self.waiting = Gauge("drumbeat_notifier_events_waiting", "events that nobody has taken up", registry=own)
        self.lag = Gauge("drumbeat_notifier_lag_seconds", "age of the oldest of them", registry=own)
        self.failing = Gauge("drumbeat_notifier_channels_failing", "channels whose last attempt failed", registry=own)

    def show(self, backlog: Backlog) -> None:
        """What waits in the database."""
        self.due.set(backlog.due)
        self.due_seconds.set(backlog.due_seconds)
        self.waiting.set(backlog.events)
        self.lag.set(backlog.events_seconds)
        self.failing.set(backlog.failing)
