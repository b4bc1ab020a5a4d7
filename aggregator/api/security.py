"""Bearer tokens with scopes: read < operate < admin. What the database said of a token holds for at most 10 seconds."""

import dataclasses
import hmac
import threading
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from aggregator.api.backend import Backend, fetch_backend
from aggregator.api.problems import Problem
from aggregator.store import tokens
from aggregator.store.tokens import Token
from shared.joining import TOKEN_PREFIX

CACHE_SECONDS = 10.0
TOUCH_SECONDS = 60.0
CACHE_LIMIT = 1024

bearer = HTTPBearer(auto_error=False, description="API token: `drumbeat token create NAME --scope read`")


@dataclasses.dataclass(slots=True)
class _Known:
    digest: bytes
    token: Token | None
    until: float


class TokenCache:
    """Tokens by digest, as the database last said. `clock` counts seconds, monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[bytes, _Known] = {}
        self._touched: dict[int, float] = {}
        self._lock = threading.Lock()

    def find(self, digest: bytes) -> _Known | None:
        """What is known of a digest; None where the database must be asked."""
        known = self._known.get(digest)
        if known is None or known.until <= self._clock() or not hmac.compare_digest(known.digest, digest):
            return None
        return known

    def fetch(self, backend: Backend, digest: bytes) -> Token | None:
        """Ask the database, remember the answer, and note the use."""
        token = tokens.fetch_by_digest(backend.engine, digest)
        with self._lock:
            if len(self._known) >= CACHE_LIMIT:
                self._known.clear()
            self._known[digest] = _Known(digest, token, self._clock() + CACHE_SECONDS)
        if token is not None and self._clock() - self._touched.get(token.id, -TOUCH_SECONDS) >= TOUCH_SECONDS:
            self._touched[token.id] = self._clock()
            tokens.touch(backend.engine, token.id)
        return token


class Requires:
    """Dependency: a valid token with a scope, else 401 or 403."""

    def __init__(self, scope: str) -> None:
        self.scope = scope

    async def __call__(self, request: Request,
                       credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]) -> Token:
        backend = await fetch_backend(request)
        if credentials is None:
            raise _unauthorized("a bearer token is needed: Authorization: Bearer dbt_…; make one with "
                                "`drumbeat token create NAME --scope read`", "")
        cache: TokenCache = request.app.state.tokens
        digest = tokens.digest(credentials.credentials)
        known = cache.find(digest)
        token = known.token if known else await run_in_threadpool(cache.fetch, backend, digest)
        if token is None or not token.is_valid(backend.now()):
            raise _unauthorized(_why_refused(credentials.credentials), ', error="invalid_token"')
        if not token.allows(self.scope):
            raise Problem(403, f"this needs the scope {self.scope}; token {token.name!r} has {', '.join(token.scopes)}",
                          headers={"WWW-Authenticate": f'Bearer realm="drumbeat", error="insufficient_scope", '
                                                       f'scope="{self.scope}"'})
        return token


def _why_refused(plain: str) -> str:
    if plain.startswith(TOKEN_PREFIX):
        return "an enrolment token is good for POST /api/v1/enrolments alone; this needs a token of the API, dbt_…"
    return "this token is unknown, expired or revoked"


def _unauthorized(detail: str, more: str) -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": f'Bearer realm="drumbeat"{more}'})


Reader = Annotated[Token, Depends(Requires("read"))]
Operator = Annotated[Token, Depends(Requires("operate"))]
Admin = Annotated[Token, Depends(Requires("admin"))]
