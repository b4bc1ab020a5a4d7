"""Errors of the API as problem+json (RFC 9457): one shape for all, naming the field and what is allowed."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aggregator.analysis.timespan import SpanError
from shared import database, logs

log = logs.get("api")

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 2


class Problem(Exception):  # noqa: N818 (RFC 9457's word)
    """An answer that is an error. `errors` names fields and what is wrong with them."""

    def __init__(self, status: int, detail: str, *, errors: list[dict[str, str]] | None = None,
                 headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors, self.headers = status, detail, errors, headers

    def response(self) -> Response:
        body: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(self.status).phrase, "status": self.status,
                                "detail": sayable(self.detail)}
        if self.errors:
            body["errors"] = [{name: sayable(text) for name, text in one.items()} for one in self.errors]
        return Response(msgspec.json.encode(body), self.status, media_type=MEDIA_TYPE, headers=self.headers)


def sayable(text: str) -> str:
    """Text that quotes what somebody sent: halves of surrogate pairs, which JSON lets pass, are spelt out."""
    return text.encode(errors="backslashreplace").decode()


def not_found(kind: str, name: str) -> Problem:
    """404 that names the thing."""
    return Problem(404, f"there is no {kind} {name[:100]!r}")


def invalid(field: str, message: str) -> Problem:
    """422 for one field."""
    return refused({field: message})


def refused(wrong: Mapping[str, str]) -> Problem:
    """422 for several fields: name → what is wrong with it."""
    errors = [{"field": name[:100], "message": message} for name, message in list(wrong.items())[:20]]
    return Problem(422, "; ".join(f"{one['field']}: {one['message']}" for one in errors)[:2000], errors=errors)


def not_ready(detail: str) -> Problem:
    """503, with the time after which to try again."""
    return Problem(503, detail, headers={"Retry-After": str(RETRY_SECONDS)})


def install(app: FastAPI) -> None:
    """Answer every error of `app` as problem+json."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(SpanError, _on_span)
    for kind in database.Unavailable:
        app.add_exception_handler(kind, _on_unavailable)


async def _on_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 (registered for it)
    return error.response()


async def _on_validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 (registered for it)
    return refused({".".join(str(part) for part in found["loc"][1:]) or str(found["loc"][0]): str(found["msg"])
                    for found in error.errors()[:20]}).response()


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 (registered for it)
    detail = str(error.detail)
    if error.status_code == 404:
        detail = f"there is nothing at {request.url.path[:200]!r}; see /docs"
    elif error.status_code == 400:  # what FastAPI says of a body that it cannot decode
        return invalid("body", "this is no JSON in UTF-8").response()
    elif error.status_code == 405:
        detail = f"{request.method} is not allowed at {request.url.path[:200]!r}"
    return Problem(error.status_code, detail, headers=dict(error.headers or {})).response()


async def _on_span(_: Request, error: Exception) -> Response:
    assert isinstance(error, SpanError)  # noqa: S101 (registered for it)
    return invalid(error.parameter, str(error)).response()


async def _on_unavailable(request: Request, error: Exception) -> Response:
    first = str(error).strip().splitlines()
    logs.event(log, "database did not answer", logging.WARNING, path=request.url.path, error=first[0] if first else "")
    if "statement timeout" in str(error):
        return not_ready("the question took too long; ask for a shorter span, a larger step or fewer hosts").response()
    return not_ready("the database does not answer; try again").response()


class Faults:
    """ASGI middleware: a fault of ours is logged, and answered with a 500 that says nothing of the inside."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def told(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, told)
        except Exception:
            if has_begun or scope["type"] != "http":
                raise  # the server breaks the connection off, so that half an answer is not taken for a whole one
            logs.event(log, "request failed", logging.ERROR, method=scope["method"], path=scope["path"], exc_info=True)
            await Problem(500, "the server failed; its log says why").response()(scope, receive, send)
