"""Credentials of agents for the broker: issued, listed, revoked. The password is known to its agent alone.

Whoever keeps a broker in step reads the table `agent_credential` whenever the version of `credentials` in the table
`configuration` has changed.
"""

import base64
import dataclasses
import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import bcrypt
import msgspec
from sqlalchemy import Connection, Engine, text

from aggregator.store import audit_log, enrolment_tokens
from aggregator.store.enrolment_tokens import EnrolmentToken
from aggregator.store.reading import fetch_rows

MOSQUITTO_ITERATIONS, MOSQUITTO_SALT_BYTES = 101, 12
"""What `mosquitto_passwd` takes, and what every Mosquitto 2 reads."""

COLUMNS = ("host", "state", "labels", "issued_at", "issued_by", "enrolment_token", "revoked_at")


class CredentialExistsError(Exception):
    """The host has a valid credential, and it was not asked to be replaced."""


class TokenSpentError(Exception):
    """The enrolment token was used up, expired or revoked meanwhile."""


@dataclasses.dataclass(frozen=True, slots=True)
class Verifiers:
    """What brokers check a password by: bcrypt for NATS and EMQX, PBKDF2 for Mosquitto."""

    bcrypt: str
    pbkdf2: str


def verifiers(password: str) -> Verifiers:
    """Verifiers of a random password, salted.

    The cheapest cost there is: 256 random bits cannot be guessed, however fast a guess is, and a broker that restarts checks
    every agent's password within seconds.
    """
    fast = bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds=4)).decode()
    salt = secrets.token_bytes(MOSQUITTO_SALT_BYTES)
    derived = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, MOSQUITTO_ITERATIONS)
    shown = (base64.b64encode(part).decode() for part in (salt, derived))
    return Verifiers(fast, f"$7${MOSQUITTO_ITERATIONS}${'$'.join(shown)}")


def enrol(engine: Engine, token: EnrolmentToken, host: str, labels: Mapping[str, str], now: datetime) -> str:
    """Use an enrolment token for `host` and return the password of its new credential, the only time it is seen.

    Raises TokenSpentError, CredentialExistsError; the use is then not counted.
    """
    password = secrets.token_urlsafe(32)
    found = verifiers(password)
    with engine.begin() as connection:
        if not enrolment_tokens.count_use(connection, token, now):
            raise TokenSpentError("this enrolment token was used up, expired or revoked just now")
        _write(connection, host, found, labels, replaces=token.replaces, actor=f"enrolment token {token.name}",
               enrolment_id=token.id)
    return password


def issue(engine: Engine, host: str, labels: Mapping[str, str], *, replaces: bool, actor: str) -> str:
    """Issue a credential by hand and return its password, the only time it is seen. Raises CredentialExistsError."""
    password = secrets.token_urlsafe(32)
    found = verifiers(password)
    with engine.begin() as connection:
        _write(connection, host, found, labels, replaces=replaces, actor=actor, enrolment_id=None)
    return password


def _write(connection: Connection, host: str, found: Verifiers, labels: Mapping[str, str], *, replaces: bool, actor: str,
           enrolment_id: int | None) -> None:
    # Not excluded.bcrypt: for that one has to be allowed to read verifiers, which the API's role is not.
    written = connection.execute(
        text("""INSERT INTO agent_credential AS c (host, bcrypt, pbkdf2, labels, enrolment_id, issued_by)
                VALUES (:host, :bcrypt, :pbkdf2, CAST(:labels AS jsonb), :enrolment_id, :actor)
                ON CONFLICT (host) DO UPDATE SET bcrypt = :bcrypt, pbkdf2 = :pbkdf2, labels = excluded.labels,
                  enrolment_id = excluded.enrolment_id, issued_at = now(), issued_by = excluded.issued_by, revoked_at = NULL
                WHERE c.revoked_at IS NOT NULL OR :replaces"""),
        {"host": host, "bcrypt": found.bcrypt, "pbkdf2": found.pbkdf2, "enrolment_id": enrolment_id, "actor": actor,
         "labels": msgspec.json.encode(dict(labels)).decode(), "replaces": replaces})
    if not written.rowcount:
        raise CredentialExistsError(f"{host} has a valid credential")
    audit_log.write(connection, actor, "issue", "credential", host, {"labels": dict(labels)})
    _announce(connection)


def revoke(engine: Engine, host: str, *, actor: str) -> bool:
    """Revoke the credential of a host; False where it has no valid one."""
    with engine.begin() as connection:
        changed = connection.execute(
            text("UPDATE agent_credential SET revoked_at = now() WHERE host = :host AND revoked_at IS NULL"), {"host": host})
        if changed.rowcount:
            audit_log.write(connection, actor, "revoke", "credential", host)
            _announce(connection)
        return bool(changed.rowcount)


def fetch(engine: Engine, *, state: str | None, after: str, limit: int) -> list[dict[str, Any]]:
    """Credentials by host, beyond the host `after`, without their verifiers; `state`: valid, revoked or None for both."""
    return fetch_rows(engine, """
        SELECT c.host, CASE WHEN c.revoked_at IS NULL THEN 'valid' ELSE 'revoked' END AS state, c.labels, c.issued_at,
               c.issued_by, t.name AS enrolment_token, c.revoked_at
        FROM agent_credential c LEFT JOIN enrolment_token t ON t.id = c.enrolment_id
        WHERE c.host > :after AND (CAST(:state AS text) IS NULL OR (c.revoked_at IS NULL) = (:state = 'valid'))
        ORDER BY c.host LIMIT :limit""", {"state": state, "after": after, "limit": limit})


def _announce(connection: Connection) -> None:
    """Last in the transaction, for whoever keeps a broker in step: the row is locked until its end."""
    connection.execute(text("UPDATE configuration SET version = version + 1 WHERE name = 'credentials'"))
