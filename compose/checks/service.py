"""Check of the REST API: does it answer, is it ready, is the token good."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from compose.checks import encryption as ways
from compose.checks.finding import Finding, fail, ok, warn
from shared import encryption
from shared.bus import Tls

_RUNNING = "is drumbeat api (or drumbeat up) running, and is --api-url right?"


def check(url: str, token: str | None, tls: Tls) -> Iterator[Finding]:
    """Findings about the API at `url`. Raises BusError for files of TLS that cannot be used."""
    import httpx

    base, parts, context = url.rstrip("/"), urlsplit(url), tls.context()
    try:
        with httpx.Client(timeout=5.0, verify=context) as client:
            ready = client.get(f"{base}/readyz")
            heads = {"Authorization": f"Bearer {token}"} if token else {}
            status = client.get(f"{base}/api/v1/stats", headers=heads).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        told = encryption.explained(error, parts.hostname or "", encryption.API)
        yield fail("api", f"{base} cannot be reached: {told or error}", "mend TLS as it says" if told else _RUNNING)
        return
    if ready.status_code != 200:
        yield fail("api", f"{base} is not ready: {ready.text[:300]}", "mend what /readyz names")
        return
    yield ok("api", f"{base} answers and is ready")
    yield from ways.api(parts.scheme, parts.hostname or "", parts.port or 443, context)
    yield judged_token(status, is_given=bool(token))


def judged_token(status: int, *, is_given: bool) -> Finding:
    """The finding for the status that an ordinary request got. Pure."""
    if status == 200:
        return ok("token", "is accepted")
    mend = "drumbeat token create NAME --scope read, then set DRUMBEAT_TOKEN"
    if status in (401, 403):
        return warn("token", "is refused" if is_given else "none is given: only /livez and /readyz answer", mend)
    return warn("token", f"could not be tried: the API answers {status}", "see the API's log")
