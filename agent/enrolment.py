"""Asking the API for a credential: over TLS that is verified, or that shows the certificate with a known fingerprint.

The standard library alone: a machine that joins may have nothing else.
"""

import hashlib
import hmac
import http.client
import re
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from shared import encryption
from shared.brokers import BusError, Tls
from shared.joining import Joined

PATIENCE_SECONDS = 15.0
BUSY = (429, 503)
"""What a busy API answers, with Retry-After; a 503 without it is for people to mend."""
NO_FILES = Tls()
MAX_ANSWER_BYTES = 1_000_000
_FINGERPRINT = re.compile(r"(?:sha256(?: fingerprint)?[:=])?((?:[0-9a-f]{2}:?){31}[0-9a-f]{2})")
SETTINGS = encryption.Settings("--api-url", "--api-ca-file, or its fingerprint as --api-fingerprint",
                               "--api-cert-file and --api-key-file")
ALLOWED_URL = "allowed: https://monitor.example:8480"


class EnrolmentError(Exception):
    """There is no credential; the message says why and what to do."""


class BusyError(EnrolmentError):
    """The API takes nothing for now, and nothing has been made. `seconds`: it may be asked again after so many."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class _Told(Struct, frozen=True):
    detail: str = ""


def fingerprint(text: str) -> bytes:
    """`SHA256:` and 64 hexadecimal digits, with or without colons between them → the digest. Raises ValueError. Pure."""
    found = _FINGERPRINT.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError("allowed: SHA256: and 64 hexadecimal digits, as openssl x509 -noout -fingerprint -sha256 shows them")
    return bytes.fromhex(found[1].replace(":", ""))


def fault(url: str, *, is_insecure: bool) -> str:
    """What is wrong with the API's URL; empty where nothing is. Pure."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return f"it is no URL; {ALLOWED_URL}"
    if parts.scheme not in ("http", "https") or not host or parts.username is not None or parts.query or parts.fragment:
        return f"it is no address of an API; {ALLOWED_URL}"
    if parts.scheme == "http" and not is_insecure and not encryption.is_loopback(host):
        return "http:// would show token and password to everybody on the way; take https://, or --insecure where you know better"
    return ""


def fetch(url: str, token: str, host: str, labels: Mapping[str, str], *, tls: Tls = NO_FILES, pin: bytes | None = None) -> Joined:
    """Enrol `host` at the API. With `pin` its certificate must have that SHA-256, and nothing else is asked of it.

    Nothing is sent before the certificate is known to be right. Raises EnrolmentError, BusyError where it is worth another try.
    """
    parts = urlsplit(url)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    connection = _connection(parts.scheme, parts.hostname or "", port, tls, pin)
    body = msgspec.json.encode({"host": host, "labels": dict(labels)})
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Accept": "application/json"}
    try:
        connection.connect()
        if pin is not None:
            _check_pin(connection, pin)
        connection.request("POST", f"{parts.path.rstrip('/').removesuffix('/api/v1')}/api/v1/enrolments", body, headers)
        answer = connection.getresponse()
        text = answer.read(MAX_ANSWER_BYTES)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise EnrolmentError(_why(error, _shown(url), parts.hostname or "")) from None
    finally:
        connection.close()
    return _read(_shown(url), answer.status, text, answer.getheader("Retry-After"))


def _connection(scheme: str, host: str, port: int, tls: Tls, pin: bytes | None) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=PATIENCE_SECONDS)
    try:
        context = tls.context()
    except BusError as error:
        raise EnrolmentError(f"--api-ca-file, --api-cert-file, --api-key-file: {error}") from None
    if pin is not None:  # the certificate itself is compared, before anything is sent
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=PATIENCE_SECONDS, context=context)


def _check_pin(connection: http.client.HTTPConnection, pin: bytes) -> None:
    certificate = connection.sock.getpeercert(binary_form=True) if isinstance(connection.sock, ssl.SSLSocket) else None
    shown = hashlib.sha256(certificate or b"").digest()
    if not hmac.compare_digest(shown, pin):
        raise EnrolmentError(f"the server shows a certificate with the fingerprint SHA256:{shown.hex()}, which is not the one "
                             "of --api-fingerprint: it was renewed, or this is another server; nothing was sent to it")


def _why(error: Exception, shown: str, host: str) -> str:
    if (told := encryption.explained(error, host, SETTINGS)) is not None:
        return told
    if isinstance(error, http.client.HTTPException):
        return f"{shown} does not answer in HTTP ({type(error).__name__}): is it the API's port, and should it be https://?"
    said = error.strerror if isinstance(error, OSError) and error.strerror else error
    return f"{shown} does not answer ({said}): is --api-url right, and the API up?"


def _read(shown: str, status: int, text: bytes, retry_after: str | None) -> Joined:
    if status == 201:
        try:
            return msgspec.json.decode(text, type=Joined)
        except msgspec.MsgspecError:
            raise EnrolmentError(f"{shown} does not answer as drumbeat's API does; check --api-url") from None
    try:
        detail = msgspec.json.decode(text, type=_Told).detail[:500]
    except msgspec.MsgspecError:
        detail = ""
    wait = f"; try again in {retry_after} s" if retry_after and f" in {retry_after} s" not in detail else ""
    said = "".join(char if char.isprintable() else "?" for char in detail) or http.client.responses.get(status, "")
    refused = f"{shown} refuses ({status}): {said}{wait}"
    if status in BUSY and retry_after and retry_after.isdecimal():
        raise BusyError(refused, float(retry_after))
    raise EnrolmentError(refused)


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
