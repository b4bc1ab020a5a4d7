"""`drumbeat token create|list|revoke`: API tokens, straight in the database."""

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from aggregator.client import screen
from aggregator.client.verbs import read_verb
from shared import database, logs, settings
from shared.names import TOKEN_NAME
from shared.settings import SettingsError

if TYPE_CHECKING:
    from aggregator.store.tokens import Token

USAGE = """usage: drumbeat token create NAME --scope read|operate|admin [--expires-days N] [--json]
       drumbeat token list [--json]
       drumbeat token revoke NAME

Scopes: read sees everything but tokens, operate also acts on hosts and alerts, admin also changes settings and
tokens."""

APPLICATION = "drumbeat-token"

Name = Annotated[str, Meta(description="name of the token", min_length=1)]
NewName = Annotated[str, Meta(description="name of the token: letters, digits, dots, underscores and hyphens, at most 100",
                              pattern=TOKEN_NAME)]


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of `drumbeat token list`."""

    database_url: Annotated[str, Meta(description="Postgres of the fleet: postgresql://user:password@host:5432/name")]
    json: Annotated[bool, Meta(description="print one JSON document")] = False
    data: Annotated[str | None, Meta(description="data directory whose env file is read")] = None


class Revocation(Listing, frozen=True, kw_only=True):
    """Settings of `drumbeat token revoke`."""

    name: Name


class Creation(Revocation, frozen=True, kw_only=True):
    """Settings of `drumbeat token create`."""

    name: NewName
    scope: Annotated[Literal["read", "operate", "admin"],
                     Meta(description="what it may do: read, operate or admin; each includes those before")] = "read"
    expires_days: Annotated[Annotated[float, Meta(gt=0, le=36_500)] | None,
                            Meta(description="days until it expires; never where not given")] = None


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; 1 where the name is taken or unknown, or the database cannot be reached."""
    verb = read_verb("token", argv, _VERBS, USAGE)
    if isinstance(verb, int):
        return verb
    kind, positional, act = _VERBS[verb]
    own = settings.load(kind, f"token {verb}", argv[1:], environ, positional=positional)
    logs.configure("warning")
    try:
        return act(own)
    except database.DatabaseUrlError as error:
        raise SettingsError(f"--database-url: {error}") from None
    except database.Unavailable as error:
        return screen.failed("token", error)


def _create(own: Creation) -> int:
    from aggregator.store import tokens

    expires_at = None if own.expires_days is None else datetime.now(UTC) + timedelta(days=own.expires_days)
    engine = database.open_engine(own.database_url, APPLICATION, pool_size=1)
    try:
        plain = tokens.create(engine, own.name, [own.scope], expires_at)
    except tokens.TokenNameTakenError as error:
        return screen.failed("token", error)
    if own.json:
        screen.print_json({"name": own.name, "scopes": [own.scope], "expires_at": expires_at, "token": plain})
    else:
        print(plain)
        print("This is the only time it is shown. Use it as DRUMBEAT_TOKEN, or in the header Authorization: Bearer …",
              file=sys.stderr)
    return 0


def _list(own: Listing) -> int:
    from aggregator.store import tokens

    engine = database.open_engine(own.database_url, APPLICATION, pool_size=1)
    found, now = tokens.fetch_all(engine), datetime.now(UTC)
    if own.json:
        screen.print_json([_row(token, now) for token in found])
        return 0
    times = ("created", "last used", "expires")
    screen.print_table(("name", "scopes", "state", *times), (_cells(token, now) for token in found),
                       spare=("created",))
    return 0


def _revoke(own: Revocation) -> int:
    from aggregator.store import tokens

    engine = database.open_engine(own.database_url, APPLICATION, pool_size=1)
    if not tokens.revoke(engine, own.name):
        print(f"drumbeat token: no valid token is named {own.name!r}; see drumbeat token list", file=sys.stderr)
        return 1
    told: dict[str, Any] = {"name": own.name, "revoked": True}
    if own.json:
        screen.print_json(told)
    else:
        print(f"Revoked {own.name}. The API refuses it within 10 s.")
    return 0


def _row(token: "Token", now: datetime) -> dict[str, Any]:
    return {
        "name": token.name, "scopes": list(token.scopes), "state": _state(token, now), "created_at": token.created_at,
        "last_used_at": token.last_used_at, "expires_at": token.expires_at, "revoked_at": token.revoked_at,
    }


def _state(token: "Token", now: datetime) -> str:
    if token.revoked_at is not None:
        return "revoked"
    return "valid" if token.is_valid(now) else "expired"


def _cells(token: "Token", now: datetime) -> tuple[str, ...]:
    state = _state(token, now)
    word = screen.coloured("ok" if state == "valid" else "fail", state)
    return (screen.plain(token.name), ", ".join(token.scopes), word,
            _shown(token.created_at), _shown(token.last_used_at), _shown(token.expires_at))


def _shown(at: datetime | None) -> str:
    return "never" if at is None else f"{at:%Y-%m-%d %H:%M}Z"


_VERBS: dict[str, tuple[type[Any], Sequence[str], Callable[[Any], int]]] = {
    "create": (Creation, ("name",), _create),
    "list": (Listing, (), _list),
    "revoke": (Revocation, ("name",), _revoke),
}
