"""Chosen metrics of chosen hosts as CSV or NDJSON, straight from the database into a file."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from shared.database import Connection

_VIEWS = {"raw": ("samples", "value"), "1m": ("samples_1m", "count, min, mean, max"),
          "1h": ("samples_1h", "count, min, mean, max"), "1d": ("samples_1d", "count, min, mean, max")}
# One column, and no character that JSON has as it is: so nothing is quoted or escaped a second time.
_OPTIONS = {"csv": "FORMAT csv, HEADER", "ndjson": "FORMAT csv, DELIMITER E'\\x02', QUOTE E'\\x01'"}


def write(connection: Connection, path: Path, *, metrics: Sequence[str], hosts: Sequence[str], since: datetime, until: datetime,
          resolution: str, form: str, check: Callable[[], None]) -> int:
    """Write what fits into a new file and say how many bytes that is.

    `metrics` and `hosts` are names or patterns with `*`, no hosts: all. `check` is called now and then and may raise.
    """
    view, figures = _VIEWS[resolution]
    wanted = f"""SELECT host, ts, metric, {figures} FROM {view}
                 WHERE ts >= %s AND ts < %s AND metric LIKE ANY (%s) AND host LIKE ANY (%s)
                 ORDER BY host, metric, ts"""  # noqa: S608 (constants)
    if form == "ndjson":
        wanted = f"SELECT row_to_json(point)::text FROM ({wanted}) AS point"  # noqa: S608 (constants)
    size = 0
    with connection.cursor() as cursor, path.open("xb") as file, \
            cursor.copy(f"COPY ({wanted}) TO STDOUT ({_OPTIONS[form]})",
                        [since, until, [_like(metric) for metric in metrics], [_like(host) for host in hosts or ["*"]]]) as copy:
        for block in copy:
            size += file.write(block)
            check()
    return size


def _like(pattern: str) -> str:
    for char in "\\%_":
        pattern = pattern.replace(char, f"\\{char}")
    return pattern.replace("*", "%")
