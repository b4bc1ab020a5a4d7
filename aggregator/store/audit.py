"""What `drumbeat audit` reads: one pass over `sample`, partition by partition, beside gaps, refusals, checkpoints."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection, Engine, text

from aggregator.analysis.audit import Evidence, Range, Run, Verdict, judge

Key = tuple[int, int]
Progress = Callable[[int, int], None]
"""Called with (partitions read, partitions in all)."""

# Islands: a run begins where the seq before it is not its neighbour. One sort a partition serves both windows.
RUNS = """
WITH seen AS (
  SELECT host_id, epoch, seq, ts, lag(seq) OVER (PARTITION BY host_id, epoch ORDER BY seq) AS previous
  FROM {partition} WHERE CAST(:host AS text) IS NULL OR host_id = (SELECT id FROM host WHERE name = :host)),
numbered AS (
  SELECT *, count(*) FILTER (WHERE previous IS NULL OR seq - previous > 1)
              OVER (PARTITION BY host_id, epoch ORDER BY seq) AS run
  FROM seen)
SELECT host_id, epoch, min(seq), max(seq), count(*), count(*) FILTER (WHERE seq = previous), min(ts), max(ts)
FROM numbered GROUP BY host_id, epoch, run
"""

PARTITIONS = r"""
SELECT i.inhrelid::regclass::text,
       substring(pg_get_expr(c.relpartbound, c.oid) FROM $x$FROM \('([^']+)'\)$x$)::timestamptz AS from_at
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'sample'::regclass ORDER BY from_at
"""

GAPS = "SELECT host_id, epoch, from_seq, to_seq FROM gap"
REFUSED = """
SELECT h.id, r.epoch, r.seq, r.seq FROM reject r JOIN host h ON h.name = r.host
WHERE r.epoch IS NOT NULL AND r.seq IS NOT NULL
"""
STREAMS = "SELECT host_id, epoch, contiguous_seq, created_at FROM stream"


class UnknownHostError(Exception):
    """No such host is in the database."""


class NoSchemaError(Exception):
    """The database holds no drumbeat schema; mend with: drumbeat migrate."""


@dataclasses.dataclass(slots=True)
class _Found:
    runs: dict[Key, list[Run]]
    oldest_at: datetime | None


def fetch_audit(engine: Engine, host: str | None = None,
                progress: Progress = lambda _done, _all: None) -> list[Verdict]:
    """The verdict on every stream that has samples, by host and age. Raises UnknownHostError and NoSchemaError.

    Everything is read in one snapshot, so ingest may go on writing meanwhile.
    """
    with engine.connect().execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True) as connection:
        if connection.execute(text("SELECT to_regclass('sample')")).scalar() is None:
            raise NoSchemaError(NoSchemaError.__doc__)
        names = {row.id: row.name for row in connection.execute(text("SELECT id, name FROM host"))}
        if host is not None and host not in names.values():
            raise UnknownHostError(f"no host {host!r} in the database")
        found = _read_runs(connection, host, progress)
        evidence = _read_evidence(connection, names, found.runs)
    verdicts = [judge(evidence[key], runs, found.oldest_at) for key, runs in found.runs.items()]
    return sorted(verdicts, key=lambda verdict: (verdict.host, verdict.first_at))


def _read_runs(connection: Connection, host: str | None, progress: Progress) -> _Found:
    partitions = connection.execute(text(PARTITIONS)).all()
    runs: dict[Key, list[Run]] = defaultdict(list)
    for done, (partition, _) in enumerate(partitions):
        progress(done, len(partitions))
        statement = text(RUNS.format(partition=partition))  # the name comes from the catalogue, quoted by regclass
        for host_id, epoch, *fields in connection.execute(statement, {"host": host}):
            runs[host_id, epoch].append(Run(*fields))
    progress(len(partitions), len(partitions))
    return _Found(runs, partitions[0].from_at if partitions else None)


def _read_evidence(connection: Connection, names: dict[int, str], runs: dict[Key, list[Run]]) -> dict[Key, Evidence]:
    gaps, refused = _ranges(connection, GAPS), _ranges(connection, REFUSED)
    streams = {(row[0], row[1]): (row[2], row[3]) for row in connection.execute(text(STREAMS))}
    return {key: Evidence(names.get(key[0], f"#{key[0]}"), epoch_hex(key[1]), *streams.get(key, (None, None)),
                          gaps=gaps[key], refused=refused[key]) for key in runs}


def _ranges(connection: Connection, query: str) -> dict[Key, list[Range]]:
    result: dict[Key, list[Range]] = defaultdict(list)
    for host_id, epoch, first, last in connection.execute(text(query)):
        result[host_id, epoch].append((first, last))
    return result


def epoch_hex(epoch: int) -> str:
    """An epoch as the wire writes it: 16 hexadecimal digits of the signed 64-bit number in the tables."""
    return (epoch & (2**64 - 1)).to_bytes(8, "big").hex()
