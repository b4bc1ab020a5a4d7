"""`drumbeat restore`: a backup into a fresh database."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from aggregator.client import screen
from shared import database, logs, settings
from shared.settings import SettingsError

MEANING = ("Checks every file of a backup, then fills the database, all or nothing. An empty database is given its schema first. "
           "One that is in use is refused. Stop every service of drumbeat before.")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of `drumbeat restore`."""

    directory: Annotated[Path, Meta(description="the backup: a directory that drumbeat backup wrote")]
    database_url: Annotated[str, Meta(description="Postgres to fill: postgresql://user:password@host:5432/name")]
    force: Annotated[bool, Meta(description="delete everything that the database holds before, history included")] = False
    json: Annotated[bool, Meta(description="print one JSON document")] = False
    data: Annotated[str | None, Meta(description="data directory whose env file is read")] = None


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; 1 where the backup is spoilt, the database in use or not to be reached."""
    from aggregator.store import backup, restore

    own = settings.load(Settings, "restore", argv, environ, description=MEANING, positional=("directory",))
    logs.configure("warning")
    try:
        with screen.progress("checking") as report:
            manifest = backup.read(own.directory, report)
        with database.open_connection(own.database_url, "restore") as connection:
            if not restore.revision(connection):
                database.migrate(own.database_url, manifest.revision)
            with screen.progress("restoring") as report:
                restore.restore(connection, own.directory, manifest, force=own.force, report=report)
            applied = database.migrate(own.database_url)
            restore.analyze(connection)
    except database.DatabaseUrlError as error:
        raise SettingsError(f"--database-url: {error}") from None
    except (backup.BackupError, *database.Unavailable) as error:
        return screen.failed("restore", error)
    rows: Counter[str] = Counter()
    for name, file in manifest.tables.items():
        rows[file.table or name] += file.rows
    if own.json:
        screen.print_json({"made_at": manifest.made_at, "secrets": manifest.secrets, "applied": applied, "rows": rows})
        return 0
    screen.print_table(("table", "rows"), ((table, str(count)) for table, count in rows.items()), right=("rows",))
    print(f"Restored {screen.counted(manifest.rows, 'row')} of {manifest.made_at:%Y-%m-%d %H:%M:%S}Z.")
    if not manifest.secrets and rows["notification_channel"]:
        print("Channels are without their secrets, which were not backed up: set each anew before it can deliver.")
    return 0
