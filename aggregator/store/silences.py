"""Silences as the API keeps them: listed, made, changed, ended; and the active alerts that one would cover."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, text

from aggregator.analysis.matching import Match
from aggregator.analysis.quiet import InForce
from aggregator.store import audit_log, configuration
from aggregator.store.reading import fetch_row, fetch_rows

_COLUMNS = "id, owner, reason, match, starts_at, ends_at, created_at, created_by"
STATES = {"active": "starts_at <= :now AND ends_at > :now", "pending": "starts_at > :now", "expired": "ends_at <= :now"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A silence as somebody wants it."""

    owner: str
    reason: str
    match: Match
    starts_at: datetime
    ends_at: datetime

    def row(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("owner", "reason", "starts_at", "ends_at")} | {
            "match": msgspec.json.encode(self.match).decode()}


class EndedError(Exception):
    """The silence has ended: it cannot be changed any more."""


def fetch_page(engine: Engine, now: datetime, *, state: str | None, owner: str | None, before: int | None,
               limit: int) -> list[dict[str, Any]]:
    """Silences that fit, newest first."""
    where = [clause for clause, value in ((STATES.get(state or ""), state), ("owner = :owner", owner), ("id < :before", before))
             if value is not None and clause]
    return fetch_rows(engine, f"""SELECT {_COLUMNS} FROM silence WHERE {' AND '.join(where) or 'true'}
                                  ORDER BY id DESC LIMIT :limit""",  # noqa: S608 (constants)
                      {"now": now, "owner": owner, "before": before, "limit": limit})


def fetch_one(engine: Engine, number: int) -> dict[str, Any] | None:
    """One silence; None where there is none of this id."""
    return fetch_row(engine, f"SELECT {_COLUMNS} FROM silence WHERE id = :id", {"id": number})  # noqa: S608 (constant)


def create(engine: Engine, wanted: Wanted, actor: str) -> int:
    """Make a silence; its id."""
    with engine.begin() as connection:
        number: int = connection.execute(
            text("""INSERT INTO silence (owner, reason, match, starts_at, ends_at, created_by)
                    VALUES (:owner, :reason, CAST(:match AS jsonb), :starts_at, :ends_at, :actor) RETURNING id"""),
            wanted.row() | {"actor": actor}).scalar_one()
        _note(connection, actor, "create", number, wanted)
    return number


def replace(engine: Engine, number: int, wanted: Wanted, now: datetime, actor: str) -> None:
    """Change a silence. Raises EndedError for one that has ended; the id must exist."""
    with engine.begin() as connection:
        changed = connection.execute(
            text("""UPDATE silence SET owner = :owner, reason = :reason, match = CAST(:match AS jsonb), starts_at = :starts_at,
                      ends_at = :ends_at WHERE id = :id AND ends_at > :now"""), wanted.row() | {"id": number, "now": now})
        if not changed.rowcount:
            raise EndedError
        _note(connection, actor, "change", number, wanted)


def end(engine: Engine, number: int, now: datetime, actor: str) -> None:
    """End a silence at once, if it has not ended."""
    with engine.begin() as connection:
        ended = connection.execute(
            text("""UPDATE silence SET ends_at = :now, starts_at = least(starts_at, :now) WHERE id = :id AND ends_at > :now"""),
            {"id": number, "now": now}).rowcount == 1
        if ended:
            _note(connection, actor, "end", number)


def _note(connection: Connection, actor: str, action: str, number: int, wanted: Wanted | None = None) -> None:
    audit_log.write(connection, actor, action, "silence", str(number), None if wanted is None else {
        "owner": wanted.owner, "reason": wanted.reason, "match": msgspec.to_builtins(wanted.match),
        "starts_at": wanted.starts_at, "ends_at": wanted.ends_at})
    configuration.changed(connection, "quiet")


def fetch_covered(engine: Engine, matches: Mapping[str, Match]) -> Counter[str]:
    """How many of the alerts that are active now each match covers, by the name it is given here."""
    asked = InForce(list(matches.items()), {}, ())
    rows = [] if not matches else fetch_rows(engine, """
        SELECT h.name AS host, h.labels, a.rule, a.type AS type_, a.instance, a.severity
        FROM alert a JOIN host h ON h.id = a.host_id WHERE a.state IN ('firing', 'unknown')""")
    return Counter(name for row in rows for name in asked.reasons(**row))
