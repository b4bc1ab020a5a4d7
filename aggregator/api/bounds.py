"""Bounds of a request: address, headers and body, how deep and slow that is, and how many there are at once."""

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aggregator.api.problems import Problem

MAX_ADDRESS_BYTES = 32_000
"""Of path and query. 1000 names of hosts, which lists take at most, fit."""
MAX_HEADER_BYTES = 32_000
"""Of all headers together; of what is not yet whole, the server itself holds 64 KiB."""
MAX_BODY_BYTES = 1_000_000
MAX_DEPTH = 32
BODY_SECONDS = 20.0
MAX_REQUESTS = 250
"""Being answered; and as many more whose bodies are still on their way."""
PROBES = ("/livez", "/readyz")

_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)  # possessive: what is cut short costs no second look
_ALIKE = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class Bounds:
    """ASGI middleware: refuses what is beyond the bounds, and hands on bodies whole."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            _check(scope)
            handed: Receive | None = receive
            if _has_body(scope):
                with self._one_more("bodies"):
                    handed = await _whole(receive)
            if handed is not None:
                with contextlib.nullcontext() if scope["path"] in PROBES else self._one_more("requests"):
                    await self._app(scope, handed, send)
        except Problem as problem:
            await problem.response()(scope, receive, send)

    @contextlib.contextmanager
    def _one_more(self, kind: str) -> Iterator[None]:
        """Bodies count by themselves until they are whole: anybody can begin one, without any token. Raises Problem."""
        if self._under_way[kind] >= MAX_REQUESTS:
            raise Problem(503, f"{MAX_REQUESTS} {kind} are under way; try again", headers={"Retry-After": "1"})
        self._under_way[kind] += 1
        try:
            yield
        finally:
            self._under_way[kind] -= 1


def _check(scope: Scope) -> None:
    if len(scope.get("raw_path", b"")) + len(scope["query_string"]) > MAX_ADDRESS_BYTES:
        raise Problem(414, f"path and query may have {MAX_ADDRESS_BYTES} bytes; ask for fewer things at once")
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
        raise Problem(431, f"all headers together may have {MAX_HEADER_BYTES} bytes")


def _has_body(scope: Scope) -> bool:
    """Raises Problem for one that says itself that it is too large."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    sent: dict[bytes, bytes] = {name: value for name, value in headers if name in (b"content-length", b"transfer-encoding")}
    length = sent.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 9 or int(length) > MAX_BODY_BYTES:
        raise _too_large()
    return bool(sent) and sent.get(b"content-length") != b"0"


async def _whole(receive: Receive) -> Receive | None:
    """`receive` with the body read and found within its bounds; None where the client has gone. Raises Problem."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await _read_body(receive)
    except TimeoutError:
        raise Problem(408, f"the body did not come within {BODY_SECONDS:.0f} s", headers={"Connection": "close"}) from None
    if body is None:
        return None
    if is_too_deep(body):
        raise Problem(422, f"body: it is nested deeper than {MAX_DEPTH} levels",
                      errors=[{"field": "body", "message": f"it is nested deeper than {MAX_DEPTH} levels"}])
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def handed() -> Any:
        return messages.pop() if messages else await receive()

    return handed


async def _read_body(receive: Receive) -> bytes | None:
    parts, size, is_more = [], 0, True
    while is_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if (size := size + len(parts[-1])) > MAX_BODY_BYTES:
            raise _too_large()
        is_more = message.get("more_body", False)
    return b"".join(parts)


def _too_large() -> Problem:
    return Problem(413, f"a body may have {MAX_BODY_BYTES} bytes", headers={"Connection": "close"})


def is_too_deep(body: bytes) -> bool:
    """Whether JSON is nested deeper than `MAX_DEPTH`, told before it is parsed: a parser would recurse. Pure.

    Texts are taken out, then everything but brackets, then `MAX_DEPTH` times the innermost pairs. What does not pair is no JSON,
    which the parser says better, unless it would sink in it.
    """
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return False
    left = _TEXT.sub(b"", body).translate(_ALIKE, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        left = left.replace(b"[]", b"")
    return b"[]" in left or left.count(b"[") > MAX_DEPTH
