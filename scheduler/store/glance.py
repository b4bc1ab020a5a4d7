"""Whether there is anything to do, and when there will be, in one cheap query."""

import dataclasses
from datetime import datetime

from shared.database import Connection


@dataclasses.dataclass(frozen=True, slots=True)
class Glance:
    """What the tables hold for a scheduler. `due_at`: when the next schedule or the next unreleased execution is due."""

    at: datetime
    due_at: datetime | None
    has_untold: bool
    has_messages: bool
    has_open: bool

    @property
    def is_due(self) -> bool:
        return self.due_at is not None and self.due_at <= self.at


def fetch(connection: Connection) -> Glance:
    """The state of things, along indexes; for EXISTS the planner would look for an untold row through the whole history."""
    row = connection.execute(
        """SELECT now(), least((SELECT min(next_at) FROM schedule WHERE enabled AND next_at IS NOT NULL AND deleted_at IS NULL),
             (SELECT min(not_before) FROM execution WHERE state = 'pending' AND fired_at IS NULL)),
           (SELECT min(id) FROM execution WHERE told <> state) IS NOT NULL,
           EXISTS (SELECT FROM schedule_outbox WHERE claimed_until <= now()),
           EXISTS (SELECT FROM execution WHERE state IN ('pending', 'running') AND fired_at IS NOT NULL)""").fetchone()
    return Glance(*row)  # type: ignore[misc]


@dataclasses.dataclass(frozen=True, slots=True)
class Backlog:
    """Figures for /metrics: executions that are not over, messages that are not published."""

    open: int
    messages: int


def fetch_backlog(connection: Connection) -> Backlog:
    """Count them."""
    row = connection.execute("SELECT (SELECT count(*) FROM execution WHERE state IN ('pending', 'running')), "
                             "(SELECT count(*) FROM schedule_outbox)").fetchone()
    return Backlog(*row)  # type: ignore[misc]
