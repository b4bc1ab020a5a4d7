"""A spool in memory alone, for a host where the real one cannot be opened: bounded, and gone with the process."""

import secrets
from collections import deque


class MemorySpool:
    """Keeps what a `Spool` keeps, without a disk; every start is a new epoch."""

    def __init__(self, max_bytes: int = 4 << 20) -> None:
        self.epoch = secrets.token_hex(8)
        self.confirmed = self.newest = self.size = self.dropped = self.unspooled = 0
        self._max_bytes = max_bytes
        self._records: deque[tuple[int, bytes]] = deque()

    @property
    def safe(self) -> int:
        """Every start is a new epoch, so that any sample may be sent."""
        return self.newest

    @property
    def oldest(self) -> int:
        """The lowest seq held; 0: none."""
        return self._records[0][0] if self._records else 0

    @property
    def pending(self) -> int:
        """How many samples are not known to be stored."""
        return max(0, self.newest - self.confirmed)

    def append(self, payload: bytes, now: float) -> bool:  # noqa: ARG002 (the disk's spool needs the time)
        """Give `payload` the next seq; the oldest go where there is no room."""
        self.newest += 1
        self._records.append((self.newest, payload))
        self.size += len(payload)
        while self.size > self._max_bytes and len(self._records) > 1:
            self.dropped += self._forget_oldest() > self.confirmed
        return True

    def confirm(self, seq: int, now: float) -> None:  # noqa: ARG002
        """The aggregator holds everything up to `seq`."""
        self.confirmed, self.newest = seq, max(seq, self.newest)
        while self._records and self._records[0][0] <= seq:
            self._forget_oldest()

    def read(self, first: int, count: int) -> list[tuple[int, bytes]]:
        """Up to `count` records from seq `first` on, oldest first."""
        found = (record for record in self._records if record[0] >= first)
        return [record for _, record in zip(range(count), found, strict=False)]

    def forget_cache(self) -> None:
        """Nothing is cached."""

    def close(self) -> None:
        self._records.clear()

    def _forget_oldest(self) -> int:
        seq, payload = self._records.popleft()
        self.size -= len(payload)
        return seq
