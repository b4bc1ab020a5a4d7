"""The FastAPI application: routes, errors, bounds on bodies, and the OpenAPI document."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aggregator.api import models, problems
from aggregator.api.backend import Backend
from aggregator.api.known_parameters import KnownParameters
from aggregator.api.routes import (
    administration,
    alert_rules,
    alerts,
    anomalies,
    audit_log,
    channels,
    collection,
    containers,
    data,
    executions,
    exposition,
    fleet,
    health,
    history,
    hosts,
    insights,
    probes,
    quiet,
    schedules,
    trends,
    words,
)
from aggregator.api.security import TokenCache
from shared import __version__

MAX_BODY_BYTES = 1_000_000
GZIP_FROM_BYTES = 2_000

DESCRIPTION = """Fleet monitoring over MQTT. Times are RFC 3339, UTC. Every list and series answers as CSV or NDJSON too:
`?format=csv` or an Accept header. Errors are problem+json (RFC 9457);
unknown query parameters are refused. Send `Authorization: Bearer dbt_…`; scopes are
read, operate and admin."""

TAGS = [
    {"name": "hosts", "description": "Hosts and what is known of them now"},
    {"name": "history", "description": "Metrics and health over time"},
    {"name": "health", "description": "Health scores, reasons and recommendations"},
    {"name": "fleet", "description": "Latest figures of every host"},
    {"name": "alerts", "description": "Alerts, their events and what is done about them; events from outside"},
    {"name": "alert rules", "description": "Rules, overrides per host, and a preview over stored history"},
    {"name": "quiet", "description": "Silences, maintenance windows and dependencies between hosts"},
    {"name": "notifications", "description": "Channels, routes and what was delivered"},
    {"name": "schedules", "description": "When something happens: on the bus, on hosts, in drumbeat itself"},
    {"name": "executions", "description": "What became of it; restarts and signals on hosts; annotations of charts"},
    {"name": "analytics", "description": "Anomalies, trends, correlations and insights over stored history"},
    {"name": "collection", "description": "Collection settings from the centre"},
    {"name": "data", "description": "Storage, statistics and rejects"},
    {"name": "words", "description": "Metrics and payloads"},
    {"name": "administration", "description": "Retention, health profiles, tokens and the audit log"},
    {"name": "prometheus", "description": "Exposition for Prometheus"},
    {"name": "probes", "description": "Liveness, readiness and directory"},
]

_ERRORS = {401: "no valid token", 403: "the token lacks the scope", 404: "no such thing", 422: "a parameter is unusable",
           503: "the database is away; try again"}


class BodyLimit:
    """ASGI middleware: a body larger than `MAX_BODY_BYTES` is refused."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = problems.Problem(413, f"a body may have {MAX_BODY_BYTES} bytes")
        length = next((value for name, value in scope.get("headers", ()) if name == b"content-length"), b"0")
        if scope["type"] == "http" and (not length.isdigit() or int(length) > MAX_BODY_BYTES):
            await refusal.response()(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > MAX_BODY_BYTES:
                raise refusal
            return message

        async def answered(message: Message) -> None:
            # FastAPI takes whatever goes wrong with a body for bad JSON; what is too large is answered as that.
            if seen <= MAX_BODY_BYTES:
                await send(message)
            elif message["type"] == "http.response.start":
                await refusal.response()(scope, receive, send)

        await self._app(scope, counted, answered)


def build(backend: Backend, *, root_path: str = "", cors_origins: Sequence[str] = ()) -> FastAPI:
    """Build the application on a backend; starting it starts the backend."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        backend.start()
        yield
        backend.stop()

    app = FastAPI(
        title="drumbeat", version=__version__, description=DESCRIPTION, root_path=root_path, lifespan=lifespan,
        openapi_tags=TAGS, redoc_url=None, docs_url=None, license_info={"name": "Apache-2.0"},
        responses={code: {"model": models.ProblemModel, "description": text,
                          "content": {problems.MEDIA_TYPE: {}}} for code, text in _ERRORS.items()})
    app.state.backend = backend
    app.state.tokens = TokenCache(time.monotonic)
    problems.install(app)
    app.add_middleware(GZipMiddleware, minimum_size=GZIP_FROM_BYTES, compresslevel=3)
    app.add_middleware(BodyLimit)
    if cors_origins:
        app.add_middleware(CORSMiddleware, allow_origins=list(cors_origins),
                           allow_methods=["GET", "PUT", "PATCH", "POST", "DELETE"],
                           allow_headers=["Authorization", "Content-Type", "Idempotency-Key"])
    known = Depends(KnownParameters())
    for module in (hosts, containers, history, health, fleet, alerts, alert_rules, quiet, channels, schedules, executions,
                   anomalies, trends, insights, collection, data, words, administration, audit_log, exposition):
        app.include_router(module.router, dependencies=[known])
    app.include_router(probes.router)
    return app
