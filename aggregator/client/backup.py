"""`drumbeat backup`: configuration and alert history, or the whole store, into a directory, straight from the database."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from aggregator.client import screen
from shared import database, logs, settings
from shared.settings import SettingsError

MEANING = ("Writes configuration, rules, silences, windows, channels, routes, schedules, tokens (their digests), hosts, alerts, "
           "their history and the audit log, as of one moment, into a new directory; with --history everything else, too: "
           "samples, rollups, gaps, refusals, executions, anomalies. Services go on meanwhile. The schedule drumbeat-backup does "
           "the same every night where ingest has an output directory.")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of `drumbeat backup`."""

    database_url: Annotated[str, Meta(description="Postgres to back up: postgresql://user:password@host:5432/name")]
    to: Annotated[Path | None, Meta(description="directory that the backup is put into; default: output/backups of the data "
                                                "directory")] = None
    keep: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(
        description="delete all but the newest so many backups of that directory; none where not given")] = None
    history: Annotated[bool, Meta(description="the whole store: samples, rollups and the rest of history, too")] = False
    secrets: Annotated[bool, Meta(description="the secrets of notification channels, too: keep such a backup safe")] = False
    json: Annotated[bool, Meta(description="print one JSON document")] = False
    data: Annotated[str | None, Meta(description="data directory whose env file is read")] = None


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; 1 where the database cannot be read or the directory not be written."""
    from aggregator.store import backup

    own = settings.load(Settings, "backup", argv, environ, description=MEANING)
    logs.configure("warning")
    data = Path(own.data).expanduser() if own.data else settings.default_data_directory(environ)
    directory = own.to or data / "output" / "backups"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with database.open_connection(own.database_url, "backup") as connection, screen.progress("backing up") as report:
            made, manifest = backup.write(connection, directory, secrets=own.secrets, history=own.history, report=report)
        deleted = backup.delete_oldest(directory, own.keep) if own.keep else []
    except database.DatabaseUrlError as error:
        raise SettingsError(f"--database-url: {error}") from None
    except OSError as error:
        raise SettingsError(f"--to: {directory} cannot be written: {error.strerror}") from None
    except (backup.BackupError, *database.Unavailable) as error:
        return screen.failed("backup", error)
    if own.json:
        screen.print_json({"path": str(made), "deleted": deleted, "bytes": manifest.bytes} | msgspec.to_builtins(manifest))
    else:
        print(f"{made}: {screen.counted(manifest.rows, 'row')} in {len(manifest.tables)} files, {screen.in_bytes(manifest.bytes)}"
              f"{', secrets included' if manifest.secrets else ''}."
              + (f" Deleted: {', '.join(deleted)}." if deleted else ""))
    return 0
