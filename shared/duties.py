"""The duties of drumbeat's own upkeep, which schedules of type maintenance name, and their arguments. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from shared.recurrence import ScheduleError, moment
from shared.shapes import ShapeError, converted

Folder = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Keep = Annotated[int, Meta(ge=1, le=10_000)]
Hours = Annotated[float, Meta(gt=0, le=87_600)]
Word = Annotated[str, Meta(min_length=1, max_length=128)]


class DutyError(Exception):
    """A duty cannot be done; the message names what is wrong and what to mend."""


class Arguments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a duty may be told."""

    def check(self) -> None:
        """What types cannot say. Raises DutyError."""


class Retention(Arguments, frozen=True, kw_only=True):
    """Delete what the retention policies no longer keep. dry_run: only say what that would be."""

    dry_run: bool = False


class Partitions(Arguments, frozen=True, kw_only=True):
    """Make the partitions of the days to come."""


class Spanned(Arguments, frozen=True, kw_only=True, rename={"from_": "from"}):
    """A span: the last `hours`, or `from` (and `to`), RFC 3339; and whose: names of hosts, or patterns with `*`; none: of all."""

    hours: Hours = 24.0
    from_: str = ""
    to: str = ""
    hosts: Annotated[list[Word], Meta(max_length=200)] = []

    def check(self) -> None:
        """Raises DutyError."""
        try:
            end, start = moment("target.arguments.to", self.to), moment("target.arguments.from", self.from_)
        except ScheduleError as error:
            raise DutyError(str(error)) from None
        if start is not None and end is not None and start >= end:
            raise DutyError(f"target.arguments.from: {self.from_} is not before {self.to}")

    def span(self, now: datetime) -> tuple[datetime, datetime]:
        """From and to; nothing where `from` lies ahead."""
        end = moment("to", self.to) or now
        return moment("from", self.from_) or end - timedelta(hours=self.hours), end


class Rollups(Spanned, frozen=True, kw_only=True, rename={"from_": "from"}):
    """Compare rollups with what they are made from, and have those made again that differ."""


class Rejects(Arguments, frozen=True, kw_only=True):
    """Delete refused messages that are old or too many."""


class Vacuum(Arguments, frozen=True, kw_only=True):
    """Vacuum and analyze the tables that need it, or the named ones."""

    tables: Annotated[list[Annotated[str, Meta(pattern=r"^[a-z_0-9]{1,63}$")]], Meta(max_length=50)] = []


class Backup(Arguments, frozen=True, kw_only=True):
    """Write a backup into a folder of `directory`, and keep the newest of them. `history`: of the whole store."""

    directory: Folder = "backups"
    keep: Keep = 14
    secrets: bool = False
    history: bool = False


class Export(Spanned, frozen=True, kw_only=True, rename={"from_": "from"}):
    """Write chosen metrics (names, or patterns with `*`) into a file of `directory`, and keep the newest of them."""

    metrics: Annotated[list[Word], Meta(min_length=1, max_length=100)]
    resolution: Literal["raw", "1m", "1h", "1d"] = "1m"
    format: Literal["csv", "ndjson"] = "csv"
    directory: Folder = "exports"
    keep: Keep = 14


class Report(Arguments, frozen=True, kw_only=True):
    """Write how the fleet has been into a file of `directory`; with a `channel`, tell it there too."""

    hours: Annotated[float, Meta(gt=0, le=744)] = 24.0
    channel: Annotated[str, Meta(max_length=100)] = ""
    directory: Folder = "reports"
    keep: Keep = 30


ARGUMENTS: Mapping[str, type[Arguments]] = {
    "retention": Retention, "partitions": Partitions, "rollups": Rollups, "rejects": Rejects, "vacuum": Vacuum,
    "backup": Backup, "export": Export, "report": Report}


def read_arguments(duty: str, arguments: Mapping[str, Any]) -> Arguments:
    """The arguments of a duty. Raises DutyError."""
    kind = ARGUMENTS.get(duty)
    if kind is None:
        raise DutyError(f"target.duty: there is no duty {duty[:60]!r}; there are {', '.join(ARGUMENTS)}")
    try:
        found = converted(dict(arguments), kind)
    except ShapeError as error:
        raise DutyError(f"target.arguments.{error}") from None
    for name, value in msgspec.structs.asdict(found).items():
        if any(isinstance(text, str) and text.endswith("\n") for text in (value if isinstance(value, list) else [value])):
            raise DutyError(f"target.arguments.{name}: it ends with a line break")
    found.check()
    return found
