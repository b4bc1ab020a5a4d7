"""Records of a spool segment: how they lie on disk and how sound ones are found again. Pure.

A record is a header (length u32, CRC-32 u32, seq u64, little endian) and the payload; the CRC covers seq and payload.
Seqs rise within a segment; a jump is a hole (samples that never reached the disk). A damaged record costs itself alone:
reading goes on at the next offset where a whole sound record stands.
"""

import dataclasses
import struct
import zlib
from collections.abc import Iterator

_HEADER = struct.Struct("<IIQ")
_SEQ = struct.Struct("<Q")
HEADER_BYTES = _HEADER.size
MAX_RECORD_BYTES = 1 << 20
MAX_JUMP = 1 << 32


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """Where one sound record lies: its payload is `data[start:end]`."""

    seq: int
    start: int
    end: int


def framed(seq: int, payload: bytes) -> bytes:
    """The bytes of one record. Raises ValueError for a payload that is empty or larger than 1 MiB."""
    if not 0 < len(payload) <= MAX_RECORD_BYTES:
        raise ValueError(f"record of {len(payload)} bytes; allowed: 1 to {MAX_RECORD_BYTES}")
    return _HEADER.pack(len(payload), _checksum(seq, payload), seq) + payload


def records(data: bytes, first_seq: int) -> Iterator[Record]:
    """The sound records of a segment whose first seq is `first_seq`, damaged stretches left out."""
    at, least = 0, first_seq
    while at + HEADER_BYTES < len(data):
        record = _record_at(data, at, least)
        if record is None:
            at += 1
        else:
            yield record
            at, least = record.end, record.seq + 1


def possibly_used(tail: bytes, last_seq: int) -> int:
    """The highest seq that a tail without sound records may have carried: what of it was published must not come again.

    `last_seq`: the last one known to be taken before it. A torn record (cut short by a crash) stands for one seq; anything
    else for as many as could have stood there.
    """
    if not tail:
        return last_seq
    if len(tail) < HEADER_BYTES:
        return last_seq + 1
    length, _, seq = _HEADER.unpack_from(tail)
    is_torn = seq == last_seq + 1 and 0 < length <= MAX_RECORD_BYTES and HEADER_BYTES + length > len(tail)
    return last_seq + (1 if is_torn else len(tail) // HEADER_BYTES + 1)


def _record_at(data: bytes, at: int, least: int) -> Record | None:
    length, checksum, seq = _HEADER.unpack_from(data, at)
    start, end = at + HEADER_BYTES, at + HEADER_BYTES + length
    if not 0 < length <= MAX_RECORD_BYTES or end > len(data) or not least <= seq < least + MAX_JUMP:
        return None
    return Record(seq, start, end) if _checksum(seq, data[start:end]) == checksum else None


def _checksum(seq: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(_SEQ.pack(seq)))
