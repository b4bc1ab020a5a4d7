"""Rollups: writing closed minutes, and making hours and days again from the level below.

One mechanism serves late data, hours that end, and what a crash left undone: a row in `rollup_due` names a host and an
hour; `remake` folds what is named there anew and replaces the rows, for many hosts at once, in one transaction.
"""

import dataclasses
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from aggregator.analysis.rollup import Buckets, fold, fold_samples
from aggregator.store import binary
from aggregator.store.samples import Cursor
from aggregator.store.slots import Lease

Span = tuple[int, int]
"""First minute and end of the last (Unix s)."""

Reals = NDArray[np.float32]
MinuteRow = tuple[int, int, int, Reals, Reals, Reals]
"""host_id, layout_id, count, min, mean, max."""

Made = Mapping[tuple[int, int], Buckets]
"""Buckets by (host_id, layout_id)."""

_RAW_HEAD = struct.Struct(">hiiiiiqi")     # fields; host_id; layout_id; ts; size of the array
_FOLD_HEAD = struct.Struct(">hiiiiiqiii")  # fields; host_id; layout_id; ts; count; size of the first array
_KEY = struct.Struct(">6xi4xi")            # host_id and layout_id of either


@dataclasses.dataclass(frozen=True, slots=True)
class Due:
    """One host's hour to be made again; `raw` are the minutes to fold from raw history first."""

    host_id: int
    hour: datetime
    raw_from: datetime | None
    raw_to: datetime | None


def write_minute(cursor: Cursor, start: int, rows: Iterable[MinuteRow]) -> None:
    """COPY the rows of the minute that began at `start` (Unix s)."""
    with cursor.copy("COPY rollup_1m (host_id, layout_id, ts, count, min, mean, max) FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(binary.HEADER)
        for host_id, layout_id, count, *arrays in rows:
            copy.write(binary.rollup_row(host_id, layout_id, start, count, arrays))
        copy.write(binary.TRAILER)


def write_closed_to(cursor: Cursor, lease: Lease, closed_to: int) -> None:
    cursor.execute("UPDATE slot SET rolled_up_to = to_timestamp(%s) WHERE slot = %s", [closed_to, lease.slot])


def write_due(cursor: Cursor, late: Mapping[tuple[int, int], Span], due_at: float) -> None:
    """Note late minutes: (host_id, hour start) → the span of minutes to fold again from raw."""
    keys = sorted(late)
    cursor.execute(
        """INSERT INTO rollup_due (host_id, hour, raw_from, raw_to, due_at)
           SELECT h, to_timestamp(o), to_timestamp(f), to_timestamp(t), to_timestamp(%s)
           FROM unnest(%s::int[], %s::float8[], %s::float8[], %s::float8[]) AS n (h, o, f, t)
           ON CONFLICT (host_id, hour) DO UPDATE SET raw_from = least(rollup_due.raw_from, excluded.raw_from),
             raw_to = greatest(rollup_due.raw_to, excluded.raw_to)""",
        [due_at, [host for host, _ in keys], [hour for _, hour in keys], [late[key][0] for key in keys],
         [late[key][1] for key in keys]])


def write_hour_due(cursor: Cursor, host_ids: Sequence[int], hour: int, due_at: float) -> None:
    """Note that an hour (Unix s) has ended, spread over five minutes so that not all hosts come at once."""
    cursor.execute(
        """INSERT INTO rollup_due (host_id, hour, due_at) SELECT h, to_timestamp(%s), to_timestamp(%s + h %% 300)
           FROM unnest(%s::int[]) AS n (h) ON CONFLICT DO NOTHING""", [hour, due_at, binary.array_text(host_ids)])


def write_due_since(cursor: Cursor, lease: Lease, closed_to: int, now: float) -> None:
    """After a takeover: everything stored but not rolled up before `closed_to` is due, and so is each hour it ended."""
    cursor.execute(
        """INSERT INTO rollup_due (host_id, hour, raw_from, raw_to, due_at)
           SELECT s.host_id, date_trunc('hour', s.ts), min(date_trunc('minute', s.ts)),
             max(date_trunc('minute', s.ts)) + interval '1 minute', to_timestamp(%(now)s)
           FROM sample s JOIN host h ON h.id = s.host_id
           WHERE s.received_at >= %(from)s - interval '6 minutes' AND s.ts >= %(from)s AND s.ts < to_timestamp(%(to)s)
             AND h.partition %% %(slots)s = %(slot)s
           GROUP BY 1, 2
           ON CONFLICT (host_id, hour) DO UPDATE SET raw_from = least(rollup_due.raw_from, excluded.raw_from),
             raw_to = greatest(rollup_due.raw_to, excluded.raw_to)""",
        {"from": lease.rolled_up_to, "to": closed_to, "slots": lease.slots, "slot": lease.slot, "now": now})
    for hour in hours_between(lease.rolled_up_to.timestamp(), closed_to):
        cursor.execute(
            """INSERT INTO rollup_due (host_id, hour, due_at)
               SELECT h.id, to_timestamp(%s), to_timestamp(%s + h.id %% 60) FROM host h JOIN host_now n ON n.host_id = h.id
               WHERE h.partition %% %s = %s AND n.ts >= to_timestamp(%s) - interval '1 day' ON CONFLICT DO NOTHING""",
            [hour, now, lease.slots, lease.slot, hour])


def hours_between(since: float, until: float) -> list[int]:
    """Hours (their starts) that ended in (since, until]; the first 48 of them: no sample can be of the others. Pure."""
    first = int(since // 3600) * 3600
    return [hour for hour in range(first, int(until), 3600) if hour + 3600 <= until][:48]


def fetch_due(cursor: Cursor, lease: Lease, now: float, limit: int) -> list[Due]:
    """Up to `limit` hours whose time has come at `now` (Unix s), longest due first."""
    rows = cursor.execute(
        """SELECT d.host_id, d.hour, d.raw_from, d.raw_to FROM rollup_due d JOIN host h ON h.id = d.host_id
           WHERE d.due_at <= to_timestamp(%s) AND h.partition %% %s = %s ORDER BY d.due_at LIMIT %s""",
        [now, lease.slots, lease.slot, limit]).fetchall()
    return [Due(*row) for row in rows]


def remake(cursor: Cursor, dues: Sequence[Due], closed_to: datetime) -> None:
    """Make the rollups of hosts' hours again, as far as their minutes are closed, and those of days that have ended."""
    by_hour: dict[datetime, list[Due]] = {}
    for due in dues:
        by_hour.setdefault(due.hour, []).append(due)
    for hour, group in by_hour.items():
        _remake_hour(cursor, hour, group, closed_to)


def fetch_differing(cursor: Cursor, host_ids: Sequence[int], hour: datetime, closed_to: datetime) -> dict[int, int]:
    """Host id → how many rows of an hour, and of the day that it begins, are not what they are made from; none: left out.

    Hours that are due to be made again are left out, too. Read it in one snapshot.
    """
    due = cursor.execute("SELECT host_id FROM rollup_due WHERE hour = %s AND host_id = ANY (%s)", [hour, list(host_ids)])
    waiting = {row[0] for row in due}
    ids, end = [host_id for host_id in host_ids if host_id not in waiting], hour + timedelta(hours=1)
    until = min(end, closed_to)
    differ = _differing(_fold_minutes(cursor, ids, hour, until), _fold_level(cursor, ids, "rollup_1m", hour, until, 60))
    if end <= closed_to:
        differ += _differing(_fold_level(cursor, ids, "rollup_1m", hour, end, 3600),
                             _fold_level(cursor, ids, "rollup_1h", hour, end, 3600))
    day_end = hour + timedelta(days=1)
    if hour.astimezone(UTC).hour == 0 and day_end <= closed_to:
        differ += _differing(_fold_level(cursor, ids, "rollup_1h", hour, day_end, 86_400),
                             _fold_level(cursor, ids, "rollup_1d", hour, day_end, 86_400))
    return dict(differ)


def _differing(wanted: Made, stored: Made) -> Counter[int]:
    """How many buckets of each host are in one alone or differ by more than the rounding of real."""
    left, right = _buckets(wanted), _buckets(stored)
    return Counter(host_id for (host_id, layout_id, start) in left.keys() | right.keys()
                   if not _is_same(left.get((host_id, layout_id, start)), right.get((host_id, layout_id, start))))


def _buckets(made: Made) -> dict[tuple[int, int, int], NDArray[np.float64]]:
    return {(*key, int(start)): np.concatenate([[buckets.counts[i]], buckets.low[i], buckets.mean[i], buckets.high[i]])
            for key, buckets in made.items() for i, start in enumerate(buckets.starts)}


def _is_same(left: NDArray[np.float64] | None, right: NDArray[np.float64] | None) -> bool:
    return left is not None and right is not None and np.allclose(left, right, rtol=1e-5, atol=1e-6, equal_nan=True)


def _remake_hour(cursor: Cursor, hour: datetime, dues: Sequence[Due], closed_to: datetime) -> None:
    late = [due for due in dues if due.raw_from is not None]
    if late:
        # One span for all: a minute folded again without need comes out the same.
        since = min(due.raw_from for due in late if due.raw_from)
        until = min(max(due.raw_to for due in late if due.raw_to), closed_to)
        _remake_minutes(cursor, [due.host_id for due in late], since, until)
    host_ids = [due.host_id for due in dues]
    hour_end = hour + timedelta(hours=1)
    if hour_end <= closed_to:
        _remake_level(cursor, host_ids, ("rollup_1m", "rollup_1h"), hour, hour_end, 3600)
    day = hour.astimezone(UTC).replace(hour=0)
    if day + timedelta(days=1) <= closed_to:
        _remake_level(cursor, host_ids, ("rollup_1h", "rollup_1d"), day, day + timedelta(days=1), 86_400)
    cursor.execute("DELETE FROM rollup_due WHERE hour = %s AND host_id = ANY (%s)", [hour, host_ids])


def _remake_minutes(cursor: Cursor, host_ids: Sequence[int], since: datetime, until: datetime) -> None:
    _replace(cursor, "rollup_1m", host_ids, since, until, _fold_minutes(cursor, host_ids, since, until))


def _fold_minutes(cursor: Cursor, host_ids: Sequence[int], since: datetime, until: datetime) -> Made:
    rows = binary.copy_out(cursor, """SELECT host_id, layout_id, ts, values FROM sample
                                      WHERE host_id = ANY (%s) AND ts >= %s AND ts < %s""", [list(host_ids), since, until])
    made = {}
    for key, group in _by_layout(rows).items():
        times = np.array([binary.unix_seconds(_RAW_HEAD.unpack_from(row)[6]) for row in group])
        values = binary.read_real_arrays(group, _RAW_HEAD.size - 4, 1)[:, 0]
        made[key] = fold_samples(times, values, 60)
    return made


def _remake_level(cursor: Cursor, host_ids: Sequence[int], tables: tuple[str, str], since: datetime, until: datetime,
                  step: int) -> None:
    source, target = tables
    _replace(cursor, target, host_ids, since, until, _fold_level(cursor, host_ids, source, since, until, step))


def _fold_level(cursor: Cursor, host_ids: Sequence[int], source: str, since: datetime, until: datetime, step: int) -> Made:
    """The rows of a level folded to `step` seconds; with the step that they have, they stay as they are."""
    query = f"""SELECT host_id, layout_id, ts, count, min, mean, max FROM {source}
                WHERE host_id = ANY (%s) AND ts >= %s AND ts < %s"""  # noqa: S608 (fixed names)
    rows = binary.copy_out(cursor, query, [list(host_ids), since, until])
    made = {}
    for key, group in _by_layout(rows).items():
        heads = [_FOLD_HEAD.unpack_from(row) for row in group]
        times = np.array([binary.unix_seconds(head[6]) for head in heads])
        arrays = binary.read_real_arrays(group, _FOLD_HEAD.size - 4, 3)
        counts: NDArray[np.int64] = np.array([head[8] for head in heads])
        made[key] = fold(times, counts, arrays[:, 0], arrays[:, 1], arrays[:, 2], step)
    return made


def _replace(cursor: Cursor, table: str, host_ids: Sequence[int], since: datetime, until: datetime,
             made: Made) -> None:
    cursor.execute(f"DELETE FROM {table} WHERE host_id = ANY (%s) AND ts >= %s AND ts < %s",  # noqa: S608 (fixed names)
                   [list(host_ids), since, until])
    if not made:
        return
    with cursor.copy(f"COPY {table} (host_id, layout_id, ts, count, min, mean, max) FROM STDIN (FORMAT BINARY)") as copy:
        parts = [binary.HEADER]
        for (host_id, layout_id), buckets in sorted(made.items(), key=lambda item: item[0]):
            parts += [binary.rollup_row(host_id, layout_id, start, int(buckets.counts[i]),
                                        (buckets.low[i], buckets.mean[i], buckets.high[i]))
                      for i, start in enumerate(buckets.starts.tolist())]
        copy.write(b"".join([*parts, binary.TRAILER]))


def _by_layout(rows: Iterable[bytes]) -> dict[tuple[int, int], list[bytes]]:
    """Rows by (host_id, layout_id)."""
    groups: dict[tuple[int, int], list[bytes]] = {}
    for row in rows:
        groups.setdefault(_KEY.unpack_from(row), []).append(row)
    return groups
