"""Schedules that come with drumbeat: its own upkeep."""

import msgspec

from shared.database import Connection
from shared.recurrence import next_after
from shared.schedules import Schedule, Target, definition


def defaults(*, has_output: bool) -> list[Schedule]:
    """Every schedule that is shipped. `has_output`: there is a directory that backups can be written to."""
    return [
        _upkeep("retention", "30 3 * * *", "Delete what the retention policies no longer keep."),
        _upkeep("partitions", "5 */6 * * *", "Make the partitions of history for the days to come."),
        _upkeep("rejects", "15 * * * *", "Delete refused messages that are old or too many."),
        _upkeep("vacuum", "0 4 * * 0", "Vacuum and analyze the tables that need it.", timeout=4 * 3600.0),
        _upkeep("rollups", "40 4 * * *", "Compare the rollups of the last day with raw history, and mend them.",
                timeout=4 * 3600.0, enabled=False),
        _upkeep("backup", "30 2 * * *", "Back up configuration and alert history below ingest's output directory.",
                retries=2, retry_delay=600.0, enabled=has_output, tags=["upkeep", "backup"]),
        _upkeep("report", "0 6 * * *", "Write the daily report below ingest's output directory; name a channel to send it.",
                enabled=False)]


def _upkeep(duty: str, cron: str, description: str, *, timeout: float = 3600.0, retries: int = 1, retry_delay: float = 300.0,
            enabled: bool = True, tags: list[str] | None = None) -> Schedule:
    return Schedule(
        name=f"drumbeat-{duty}", kind="cron", cron=cron, description=description, timeout=timeout, retries=retries,
        retry_delay=retry_delay, enabled=enabled, tags=tags or ["upkeep"], jitter=120.0, grace=6 * 3600.0,
        target=Target(type="maintenance", duty=duty))


_ADD = """
WITH written AS (
  INSERT INTO schedule (name, definition, is_default, enabled, next_at)
  VALUES (%(name)s, %(definition)s::jsonb, true, %(enabled)s, %(next_at)s)
  ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, enabled = excluded.enabled, next_at = excluded.next_at,
    revision = schedule.revision + 1, changed_at = now()
  WHERE schedule.is_default AND schedule.changed_by = '' AND schedule.deleted_at IS NULL
    AND schedule.definition <> excluded.definition
  RETURNING 1)
UPDATE configuration SET version = version + 1 WHERE name = 'schedules' AND EXISTS (SELECT FROM written)"""


def ensure(connection: Connection, *, has_output: bool) -> None:
    """Add the schedules that are not there yet, and bring those that nobody has touched to their present form.

    A deleted one stays deleted, a changed one stays changed. A process without an output directory leaves a backup enabled that
    one with it has enabled. Any number of processes may do this at once.
    """
    rows = connection.execute("""SELECT name, definition::text, is_default AND changed_by = '' AND deleted_at IS NULL
                                 FROM schedule""")
    present = {name: (text, is_ours) for name, text, is_ours in rows}
    now = connection.execute("SELECT now()").fetchone()
    for schedule in defaults(has_output=has_output):
        text, is_ours = present.get(schedule.name, ("", True))
        if is_ours and now is not None and not _is_present(text, schedule, has_output=has_output):
            connection.execute(_ADD, {
                "name": schedule.name, "definition": msgspec.json.encode(definition(schedule)).decode(),
                "enabled": schedule.enabled, "next_at": next_after(schedule, now[0]) if schedule.enabled else None})


def _is_present(text: str, schedule: Schedule, *, has_output: bool) -> bool:
    """Whether the stored schedule is the shipped one; one that another process has enabled is, too."""
    try:
        stored = msgspec.json.decode(text, type=Schedule)
    except msgspec.DecodeError:  # missing, or of another version
        return False
    return stored == schedule or (not has_output and stored == msgspec.structs.replace(schedule, enabled=True))
