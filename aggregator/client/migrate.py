"""`drumbeat migrate`: bring the database schema up to date, and say what was applied."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from aggregator.client import screen
from shared import database, logs, settings
from shared.settings import SettingsError

MEANING = ("Migrations go forward only and run under a lock, so any number of services may start at once. Services whose "
           "user owns the schema do this themselves when they start; this command is for those who want it done before.")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of `drumbeat migrate`."""

    database_url: Annotated[str, Meta(description="Postgres to migrate: postgresql://user:password@host:5432/name")]
    json: Annotated[bool, Meta(description="print one JSON document")] = False
    data: Annotated[str | None, Meta(description="data directory whose env file is read")] = None


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; 1 where the database cannot be reached or does not allow it."""
    own = settings.load(Settings, "migrate", argv, environ, description=MEANING)
    logs.configure("warning")
    try:
        applied = database.migrate(own.database_url)
    except database.DatabaseUrlError as error:
        raise SettingsError(f"--database-url: {error}") from None
    except database.Unavailable as error:
        return screen.failed("migrate", error)
    if own.json:
        screen.print_json({"applied": applied})
    else:
        print(f"Applied: {', '.join(applied)}." if applied else "The schema is up to date; nothing to apply.")
    return 0
