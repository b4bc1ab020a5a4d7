"""Refuses query parameters that a route does not have: a misspelt filter must not be answered for the whole fleet."""

import difflib
import itertools
from collections import Counter
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool

from aggregator.api.problems import refused

MOST_FAULTS = 20
"""More are not looked for: to guess what was meant by a thousand names takes long."""


class KnownParameters:
    """Dependency: only query parameters that the OpenAPI document names for the route, once each unless they take many.

    Raises a 422 that names what is wrong and what is allowed.
    """

    def __init__(self) -> None:
        self._by_route: dict[tuple[str, str], Mapping[str, bool]] = {}

    async def __call__(self, request: Request) -> None:
        if not request.query_params:
            return
        route = (request.scope["route"].path_format, request.method.lower())
        if (allowed := self._by_route.get(route)) is None:
            # The first time the whole document is made, which takes a fifth of a second: not on the event loop.
            allowed = self._by_route[route] = await run_in_threadpool(documented, request.app, *route)
        given = Counter(name for name, _ in request.query_params.multi_items())
        faults = ((name, text) for name, count in given.items() if (text := fault(name, count, allowed)))
        if wrong := dict(itertools.islice(faults, MOST_FAULTS)):
            raise refused(wrong)


def documented(app: FastAPI, path: str, method: str) -> dict[str, bool]:
    """Query parameters of a route as the OpenAPI document has them, and whether each may be repeated."""
    operation: Mapping[str, Any] = app.openapi()["paths"][path][method]
    return {one["name"]: one["schema"].get("type") == "array"
            for one in operation.get("parameters", ()) if one["in"] == "query"}


def fault(name: str, count: int, allowed: Mapping[str, bool]) -> str:
    """What is wrong with a parameter that was given `count` times; empty where nothing is. Pure."""
    if name in allowed:
        return "" if count == 1 or allowed[name] else f"it is given {count} times and takes one value"
    near = difflib.get_close_matches(name[:100], allowed, 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"there is no such parameter{hint}; allowed: {', '.join(sorted(allowed)) or 'none'}"
