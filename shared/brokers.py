"""Addresses of brokers and the files of TLS, read from settings."""

import dataclasses
import ssl
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from shared import encryption

Stage = Literal["dialling", "greeting", "connected"]
"""How far a connection has come: TCP and TLS, then the broker's welcome."""


class BusError(Exception):
    """The broker cannot be used as asked; the message says why and what to change."""


@dataclasses.dataclass(frozen=True, slots=True)
class Broker:
    """One broker's address and credentials."""

    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"


@dataclasses.dataclass(frozen=True, slots=True)
class Tls:
    """Files for TLS: the CA that signed the broker (None: the system's), our own certificate and key for mTLS."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Raises BusError naming the file that cannot be used."""
        try:
            context = ssl.create_default_context(cafile=None if self.ca_file is None else str(self.ca_file))
            if self.cert_file is not None:
                context.load_cert_chain(self.cert_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            reason = (error.strerror if not isinstance(error, ssl.SSLError) else None) or error
            named = ", ".join(str(file) for file in (self.ca_file, self.cert_file, self.key_file) if file)
            raise BusError(f"TLS files ({named}): {reason}") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


def read_tls(ca_file: str = "", cert_file: str = "", key_file: str = "") -> Tls:
    """TLS files from settings, where empty text means none. Raises BusError for a file that is not there."""
    paths = [Path(name).expanduser() if name else None for name in (ca_file, cert_file, key_file)]
    for path in paths:
        if path is not None and not path.is_file():
            raise BusError(f"TLS file {path} does not exist")
    return Tls(*paths)


def read_brokers(urls: str) -> tuple[Broker, ...]:
    """Brokers of a comma-separated list of `mqtt://user:password@host:1883` or `mqtts://…:8883`. Raises BusError."""
    brokers = tuple(_read_broker(url.strip()) for url in urls.split(",") if url.strip())
    if not brokers:
        raise BusError("no broker URL; give one such as mqtt://user:password@host:1883")
    return brokers


def with_credentials(urls: str, username: str, password: str) -> str:
    """The broker URLs of a list without credentials, each with these. Pure."""
    who = f"{quote(username, safe='')}:{quote(password, safe='')}"
    return ",".join(url.strip().replace("://", f"://{who}@", 1) for url in urls.split(",") if url.strip())


def _read_broker(url: str) -> Broker:
    allowed = "mqtt://user:password@host:1883 or mqtts://user:password@host:8883"
    try:
        parts = urlsplit(url)
    except ValueError:
        raise BusError(f"broker URL has brackets that do not fit; allowed: {allowed}") from None
    if parts.scheme not in ("mqtt", "mqtts"):
        raise BusError(f"broker URL has scheme {parts.scheme!r}; allowed: {allowed}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        raise BusError(f"broker URL has no usable port; allowed: {allowed}") from None
    if not host or parts.path not in ("", "/") or parts.query:
        raise BusError(f"broker URL must be a host and a port alone; allowed: {allowed}")
    tls = parts.scheme == "mqtts"
    name, word = parts.username, parts.password
    return Broker(host, port or (8883 if tls else 1883), tls,
                  None if name is None else unquote(name), None if word is None else unquote(word))


def explained(cause: Exception | str, broker: Broker, stage: Stage) -> str:
    """Why a connection ended, and what to mend. Pure."""
    names, hangs_up = encryption.BROKER, isinstance(cause, ConnectionResetError | BrokenPipeError | ssl.SSLEOFError)
    told = str(cause) or type(cause).__name__
    if broker.tls and stage == "dialling" and hangs_up:
        return f"{broker.host} does not speak TLS on this port: look at scheme and port in {names.url}"
    if broker.tls and stage == "greeting" and hangs_up:
        return ("closed by the broker; where it wants a certificate of ours, give one that its CA has signed, "
                f"as {names.cert_file}")
    if not broker.tls and stage == "greeting" and hangs_up:
        return f"closed by the broker; where this port is for TLS, write mqtts:// in {names.url}"
    return told if isinstance(cause, str) else encryption.explained(cause, broker.host, names) or told
