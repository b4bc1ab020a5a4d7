"""The record of one finding of `drumbeat doctor`. Pure."""

import dataclasses
from typing import Literal

Level = Literal["ok", "warn", "fail", "unknown"]


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: its name, how it stands, what that means, and the mend where one is needed."""

    check: str
    level: Level
    text: str
    mend: str = ""


def ok(check: str, text: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", text)


def warn(check: str, text: str, mend: str) -> Finding:
    """It works, but not as it should, or not for long."""
    return Finding(check, "warn", text, mend)


def fail(check: str, text: str, mend: str) -> Finding:
    """It does not work."""
    return Finding(check, "fail", text, mend)


def unknown(check: str, text: str, mend: str = "") -> Finding:
    """It could not be looked at."""
    return Finding(check, "unknown", text, mend)
