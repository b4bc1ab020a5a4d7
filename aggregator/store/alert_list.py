"""Reading alerts: lists by filter and cursor, one of them, its events, its notifications, and its rule as it was."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from aggregator.store.fleet import labels_where
from aggregator.store.reading import fetch_row, fetch_rows

STATES: dict[str, str] = {
    "active": "a.state IN ('firing', 'unknown')", "all": "a.state <> 'cancelled'", "firing": "a.state = 'firing'",
    "unknown": "a.state = 'unknown'", "pending": "a.state = 'pending'", "resolved": "a.state = 'resolved'"}
"""Which alerts a list shows; written into the SQL, so that the index of the active ones is used. `all`: whatever became one."""

COUNT_LIMIT = 100_000
"""More than this many alerts are not counted."""

_IS_ACKNOWLEDGED = "(a.acknowledged_by IS NOT NULL AND (a.acknowledged_until IS NULL OR a.acknowledged_until > :now))"

# An acknowledgement that has ended is not shown, though ingest's sweep may still have to say so.
_COLUMNS = f"""a.id, h.name AS host, h.labels, a.rule, a.type, a.instance, a.source, a.state, a.severity, a.metric, a.value,
  a.threshold, a.rule_revision, a.message, a.recommendation, a.reason, a.dismissible, a.flapping, a.muted_by, a.started_at,
  a.fired_at, a.resolved_at, a.changed_at, a.dismissed_by, a.dismissed_at, {_IS_ACKNOWLEDGED} AS acknowledged,
  CASE WHEN {_IS_ACKNOWLEDGED} THEN a.acknowledged_by END AS acknowledged_by,
  CASE WHEN {_IS_ACKNOWLEDGED} THEN a.acknowledged_at END AS acknowledged_at,
  CASE WHEN {_IS_ACKNOWLEDGED} THEN a.acknowledged_until END AS acknowledged_until,
  CASE WHEN {_IS_ACKNOWLEDGED} THEN a.note ELSE '' END AS note"""

_FROM = "FROM alert a JOIN host h ON h.id = a.host_id"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which alerts: empty or None means any. `state` is one of STATES. `since` and `until` bound the latest change."""

    state: str = "active"
    hosts: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    severities: tuple[str, ...] = ()
    labels: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    source: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    acknowledged: bool | None = None
    dismissed: bool | None = None
    muted: bool | None = None
    part: str = ""


def fetch_page(engine: Engine, asked: Filter, now: datetime, *, limit: int,
               after: tuple[datetime, int] | None = None) -> list[dict[str, Any]]:
    """One page, the latest change first, after the alert with this `changed_at` and id."""
    where, parameters = _where(asked)
    if after is not None:
        where.append("(a.changed_at, a.id) < (:after_at, :after_id)")
        parameters |= {"after_at": after[0], "after_id": after[1]}
    return fetch_rows(engine, f"""SELECT {_COLUMNS} {_FROM} WHERE {' AND '.join(where)}
                                  ORDER BY a.changed_at DESC, a.id DESC LIMIT :limit""",
                      parameters | {"now": now, "limit": limit})


def fetch_count(engine: Engine, asked: Filter, now: datetime) -> int:
    """How many alerts fit, COUNT_LIMIT at most."""
    where, parameters = _where(asked)
    row = fetch_row(engine, f"""SELECT count(*) AS alerts FROM (
                                SELECT 1 {_FROM} WHERE {' AND '.join(where)} LIMIT :limit) AS found""",  # noqa: S608 (constants)
                    parameters | {"now": now, "limit": COUNT_LIMIT})
    return int(row["alerts"]) if row else 0


def fetch_one(engine: Engine, alert: int, now: datetime) -> dict[str, Any] | None:
    """One alert with its culprits; None where there is none."""
    return fetch_row(engine, f"SELECT {_COLUMNS}, a.culprits, a.host_id {_FROM} WHERE a.id = :alert",
                     {"alert": alert, "now": now})


def fetch_events(engine: Engine, alert: int, *, limit: int, after: int = 0) -> list[dict[str, Any]]:
    """Events of an alert in their order, after the one with the id `after`."""
    return fetch_rows(engine, """SELECT id, at, recorded_at, kind, severity, value, threshold, reason, rule_revision, actor, note,
                                        is_muted AS muted, culprits
                                 FROM alert_event WHERE alert_id = :alert AND id > :after ORDER BY id LIMIT :limit""",
                      {"alert": alert, "after": after, "limit": limit})


def fetch_rule(engine: Engine, name: str, revision: int) -> dict[str, Any] | None:
    """A rule as it was in a revision, and which revision it has now (None: it is deleted); None where it is not known."""
    return fetch_row(engine, """SELECT v.name, v.revision, v.definition, v.changed_at, v.changed_by,
                                       (SELECT revision FROM rule r WHERE r.name = v.name AND r.deleted_at IS NULL)
                                         AS current_revision
                                FROM rule_revision v WHERE v.name = :name AND v.revision = :revision""",
                     {"name": name, "revision": revision})


def fetch_notifications(engine: Engine, alert: int, limit: int) -> list[dict[str, Any]]:
    """The latest notifications that told of an alert, in their order, each with its attempts."""
    return fetch_rows(engine, """
        SELECT n.id, n.channel, n.route, n.kind, n.state, n.created_at, n.finished_at,
               CASE WHEN n.state = 'due' THEN n.next_attempt_at END AS next_attempt_at,
               (SELECT coalesce(jsonb_agg(jsonb_build_object('at', t.at, 'ok', t.ok, 'seconds', t.seconds, 'error', t.error)
                                          ORDER BY t.id), '[]')
                FROM notification_attempt t WHERE t.notification_id = n.id) AS attempts
        FROM (SELECT * FROM notification WHERE alert_ids @> ARRAY[CAST(:alert AS bigint)] ORDER BY id DESC LIMIT :limit) n
        ORDER BY n.id""", {"alert": alert, "limit": limit})


def _where(asked: Filter) -> tuple[list[str], dict[str, Any]]:
    where, parameters = labels_where(asked.labels)
    where.append(STATES[asked.state])
    given: Sequence[tuple[str, str, Any]] = (
        ("h.name = ANY (:hosts)", "hosts", list(asked.hosts)),
        ("a.rule = ANY (:rules)", "rules", list(asked.rules)),
        ("a.type = ANY (:types)", "types", list(asked.types)),
        ("a.severity = ANY (:severities)", "severities", list(asked.severities)),
        ("a.source = :source", "source", asked.source),
        ("a.changed_at >= :since", "since", asked.since),
        ("a.changed_at < :until", "until", asked.until),
        ("position(:part IN lower(concat_ws(' ', h.name, a.rule, a.instance, a.message))) > 0", "part", asked.part.lower()))
    for clause, name, value in given:
        if value:
            where.append(clause)
            parameters[name] = value
    flags = ((_IS_ACKNOWLEDGED, asked.acknowledged), ("a.dismissed_at IS NOT NULL", asked.dismissed),
             ("a.muted_by <> '{}'", asked.muted))
    where += [clause if wanted else f"NOT ({clause})" for clause, wanted in flags if wanted is not None]
    return where, parameters
