"""What the spool must remember beside its records: a small file that is overwritten in place.

In place, because a full disk still lets a block that exists be written. Two slots take turns and each carries a CRC, so
a write torn by a crash leaves the previous state.
"""

import errno
import os
import struct
import zlib
from pathlib import Path
from typing import Self

_SLOT = struct.Struct("<QQQQ32s")
_SLOT_BYTES = 128


class Bookmark:
    """How far things are known to have gone.

    `confirmed`: everything up to it is stored at the aggregator. `used`: seqs up to it are taken, even where no record
    tells so. `reserved`: the same, should the machine have crashed since (`boot_id` tells a crash from a restart).
    `file` is its descriptor.
    """

    def __init__(self, path: Path) -> None:
        self.confirmed = self.used = self.reserved = self._turn = 0
        self.boot_id = ""
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        slots = [self._read_slot(at) for at in (0, 1)]
        for turn, confirmed, used, reserved, boot in sorted(slot for slot in slots if slot is not None)[-1:]:
            self._turn, self.confirmed, self.used, self.reserved = turn, confirmed, used, reserved
            self.boot_id = boot.rstrip(b"\0").decode(errors="replace")
        if all(slot is None for slot in slots):
            os.pwrite(self.file, bytes(2 * _SLOT_BYTES), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, *, is_durable: bool = False) -> None:
        """Store the present values; `is_durable` waits until the disk has them. Raises OSError."""
        turn = self._turn + 1
        body = _SLOT.pack(turn, self.confirmed, self.used, self.reserved, self.boot_id.encode()[:32])
        slot = body + struct.pack("<I", zlib.crc32(body))
        if os.pwrite(self.file, slot, turn % 2 * _SLOT_BYTES) < len(slot):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._turn = turn  # only now: until this slot is whole, the other one must not be touched
        if is_durable:
            os.fdatasync(self.file)

    def close(self) -> None:
        os.close(self.file)

    def _read_slot(self, at: int) -> tuple[int, int, int, int, bytes] | None:
        data = os.pread(self.file, _SLOT.size + 4, at * _SLOT_BYTES)
        if len(data) < _SLOT.size + 4 or zlib.crc32(data[:_SLOT.size]) != int.from_bytes(data[_SLOT.size:], "little"):
            return None
        turn, confirmed, used, reserved, boot = _SLOT.unpack_from(data)
        return turn, confirmed, used, reserved, boot
