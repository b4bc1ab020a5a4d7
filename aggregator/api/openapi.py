"""What the OpenAPI document says of every route beside what the route itself says: scope, bounds, limits, errors. Pure."""

from collections.abc import Iterable, Iterator
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from aggregator.api import limits, models, problems
from aggregator.api.security import Requires

_RATE = {
    "RateLimit-Policy": ('the limit that this was counted under: `"details";q=100;w=60`, 100 requests in 60 s', "string"),
    "RateLimit": ('what is left: `"details";r=99;t=60`, 99 requests for the next 60 s', "string"),
    "Retry-After": ("seconds after which to ask again", "integer")}
_ERRORS = {
    401: "no valid token", 403: "the token lacks the scope", 404: "no such thing",
    408: "the body did not come in time", 409: "the name is taken, or the state of things forbids it",
    413: "the body is too large", 414: "path and query are too long",
    422: "a parameter or the body is unusable; errors name the fields", 429: "too many requests; see Retry-After",
    431: "the headers are too large",
    503: "the database is away or overburdened; try again, see Retry-After"}
_OF_ALL = (404, 414, 422, 431, 503)
_OF_TOKENS = (401, 403, 429)
_OF_BODIES = (408, 413)
_OF_CHANGES = (409,)
_RETRIED = (429, 503)

Document = dict[str, Any]


def scopes(dependant: Dependant) -> Iterator[str]:
    """The scopes that a route asks for."""
    for one in dependant.dependencies:
        if isinstance(one.call, Requires):
            yield one.call.scope
        yield from scopes(one)


def completed(document: Document, routes: Iterable[APIRoute]) -> Document:
    """The document with what holds for all routes alike; changes and returns it."""
    parts = document["components"]
    parts["schemas"] |= {"ProblemModel": models.ProblemModel.model_json_schema()}
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own shape of a 422, which is not ours
        parts["schemas"].pop(name, None)
    parts["headers"] = {name: {"description": text, "schema": {"type": kind}} for name, (text, kind) in _RATE.items()}
    parts["responses"] = {str(status): _error(status) for status in _ERRORS}
    for route in routes:
        if not route.include_in_schema:
            continue
        for method in route.methods or ():
            _complete(document["paths"][route.path_format][method.lower()], method, route)
    return document


def _complete(operation: Document, method: str, route: APIRoute) -> None:
    responses: Document = operation["responses"]
    if not operation.get("security"):
        return
    group, statuses = limits.group_of(method, route.path_format), [*_OF_ALL, *_OF_TOKENS]
    if (needed := next(scopes(route.dependant), None)) is not None:
        operation["security"] = [{"HTTPBearer": [needed]}]
        operation["description"] = f"{operation.get('description', '')}\n\nScope `{needed}`, limit `{group}`.".strip()
        for code, answer in responses.items():
            if code.startswith("2"):
                answer.setdefault("headers", {}).update(_headers("RateLimit-Policy", "RateLimit"))
    if any(one["name"] == "format" for one in operation.get("parameters", ())):
        responses["200"]["content"] |= {kind: {"schema": {"type": "string"}} for kind in ("text/csv", "application/x-ndjson")}
    if "requestBody" in operation:
        statuses += _OF_BODIES
    if method != "GET":
        statuses += _OF_CHANGES
    for status in statuses:
        responses[str(status)] = {"$ref": f"#/components/responses/{status}"}


def _error(status: int) -> Document:
    more = {"headers": _headers("Retry-After")} if status in _RETRIED else {}
    return {"description": _ERRORS[status],
            "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemModel"}}}} | more


def _headers(*names: str) -> Document:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
