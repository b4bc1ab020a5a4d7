"""The end of what a program wrote, as text that harms no terminal. Pure."""

from collections import deque

from shared.wire import MAX_OUTPUT_CHARACTERS


class Tail:
    """Keeps the last `limit` bytes of what is added."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chunks: deque[bytes] = deque()
        self._size = 0

    def add(self, chunk: bytes) -> None:
        """What was written next."""
        self._chunks.append(chunk)
        self._size += len(chunk)
        while self._chunks and self._size - len(self._chunks[0]) >= self._limit:
            self._size -= len(self._chunks.popleft())

    def text(self) -> str:
        """The kept bytes as text."""
        whole = b"".join(self._chunks)
        return shown(whole[max(0, len(whole) - self._limit):])


def shown(data: bytes) -> str:
    r"""`data` as UTF-8; what cannot be printed is escaped (`\x1b`), but for line ends and tabs. At most 65,536 characters."""
    text = data.decode(errors="replace").replace("\r\n", "\n")
    if not text.isprintable():
        text = "".join(character if character.isprintable() or character in "\n\t" else _escaped(character)
                       for character in text)
    return text[-MAX_OUTPUT_CHARACTERS:]


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
