"""Whether the API works, what it is, and where things are. The probes and the documentation need no token."""

from collections.abc import Mapping

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from aggregator.api import documentation, formats, own_models
from aggregator.api.backend import backend_of
from aggregator.api.security import Reader
from shared import __version__

router = APIRouter(tags=["probes"])

KEPT_SECONDS = 3600.0

LINKS = ("hosts", "containers", "series", "recommendations", "metrics", "schemas", "schedules", "executions", "rejects",
         "storage", "stats", "retention-policies", "tokens", "fleet/health", "fleet/latest", "health-profiles/default")


@router.get("/livez", response_model=own_models.ProbeModel)
async def live(request: Request) -> Response:
    """Answers while the process works."""
    return _probe(request, {})


@router.get("/readyz", response_model=own_models.ProbeModel, responses={503: {"model": own_models.ProbeModel}})
def ready(request: Request) -> Response:
    """Answers 200 once every part works, else 503; names each part and what it lacks."""
    return _probe(request, backend_of(request).check())


def _probe(request: Request, parts: Mapping[str, str]) -> Response:
    is_well = not any(parts.values())
    return formats.json_answer(
        {"service": "api", "status": "ok" if is_well else "failing",
         "uptime_seconds": round(backend_of(request).uptime_seconds(), 1),
         "parts": {name: wrong or "ok" for name, wrong in parts.items()}}, 200 if is_well else 503)


@router.get("/api/v1", response_model=own_models.AboutModel)
async def about(request: Request, _: Reader) -> Response:
    """Name, version and where things are."""
    root = f"{request.scope.get('root_path', '').rstrip('/')}/api/v1"
    return formats.json_answer({"name": "drumbeat", "version": __version__,
                                "links": {link: f"{root}/{link}" for link in LINKS}})


@router.get("/docs", include_in_schema=False)
def docs(request: Request) -> Response:
    """Documentation for people, made from the OpenAPI document; it needs neither scripts nor the Internet."""
    page = backend_of(request).cached("documentation", KEPT_SECONDS, lambda: documentation.page(request.app.openapi()))
    return HTMLResponse(page, headers={"Content-Security-Policy": documentation.POLICY})


@router.get("/openapi.json", include_in_schema=False)
def read_openapi(request: Request) -> Response:
    """The OpenAPI document, which needs no token and is encoded once."""
    root = request.scope.get("root_path", "").rstrip("/")
    body = backend_of(request).cached("openapi", KEPT_SECONDS, lambda: msgspec.json.encode(
        request.app.openapi() | ({"servers": [{"url": root}]} if root else {})))
    return Response(body, media_type="application/json")


@router.get("/", include_in_schema=False)
async def root(request: Request) -> Response:
    """Lead people to the documentation."""
    return RedirectResponse(f"{request.scope.get('root_path', '').rstrip('/')}/docs")
