"""Hourly means that forecasts are made from."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from shared.database import Connection

Point = tuple[int, str, float, float]
"""host_id, metric, start of the hour (Unix s), mean."""


def fetch_hours(connection: Connection, host_ids: Sequence[int], name: str, since: float, now: float) -> list[Point]:
    """Hourly means of every metric called `name`, with whatever labels, of hosts from `since` to `now` (Unix s).

    The present hour and the one before come from minutes: rollups of hours are made some minutes after their end.
    """
    recent = datetime.fromtimestamp(now, UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    return connection.execute(
        """WITH used AS MATERIALIZED (
             SELECT layout_id FROM rollup_1h WHERE host_id = ANY (%(hosts)s) AND ts >= to_timestamp(%(since)s) AND ts < %(recent)s
             UNION SELECT layout_id FROM rollup_1m WHERE host_id = ANY (%(hosts)s) AND ts >= %(recent)s),
           place AS MATERIALIZED (
             SELECT l.id, k.key, k.position::int FROM used u JOIN layout l ON l.id = u.layout_id
             CROSS JOIN LATERAL unnest(l.keys) WITH ORDINALITY AS k (key, position)
             WHERE k.key = %(name)s OR starts_with(k.key, %(name)s || '{')),
           point AS (
             SELECT r.host_id, p.key, r.ts, r.mean[p.position]::float8 AS value, r.count FROM rollup_1h r
             JOIN place p ON p.id = r.layout_id
             WHERE r.host_id = ANY (%(hosts)s) AND r.ts >= to_timestamp(%(since)s) AND r.ts < %(recent)s
             UNION ALL
             SELECT r.host_id, p.key, date_trunc('hour', r.ts), r.mean[p.position], r.count FROM rollup_1m r
             JOIN place p ON p.id = r.layout_id WHERE r.host_id = ANY (%(hosts)s) AND r.ts >= %(recent)s)
           SELECT host_id, key, extract(epoch FROM ts)::float8, sum(value * count) / sum(count)
           FROM point GROUP BY host_id, key, ts""",
        {"hosts": list(host_ids), "name": name, "since": since, "recent": recent}).fetchall()
