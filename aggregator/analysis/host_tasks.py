"""What drumbeat can ask of a host by itself: manual schedules whose task each agent must allow in its own configuration."""

from shared.schedules import Schedule, Target

RESTART_CONTAINER = Schedule(
    name="restart-container", kind="manual", description="Restart one container of a host, where its agent allows that.",
    target=Target(type="task", task="restart_container"), concurrency="allow", timeout=180.0, grace=300.0)
SIGNAL_PROCESS = Schedule(
    name="signal-process", kind="manual", description="Send a signal to one process of a host, where its agent allows that.",
    target=Target(type="task", task="signal_process"), concurrency="allow", timeout=60.0, grace=60.0)
