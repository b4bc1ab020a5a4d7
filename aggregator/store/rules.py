"""Alert rules and what single hosts have otherwise: every change a new revision, noted in the audit log.

ingest reads them through its own connection, the API changes them through its engine. What a program of another version
wrote and this one cannot read is left out and logged: one bad row must not stop all alerts.
"""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, text

from aggregator.analysis.rule_pack import PACKS
from aggregator.analysis.rules import Override, Rule, Stored, definition, read_rule
from aggregator.store import audit_log, configuration
from aggregator.store.reading import fetch_row, fetch_rows
from shared import database, logs

log = logs.get("rules")

_COLUMNS = "name, revision, definition AS rule, pack, created_at, changed_at, changed_by"

# A pack's rule that somebody changed carries a name in changed_by; one that somebody deleted has deleted_at.
_ADD_PACK_RULE = """
WITH written AS (
  INSERT INTO rule (name, definition, pack) VALUES (%(name)s, %(definition)s::jsonb, %(pack)s)
  ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, pack = excluded.pack, revision = rule.revision + 1,
    changed_at = now()
  WHERE rule.pack <> '' AND rule.changed_by = '' AND rule.deleted_at IS NULL AND rule.definition <> excluded.definition
  RETURNING name, revision, definition),
noted AS (INSERT INTO rule_revision (name, revision, definition) SELECT name, revision, definition FROM written)
UPDATE configuration SET version = version + 1 WHERE name = 'rules' AND EXISTS (SELECT FROM written)"""


class RuleTakenError(Exception):
    """A rule of this name exists."""


def ensure_packs(connection: database.Connection) -> None:
    """Add the rules of the packs that are not there yet, and bring those that nobody has touched to their present form.

    A deleted rule stays deleted, a changed one stays changed. Any number of processes may do this at once.
    """
    present = {row[0]: row[1:] for row in connection.execute("SELECT name, definition, pack, changed_by, deleted_at FROM rule")}
    for pack, rules in PACKS.items():
        for rule in rules:
            if _is_due(rule, present.get(rule.name)):
                connection.execute(_ADD_PACK_RULE, {"name": rule.name, "pack": pack, "definition": _json(definition(rule))})


def _is_due(rule: Rule, row: tuple[Any, ...] | None) -> bool:
    """Whether a pack's rule is missing or older than the pack; a field that is new and at its default is no change."""
    if row is None:
        return True
    stored, pack, changed_by, deleted_at = row
    return bool(pack and not changed_by and deleted_at is None) and _readable(stored, rule.name) != rule


def fetch_stored(connection: database.Connection) -> list[Stored]:
    """Every rule that is not deleted, disabled ones included, by name."""
    rows = connection.execute("SELECT name, definition, revision, pack FROM rule WHERE deleted_at IS NULL ORDER BY name")
    return [Stored(rule, revision, pack) for name, stored, revision, pack in rows
            if (rule := _readable(stored, name)) is not None]


def fetch_overrides(connection: database.Connection) -> list[tuple[str, str, Override]]:
    """What single hosts have otherwise: (host, rule, override)."""
    rows = connection.execute(
        "SELECT h.name, o.rule, o.override FROM rule_override o JOIN host h ON h.id = o.host_id ORDER BY h.name, o.rule")
    return [(host, rule, override) for host, rule, stored in rows if (override := _override(stored, host, rule)) is not None]


def _override(stored: Mapping[str, Any], host: str, rule: str) -> Override | None:
    try:
        return msgspec.convert(stored, Override)
    except msgspec.ValidationError as error:
        logs.event(log, "an override cannot be used and is left out", logging.WARNING, host=host, rule=rule, error=error)
        return None


def _readable(stored: Mapping[str, Any], name: str) -> Rule | None:
    try:
        return read_rule(stored)
    except msgspec.ValidationError as error:
        logs.event(log, "a rule cannot be used and is left out", logging.WARNING, rule=name, error=error)
        return None


def fetch_all(engine: Engine) -> list[dict[str, Any]]:
    """Every rule that is not deleted, by name: its columns, with its definition as `rule`."""
    rows = fetch_rows(engine, f"SELECT {_COLUMNS} FROM rule WHERE deleted_at IS NULL ORDER BY name")  # noqa: S608 (constant)
    return [_completed(row) for row in rows]


def fetch_one(engine: Engine, name: str) -> dict[str, Any] | None:
    """One rule as `fetch_all` has it; None where there is none."""
    row = fetch_row(engine, f"SELECT {_COLUMNS} FROM rule WHERE name = :name AND deleted_at IS NULL", {"name": name})  # noqa: S608 (constant)
    return None if row is None else _completed(row)


def _completed(row: dict[str, Any]) -> dict[str, Any]:
    """A rule with the fields that are newer than it."""
    rule = _readable(row["rule"], row["name"])
    return row if rule is None else row | {"rule": definition(rule)}


def fetch_revisions(engine: Engine, name: str) -> list[dict[str, Any]]:
    """Every revision of a rule, newest first; `rule` is None where it was deleted. Empty where there never was one."""
    return fetch_rows(engine, """SELECT revision, definition AS rule, changed_at, changed_by FROM rule_revision
                                 WHERE name = :name ORDER BY revision DESC""", {"name": name})


def create(engine: Engine, rule: Rule, actor: str) -> None:
    """Store a new rule; a deleted one of the same name goes on from its last revision. Raises RuleTakenError."""
    with engine.begin() as connection:
        row = connection.execute(text("""
            INSERT INTO rule (name, definition, changed_by) VALUES (:name, CAST(:definition AS jsonb), :actor)
            ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, changed_by = excluded.changed_by,
              revision = rule.revision + 1, changed_at = now(), created_at = now(), deleted_at = NULL
            WHERE rule.deleted_at IS NOT NULL RETURNING revision"""), _parameters(rule, actor)).one_or_none()
        if row is None:
            raise RuleTakenError
        _note(connection, rule.name, row[0], actor, "create", definition(rule))


def replace(engine: Engine, rule: Rule, actor: str) -> bool:
    """Make this the newest revision of its rule; False where there is no rule of its name. The same again changes nothing."""
    with engine.begin() as connection:
        before = _locked(connection, rule.name)
        if before is None:
            return False
        if _readable(before.definition, rule.name) == rule:
            return True
        connection.execute(text("""UPDATE rule SET definition = CAST(:definition AS jsonb), revision = revision + 1,
                                     changed_at = now(), changed_by = :actor WHERE name = :name"""), _parameters(rule, actor))
        _note(connection, rule.name, before.revision + 1, actor, "change", definition(rule))
    return True


def delete(engine: Engine, name: str, actor: str) -> bool:
    """Delete a rule and what hosts have otherwise of it; its revisions stay. False where there is none."""
    with engine.begin() as connection:
        before = _locked(connection, name)
        if before is None:
            return False
        connection.execute(text("""UPDATE rule SET deleted_at = now(), revision = revision + 1, changed_at = now(),
                                     changed_by = :actor WHERE name = :name"""), {"name": name, "actor": actor})
        connection.execute(text("DELETE FROM rule_override WHERE rule = :name"), {"name": name})
        _note(connection, name, before.revision + 1, actor, "delete", None)
    return True


def fetch_host_overrides(engine: Engine, host_id: int) -> list[dict[str, Any]]:
    """What one host has otherwise: rule, override, changed_at, changed_by."""
    return fetch_rows(engine, """SELECT rule, override, changed_at, changed_by FROM rule_override WHERE host_id = :host
                                 ORDER BY rule""", {"host": host_id})


def fetch_rule_overrides(engine: Engine, rule: str) -> dict[int, Override]:
    """What hosts have otherwise of one rule, by host id."""
    rows = fetch_rows(engine, """SELECT h.id, h.name, o.override FROM rule_override o JOIN host h ON h.id = o.host_id
                                 WHERE o.rule = :rule""", {"rule": rule})
    return {row["id"]: override for row in rows if (override := _override(row["override"], row["name"], rule)) is not None}


def write_override(engine: Engine, host_id: int, host: str, rule: str, override: Override, actor: str) -> bool:
    """Set what one host has otherwise of a rule; False where there is no such rule."""
    with engine.begin() as connection:
        if _locked(connection, rule) is None:
            return False
        plain = msgspec.to_builtins(override)
        connection.execute(text("""
            INSERT INTO rule_override (host_id, rule, override, changed_by)
            VALUES (:host, :rule, CAST(:override AS jsonb), :actor)
            ON CONFLICT (host_id, rule) DO UPDATE SET override = excluded.override, changed_by = excluded.changed_by,
              changed_at = now()"""), {"host": host_id, "rule": rule, "override": _json(plain), "actor": actor})
        audit_log.write(connection, actor, "override", "rule", rule, {"host": host, "override": plain})
        configuration.changed(connection, "rules")
    return True


def delete_override(engine: Engine, host_id: int, host: str, rule: str, actor: str) -> bool:
    """Let a host have a rule as it is; False where it had nothing otherwise."""
    with engine.begin() as connection:
        gone = connection.execute(text("DELETE FROM rule_override WHERE host_id = :host AND rule = :rule"),
                                  {"host": host_id, "rule": rule})
        if not gone.rowcount:
            return False
        audit_log.write(connection, actor, "end override", "rule", rule, {"host": host})
        configuration.changed(connection, "rules")
    return True


def _locked(connection: Connection, name: str) -> Any:
    return connection.execute(text("""SELECT revision, definition FROM rule WHERE name = :name AND deleted_at IS NULL
                                      FOR UPDATE"""), {"name": name}).one_or_none()


def _note(connection: Connection, name: str, revision: int, actor: str, action: str, stored: dict[str, Any] | None) -> None:
    connection.execute(text("""INSERT INTO rule_revision (name, revision, definition, changed_by)
                               VALUES (:name, :revision, CAST(:definition AS jsonb), :actor)"""),
                       {"name": name, "revision": revision, "actor": actor, "definition": stored and _json(stored)})
    audit_log.write(connection, actor, action, "rule", name, {"revision": revision})
    configuration.changed(connection, "rules")


def _parameters(rule: Rule, actor: str) -> dict[str, Any]:
    return {"name": rule.name, "definition": _json(definition(rule)), "actor": actor}


def _json(plain: Any) -> str:
    return msgspec.json.encode(plain).decode()
