"""Built-in task `clean_directory`: removes old files below a directory that is allowed by name, and follows no link.

Every directory is opened relative to its parent and refused where it is a link by then, so that nobody who writes there can
lead it elsewhere. It stays on one file system. Sockets, pipes and devices stay; a link goes as a link.
"""

import dataclasses
import os
import stat

from agent.tasks.work import Control, Outcome

MAX_DEPTH = 64
MAX_LINES = 20
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclasses.dataclass(slots=True)
class Cleaned:
    """What was done so far."""

    files: int = 0
    directories: int = 0
    bytes: int = 0
    left: list[str] = dataclasses.field(default_factory=list)

    def text(self) -> str:
        """For people."""
        lines = [f"{self.files} files and {self.directories} directories removed, {self.bytes} bytes"]
        lines += [f"left: {line}" for line in self.left[:MAX_LINES]]
        return "".join(f"{line}\n" for line in lines)


def clean(directory: str, before: float, control: Control) -> Outcome:
    """Remove what was last changed before `before` (Unix seconds); directories when they are empty and as old."""
    try:
        file = _opened(directory)
    except OSError as error:
        return Outcome("rejected", f"arguments.directory: {directory}: {error.strerror}; no part of its path may be a link")
    done = Cleaned()
    try:
        _clean(file, before, os.fstat(file).st_dev, directory, control, done)
    finally:
        os.close(file)
    if control.asked is not None:
        return Outcome(control.asked.state, control.asked.reason, output=done.text())
    if done.left:
        return Outcome("failed", f"{len(done.left)} could not be removed", output=done.text())
    return Outcome("completed", output=done.text())


def _opened(directory: str) -> int:
    """Step by step from the root, so that no part of the path can be a link by the time it is opened. Raises OSError."""
    file = os.open("/", _OPEN)
    for name in directory.strip("/").split("/"):
        try:
            below = os.open(name, _OPEN, dir_fd=file)
        finally:
            os.close(file)
        file = below
    return file


def _clean(parent: int, before: float, device: int, shown: str, control: Control, done: Cleaned) -> None:
    with os.scandir(parent) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        if control.asked is not None:
            return
        try:
            _clean_one(parent, name, before, device, f"{shown}/{name}", control, done)
        except FileNotFoundError:
            continue
        except OSError as error:
            done.left.append(f"{shown}/{name}: {error.strerror}")


def _clean_one(parent: int, name: str, before: float, device: int, shown: str, control: Control, done: Cleaned) -> None:
    facts = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if stat.S_ISDIR(facts.st_mode):
        _clean_directory(parent, name, before, device, shown, control, done)
    elif facts.st_mtime < before and (stat.S_ISREG(facts.st_mode) or stat.S_ISLNK(facts.st_mode)):
        os.unlink(name, dir_fd=parent)
        done.files += 1
        done.bytes += facts.st_size


def _clean_directory(parent: int, name: str, before: float, device: int, shown: str, control: Control,
                     done: Cleaned) -> None:
    """Clean below it, and remove it where it is empty then and was old before; the time of that moment would be new."""
    file = os.open(name, _OPEN, dir_fd=parent)
    try:
        facts = os.fstat(file)
        if facts.st_dev != device:
            return
        if shown.count("/") > MAX_DEPTH:
            done.left.append(f"{shown}: deeper than {MAX_DEPTH} directories")
            return
        _clean(file, before, device, shown, control, done)
        with os.scandir(file) as entries:
            is_empty = next(entries, None) is None
    finally:
        os.close(file)
    if is_empty and facts.st_mtime < before and control.asked is None:
        os.rmdir(name, dir_fd=parent)
        done.directories += 1
