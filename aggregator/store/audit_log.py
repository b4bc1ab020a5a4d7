"""The audit log: who did what to which object. Written in the transaction of what was done."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, text

from aggregator.store.reading import fetch_rows


def write(connection: Connection, actor: str, action: str, kind: str, name: str, detail: Mapping[str, Any] | None = None) -> None:
    """Note one action. `kind` is the kind of the object (`alert`, `rule`, …), `name` its name or id."""
    connection.execute(
        text("""INSERT INTO audit_log (actor, action, kind, object, detail)
                VALUES (:actor, :action, :kind, :name, CAST(:detail AS jsonb))"""),
        {"actor": actor, "action": action, "kind": kind, "name": name, "detail": msgspec.json.encode(detail or {}).decode()})


def fetch(engine: Engine, *, actor: str | None, action: str | None, kind: str | None, name: str | None,
          since: datetime | None, until: datetime | None, before: int | None, limit: int) -> list[dict[str, Any]]:
    """Entries that fit, newest first."""
    asked = {"actor": actor, "action": action, "kind": kind, "object": name}
    where = [f"{column} = :{column}" for column, value in asked.items() if value is not None]
    where += [clause for clause, value in (("at >= :since", since), ("at < :until", until), ("id < :before", before))
              if value is not None]
    return fetch_rows(engine, f"""SELECT id, at, actor, action, kind, object, detail FROM audit_log
                                  WHERE {' AND '.join(where) or 'true'} ORDER BY id DESC LIMIT :limit""",  # noqa: S608 (constants)
                      asked | {"since": since, "until": until, "before": before, "limit": limit})
