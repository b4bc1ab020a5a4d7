"""Bearer tokens with scopes: read < operate < admin. What the database said of a token holds for at most 10 seconds.

A token is looked up by its SHA-256, in memory and then in the database, so what an answer's time could tell is of a digest
that nobody can steer; there is no comparison of the token itself, letter by letter.
"""

import contextlib
import dataclasses
import logging
import threading
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from aggregator.api import limits
from aggregator.api.backend import Backend, fetch_backend
from aggregator.api.limits import Limiter, Quota
from aggregator.api.problems import Problem
from aggregator.store import tokens
from aggregator.store.tokens import Token
from shared import database, logs
from shared.joining import TOKEN_PREFIX

log = logs.get("api")

CACHE_SECONDS = 10.0
TOUCH_SECONDS = 60.0
CACHE_LIMIT = 1024

bearer = HTTPBearer(auto_error=False, description="API token: `drumbeat token create NAME --scope read`")


@dataclasses.dataclass(slots=True)
class _Known:
    token: Token | None
    until: float


class TokenCache:
    """Tokens by digest, as the database last said. `clock` counts seconds, monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._found: dict[bytes, _Known] = {}
        self._unknown: dict[bytes, _Known] = {}
        self._touched: dict[int, float] = {}
        self._lock = threading.Lock()

    def find(self, digest: bytes) -> _Known | None:
        """What is known of a digest; None where the database must be asked."""
        known = self._found.get(digest) or self._unknown.get(digest)
        return None if known is None or known.until <= self._clock() else known

    def has_seen(self, digest: bytes) -> bool:
        """Whether the database has ever known it. Guesses of others cannot make this forget it: they are kept apart."""
        return digest in self._found

    def fetch(self, backend: Backend, digest: bytes) -> Token | None:
        """Ask the database, remember the answer, and note the use."""
        token = tokens.fetch_by_digest(backend.engine, digest)
        with self._lock:
            kept = self._unknown if token is None else self._found
            if len(kept) >= CACHE_LIMIT and digest not in kept:
                kept.clear()
            kept[digest] = _Known(token, self._clock() + CACHE_SECONDS)
            (self._found if token is None else self._unknown).pop(digest, None)
        if token is not None and self._clock() - self._touched.get(token.id, -TOUCH_SECONDS) >= TOUCH_SECONDS:
            self._touched[token.id] = self._clock()
            with contextlib.suppress(*database.Unavailable):  # one that takes nothing can still be read
                tokens.touch(backend.engine, token.id)
        return token


class Requires:
    """Dependency: a valid token with a scope, else 401 or 403, within its limits, else 429."""

    def __init__(self, scope: str) -> None:
        self.scope = scope

    async def __call__(self, request: Request,
                       credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]) -> Token:
        backend = await fetch_backend(request)
        token = await _authenticated(request, backend, credentials)
        _within_limits(request, token)
        if not token.allows(self.scope):
            _tell(request, "scope", token=token.name, needed=self.scope)
            raise Problem(403, f"this needs the scope {self.scope}; token {token.name!r} has {', '.join(token.scopes)}",
                          headers={"WWW-Authenticate": f'Bearer realm="drumbeat", error="insufficient_scope", '
                                                       f'scope="{self.scope}"'})
        return token


async def _authenticated(request: Request, backend: Backend, credentials: HTTPAuthorizationCredentials | None) -> Token:
    if credentials is None:
        _refuse(request, "no token", "a bearer token is needed: Authorization: Bearer dbt_…; make one with "
                                     "`drumbeat token create NAME --scope read`")
    cache: TokenCache = request.app.state.tokens
    digest = tokens.digest(credentials.credentials)
    known = cache.find(digest)
    if known is None and not cache.has_seen(digest):
        check_address(request)  # who guesses does not get to ask the database any more
    token = known.token if known else await run_in_threadpool(cache.fetch, backend, digest)
    if token is None or not token.is_valid(backend.now()):
        _refuse(request, "unknown token" if token is None else "token is over", _why_refused(credentials.credentials),
                ', error="invalid_token"', token=token.name if token else "")
    return token


def _why_refused(plain: str) -> str:
    if plain.startswith(TOKEN_PREFIX):
        return "an enrolment token is good for POST /api/v1/enrolments alone; this needs a token of the API, dbt_…"
    return "this token is unknown, expired or revoked"


def _within_limits(request: Request, token: Token) -> None:
    """Count a request of a token. Raises a 429."""
    method, path, who = request.method, request.scope["route"].path_format, f"token {token.id}"
    spend(request, limits.group_of(method, path), who, method, path)
    limiter: Limiter = request.app.state.limiter
    if not limiter.begin(who, request.scope["state"]):
        raise limits.crowded()


def spend(request: Request, group: str, *who: str) -> None:
    """Count a request; the answer tells what is left. Raises a 429."""
    limiter: Limiter = request.app.state.limiter
    _tell_quota(request, limiter.spend(group, *who))


def check_address(request: Request) -> None:
    """Raises a 429 where too many requests of this address were refused."""
    limiter: Limiter = request.app.state.limiter
    quota = limiter.look("refused", limits.network(_address(request)))
    if quota is not None and quota.is_spent:
        _tell_quota(request, quota)


def count_refusal(request: Request) -> None:
    """Count a refused request of an address. Raises a 429 where it is one too many."""
    spend(request, "refused", limits.network(_address(request)))


def _tell_quota(request: Request, quota: Quota | None) -> None:
    request.state.quota = quota
    if quota is not None and quota.is_spent:
        raise limits.exceeded(quota)


def _refuse(request: Request, reason: str, detail: str, more: str = "", **fields: Any) -> NoReturn:
    """Raises a 401, or a 429 where this address was refused too often."""
    count_refusal(request)
    _tell(request, reason, **fields)
    raise Problem(401, detail, headers={"WWW-Authenticate": f'Bearer realm="drumbeat"{more}'})


def _tell(request: Request, reason: str, **fields: Any) -> None:
    """Log a refused request, unless there are too many to log; the query may hold anything and is left out."""
    limiter: Limiter = request.app.state.limiter
    if limiter.may_log():
        logs.event(log, "request refused", logging.WARNING, reason=reason, address=_address(request), method=request.method,
                   path=request.url.path[:200], **{name: value for name, value in fields.items() if value})


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


Reader = Annotated[Token, Depends(Requires("read"))]
Operator = Annotated[Token, Depends(Requires("operate"))]
Admin = Annotated[Token, Depends(Requires("admin"))]
