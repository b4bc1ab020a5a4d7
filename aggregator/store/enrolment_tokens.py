"""Enrolment tokens: what lets a machine ask for a credential. The plain token is shown once and never stored."""

import dataclasses
import hmac
import secrets
from collections.abc import Mapping
from datetime import datetime

import msgspec
import sqlalchemy
from sqlalchemy import Connection, Engine, text

from aggregator.store import audit_log
from aggregator.store.tokens import digest
from shared.joining import TOKEN_PREFIX
from shared.names import matcher

_COLUMNS = """id, name, digest, hosts, labels, max_uses, uses, replaces, created_at, created_by, expires_at, last_used_at,
              revoked_at"""


class EnrolmentTokenNameTakenError(Exception):
    """An enrolment token with this name exists already, revoked or not."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentToken:
    """An enrolment token without its secret. `max_uses` and `expires_at` None: no bound."""

    id: int
    name: str
    digest: bytes = dataclasses.field(repr=False)
    hosts: str
    labels: dict[str, str]
    max_uses: int | None
    uses: int
    replaces: bool
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None

    def state(self, now: datetime) -> str:
        """valid, revoked, expired or used up."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and now >= self.expires_at:
            return "expired"
        return "used up" if self.max_uses is not None and self.uses >= self.max_uses else "valid"

    def fits(self, host: str) -> bool:
        """Whether it is for hosts of this name."""
        return matcher((self.hosts,)).fullmatch(host) is not None


def create(engine: Engine, name: str, *, hosts: str = "*", labels: Mapping[str, str] | None = None, max_uses: int | None = None,
           replaces: bool = False, expires_at: datetime | None = None, actor: str) -> str:
    """Make an enrolment token and return it, the only time it is seen. Raises EnrolmentTokenNameTakenError."""
    plain = TOKEN_PREFIX + secrets.token_urlsafe(32)
    terms = {"hosts": hosts, "labels": dict(labels or {}), "max_uses": max_uses, "replaces": replaces, "expires_at": expires_at}
    try:
        with engine.begin() as connection:
            connection.execute(
                text("""INSERT INTO enrolment_token (name, digest, hosts, labels, max_uses, replaces, expires_at, created_by)
                        VALUES (:name, :digest, :hosts, CAST(:labels AS jsonb), :max_uses, :replaces, :expires_at, :actor)"""),
                terms | {"name": name, "digest": digest(plain), "actor": actor,
                         "labels": msgspec.json.encode(terms["labels"]).decode()})
            audit_log.write(connection, actor, "create", "enrolment token", name, terms)
    except sqlalchemy.exc.IntegrityError:
        raise EnrolmentTokenNameTakenError(f"an enrolment token named {name!r} exists; choose another name") from None
    return plain


def fetch_all(engine: Engine) -> list[EnrolmentToken]:
    """Every enrolment token by name, revoked ones included."""
    with engine.connect() as connection:
        rows = connection.execute(text(f"SELECT {_COLUMNS} FROM enrolment_token ORDER BY name"))  # noqa: S608 (constant)
        return [EnrolmentToken(**row) for row in rows.mappings()]


def fetch_by_plain(engine: Engine, plain: str) -> EnrolmentToken | None:
    """Find the enrolment token that was shown as `plain`, whatever its state; None where there is none."""
    wanted = digest(plain)
    with engine.connect() as connection:
        row = connection.execute(text(f"SELECT {_COLUMNS} FROM enrolment_token WHERE digest = :digest"),  # noqa: S608 (constant)
                                 {"digest": wanted}).mappings().one_or_none()
    # The index compares digests, which tell a guesser nothing about tokens; the last comparison takes the same time always.
    return EnrolmentToken(**row) if row is not None and hmac.compare_digest(row["digest"], wanted) else None


def revoke(engine: Engine, name: str, *, actor: str) -> bool:
    """Revoke an enrolment token for good; False where none that is not revoked has that name. Credentials stay."""
    with engine.begin() as connection:
        changed = connection.execute(
            text("UPDATE enrolment_token SET revoked_at = now() WHERE name = :name AND revoked_at IS NULL"), {"name": name})
        if changed.rowcount:
            audit_log.write(connection, actor, "revoke", "enrolment token", name)
        return bool(changed.rowcount)


def count_use(connection: Connection, token: EnrolmentToken, now: datetime) -> bool:
    """Count one use, in the transaction of what it is for; False where the token is no longer valid.

    The row stays locked until then, so of several that want the last use exactly one has it.
    """
    counted = connection.execute(
        text("""UPDATE enrolment_token SET uses = uses + 1, last_used_at = :now
                WHERE id = :id AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > :now)
                  AND (max_uses IS NULL OR uses < max_uses)"""), {"id": token.id, "now": now})
    return bool(counted.rowcount)
