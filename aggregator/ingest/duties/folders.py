"""Where duties may write: folders right below ingest's output directory, by names that cannot lead out of it."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.duties import DutyError

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def open_folder(output: Path | None, name: str) -> Path:
    """The folder `name` of the output directory, made where it is missing. Raises DutyError."""
    if output is None:
        raise DutyError("ingest has no output directory; start it with --output-directory (DRUMBEAT_OUTPUT_DIRECTORY)")
    if _NAME.fullmatch(name) is None:
        raise DutyError(f"target.arguments.directory: {name[:63]!r} is no name of a folder")
    folder = output / name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.resolve() != output.resolve() / name:
            raise DutyError(f"{folder} is a link that leads out of the output directory")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "ingest may not write there")
    except OSError as error:
        raise DutyError(f"{folder} cannot be used: {error.strerror}") from None
    return folder


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A file that gets its name when it is whole, and goes away where that fails. Only its owner may read it."""
    partial = path.with_name(f".partial-{path.name}")
    partial.unlink(missing_ok=True)
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fchmod(file.fileno(), 0o600)
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def delete_oldest(folder: Path, pattern: str, keep: int) -> int:
    """Delete all but the newest `keep` files that fit, by name; how many."""
    old = sorted(path for path in folder.glob(pattern) if path.is_file())[:-keep]
    for path in old:
        path.unlink()
    return len(old)
