"""What a producer knows of its own samples, written beside its spool: every seq that was given to the spool, with its numbers.

Three kinds of lines: `+` before the spool is given a sample, `=` once it has it, `-` where it refused. A producer that is killed
between the first two does not know itself; its sample may be stored or not, but with no other numbers.
"""

import dataclasses
import os

import msgspec

from agent.spool import Spool

NUMBER, LOAD = "custom.ledger", "custom.load"
"""A random whole number that a float4 holds exactly, and what alerts watch."""


@dataclasses.dataclass(slots=True)
class Entry:
    """One sample: its numbers, and whether the spool has taken it for sure."""

    ts: float
    number: int
    load: float
    is_sure: bool = False


class LedgerSpool(Spool):
    """A spool that keeps a ledger of what it is given."""

    def __init__(self, directory, limits, now, boot_id=""):
        super().__init__(directory, limits, now, boot_id)
        self._ledger = os.open(directory / "ledger", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def append(self, payload, now):
        sample = msgspec.json.decode(payload)
        place, metrics = f"{sample['epoch']} {sample['seq']}", sample["metrics"]
        self._note(f"+ {place} {sample['ts']} {metrics[NUMBER]} {metrics[LOAD]}\n")
        is_written = super().append(payload, now)
        self._note(f"{'=' if is_written else '-'} {place}\n")
        os.fdatasync(self._ledger)
        return is_written

    def _note(self, line):
        os.write(self._ledger, line.encode())


def read_ledger(path):
    """({(epoch, seq): Entry}, what is wrong with the ledger itself, as texts)."""
    found, wrong = {}, []
    for line in path.read_text().splitlines():
        kind, epoch, seq, *numbers = line.split()
        place = epoch, int(seq)
        if kind == "+":
            if place in found and found[place].is_sure:
                wrong.append(f"{path.parent.name}: seq {seq} was given out twice")
            found[place] = Entry(float(numbers[0]), int(numbers[1]), float(numbers[2]))
        elif kind == "=":
            found[place].is_sure = True
        else:
            wrong.append(f"{path.parent.name}: the spool refused seq {seq}")
    return found, wrong
