"""Reading /proc and /sys: kept descriptors, whole reads, and names made fit for a label."""

import contextlib
import fnmatch
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

PAGE = 4096
LIKELY_CUT = 2048


class KeptFile:
    """A file of /proc or /sys whose descriptor is kept: one system call a reading. Raises OSError when it is gone."""

    __slots__ = ("_fd", "_size", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1
        self._size = 2 * PAGE

    def read(self) -> bytes:
        """The whole content. A descriptor that fails is closed, so that the next reading opens the file anew."""
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return self._read_whole()
        except OSError:
            self.close()
            raise

    def _read_whole(self) -> bytes:
        """/proc may give less than asked for, a page at a time: only a short piece is surely the last."""
        piece = whole = os.pread(self._fd, self._size, 0)
        while len(piece) >= LIKELY_CUT:
            piece = os.pread(self._fd, self._size, len(whole))
            whole += piece
        self._size = max(self._size, 2 * len(whole))
        return whole

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):
                os.close(fd)


class Files:
    """The kept files of one collector below `root`."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._files: dict[str, KeptFile] = {}

    def read(self, path: str) -> bytes:
        """Content of `path` (without a leading slash). Raises OSError."""
        file = self._files.get(path)
        if file is None:
            file = self._files[path] = KeptFile(f"{self._root}/{path}")
        return file.read()

    def read_optional(self, path: str) -> bytes:
        """Content of `path`; empty where it cannot be read."""
        try:
            return self.read(path)
        except OSError:
            return b""

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()


def read_text(path: str) -> str:
    """The stripped text of a small file; empty where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return file.read(PAGE * 16).decode(errors="replace").strip()
    except OSError:
        return ""


def read_names(path: str) -> list[str]:
    """The sorted names in a directory; empty where it cannot be read."""
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries)
    except OSError:
        return []


def number_after(text: bytes, word: bytes) -> int | None:
    """The whole number that follows `word` and a blank at the beginning of a line; None where there is none."""
    start = 0 if text.startswith(word + b" ") else text.find(b"\n" + word + b" ") + 1
    if start == 0 and not text.startswith(word + b" "):
        return None
    number = text[start + len(word):start + len(word) + 32].split(None, 1)[0]
    return int(number) if number.isdigit() else None


def pressure(text: bytes) -> dict[str, float]:
    """`some avg10=0.12 …` of /proc/pressure/* → {"some": 0.12}; empty where there is no such line."""
    if not text.startswith(b"some avg10="):
        return {}
    return {"some": round(min(100.0, float(text[11:text.index(b" ", 11)])), 1)}


def label(name: str | bytes) -> str:
    """`name` fit for a label: printable, blanks trimmed, at most 96 characters."""
    text = name.decode(errors="replace") if isinstance(name, bytes) else name
    if not text.isprintable():
        text = "".join(character if character.isprintable() else "_" for character in text)
    return text.strip()[:96] or "_"


def is_match(name: str, patterns: Iterable[str]) -> bool:
    """Whether `name` fits one of the fnmatch patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def is_chosen(name: str, include: Sequence[str], exclude: Sequence[str], *, by_default: bool) -> bool:
    """An exclude pattern wins; then an include pattern; where none fits, the default."""
    return not is_match(name, exclude) and (by_default or is_match(name, include))
