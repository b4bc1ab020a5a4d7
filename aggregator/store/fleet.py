"""The fleet at a glance: hosts with their state and main figures, listed by filter, order and cursor."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Engine, text

from aggregator.analysis import liveness
from aggregator.store.reading import fetch_row, fetch_tuples
from shared.wire import SEVERITIES

SORTS: dict[str, str] = {
    "name": "h.name", "score": "n.score", "last_seen": "extract(epoch FROM n.ts)", "cpu": "n.cpu", "memory": "n.memory",
    "disk": "n.disk"}

# The rule of analysis.liveness once more, where filters need it; a test holds both to the same answers.
_STATE = f"""CASE
  WHEN n.received_at IS NULL THEN CASE WHEN h.state = 'offline' THEN 'offline' ELSE 'unknown' END
  WHEN h.state = 'offline' AND (h.state_at IS NULL OR n.received_at <= h.state_at
    + make_interval(secs => {liveness.GRACE})) THEN 'offline'
  WHEN CAST(:now AS timestamptz) - n.received_at > make_interval(
    secs => greatest({liveness.MISSED_INTERVALS} * n.interval, {liveness.SHORTEST}) + {liveness.GRACE}) THEN 'offline'
  WHEN h.state = 'draining' THEN 'draining' ELSE 'online' END"""

_STATUS = """CASE WHEN n.score IS NULL THEN 'unknown' WHEN n.score >= 80 THEN 'healthy'
  WHEN n.score >= 60 THEN 'degraded' WHEN n.score >= 40 THEN 'warning' ELSE 'critical' END"""

_COLUMNS = f"""h.id, h.name, h.labels, {_STATE} AS state, h.state_reason, h.state_at, h.agent_version, h.first_seen_at,
  n.ts, n.received_at, n.interval, n.score, n.cpu, n.memory, n.disk, {_STATUS} AS status,
  coalesce(w.alerts, 0) AS alerts, coalesce(w.worst_alert, '') AS worst_alert"""

_SEVERITIES = f"ARRAY[{', '.join(repr(word) for word in SEVERITIES)}]"

_FROM = f"""FROM host h LEFT JOIN host_now n ON n.host_id = h.id LEFT JOIN (
  SELECT host_id, count(*) AS alerts, ({_SEVERITIES})[max(array_position({_SEVERITIES}, severity))] AS worst_alert
  FROM alert WHERE state IN ('firing', 'unknown') AND dismissed_at IS NULL GROUP BY host_id) w ON w.host_id = h.id"""  # noqa: S608 (constants)


@dataclasses.dataclass(frozen=True, slots=True)
class Host:
    """One host as lists show it, its fields in the order of `_COLUMNS`.

    `state` is its liveness; figures are None where it has none. `alerts` counts the active ones that nobody dismissed.
    """

    id: int
    name: str
    labels: dict[str, str]
    state: str
    state_reason: str
    state_at: datetime | None
    agent_version: str
    first_seen_at: datetime
    ts: datetime | None
    received_at: datetime | None
    interval: float | None
    score: float | None
    cpu: float | None
    memory: float | None
    disk: float | None
    status: str
    alerts: int
    worst_alert: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which hosts: empty means any. `labels` maps a key to its value, or to None for any value."""

    names: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    labels: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    part: str = ""


class PositionError(Exception):
    """A position is none of this list."""


class Position(NamedTuple):
    """Where a page ended: the sort key as text, and the name."""

    key: str
    name: str


def fetch_page(engine: Engine, asked: Filter, now: datetime, *, sort: str = "name", descending: bool = False,
               limit: int = 100, after: Position | None = None) -> tuple[list[Host], Position | None]:
    """One page of hosts, and where the next begins (None: there is no more). Hosts without the figure come last.

    Raises PositionError.
    """
    where, parameters = _where(asked)
    key, kind = _sort_key(sort, descending=descending)
    if after is not None:
        if sort != "name" and not _is_number(after.key):
            raise PositionError
        last, beyond = f"CAST(:key AS {kind})", "<" if descending else ">"
        where.append(f"({key} {beyond} {last} OR ({key} = {last} AND h.name > :name))")
        parameters |= {"key": after.key, "name": after.name}
    rows = fetch_tuples(
        engine, f"""SELECT {_COLUMNS}, CAST({key} AS text) AS sort_key {_FROM} WHERE {' AND '.join(where)}
                    ORDER BY {key} {'DESC' if descending else 'ASC'}, h.name LIMIT :limit""",
        parameters | {"now": now, "limit": limit + 1})
    hosts = [Host(*row[:-1]) for row in rows[:limit]]
    return hosts, Position(rows[limit - 1][-1], hosts[-1].name) if len(rows) > limit else None


def fetch_all(engine: Engine, asked: Filter, now: datetime, limit: int = 20_000) -> list[Host]:
    """Fetch every host that fits, by name."""
    return fetch_page(engine, asked, now, limit=limit)[0]


def fetch_count(engine: Engine, asked: Filter, now: datetime) -> int:
    """Count the hosts that fit."""
    where, parameters = _where(asked)
    row = fetch_row(engine, f"SELECT count(*) AS hosts {_FROM} WHERE {' AND '.join(where)}",
                    parameters | {"now": now})
    return int(row["hosts"]) if row else 0


def fetch_one(engine: Engine, name: str, now: datetime) -> Host | None:
    """Fetch one host by name; None where there is none."""
    row = fetch_row(engine, f"SELECT {_COLUMNS} {_FROM} WHERE h.name = :name", {"name": name, "now": now})
    return None if row is None else Host(**row)


def fetch_id(engine: Engine, name: str) -> int | None:
    """Fetch the id of a host by name; None where there is none."""
    row = fetch_row(engine, "SELECT id FROM host WHERE name = :name", {"name": name})
    return None if row is None else int(row["id"])


def delete(engine: Engine, name: str, actor: str) -> bool:
    """Delete a host and every row of it; False where there is none. A host that still sends comes back as a new one.

    Ingest has the host in memory: it loses its leases in the same transaction, takes them again and loads anew. What it
    had not stored is sent again by the agents. Functions of the schema do it: the API's role may not delete history.
    """
    with engine.begin() as connection:
        host = connection.execute(text("SELECT delete_host(:name, :actor)"), {"name": name, "actor": actor}).scalar()
        if host is None:
            connection.rollback()
            return False
    for table in ("sample", "rollup_1m", "rollup_1h", "rollup_1d", "rollup_due"):
        with engine.begin() as connection:
            connection.execute(text("SELECT delete_history_of(:host, :history)"), {"host": host, "history": table})
    return True


def _sort_key(sort: str, *, descending: bool) -> tuple[str, str]:
    """SQL of a sort key and its type; what is absent comes last in either order."""
    if sort == "name":
        return SORTS[sort], "text"
    return f"coalesce(CAST({SORTS[sort]} AS float8), '{'-' if descending else ''}Infinity')", "float8"


def _is_number(text_: str) -> bool:
    try:
        return not math.isnan(float(text_))
    except ValueError:
        return False


def _where(asked: Filter) -> tuple[list[str], dict[str, Any]]:
    where, parameters = ["true"], dict[str, Any]()
    for clause, name, value in (
            ("h.name = ANY (:names)", "names", list(asked.names)),
            (f"{_STATE} = ANY (:states)", "states", list(asked.states)),
            (f"{_STATUS} = ANY (:statuses)", "statuses", list(asked.statuses)),
            ("position(:part IN h.name) > 0", "part", asked.part)):
        if value:
            where.append(clause)
            parameters[name] = value
    labelled, labels = labels_where(asked.labels)
    return where + labelled, parameters | labels


def labels_where(labels: Mapping[str, str | None]) -> tuple[list[str], dict[str, Any]]:
    """Clauses for hosts `h` that have these labels (a value of None: any), and their parameters. Pure."""
    where, parameters = list[str](), dict[str, Any]()
    for number, (key, wanted) in enumerate(labels.items()):
        label, value = f":label{number}", f":value{number}"
        where.append(f"jsonb_exists(h.labels, {label})" if wanted is None
                     else f"h.labels @> jsonb_build_object(CAST({label} AS text), CAST({value} AS text))")
        parameters |= {label[1:]: key} | ({} if wanted is None else {value[1:]: wanted})
    return where, parameters


def grouped(hosts: Sequence[Host], label: str) -> dict[str, list[Host]]:
    """Hosts by the value of one label; those without it under the empty text."""
    groups: dict[str, list[Host]] = {}
    for host in hosts:
        groups.setdefault(str(host.labels.get(label, "")), []).append(host)
    return dict(sorted(groups.items()))
