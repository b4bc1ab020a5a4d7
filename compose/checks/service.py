"""Check of the REST API: does it answer, is it ready, is the token good."""

from collections.abc import Iterator

from compose.checks.finding import Finding, fail, ok, warn

_RUNNING = "is drumbeat api (or drumbeat up) running, and is --api-url right?"


def check(url: str, token: str | None) -> Iterator[Finding]:
    """Findings about the API at `url`."""
    import httpx

    base = url.rstrip("/")
    try:
        with httpx.Client(timeout=5.0) as client:
            ready = client.get(f"{base}/readyz")
            heads = {"Authorization": f"Bearer {token}"} if token else {}
            status = client.get(f"{base}/api/v1/stats", headers=heads).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        yield fail("api", f"{base} cannot be reached: {error}", _RUNNING)
        return
    if ready.status_code != 200:
        yield fail("api", f"{base} is not ready: {ready.text[:300]}", "mend what /readyz names")
        return
    yield ok("api", f"{base} answers and is ready")
    yield judged_token(status, is_given=bool(token))


def judged_token(status: int, *, is_given: bool) -> Finding:
    """The finding for the status that an ordinary request got. Pure."""
    if status == 200:
        return ok("token", "is accepted")
    mend = "drumbeat token create NAME --scope read, then set DRUMBEAT_TOKEN"
    if status in (401, 403):
        return warn("token", "is refused" if is_given else "none is given: only /livez and /readyz answer", mend)
    return warn("token", f"could not be tried: the API answers {status}", "see the API's log")
