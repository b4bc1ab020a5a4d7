"""Whether what is stored of a host is what its producer knows to have made. Pure."""

import dataclasses
import math
from collections import Counter


@dataclasses.dataclass(slots=True)
class Judgement:
    """One host's samples against its ledger."""

    samples: int
    lost: int
    doubled: int
    unexplained: int


def judge(entries, rows, gaps):
    """`entries`: the ledger; `rows`: (epoch, seq, ts, number, load) as stored; `gaps`: (first, last) that may be missing.

    unexplained: rows that the ledger does not have so, and gaps of what is stored all the same.
    """
    stored = Counter((epoch, seq) for epoch, seq, *_ in rows)
    given_up = {seq for first, last in gaps for seq in range(first, last + 1)}
    missing = [place for place, entry in entries.items() if entry.is_sure and place not in stored]
    strange = sum(place not in entries or not _is_same(entries[place], *numbers)
                  for place, numbers in (((epoch, seq), numbers) for epoch, seq, *numbers in rows))
    return Judgement(len(entries), sum(place[1] not in given_up for place in missing), sum(stored.values()) - len(stored),
                     strange + sum(place[1] in given_up for place in stored))


def _is_same(entry, ts, number, load):
    return abs(entry.ts - ts) < 0.002 and (entry.number, entry.load) == (number, load)


def unlike(spooled, stored):
    """What differs by more than a float4 cannot tell: {metric: (spooled, stored)}; ingest adds the scores of health."""
    names = {name for name in spooled.keys() | stored.keys() if not name.startswith("health.")}
    return {name: (spooled.get(name), stored.get(name)) for name in names if not math.isclose(
        spooled.get(name, math.inf), stored.get(name, -math.inf), rel_tol=1e-6, abs_tol=1e-6)}
