"""The FastAPI application: routes, errors, what stands before every route, and the OpenAPI document."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.routing import APIRoute

from aggregator.api import openapi, problems
from aggregator.api.backend import Backend
from aggregator.api.bounds import Bounds
from aggregator.api.broker_for_agents import BrokerForAgents
from aggregator.api.headers import SecurityHeaders
from aggregator.api.known_parameters import KnownParameters
from aggregator.api.limits import Limiter, RateHeaders
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
    enrolment,
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

GZIP_FROM_BYTES = 2_000

DESCRIPTION = """Fleet monitoring over MQTT. Times are RFC 3339, UTC. Every list and series answers as CSV or NDJSON too:
`?format=csv` or an Accept header. Errors are problem+json (RFC 9457);
unknown query parameters are refused. Send `Authorization: Bearer dbt_…`; scopes are
read, operate and admin. How often a token may ask is said by the headers RateLimit-Policy and RateLimit of every answer."""

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
    {"name": "enrolment", "description": "Which machines may join, and their credentials for the broker"},
    {"name": "administration", "description": "Retention, health profiles, tokens and the audit log"},
    {"name": "prometheus", "description": "Exposition for Prometheus"},
    {"name": "probes", "description": "Liveness, readiness and directory"},
]

ROUTERS = tuple(module.router for module in (
    hosts, containers, history, health, fleet, alerts, alert_rules, quiet, channels, schedules, executions, anomalies, trends,
    insights, collection, data, words, enrolment, administration, audit_log, exposition))


class Api(FastAPI):
    """The application, whose OpenAPI document also says what holds for all routes alike."""

    def openapi(self) -> dict[str, Any]:
        """The document; made once."""
        if self.openapi_schema is None:
            routes = [route for router in (*ROUTERS, probes.router) for route in router.routes if isinstance(route, APIRoute)]
            self.openapi_schema = openapi.completed(super().openapi(), routes)
        return self.openapi_schema


def build(backend: Backend, *, broker_for_agents: BrokerForAgents | None = None, root_path: str = "",
          cors_origins: Sequence[str] = (), limiter: Limiter | None = None) -> FastAPI:
    """Build the application on a backend; starting it starts the backend. Without a limiter nothing is limited."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        backend.start()
        yield
        backend.stop()

    app = Api(
        title="drumbeat", version=__version__, description=DESCRIPTION, root_path=root_path, lifespan=lifespan,
        openapi_tags=TAGS, redoc_url=None, docs_url=None, openapi_url=None, license_info={"name": "Apache-2.0"})
    app.state.backend = backend
    app.state.broker_for_agents = broker_for_agents or BrokerForAgents()
    app.state.tokens = TokenCache(time.monotonic)
    app.state.limiter = limiter or Limiter({})
    problems.install(app)
    app.add_middleware(problems.Faults)
    app.add_middleware(GZipMiddleware, minimum_size=GZIP_FROM_BYTES, compresslevel=3)
    app.add_middleware(RateHeaders, limiter=app.state.limiter)
    app.add_middleware(Bounds)
    if cors_origins:
        app.add_middleware(CORSMiddleware, allow_origins=list(cors_origins),
                           allow_methods=["GET", "PUT", "PATCH", "POST", "DELETE"],
                           allow_headers=["Authorization", "Content-Type", "Idempotency-Key"],
                           expose_headers=["Retry-After", "RateLimit", "RateLimit-Policy", "Location"])
    app.add_middleware(SecurityHeaders)
    known = Depends(KnownParameters())
    for router in ROUTERS:
        app.include_router(router, dependencies=[known])
    app.include_router(probes.router)
    return app
