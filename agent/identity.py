"""Whose a spool is: the file `epoch`, which holds the epoch, a hash of the machine it was made on, and a checksum.

A spool that was copied to another machine (a clone) must not go on in the same epoch: two writers would give out the same
seqs. Where a machine has no id nothing is checked.
"""

import dataclasses
import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path

from agent.segments import write_durably
from shared import wire

NO_MACHINE = "-"
MACHINE_ID_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """The epoch, and which machine it belongs to; empty: nobody knows."""

    epoch: str
    machine: str = ""


def read_machine(files: Sequence[Path] = MACHINE_ID_FILES) -> str:
    """Which machine this is, as 16 hex digits; empty where it has no id. Hashed, since machine-id(5) asks for that."""
    for file in files:
        try:
            text = file.read_text().strip()
        except (OSError, UnicodeDecodeError):
            continue
        if len(text) == 32 and set(text) <= set("0123456789abcdef"):
            return hashlib.blake2b(text.encode(), key=b"drumbeat", digest_size=8).hexdigest()
    return ""


def read_identity(directory: Path) -> Identity | None:
    """What the file says; None where there is none, or it is damaged. A bare epoch is that of an older version."""
    try:
        words = (directory / "epoch").read_text().split()
        wire.check_epoch(words[0])
    except (OSError, UnicodeDecodeError, IndexError, wire.WireError):
        return None
    if len(words) == 1:
        return Identity(words[0])
    found = Identity(words[0], "" if words[1] == NO_MACHINE else words[1])
    return found if " ".join(words) == _line(found) else None


def write_identity(directory: Path, identity: Identity) -> None:
    """Replace the file, and wait until the disk has it. Raises OSError."""
    write_durably(directory / "epoch", _line(identity) + "\n")


def _line(identity: Identity) -> str:
    body = f"{identity.epoch} {identity.machine or NO_MACHINE}"
    return f"{body} {zlib.crc32(body.encode()):08x}"
