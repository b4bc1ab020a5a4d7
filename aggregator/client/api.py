"""Asking the REST API: the settings that all its commands share, and errors that say what to mend."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from shared import encryption
from shared.brokers import BusError, read_tls

if TYPE_CHECKING:
    import httpx

PATIENCE_SECONDS = 10.0
SHORT_WAIT_SECONDS = 5.0
LONG_WAIT_SECONDS = 60.0
"""How long the API may ask to wait where a limit is reached: who looks, and who changes something that is half done else."""
PAGE = 1000
"""Rows of the largest page that the API gives."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of every command that asks the API."""

    api_url: Annotated[str, Meta(description="the REST API, such as http://host:8480")] = "http://127.0.0.1:8480"
    token: Annotated[str | None, Meta(description="API token; drumbeat token create makes one")] = None
    api_ca_file: Annotated[str | None, Meta(description="CA that signed the API's certificate")] = None
    api_cert_file: Annotated[str | None, Meta(description="our certificate, for an API that wants one")] = None
    api_key_file: Annotated[str | None, Meta(description="key of our certificate")] = None
    data: Annotated[str | None, Meta(description="data directory whose env file is read")] = None
    json: Annotated[bool, Meta(description="print one JSON document")] = False


class ApiError(Exception):
    """The API cannot be asked, or refuses; the message says what to mend. `status` is 0 where nothing answered."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """A connection to the REST API below `/api/v1`. `transport` and `sleep` stand in for network and clock in tests."""

    def __init__(self, own: Settings, transport: "httpx.BaseTransport | None" = None,
                 sleep: Callable[[float], None] = time.sleep) -> None:
        import httpx

        self._sleep = sleep
        if not own.token:
            raise ApiError("no token: set DRUMBEAT_TOKEN (or --token, or --data DIR of drumbeat up); "
                           "drumbeat token create NAME makes one")
        self._base = own.api_url.rstrip("/").removesuffix("/api/v1")
        try:
            self._client = httpx.Client(
                base_url=f"{self._base}/api/v1/", timeout=PATIENCE_SECONDS, transport=transport,
                headers={"Authorization": f"Bearer {own.token}"}, verify=_trust(own))
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, ValueError, UnicodeError) as error:
            raise ApiError(f"--api-url or --token cannot be used: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._client.close()

    def fetch(self, path: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """The answer to GET `path`, decoded. Raises ApiError."""
        wanted = {name: value for name, value in (parameters or {}).items() if value not in (None, [], ())}
        return self._ask("GET", path, SHORT_WAIT_SECONDS, params=wanted)

    def fetch_pages(self, path: str, parameters: Mapping[str, Any], limit: int | None = None) -> Iterator[Any]:
        """The answers to GET `path`, page by page; `limit` rows are enough where it is given. Raises ApiError."""
        cursor: str | None = None
        while True:
            page = self.fetch(path, {**parameters, "limit": min(limit or PAGE, PAGE), "cursor": cursor})
            yield page
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def publish(self, method: str, path: str, body: Any = None, *, patience: float = PATIENCE_SECONDS) -> Any:
        """Change something: the answer to PUT, PATCH, POST or DELETE `path`, decoded; None where it is empty. Raises ApiError.

        `patience`: seconds without an answer after which to give up.
        """
        return self._ask(method, path, LONG_WAIT_SECONDS, json=body, timeout=patience)

    def _ask(self, method: str, path: str, longest: float, **more: Any) -> Any:
        """The decoded answer; where a limit is reached and over within `longest` seconds, asked once more then."""
        import httpx

        try:
            answer = self._client.request(method, path, **more)
            if answer.status_code == 429 and (seconds := asked_to_wait(answer.headers)) <= longest:
                self._sleep(seconds)
                answer = self._client.request(method, path, **more)
        except (httpx.TransportError, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise ApiError(unreachable(self._base, error)) from None
        except UnicodeEncodeError:
            raise ApiError("what is asked for holds bytes that are no text in UTF-8; look at the flags and files") from None
        if not answer.is_success:
            raise ApiError(refusal(self._base, answer.status_code, _detail(answer)), answer.status_code)
        try:
            return answer.json() if answer.content else None
        except ValueError:
            raise ApiError(f"{self._base} does not answer as drumbeat's API does; check --api-url") from None


def asked_to_wait(headers: Mapping[str, str]) -> float:
    """Seconds that an answer asks to wait; endless where it does not say. Pure."""
    text = headers.get("retry-after", "")
    return float(text) if text.isdecimal() else math.inf


def unreachable(base: str, error: Exception) -> str:
    """What it means that the API cannot be asked at all. Pure."""
    told = encryption.explained(error, urlsplit(base).hostname or "", encryption.API)
    if told is not None:
        return f"{base}: {told}"
    if "disconnected" in str(error) or "reset by peer" in str(error):
        return f"{base} hangs up; " + (
            f"where it wants a certificate of ours, give one that its CA has signed, as {encryption.API.cert_file}"
            if base.startswith("https://") else "where it speaks TLS, write https:// in --api-url (DRUMBEAT_API_URL)")
    return (f"{base} does not answer ({str(error) or type(error).__name__}): is drumbeat up (or drumbeat api) running there, and "
            "is --api-url (DRUMBEAT_API_URL) right?")


def refusal(base: str, status: int, detail: str) -> str:
    """What an answer with this status means for whoever asked. Pure."""
    if status == 401:
        return f"{base} refuses the token: {detail}; see drumbeat token list, and whether the token is this server's"
    if status == 403:
        return f"{base}: this token may not do that: {detail}"
    if status == 429:
        return f"{base} has had enough requests: {detail}; --rate-limits of drumbeat api sets how many"
    if status == 503:
        return f"{base} is not ready: {detail}; {base}/readyz says what is missing"
    return f"{base} answers {status}: {detail}"


def _detail(answer: "httpx.Response") -> str:
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if isinstance(problem, dict) and (problem.get("detail") or problem.get("title")):
        return str(problem.get("detail") or problem.get("title"))[:500]
    return answer.reason_phrase


def _trust(own: Settings) -> Any:
    """Whom we trust, and the certificate that we show. Raises ApiError for files that cannot be used."""
    if own.api_ca_file is None and own.api_cert_file is None:
        return True
    try:
        return read_tls(own.api_ca_file or "", own.api_cert_file or "", own.api_key_file or "").context()
    except BusError as error:
        raise ApiError(f"--api-ca-file, --api-cert-file, --api-key-file: {error}") from None
