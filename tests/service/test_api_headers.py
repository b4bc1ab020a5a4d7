"""What every answer of the API says to browsers, whatever it is; origins of pages; no banner."""

import asyncio
import base64
import hashlib
import re
import secrets
from collections.abc import Iterator
from typing import Any

import api_client
import builders
import httpx
import pytest
from api_client import Api, running
from limits import parse

from aggregator.api import application, headers
from aggregator.api.backend import Backend
from aggregator.api.limits import Limiter
from shared import database

WALL = "https://wall.example"


@pytest.fixture(scope="module")
def limited(admin_database_url: str, template_database: str) -> Iterator[Api]:
    """An API that allows one page of alerts a minute and one origin."""
    name = f"test_{secrets.token_hex(6)}"
    with database.open_connection(admin_database_url, "tests") as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")  # type: ignore[arg-type]
        limiter = Limiter({"lists": parse("1/minute")})
        with api_client.serving(f"{admin_database_url.rpartition('/')[0]}/{name}", limiter=limiter,
                                cors_origins=[WALL]) as (api, _):
            api.ask("/api/v1/alerts")
            yield api
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]


@pytest.mark.parametrize(("method", "path", "status", "more"), [
    ("GET", "/livez", 200, {}), ("GET", "/api/v1/hosts", 200, {}), ("GET", "/api/v1/hosts?format=csv", 200, {}),
    ("GET", "/openapi.json", 200, {}), ("GET", "/docs", 200, {}), ("GET", "/", 307, {}),
    ("POST", "/api/v1/tokens", 201, {"json": {"name": "made"}}), ("DELETE", "/api/v1/tokens/made", 204, {}),
    ("GET", "/api/v1/hosts", 401, {"token": ""}), ("GET", "/nothing", 404, {}), ("GET", "/api/v1/hosts/none", 404, {}),
    ("PATCH", "/api/v1/hosts", 405, {}), ("POST", "/api/v1/events", 413, {"content": b"x" * 1_000_001}),
    ("GET", f"/api/v1/hosts?q={'x' * 32_000}", 414, {}), ("GET", "/api/v1/hosts?limit=0", 422, {}),
    ("GET", "/api/v1/alerts", 429, {}), ("OPTIONS", "/api/v1/hosts", 200, {"headers": {
        "Origin": WALL, "Access-Control-Request-Method": "GET"}}), ("GET", "/api/v1/hosts/web-1/processes", 500, {})])
def test_every_answer_carries_the_headers(limited: Api, method: str, path: str, status: int, more: dict[str, Any]) -> None:
    """Good answers and every kind of error: not sniffed, not framed, not kept, nothing may run; and no banner."""
    if status == 500 and not limited.connection.execute("SELECT 1 FROM host").fetchone():
        builders.store_snapshot(limited.connection, builders.store_host(limited.connection), "processes", {"processes": [5]})
    answer = limited.ask(path, method, **more)
    assert answer.status_code == status, answer.text
    wrong = {name: answer.headers.get(name) for name, value in headers.ALWAYS.items() if answer.headers.get(name) != value}
    if path == "/docs":
        assert (wrong.pop("Content-Security-Policy") or "").startswith("default-src 'none'; frame-ancestors 'none'; style-src")
    assert wrong == {}
    assert "server" not in answer.headers
    assert "strict-transport-security" not in answer.headers


def test_the_documentation_may_show_its_own_style_alone(limited: Api) -> None:
    """The page's policy names the digest of its one style; it has no script, no attribute that is one, nothing from elsewhere."""
    answer = limited.ask("/docs", token="")
    style = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style[0].encode()).digest()).decode()
    assert len(style) == 1
    assert f"style-src 'sha256-{digest}'" in answer.headers["content-security-policy"]
    assert not re.search(r"<script|\son\w+=|\sstyle=|src=|https?://[^ ]*\.js", answer.text)


def test_foreign_origins_get_nothing(limited: Api, database_url: str) -> None:
    """Without --cors-origins no origin may call, with it the named ones alone; a preflight of others is refused."""
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    allowed = limited.ask("/api/v1/hosts", "OPTIONS", token="", headers={"Origin": WALL, **asked})
    assert allowed.headers["access-control-allow-origin"] == WALL
    assert "access-control-allow-credentials" not in allowed.headers
    refused = limited.ask("/api/v1/hosts", "OPTIONS", token="", headers={"Origin": "https://evil.example", **asked})
    assert (refused.status_code, refused.headers.get("access-control-allow-origin")) == (400, None)
    told = limited.ask("/api/v1/alerts", headers={"Origin": WALL})
    assert (told.status_code, told.headers["access-control-allow-origin"]) == (429, WALL)
    assert "Retry-After" in told.headers["access-control-expose-headers"]
    with running(Backend(database_url)) as client:
        for origin in (WALL, "null", "http://127.0.0.1"):
            preflight = client.options("/api/v1/hosts", headers={"Origin": origin, **asked})
            assert preflight.status_code == 405
            assert not [name for name in preflight.headers if name.startswith("access-control")]


def test_over_tls_browsers_are_told_to_stay_with_it(database_url: str) -> None:
    """Strict-Transport-Security is sent where the answer goes out over TLS, and only there."""
    async def ask(scheme: str) -> httpx.Response:
        app = application.build(Backend(database_url))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"{scheme}://a") as client:
            return await client.get("/livez")

    told = {scheme: asyncio.run(ask(scheme)).headers.get("strict-transport-security") for scheme in ("http", "https")}
    assert told == {"http": None, "https": headers.HSTS}
