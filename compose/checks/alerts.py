"""Checks of alerts: are transitions told on the bus, are they taken up for notification, do the channels work."""

from typing import TYPE_CHECKING

from compose.checks.finding import Finding, fail, ok, warn

if TYPE_CHECKING:
    from compose.checks.database import Door

WAIT_SECONDS = 60.0


def outbox(door: "Door") -> Finding:
    """What ingest has still to say on the bus."""
    waiting, age = door.rows("SELECT count(*), coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 FROM outbox")[0]
    active = door.value("SELECT count(*) FROM alert WHERE state IN ('firing', 'unknown')")
    if age <= WAIT_SECONDS:
        return ok("alerts", f"{active} active; none waits to be told on the bus")
    return fail("alerts", f"{waiting} changes wait to be told on the bus, the oldest for {age:.0f} s",
                "ingest tells them: look at ingest and broker")


def notifications(door: "Door") -> Finding:
    """What the notifier has still to take up, and channels that do not work."""
    waiting, age = door.rows("""SELECT count(*), coalesce(extract(epoch FROM now() - min(recorded_at)), 0)::float8
                                FROM alert_event WHERE routed_at IS NULL""")[0]
    if age > WAIT_SECONDS:
        return fail("notifications", f"{waiting} transitions of alerts wait for the notifier, the oldest for {age:.0f} s",
                    "start drumbeat notifier; its log says what it lacks")
    failing = [name for name, in door.rows("SELECT name FROM notification_channel WHERE failing_since IS NOT NULL ORDER BY name")]
    if failing:
        return warn("notifications", f"channels that do not deliver: {', '.join(failing)}",
                    "GET /api/v1/notification-channels shows the last error of each; mend its URL, then test it")
    count = door.value("SELECT count(*) FROM notification_channel")
    return ok("notifications", f"none waits; {count} channel{'' if count == 1 else 's'}")
