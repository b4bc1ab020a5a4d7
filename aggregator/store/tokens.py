"""API tokens: made, listed, revoked and found again by their digest. The plain token is shown once and never stored."""

import dataclasses
import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime

import sqlalchemy
from sqlalchemy import Engine, text

from aggregator.store import audit_log

SCOPES: tuple[str, ...] = ("read", "operate", "admin")
"""Each scope includes those before it."""

PREFIX = "dbt_"
COMMAND_LINE = "command line"
"""The actor in the audit log where no token is at work: whoever may read the database's password."""
SETTINGS = "settings"
"""The actor where a setting asks for a token: `--bootstrap-token`."""

_COLUMNS = "id, name, scopes, created_at, expires_at, last_used_at, revoked_at"


class TokenNameTakenError(Exception):
    """A token with this name exists already, revoked or not."""


class UnknownScopeError(Exception):
    """Allowed scopes are read, operate and admin."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token without its secret. `expires_at` None: it never expires."""

    id: int
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None

    def is_valid(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def allows(self, scope: str) -> bool:
        """Whether this token may do what needs `scope`."""
        rank = SCOPES.index(scope)
        return any(SCOPES.index(own) >= rank for own in self.scopes if own in SCOPES)


def digest(token: str) -> bytes:
    """SHA-256 of a token, which is all that is stored (256 random bits need no slow hash)."""
    return hashlib.sha256(token.encode()).digest()


def create(engine: Engine, name: str, scopes: Sequence[str], expires_at: datetime | None = None, *,
           actor: str = COMMAND_LINE) -> str:
    """Make a token and return it, the only time it is seen. Raises TokenNameTakenError, UnknownScopeError."""
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise UnknownScopeError(f"scope {', '.join(unknown) or 'missing'}: allowed are {', '.join(SCOPES)}")
    plain = PREFIX + secrets.token_urlsafe(32)
    try:
        with engine.begin() as connection:
            connection.execute(
                text("""INSERT INTO token (name, digest, scopes, expires_at)
                        VALUES (:name, :digest, :scopes, :expires_at)"""),
                {"name": name, "digest": digest(plain), "scopes": list(scopes), "expires_at": expires_at})
            audit_log.write(connection, actor, "create", "token", name, {"scopes": list(scopes), "expires_at": expires_at})
    except sqlalchemy.exc.IntegrityError:
        raise TokenNameTakenError(f"a token named {name!r} exists; choose another name") from None
    return plain


def ensure(engine: Engine, name: str, plain: str, scopes: Sequence[str] = ("admin",)) -> bool:
    """Make sure that the token `plain` exists under `name`; another one of that name gives way.

    Whether it is valid: one that was revoked stays so, for whoever revoked it may know that it was stolen.
    """
    known = {"name": name, "digest": digest(plain), "scopes": list(scopes)}
    with engine.begin() as connection:
        revoked = connection.execute(text("SELECT 1 FROM token WHERE digest = :digest AND revoked_at IS NOT NULL"), known)
        if revoked.first() is not None:
            return False
        connection.execute(text("DELETE FROM token WHERE digest = :digest AND name <> :name"), known)
        changed = connection.execute(
            text("""INSERT INTO token (name, digest, scopes) VALUES (:name, :digest, :scopes)
                    ON CONFLICT (name) DO UPDATE
                    SET digest = excluded.digest, scopes = excluded.scopes, expires_at = NULL, revoked_at = NULL
                    WHERE (token.digest, token.scopes) IS DISTINCT FROM (excluded.digest, excluded.scopes)
                    OR token.expires_at IS NOT NULL"""), known)
        if changed.rowcount:
            audit_log.write(connection, SETTINGS, "create", "token", name, {"scopes": list(scopes)})
    return True


def fetch_all(engine: Engine) -> list[Token]:
    """Every token by name, revoked ones included."""
    with engine.connect() as connection:
        rows = connection.execute(text(f"SELECT {_COLUMNS} FROM token ORDER BY name"))  # noqa: S608 (constant)
        return [_token(row) for row in rows]


def fetch_by_digest(engine: Engine, token_digest: bytes) -> Token | None:
    """Find the token with this digest, whatever its state; None where there is none."""
    with engine.connect() as connection:
        row = connection.execute(
            text(f"SELECT {_COLUMNS} FROM token WHERE digest = :digest"), {"digest": token_digest}).one_or_none()  # noqa: S608 (constant)
    return None if row is None else _token(row)


def revoke(engine: Engine, name: str, *, actor: str = COMMAND_LINE) -> bool:
    """Revoke the token `name` for good; False where no valid token has that name."""
    with engine.begin() as connection:
        changed = connection.execute(
            text("UPDATE token SET revoked_at = now() WHERE name = :name AND revoked_at IS NULL"), {"name": name})
        if changed.rowcount:
            audit_log.write(connection, actor, "revoke", "token", name)
        return bool(changed.rowcount)


def touch(engine: Engine, token_id: int) -> None:
    """Note that a token was used, at most once a minute."""
    with engine.begin() as connection:
        connection.execute(
            text("""UPDATE token SET last_used_at = now()
                    WHERE id = :id AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')"""),
            {"id": token_id})


def _token(row: sqlalchemy.Row[tuple[object, ...]]) -> Token:
    fields = dict(row._mapping)  # noqa: SLF001 (SQLAlchemy's public name for it)
    return Token(**{**fields, "scopes": tuple(fields["scopes"])})
