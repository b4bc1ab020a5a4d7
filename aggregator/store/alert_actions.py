"""What people and programs do to alerts: acknowledge, dismiss, resolve. The API and ingest (for MQTT) act through the same SQL.

Each act is one statement: the alert changes if its state allows it, and only then an event, a row of the outbox (so that
ingest tells it) and a row of the audit log are written. It runs in the transaction of the cursor.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal, LiteralString

import psycopg
from psycopg import sql
from sqlalchemy import Engine

from aggregator.store.samples import Cursor

Action = Literal["acknowledge", "unacknowledge", "dismiss", "undismiss", "resolve"]


class UnknownAlertError(Exception):
    """There is no alert with this id."""


class NotAllowedError(Exception):
    """The alert's state does not allow the act; the message says which state that is."""


class PastError(Exception):
    """An acknowledgement would end before it begins."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Act:
    """`applies`: where the alert is not so yet; `changes`: what becomes of it; `kind` and `reason` of the event."""

    kind: str
    changes: LiteralString
    applies: LiteralString = "true"
    reason: str = ""


_ACTS: dict[Action, _Act] = {
    "acknowledge": _Act(
        "acknowledged",
        "acknowledged_by = %(actor)s, acknowledged_at = %(at)s, acknowledged_until = %(until)s, note = %(note)s",
        "(a.acknowledged_by, a.acknowledged_until, a.note) "
        "IS DISTINCT FROM (%(actor)s::text, %(until)s::timestamptz, %(note)s::text)"),
    "unacknowledge": _Act(
        "unacknowledged", "acknowledged_by = NULL, acknowledged_at = NULL, acknowledged_until = NULL, note = ''",
        "a.acknowledged_by IS NOT NULL"),
    "dismiss": _Act("dismissed", "dismissed_by = %(actor)s, dismissed_at = %(at)s", "a.dismissible AND a.dismissed_at IS NULL"),
    "undismiss": _Act("undismissed", "dismissed_by = NULL, dismissed_at = NULL", "a.dismissed_at IS NOT NULL"),
    "resolve": _Act(
        "resolved", "state = 'resolved', held = true, flapping = false, reason = %(reason)s, "
        "resolved_at = greatest(%(at)s, a.fired_at, a.started_at), changed_at = greatest(%(at)s, a.changed_at)",
        reason="resolved by hand"),
}

# Rows are locked in the order of their ids, as ingest locks them, so that two who change many do not wait for each other.
_STATEMENT = """
WITH chosen AS (
  SELECT a.id FROM alert a WHERE {chosen} AND a.state IN ('firing', 'unknown') AND {applies} ORDER BY a.id FOR UPDATE),
changed AS (
  UPDATE alert a SET {changes} FROM chosen, host h WHERE a.id = chosen.id AND h.id = a.host_id
  RETURNING a.id, a.rule, a.instance, a.severity, a.value, a.threshold, a.rule_revision, a.muted_by, h.name AS host, h.partition),
event AS (
  INSERT INTO alert_event (id, alert_id, at, kind, severity, value, threshold, reason, rule_revision, actor, note, is_muted)
  SELECT nextval('alert_event_id'), id, %(at)s, %(kind)s, severity, value, threshold, %(reason)s, rule_revision,
         %(actor)s, %(note)s, muted_by <> '{{}}' FROM changed
  RETURNING id, alert_id),
told AS (
  INSERT INTO outbox (partition, alert_id, event_id)
  SELECT c.partition, c.id, e.id FROM event e JOIN changed c ON c.id = e.alert_id),
noted AS (
  INSERT INTO audit_log (actor, action, kind, object, detail)
  SELECT %(actor)s, %(action)s, 'alert', id::text, jsonb_strip_nulls(jsonb_build_object(
    'host', host, 'rule', rule, 'instance', nullif(instance, ''), 'note', nullif(%(note)s::text, ''),
    'until', %(until)s::timestamptz)) FROM changed WHERE %(actor)s <> '')
SELECT count(*) FROM changed
"""


def act(cursor: Cursor, alert: int, action: Action, *, actor: str, at: datetime, note: str = "",
        until: datetime | None = None) -> bool:
    """Do one thing to one alert; False where it is so already. `until` ends an acknowledgement by itself.

    `actor` is who does it: the name of an API token, or `mqtt:NAME`. Raises UnknownAlertError, NotAllowedError, PastError.
    """
    if until is not None and until <= at:
        raise PastError(f"until lies in the past: {until:%Y-%m-%dT%H:%M:%SZ}")
    if _run(cursor, _ACTS[action], "a.id = %(alert)s", {
            "alert": alert, "action": action, "actor": actor, "at": at, "note": note.replace("\0", ""), "until": until}):
        return True
    _check(cursor, alert, action)
    return False


def perform(engine: Engine, alert: int, action: Action, *, actor: str, at: datetime, note: str = "",
            until: datetime | None = None) -> bool:
    """`act` in a transaction of its own."""
    with _open_cursor(engine) as cursor:
        return act(cursor, alert, action, actor=actor, at=at, note=note, until=until)


def resolve_rule(engine: Engine, rule: str, actor: str, note: str, at: datetime) -> int:
    """Resolve every active alert of a rule; how many there were."""
    with _open_cursor(engine) as cursor:
        return _run(cursor, _ACTS["resolve"], "a.rule = %(rule)s", {
            "rule": rule, "action": "resolve", "actor": actor, "at": at, "note": note, "until": None})


def expire_acknowledgements(cursor: Cursor, at: datetime) -> int:
    """End the acknowledgements whose time is over, as events by nobody; how many there were."""
    return _run(cursor, dataclasses.replace(_ACTS["unacknowledge"], reason="expired"), "a.acknowledged_until <= %(at)s", {
        "action": "unacknowledge", "actor": "", "at": at, "note": "", "until": None})


def _run(cursor: Cursor, what: _Act, chosen: LiteralString, parameters: dict[str, Any]) -> int:
    statement = sql.SQL(_STATEMENT).format(chosen=sql.SQL(chosen), applies=sql.SQL(what.applies), changes=sql.SQL(what.changes))
    row = cursor.execute(statement, parameters | {"kind": what.kind, "reason": what.reason}).fetchone()
    return 0 if row is None else int(row[0])


def _check(cursor: Cursor, alert: int, action: Action) -> None:
    """Raises what was in the way of an act that changed nothing, if anything was."""
    row = cursor.execute("SELECT state, dismissible, rule FROM alert WHERE id = %s", [alert]).fetchone()
    if row is None:
        raise UnknownAlertError(f"there is no alert {alert}")
    state, is_dismissible, rule = row
    if state not in ("firing", "unknown"):
        raise NotAllowedError(f"alert {alert} ({rule}) is {state}; only an active one can be changed")
    if action == "dismiss" and not is_dismissible:
        raise NotAllowedError(f"alert {alert} ({rule}) cannot be dismissed, its rule says; acknowledge it instead")


@contextlib.contextmanager
def _open_cursor(engine: Engine) -> Iterator[Cursor]:
    """A cursor of the driver in a transaction of the engine: psycopg begins one by itself, SQLAlchemy ends it."""
    with engine.begin() as connection:
        driver: psycopg.Connection[tuple[Any, ...]] = connection.connection.driver_connection  # type: ignore[assignment]
        with driver.cursor() as cursor:
            yield cursor
