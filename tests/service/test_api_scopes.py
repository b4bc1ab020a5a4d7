"""Every route and every kind of token: who gets in is as the OpenAPI document says; refusals are told alike, and in the log."""

import json
import logging
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import api_client
import pytest
from api_client import Api
from builders import NOW
from fastapi.routing import APIRoute

from aggregator.api import application, limits, openapi
from aggregator.api.routes import probes
from aggregator.store import tokens

OPEN = {"/livez", "/readyz", "/docs", "/", "/openapi.json"}
ENROLMENT = {("POST", "/api/v1/enrolments")}
ADMIN_READS = {"/api/v1/tokens", "/api/v1/audit-log", "/api/v1/enrolment-tokens", "/api/v1/credentials"}
READS_BY_POST = {"/api/v1/alert-rules/validate", "/api/v1/alert-rules/preview", "/api/v1/schedules/validate",
                 "/api/v1/correlation-runs"}
DOCUMENT = json.loads(api_client.openapi())
ROUTES = [(method, route.path) for router in (*application.ROUTERS, probes.router) for route in router.routes
          if isinstance(route, APIRoute) for method in route.methods]
GUARDED = sorted(route for route in ROUTES if route[1] not in OPEN and route not in ENROLMENT)


def _documented(method: str, path: str) -> str:
    """The scope that the OpenAPI document names for a route."""
    scope: str = DOCUMENT["paths"][path][method.lower()]["security"][0]["HTTPBearer"][0]
    return scope


@pytest.fixture(scope="module")
def known(api_server: Api) -> Mapping[str, str]:
    """A token of every kind."""
    engine = api_server.backend.engine
    made = {scope: tokens.create(engine, f"scope-{scope}", [scope]) for scope in tokens.SCOPES}
    made["expired"] = tokens.create(engine, "scope-expired", ["admin"], NOW - timedelta(seconds=1))
    made["revoked"] = tokens.create(engine, "scope-revoked", ["admin"])
    tokens.revoke(engine, "scope-revoked")
    return made | {"none": "", "garbage": "dbt_" + "x" * 43, "enrolment": "dbe_" + "x" * 43}


def test_every_route_has_a_scope() -> None:
    """A route that is neither open nor for machines that join needs a scope, and the document says which."""
    for router in (*application.ROUTERS, probes.router):
        for route in router.routes:
            assert isinstance(route, APIRoute)
            needed = set(openapi.scopes(route.dependant))
            for method in route.methods:
                if (method, route.path) in GUARDED:
                    assert needed == {_documented(method, route.path)}, route.path
                else:
                    assert not needed, route.path


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_scopes_are_as_wide_as_they_should_be(method: str, path: str) -> None:
    """`read` reads all but tokens, credentials and the audit log; what changes anything needs more than `read`."""
    needed = _documented(method, path)
    if path in ADMIN_READS and method == "GET":
        assert needed == "admin"
    elif method == "GET" or path in READS_BY_POST:
        assert needed == "read"
    else:
        assert needed in ("operate", "admin")


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_who_gets_in_is_as_documented(api_server: Api, known: Mapping[str, str], method: str, path: str) -> None:
    """Without a valid token 401 with a challenge, with too small a scope 403 that names it, else neither."""
    url = re.sub(r"\{\w+\}", "nothing", path)
    rank = tokens.SCOPES.index(_documented(method, path))
    for kind, plain in known.items():
        answer = api_server.ask(url, method, token=plain, json={"nothing": 1} if method != "GET" else None)
        if kind not in tokens.SCOPES:
            assert answer.status_code == 401, (kind, answer.text)
            assert answer.headers["www-authenticate"].startswith('Bearer realm="drumbeat"')
        elif tokens.SCOPES.index(kind) < rank:
            assert answer.status_code == 403, (kind, answer.text)
            assert f'scope="{tokens.SCOPES[rank]}"' in answer.headers["www-authenticate"]
        else:
            assert answer.status_code not in (401, 403), (kind, answer.text)
        assert not plain or plain not in answer.text


def test_refusals_tell_nothing_of_tokens(api_server: Api, known: Mapping[str, str]) -> None:
    """Unknown, nearly right, expired and revoked tokens get the same answer, to the byte: there is nothing to come nearer to."""
    right = known["admin"]
    near = [right[:-1] + ("a" if right[-1] != "a" else "b"), "dbt_" + ("a" if right[4] != "a" else "b") + right[5:], right + "a",
            right[:-1], right.upper(), right[4:]]
    answers = [api_server.ask("/api/v1/hosts", token=plain)
               for plain in (*near, known["garbage"], known["expired"], known["revoked"])]
    assert {(answer.status_code, answer.content, answer.headers["www-authenticate"]) for answer in answers} == {
        (401, answers[0].content, 'Bearer realm="drumbeat", error="invalid_token"')}


def test_what_is_compared_are_digests(api_server: Api, known: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is asked for the SHA-256 of a token alone, so that the time of an answer tells nothing of the token."""
    asked: list[Any] = []
    found = tokens.fetch_by_digest
    monkeypatch.setattr(tokens, "fetch_by_digest", lambda engine, digest: asked.append(digest) or found(engine, digest))
    plain = tokens.create(api_server.backend.engine, "scope-digest", ["read"])
    assert api_server.ask("/api/v1/hosts", token=plain).status_code == 200
    assert asked == [tokens.digest(plain)]


def test_refusals_are_in_the_log(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """No token, an unknown one, one that is over and too small a scope are told with address and path, never with the token."""
    with api_client.serving(database_url) as (api, _), caplog.at_level(logging.WARNING, "drumbeat.api"):
        engine = api.backend.engine
        over = tokens.create(engine, "over", ["read"], NOW - timedelta(seconds=1))
        for plain in ("", "dbt_garbage", over):
            api.ask("/api/v1/hosts?q=dbt_in-the-query", token=plain)
        api.ask("/api/v1/tokens", token=tokens.create(engine, "reader", ["read"]))
        told = _refusals(caplog)
        assert [one["reason"] for one in told] == ["no token", "unknown token", "token is over", "scope"]
        assert told[3] == {"reason": "scope", "address": "127.0.0.1", "method": "GET", "path": "/api/v1/tokens",
                           "token": "reader", "needed": "admin"}
        assert "dbt_" not in repr(told)
        for _ in range(100):
            api.ask("/api/v1/hosts", token="")
        assert 40 <= len(_refusals(caplog)) <= 2 * limits.LOGGED.amount, "a flood of them must not fill the disk"


def _refusals(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record.__dict__["fields"] for record in caplog.records if record.message == "request refused"]
