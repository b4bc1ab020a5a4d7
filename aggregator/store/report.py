"""Facts of the daily report, from the tables."""

from datetime import datetime

from aggregator.analysis.reports import Active, Fired, Host, Ran
from aggregator.store import notifications
from shared.database import Connection
from shared.wire import SEVERITIES

SILENT_SECONDS = 300
_RANK = f"array_position(ARRAY[{', '.join(repr(word) for word in SEVERITIES)}], a.severity)"


def fetch_fleet(connection: Connection, now: datetime) -> tuple[int, float | None, dict[str, int], list[str]]:
    """How many hosts there are, their mean score, hosts by status, and those that nothing comes from."""
    count, score, *figures = connection.execute(
        """SELECT count(*), avg(n.score)::float8, count(*) FILTER (WHERE n.score >= 80),
             count(*) FILTER (WHERE n.score >= 60 AND n.score < 80), count(*) FILTER (WHERE n.score >= 40 AND n.score < 60),
             count(*) FILTER (WHERE n.score < 40)
           FROM host h LEFT JOIN host_now n ON n.host_id = h.id AND n.received_at > %s - make_interval(secs => %s)""",
        [now, SILENT_SECONDS]).fetchall()[0]
    silent = connection.execute(
        """SELECT h.name FROM host h LEFT JOIN host_now n ON n.host_id = h.id
           WHERE coalesce(n.received_at, '-infinity') <= %s - make_interval(secs => %s) ORDER BY h.name""", [now, SILENT_SECONDS])
    by_status = dict(zip(("healthy", "degraded", "warning", "critical"), figures, strict=True))
    return count, score, by_status, [row[0] for row in silent]


def fetch_worst(connection: Connection, now: datetime, limit: int) -> list[Host]:
    """The hosts with the lowest scores."""
    return [Host(*row) for row in connection.execute(
        """SELECT h.name, n.score, n.cpu, n.memory, n.disk FROM host_now n JOIN host h ON h.id = n.host_id
           WHERE n.score < 80 AND n.received_at > %s - make_interval(secs => %s) ORDER BY n.score, h.name LIMIT %s""",
        [now, SILENT_SECONDS, limit])]


def fetch_fired(connection: Connection, since: datetime, until: datetime, limit: int) -> list[Fired]:
    """Rules that fired in a span, the worst and most frequent first."""
    rows = connection.execute(
        f"""SELECT a.rule, max({_RANK}), count(*), count(DISTINCT a.host_id) FROM alert a
            WHERE a.fired_at >= %s AND a.fired_at < %s GROUP BY 1 ORDER BY 2 DESC, 3 DESC, 1 LIMIT %s""",  # noqa: S608 (constants)
        [since, until, limit])
    return [Fired(rule, SEVERITIES[rank - 1], count, hosts) for rule, rank, count, hosts in rows]


def fetch_active(connection: Connection, limit: int) -> list[Active]:
    """Alerts that fire, the worst and oldest first."""
    return [Active(*row) for row in connection.execute(
        f"""SELECT h.name, a.severity, a.message, a.fired_at FROM alert a JOIN host h ON h.id = a.host_id
            WHERE a.state IN ('firing', 'unknown') AND a.dismissed_at IS NULL ORDER BY {_RANK} DESC, a.fired_at LIMIT %s""",  # noqa: S608 (constants)
        [limit])]


def fetch_ran(connection: Connection, since: datetime, until: datetime) -> list[Ran]:
    """How executions of a span ended, by schedule; each as a whole, not its hosts."""
    rows = connection.execute(
        """SELECT s.name, jsonb_object_agg(n.state, n.count), coalesce((
             SELECT left(coalesce(nullif(e.error, ''), e.reason), 200) FROM execution e WHERE e.schedule_id = s.id
               AND e.parent IS NULL AND e.state IN ('failed', 'timed_out', 'missed') AND e.created_at >= %(since)s
               AND e.created_at < %(until)s ORDER BY e.created_at DESC LIMIT 1), '')
           FROM (SELECT schedule_id, state, count(*) FROM execution
                 WHERE parent IS NULL AND created_at >= %(since)s AND created_at < %(until)s GROUP BY 1, 2) n
           JOIN schedule s ON s.id = n.schedule_id GROUP BY s.id, s.name ORDER BY s.name""", {"since": since, "until": until})
    return [Ran(*row) for row in rows]


def fetch_fullest(connection: Connection, now: datetime, limit: int) -> list[tuple[int, str]]:
    """(id, name) of the hosts with the fullest disks."""
    return connection.execute(
        """SELECT h.id, h.name FROM host_now n JOIN host h ON h.id = n.host_id
           WHERE n.disk IS NOT NULL AND n.received_at > %s - make_interval(secs => %s) ORDER BY n.disk DESC LIMIT %s""",
        [now, SILENT_SECONDS, limit]).fetchall()


def queue(connection: Connection, channel: str, content: bytes, now: datetime) -> bool:
    """Have a report told to a channel; False where there is none of this name."""
    if connection.execute("SELECT 1 FROM notification_channel WHERE name = %s", [channel]).fetchone() is None:
        return False
    notifications.write(connection, channel, "", "report", [], content, now.timestamp())
    return True
