"""Figures of the scheduler for /metrics, in Prometheus' words."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from scheduler.store.glance import Backlog

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0, 300.0)


class Gauges:
    """Every figure, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        ProcessCollector(registry=own)
        self.fired = Counter("drumbeat_scheduler_fired", "executions made by schedules that were due", registry=own)
        self.triggered = Counter("drumbeat_scheduler_triggered", "executions made by messages", registry=own)
        self.lateness = Histogram("drumbeat_scheduler_lateness_seconds", "from when a firing was due until it was released",
                                  buckets=_SECONDS, registry=own)
        self.ended = Counter("drumbeat_scheduler_ended", "ends of executions", ["state"], registry=own)
        self.published = Counter("drumbeat_scheduler_published", "messages that the broker has taken", registry=own)
        self.refused = Counter("drumbeat_scheduler_refused", "messages that were ignored", ["reason"], registry=own)
        self.trimmed = Counter("drumbeat_scheduler_trimmed", "executions deleted from history", registry=own)
        self.open = Gauge("drumbeat_scheduler_open", "executions that are not over", registry=own)
        self.messages = Gauge("drumbeat_scheduler_outbox", "messages that are not published", registry=own)

    def show(self, backlog: Backlog) -> None:
        """What waits in the database."""
        self.open.set(backlog.open)
        self.messages.set(backlog.messages)
