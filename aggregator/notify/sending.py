"""One attempt to deliver a notification: through Apprise, or as a signed webhook of our own. Runs on a thread of its own."""

import dataclasses
import hashlib
import hmac
import logging
import re
import threading
import time
from typing import Any, Self

from aggregator.analysis import notices
from aggregator.analysis.channels import (
    Channel,
    ChannelError,
    Target,
    check_service,
    check_webhook,
    email_url,
    load_apprise,
    shown,
)
from aggregator.analysis.messages import TemplateError
from aggregator.notify.guard import Guard
from shared import __version__, logs

TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 65_536
MAX_ERROR_CHARS = 500

_TOKENS = re.compile(r"[A-Za-z0-9_\-%~]{24,}")


class SendingError(Exception):
    """It was not delivered; the message says why. `is_final`: trying again cannot help."""

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt:
    """What is sent where; `number` is the notification's id, the same for each attempt. `at`: Unix s."""

    number: int
    channel: Channel
    target: Target
    content: notices.Content
    public_url: str
    at: float


def send(attempt: Attempt, guard: Guard) -> None:
    """Deliver, or raise SendingError, whose message holds nothing secret."""
    try:
        with guard.watching():
            if attempt.channel.type == "webhook":
                _send_webhook(attempt)
            else:
                _send_apprise(attempt)
    except ChannelError as error:
        raise SendingError(f"{error.field}: {error}", is_final=True) from None
    except SendingError as error:
        raise SendingError(_reason(str(error), attempt.target, guard), is_final=error.is_final or bool(guard.refused)) from None


def _reason(error: str, target: Target, guard: Guard) -> str:
    if guard.refused:
        return guard.refused
    if guard.is_cut:
        return "it took too long and was cut off"
    return redacted(error, target)


def redacted(error: str, target: Target) -> str:
    """An error without the URL, the password and the key, and without whatever else looks like a token."""
    pieces = {piece for piece in re.split(r"[/?&=@]+", target.url) if len(piece) >= 8 and piece not in shown(target.url)}
    for secret in sorted({target.url, target.password, target.key, *pieces} - {""}, key=len, reverse=True):
        error = error.replace(secret, "***")
    return _TOKENS.sub("***", logs.redact(error))[:MAX_ERROR_CHARS]


def signature(key: str, at: float, body: bytes) -> str:
    """`t=1763668800,v1=…`: HMAC-SHA256 of "t.body" in hexadecimal."""
    stamp = str(int(at))
    return f"t={stamp},v1={hmac.new(key.encode(), stamp.encode() + b'.' + body, hashlib.sha256).hexdigest()}"


def _send_webhook(attempt: Attempt) -> None:
    import httpx

    check_webhook(attempt.target.url)
    try:
        body, media_type = notices.request(attempt.channel.template, attempt.content, attempt.number, attempt.public_url,
                                           attempt.at)
    except TemplateError as error:
        raise SendingError(f"template: {error}", is_final=True) from None
    headers = {"Content-Type": media_type, "User-Agent": f"drumbeat/{__version__}",
               "X-Drumbeat-Delivery": str(attempt.number),
               "X-Drumbeat-Signature": signature(attempt.target.key, attempt.at, body)}
    try:
        with (httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
              client.stream("POST", attempt.target.url, content=body, headers=headers) as answer):
            said = _read_answer(answer)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SendingError(f"{type(error).__name__}: {error}") from None
    if answer.is_redirect:
        raise SendingError(f"answered {answer.status_code}; redirects are not followed, so give the final URL")
    if not answer.is_success:
        raise SendingError(f"answered {answer.status_code} {answer.reason_phrase}: {said[:200]}".rstrip(": "))


def _read_answer(answer: Any) -> str:
    """The beginning of an answer: at most 64 KB, within 5 s."""
    read, until = b"", time.monotonic() + TIMEOUT_S
    for chunk in answer.iter_raw(8192):
        read += chunk
        if len(read) >= MAX_ANSWER_BYTES or time.monotonic() > until:
            break
    text = read[:MAX_ANSWER_BYTES].decode(errors="replace")
    return " ".join("".join(one if one.isprintable() else " " for one in text[:1000]).split())


def _send_apprise(attempt: Attempt) -> None:
    apprise = load_apprise()
    url = attempt.target.url
    if attempt.channel.email is not None:
        url = email_url(attempt.channel.email, attempt.target.password)
    check_service(attempt.channel.type, url)
    asset = apprise.AppriseAsset(app_id="drumbeat", app_desc="drumbeat", async_mode=False, secure_logging=True,
                                 http_redirects=False, body_format=apprise.NotifyFormat.TEXT)
    with _Said() as said:
        # Not Apprise.notify: that sends on threads of its own, which the guard does not see.
        service = apprise.Apprise.instantiate(url, asset=asset)
        try:
            is_sent = service is not None and service.notify(
                body=notices.body(attempt.content, attempt.public_url), title=notices.title(attempt.content),
                notify_type=_type(attempt.content), body_format=apprise.NotifyFormat.TEXT)
        except Exception as error:  # whatever a service's plugin does, it is this attempt's failure
            raise SendingError(f"{type(error).__name__}: {error}") from None
    if not is_sent:
        raise SendingError("; ".join(said.lines) or "the service did not take it")


def _type(told: notices.Content) -> str:
    if told.kind in ("test", "report") or notices.is_resolution(told):
        return "success" if told.alerts else "info"
    return {"critical": "failure", "error": "failure", "info": "info"}.get(notices.worst(told), "warning")


class _Said(logging.Handler):
    """What Apprise logs on this thread: it does not say otherwise why it failed."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        is_reason = record.levelno >= logging.WARNING or "xception" in str(record.msg)
        if record.thread == self._thread and is_reason and len(self.lines) < 5:
            self.lines.append(" ".join(record.getMessage().split()))

    def __enter__(self) -> Self:
        logger = logging.getLogger("apprise")
        logger.setLevel(logging.DEBUG)
        logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("apprise").removeHandler(self)
