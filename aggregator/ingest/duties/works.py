"""What each duty does, on a connection of its own. Each returns what it has to say, and looks now and then whether to go on."""

import dataclasses
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aggregator.ingest import upkeep
from aggregator.ingest.duties import folders, summary
from aggregator.store import backup, export, hosts, partitions, rejects, rollups, slots, vacuum
from aggregator.store.duties import fetch_now
from shared import duties
from shared.database import Connection, LockTimeout
from shared.duties import DutyError
from shared.names import matcher

PATIENCE = "300ms"
"""How long a partition's lock is waited for: who writes samples waits as long."""
HOSTS_AT_ONCE = 50
PAUSE_SECONDS = 0.05
"""Between pieces of work, so that the beat of the same process is not crowded."""


class StoppedError(Exception):
    """The work is not wanted any more."""


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """One duty to be done. `output`: where files may be written; `stop` is set when it is to end."""

    connection: Connection
    output: Path | None
    stop: threading.Event

    def check(self) -> None:
        """Raises StoppedError when the work is to end."""
        if self.stop.is_set():
            raise StoppedError

    def pause(self) -> None:
        """Let others work; raises StoppedError as `check` does."""
        if self.stop.wait(PAUSE_SECONDS):
            raise StoppedError


def run(job: Job, duty: str, arguments: dict[str, Any]) -> str:
    """Do a duty; what it has to say. Raises DutyError, StoppedError, and what the database and the disk raise."""
    read = duties.read_arguments(duty, arguments)
    return WORKS[duty](job, read)


def _retention(job: Job, asked: duties.Retention) -> str:
    keep, now = partitions.fetch_policies(job.connection), partitions.fetch_today(job.connection, fetch_now(job.connection))
    if asked.dry_run:
        gone, counts = partitions.fetch_old(job.connection, keep, now), partitions.count_old(job.connection, keep, now)
        return f"would delete (nothing was deleted): {_told(gone, Counter(_summed(counts)))}"
    try:
        gone, in_use = partitions.drop_old(job.connection, keep, now, patience=PATIENCE), ""
    except LockTimeout:
        gone, in_use = [], "; a partition is in use, the next run drops it"
    deleted: Counter[str] = Counter()
    while True:
        batch = partitions.delete_batch(job.connection, keep, now)
        deleted.update(_summed(batch))
        if max(count for _, count in batch) < partitions.BATCH:
            return f"deleted: {_told(gone, deleted)}{in_use}"
        job.pause()


def _summed(counts: list[tuple[str, int]]) -> dict[str, int]:
    summed: Counter[str] = Counter()
    for table, count in counts:
        summed[table] += count
    return summed


def _told(gone: list[str], rows: Counter[str]) -> str:
    parts = [f"partitions {', '.join(gone)}"] if gone else []
    parts += [f"{count} rows of {table}" for table, count in sorted(rows.items()) if count]
    return ", ".join(parts) or "nothing is old"


def _partitions(job: Job, _: duties.Partitions) -> str:
    before = set(partitions.fetch_names(job.connection))
    upkeep.make_rooms(job.connection, fetch_now(job.connection))
    made = sorted(set(partitions.fetch_names(job.connection)) - before)
    return f"made: {', '.join(made) or 'nothing was missing'}"


def _rejects(job: Job, _: duties.Rejects) -> str:
    keep, deleted = partitions.fetch_policies(job.connection), 0
    with job.connection.transaction(), job.connection.cursor() as cursor:
        deleted += rejects.trim(cursor)
    while batch := rejects.delete_old(job.connection, keep["reject"], partitions.BATCH):
        deleted += batch
        job.pause()
    return f"deleted: {deleted} refused messages"


def _rollups(job: Job, asked: duties.Rollups) -> str:
    """Compare; what differs is made again by whoever ingests those hosts, so that there is one writer."""
    now = fetch_now(job.connection)
    since, until = asked.span(now)
    closed_to = slots.fetch_closed_to(job.connection)
    if closed_to is None:
        raise DutyError("nobody ingests: rollups are written by ingest, which must run")
    oldest = now - timedelta(days=partitions.fetch_policies(job.connection)["raw"])
    hour = max(since, oldest + timedelta(hours=1)).replace(minute=0, second=0, microsecond=0)
    wanted = matcher(asked.hosts or ["*"])
    ids = [host_id for host_id, name in hosts.fetch_names(job.connection) if wanted.fullmatch(name)]
    looked = marked = differing = 0
    while hour < min(until, closed_to):
        for first in range(0, len(ids), HOSTS_AT_ONCE):
            chosen = ids[first:first + HOSTS_AT_ONCE]
            differ = _compare(job, chosen, hour, closed_to)
            looked, marked, differing = looked + len(chosen), marked + len(differ), differing + sum(differ.values())
            job.pause()
        hour += timedelta(hours=1)
    return (f"{looked} hours of hosts compared with raw history: {differing} rows differed"
            + (f"; {marked} hours are due to be made again, which ingest does within seconds" if marked else ""))


def _compare(job: Job, host_ids: list[int], hour: datetime, closed_to: datetime) -> dict[int, int]:
    with job.connection.transaction(), job.connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        differ = rollups.fetch_differing(cursor, host_ids, hour, closed_to)
    if differ:
        span = (int(hour.timestamp()), int(min(hour + timedelta(hours=1), closed_to).timestamp()))
        with job.connection.transaction(), job.connection.cursor() as cursor:
            rollups.write_due(cursor, dict.fromkeys(((host_id, span[0]) for host_id in differ), span), span[0])
    return differ


def _vacuum(job: Job, asked: duties.Vacuum) -> str:
    before = vacuum.fetch(job.connection)
    if unknown := sorted(set(asked.tables) - {table.name for table in before}):
        raise DutyError(f"target.arguments.tables: there is no table {unknown[0]!r}")
    done = vacuum.chosen(before, asked.tables)
    for table in done:
        vacuum.run(job.connection, table)
        job.pause()
    after = {table.name: table for table in vacuum.fetch(job.connection)}
    lines = [f"{table.name}: {table.dead} dead rows before, {after[table.name].dead} after; {table.live} live"
             for table in done if not table.is_parent and table.name in after]
    return "\n".join([f"{len(done)} of {len(before)} tables vacuumed or analyzed", *lines])


def _backup(job: Job, asked: duties.Backup) -> str:
    folder = folders.open_folder(job.output, asked.directory)
    made, manifest = backup.write(job.connection, folder, secrets=asked.secrets, history=asked.history, check=job.check)
    deleted = backup.delete_oldest(folder, asked.keep)
    return (f"{asked.directory}/{made.name}: {manifest.rows} rows in {len(manifest.tables)} files, {manifest.bytes} bytes, "
            f"schema {manifest.revision}"
            + (f"; deleted: {', '.join(deleted)}" if deleted else ""))


def _export(job: Job, asked: duties.Export) -> str:
    folder = folders.open_folder(job.output, asked.directory)
    now = fetch_now(job.connection)
    since, until = asked.span(now)
    path = folder / f"export-{now.astimezone(UTC):%Y%m%dT%H%M%S%fZ}.{asked.format}"
    with folders.new_file(path) as partial:
        size = export.write(job.connection, partial, metrics=asked.metrics, hosts=asked.hosts, since=since, until=until,
                            resolution=asked.resolution, form=asked.format, check=job.check)
    folders.delete_oldest(folder, "export-*", asked.keep)
    return f"{asked.directory}/{path.name}: {size} bytes, {since.isoformat()} to {until.isoformat()}"


def _report(job: Job, asked: duties.Report) -> str:
    folder = folders.open_folder(job.output, asked.directory)
    now = fetch_now(job.connection)
    text = summary.write(job.connection, now, asked.hours, job.check)
    path = folder / f"report-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}.md"
    with folders.new_file(path) as partial:
        partial.write_text(text)
    folders.delete_oldest(folder, "report-*", asked.keep)
    if asked.channel:
        summary.queue(job.connection, asked.channel, text, now)
    return f"{asked.directory}/{path.name}" + (f", told to channel {asked.channel}" if asked.channel else "")


WORKS: dict[str, Callable[[Job, Any], str]] = {
    "retention": _retention, "partitions": _partitions, "rollups": _rollups, "rejects": _rejects, "vacuum": _vacuum,
    "backup": _backup, "export": _export, "report": _report}
